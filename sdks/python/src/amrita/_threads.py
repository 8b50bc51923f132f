"""Threads for the handlers of a connection. None of them keeps the program alive: a handler that
hangs is left behind, and goes with the program."""

from __future__ import annotations

import collections
import threading
import time
from typing import Callable, Deque, Dict, List

#: A handler that runs for longer hangs: by then its call was given up.
HANGS_SECONDS = 10.0


class Threads:
    """Runs work in at most that many threads; more waits for its turn."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._changed = threading.Condition()
        self._work: Deque[Callable[[], None]] = collections.deque()
        #: When each thread that is busy has begun with what it does.
        self._busy: Dict[int, float] = {}
        self._threads = 0
        self._is_over = False

    def begin(self, work: Callable[[], None]) -> None:
        with self._changed:
            self._work.append(work)
            if self._threads - len(self._busy) >= len(self._work) or self._threads >= self._most:
                self._changed.notify()
                return
            self._threads += 1
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def end(self) -> None:
        """What has not begun is not done; what has goes on to its end, if it has one."""
        with self._changed:
            self._is_over = True
            self._work.clear()
            self._changed.notify_all()

    def are_there(self) -> bool:
        with self._changed:
            return self._threads > 0

    def hanging(self) -> int:
        """How many do something that should have come to an end long ago."""
        before = time.monotonic() - HANGS_SECONDS
        with self._changed:
            return sum(1 for begun in self._busy.values() if begun <= before)

    def _run(self) -> None:
        me = threading.get_ident()
        while True:
            with self._changed:
                self._busy.pop(me, None)
                self._changed.wait_for(lambda: self._is_over or bool(self._work))
                if not self._work:
                    self._threads -= 1
                    return
                work = self._work.popleft()
                self._busy[me] = time.monotonic()
            work()


def still_there(old: List[Threads]) -> List[Threads]:
    """Those of earlier connections that have not come to their end."""
    return [one for one in old if one.are_there()]
