"""What comes from outside: threads beside the primary hand it in, and learn what became of it."""

from __future__ import annotations

import threading
import time
from typing import Any, Dict, NamedTuple, Optional

from . import frames
from .program import Outgoing

#: So many impulses may be on their way; who sends more waits.
IMPULSES_OPEN_MAX = 1 << 14

in_handler = threading.local()


class Fate(NamedTuple):
    """What became of an impulse. `logged`: it will be handled, exactly once, whatever dies; if it
    was for the program itself, as this input. `lost`: surely not logged, it may be sent again.
    `unknown`: sent again it may be handled twice."""

    what: int
    input: int = 0

    @property
    def logged(self) -> bool:
        return self.what == frames.LOGGED

    @property
    def lost(self) -> bool:
        return self.what == frames.LOST

    @property
    def unknown(self) -> bool:
        return self.what == frames.UNKNOWN


class Ticket:
    """An impulse on its way."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._fate = Fate(frames.UNKNOWN)

    def _tell(self, fate: Fate) -> None:
        self._fate = fate
        self._event.set()

    def wait(self) -> Fate:
        """Waits until it is known."""
        self._event.wait()
        return self._fate


class Impulses:
    """Where impulses are handed in, by any thread but that of the handlers. It stays the same when
    the connection to the node is made anew."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._link: Any = None
        self._primary = False
        self._stopped = False
        self._number = 0
        self._open: Dict[int, Ticket] = {}
        self._room: Dict[str, int] = {}

    def send(self, message: Outgoing) -> Fate:
        """Hands in a message, and waits until it is known whether it was logged. Usually one to the
        program itself (`Program.me().method(...)`), whose handler decides what to do with it."""
        return self.post(message).wait()

    def post(self, message: Outgoing) -> Ticket:
        """Hands in a message, and does not wait for its fate."""
        if getattr(in_handler, "now", False):
            raise RuntimeError("an impulse was sent from a handler: handlers fork or call")
        ticket = Ticket()
        put = frames.Message(frames.IMPULSE, method=message.number, payload=message.payload).put()
        with self._changed:
            while len(self._open) >= IMPULSES_OPEN_MAX and self._primary:
                self._changed.wait()
            link = self._link
            if link is None or not self._primary:
                ticket._tell(Fate(frames.LOST))
                return ticket
            self._number += 1
            self._open[self._number] = ticket
            # Under the lock, so that numbers go out in order. If it breaks, the session ends.
            link.try_write(frames.frame("IMPULSE", self._number, message.to, put))
        return ticket

    @property
    def is_primary(self) -> bool:
        return self._primary

    def _wait(self, until: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not until() and not self._stopped:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def wait_until_primary(self, seconds: float) -> bool:
        self._wait(lambda: self._primary, seconds)
        return self._primary

    def room(self, destination: str = "") -> Optional[int]:
        """How many bytes a destination has room for; None when the node said nothing, and then
        there is room."""
        return self._room.get(destination)

    def wait_for_room(self, destination: str, seconds: float) -> bool:
        self._wait(lambda: self._room.get(destination) != 0, seconds)
        return self._room.get(destination) != 0 and not self._stopped

    def stop(self) -> None:
        """Ends the connection, and with it `run`. The instance lives on."""
        with self._changed:
            self._stopped = True
            if self._link is not None:
                self._link.shut()
            self._changed.notify_all()

    @property
    def is_stopped(self) -> bool:
        return self._stopped

    # For the session

    def _pause(self, seconds: float) -> None:
        self._wait(lambda: False, seconds)

    def _connected(self, link: Any) -> None:
        with self._changed:
            if self._stopped:
                link.shut()
            self._link, self._number = link, 0

    def _set_primary(self, primary: bool) -> None:
        with self._changed:
            self._primary = primary
            self._room.clear()
            self._changed.notify_all()

    def _disconnected(self) -> None:
        with self._changed:
            self._link, self._primary = None, False
            for ticket in self._open.values():
                ticket._tell(Fate(frames.UNKNOWN))
            self._open.clear()
            self._room.clear()
            self._changed.notify_all()

    def _told(self, number: int, fate: int, input_: int) -> None:
        with self._changed:
            ticket = self._open.pop(number, None)
            self._changed.notify_all()
        if ticket is not None:
            ticket._tell(Fate(fate, input_))

    def _credit(self, destination: str, room: int) -> None:
        with self._changed:
            self._room[destination] = room
            self._changed.notify_all()
