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

#: Room for the head of a RESULT beside its payload.
HEAD_BYTES = 64


class Effects:
    """The effects of one term as primary. When it ends, what is being done gives no result, and the
    next primary does it again."""

    def __init__(self, link: Any, frame_bytes_max: int) -> None:
        self._link, self._most = link, frame_bytes_max
        self._lock = threading.Lock()
        #: Not longer than what the program itself waits for.
        self._jobs: Deque[Tuple[int, Type[Immortal], Waiting]] = collections.deque()
        self._threads = 0
        self._over = False

    def begin(self, id_: int, program: Type[Immortal], waiting: Waiting) -> None:
        """`program` is the version of the program that has asked for it."""
        with self._lock:
            self._jobs.append((id_, program, waiting))
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
                id_, program, waiting = self._jobs.popleft()
            status, payload = perform(program, waiting.work, waiting.arguments)
            if len(payload) + HEAD_BYTES > self._most:
                # The node would end the connection, and the effect would be done again and again.
                why = f"the result has {len(payload)} bytes, and a frame has at most {self._most}"
                status, payload = frames.ERROR, why.encode()
            with self._lock:
                if self._over:
                    self._threads -= 1
                    return
            self._link.try_write(frames.frame("RESULT", id_, status, payload))
