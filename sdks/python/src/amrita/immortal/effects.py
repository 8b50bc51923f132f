"""Does side effects, beside the handlers, while this copy is the primary."""

from __future__ import annotations

import collections
import threading
from typing import Any, Deque, Tuple, Type

from . import frames
from .book import Waiting
from .program import Immortal, perform

#: So many effects are done at once; the others wait their turn.
EFFECTS_AT_ONCE_MAX = 16


class Effects:
    """The effects of one term as primary. When it ends, what is being done gives no result, and the
    next primary does it again."""

    def __init__(self, link: Any, program: Type[Immortal]) -> None:
        self._link, self._program = link, program
        self._lock = threading.Lock()
        #: Not longer than what the program itself waits for.
        self._jobs: Deque[Tuple[int, Waiting]] = collections.deque()
        self._threads = 0
        self._over = False

    def begin(self, id_: int, waiting: Waiting) -> None:
        with self._lock:
            self._jobs.append((id_, waiting))
            if self._threads >= EFFECTS_AT_ONCE_MAX:
                return
            self._threads += 1
        threading.Thread(target=self._work, daemon=True).start()

    def end(self) -> None:
        with self._lock:
            self._over = True
            self._jobs.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._threads -= 1
                    return
                id_, waiting = self._jobs.popleft()
            status, payload = perform(self._program, waiting.work, waiting.arguments)
            with self._lock:
                if self._over:
                    self._threads -= 1
                    return
            self._link.try_write(frames.frame("RESULT", id_, status, payload))
