"""TLS to a node. The rest of the package has a plain socket: one end of a pair within this process,
at whose other end a thread encrypts and decrypts. It is one thread for both directions, since a
connection of TLS is not for two at a time, and a program writes while it reads."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from typing import List

#: How many bytes are carried at a time.
PIECE_BYTES = 64 << 10


def plain_end(outer: ssl.SSLSocket) -> socket.socket:
    """The plain end of an encrypted connection, which must have no data waiting to be written."""
    near, far = socket.socketpair()
    for end in (outer, far):
        end.setblocking(False)
    carrier = _Carrier(outer, far)
    threading.Thread(target=carrier.run, name="amrita-tls", daemon=True).start()
    return near


class _Carrier:
    def __init__(self, outer: ssl.SSLSocket, inner: socket.socket) -> None:
        self.outer, self.inner = outer, inner
        #: What was read on one side and not written on the other so far.
        self.inwards, self.outwards = b"", b""
        #: What TLS waits for, whatever was to be done: a key may be renewed at any time.
        self.wants_to_read, self.wants_to_write = False, False

    def run(self) -> None:
        # How it ends, the program sees by the end of its own socket.
        with contextlib.suppress(OSError):
            while self._goes_on():
                self._wait()
        for end in (self.outer, self.inner):
            with contextlib.suppress(OSError):
                end.close()

    def _goes_on(self) -> bool:
        """Carries what there is. False: one of the ends is closed."""
        self.wants_to_read, self.wants_to_write = False, False
        moved = True
        while moved:
            moved = False
            if not self.inwards:
                data = self._read_outer()
                if data == b"":
                    return False
                self.inwards, moved = data or b"", bool(data)
            if self.inwards:
                count = self._write_inner()
                self.inwards, moved = self.inwards[count:], moved or count > 0
            if not self.outwards:
                data = self._read_inner()
                if data == b"":
                    return False
                self.outwards, moved = data or b"", moved or bool(data)
            if self.outwards:
                count = self._write_outer()
                self.outwards, moved = self.outwards[count:], moved or count > 0
        return True

    def _read_outer(self) -> "bytes | None":
        try:
            return self.outer.recv(PIECE_BYTES)
        except ssl.SSLWantReadError:
            self.wants_to_read = True
        except ssl.SSLWantWriteError:
            self.wants_to_write = True
        return None

    def _write_outer(self) -> int:
        try:
            return self.outer.send(self.outwards)
        except ssl.SSLWantReadError:
            self.wants_to_read = True
        except ssl.SSLWantWriteError:
            self.wants_to_write = True
        return 0

    def _read_inner(self) -> "bytes | None":
        try:
            return self.inner.recv(PIECE_BYTES)
        except BlockingIOError:
            return None

    def _write_inner(self) -> int:
        try:
            return self.inner.send(self.inwards)
        except BlockingIOError:
            return 0

    def _wait(self) -> None:
        to_read: List[socket.socket] = []
        to_write: List[socket.socket] = []
        if self.wants_to_read:
            to_read.append(self.outer)
        if self.wants_to_write:
            to_write.append(self.outer)
        if self.inwards:
            to_write.append(self.inner)
        if not self.outwards:
            to_read.append(self.inner)
        select.select(to_read, to_write, [])
