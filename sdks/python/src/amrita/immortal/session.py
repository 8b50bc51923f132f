"""One connection, from HELLO to its end. A session begins with nothing: its state comes from the
node, or is made anew when there is none."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import socket
import struct
import threading
import traceback
import zlib
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Set, Tuple, Type

from . import frames
from .effects import Effects
from .impulses import Impulses, in_handler
from .machine import Machine, Versions
from .program import Immortal, Outputs, Sender

#: At most this much waits for the handlers beside the node's own window; then nothing more is read.
INBOX_BYTES_MAX = 64 << 20

#: So much is gathered before it is written out, and no SEND or CHUNK is much longer.
FLUSH_BYTES = 64 << 10

#: Room for the head of a SEND beside its messages.
SEND_HEAD_BYTES = 64

READ_BYTES = 256 << 10


class Lost(Exception):
    """The connection broke."""


class Said(Exception):
    """The node ended it, and said why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Fault(Exception):
    """The program failed at this input."""

    def __init__(self, input_: int, text: str) -> None:
        super().__init__(text)
        self.input, self.text = input_, text


class Link:
    """A connected socket, written to by several threads."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        try:
            with self._lock:
                self.socket.sendall(data)
        except OSError as why:
            raise Lost(f"cannot write to the node: {why}") from why

    def try_write(self, data: bytes) -> None:
        """If it breaks, the session notices by itself."""
        with contextlib.suppress(Lost):
            self.write(data)

    def shut(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Frames:
    """The frames that come over a socket, one after the other, without their lengths."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        #: A longer one is garbage.
        self.bytes_max = frames.HELLO_BYTES_MAX

    def __iter__(self) -> Iterator[bytes]:
        buffer = bytearray()
        while True:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise Lost("the node has closed the connection")
            buffer += data
            at = 0
            while len(buffer) - at >= 4:
                (length,) = struct.unpack_from("<I", buffer, at)
                if length > self.bytes_max:
                    raise frames.Garbled(f"a frame of {length} bytes; {self.bytes_max} are allowed")
                if len(buffer) - at - 4 < length:
                    break
                at += 4 + length
                yield bytes(buffer[at - length : at])
            del buffer[:at]


class Inbox:
    """What was read and is not handled yet. What has to be quick is done by the reader at once,
    also while a handler is busy: a PING is answered, the fate of an impulse told."""

    def __init__(self, link: Link, impulses: Impulses) -> None:
        self._link, self._impulses = link, impulses
        self._changed = threading.Condition()
        self._frames: Deque[Tuple[str, Tuple[Any, ...], int]] = collections.deque()
        self._bytes = 0
        self._over: Optional[str] = None
        self._closed = False

    def read(self) -> None:
        """Reads until the connection ends."""
        try:
            self._read_frames()
        except (OSError, Lost) as why:
            self._end(f"cannot read from the node: {why}")
        except frames.Garbled as why:
            self._end(f"the node sent garbage: {why}")

    def _read_frames(self) -> None:
        coming = Frames(self._link.socket)
        for frame in coming:
            name, values = frames.read(frame)
            if name == "WELCOME":
                coming.bytes_max = max(1 << 10, values[3])
            self._sort(name, values, len(frame))

    def _sort(self, name: str, values: Tuple[Any, ...], length: int) -> None:
        if name == "PING":
            self._link.write(frames.frame("PONG", values[0]))
        elif name == "FATE":
            self._impulses._told(*values)
        elif name == "CREDIT":
            self._impulses._credit(*values)
        else:
            with self._changed:
                while self._bytes >= INBOX_BYTES_MAX and not self._closed:
                    self._changed.wait()
                self._bytes += length
                self._frames.append((name, values, length))
                self._changed.notify_all()

    def _end(self, why: str) -> None:
        with self._changed:
            self._over = why
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self) -> Tuple[str, Tuple[Any, ...]]:
        with self._changed:
            while not self._frames:
                if self._over is not None:
                    raise Lost(self._over)
                self._changed.wait()
            name, values, length = self._frames.popleft()
            was_full = self._bytes >= INBOX_BYTES_MAX
            self._bytes -= length
            if was_full:
                self._changed.notify_all()
        if name == "ERROR":
            raise Said(*values)
        return name, values


class Gathered(Outputs):
    """What a program says, gathered into frames in the order in which it was said. Messages to one
    destination that follow each other share one SEND."""

    def __init__(self, link: Link, frame_bytes_max: int) -> None:
        self._link, self.frame_bytes_max = link, frame_bytes_max
        self._ready: List[bytes] = []
        self._to = ""
        self._messages: List[bytes] = []
        self._bytes = 0

    def message(self, to: str, message: bytes) -> None:
        length = len(message) + len(to.encode()) + SEND_HEAD_BYTES
        if length > self.frame_bytes_max:
            shown = f"a message of {len(message)} bytes"
            raise ValueError(f"{shown} is too long: {self.frame_bytes_max} at most")
        if to != self._to or self._bytes + length > min(FLUSH_BYTES, self.frame_bytes_max):
            self._close()
            self._to = to
        self._messages.append(message)
        self._bytes += length

    def frame(self, name: str, *values: Any) -> None:
        self._close()
        self._ready.append(frames.frame(name, *values))

    def _close(self) -> None:
        if self._messages:
            body = b"".join(self._messages)
            self._ready.append(frames.frame("SEND", self._to, len(self._messages), body))
            self._messages.clear()
            self._bytes = 0

    def flush(self) -> None:
        self._close()
        data = b"".join(self._ready)
        self._ready.clear()
        if data:
            self._link.write(data)

    def checkpoint(self, request: int, state: bytes) -> None:
        self.frame("CHECKPOINT", request)
        step = min(FLUSH_BYTES, self.frame_bytes_max - SEND_HEAD_BYTES)
        for at in range(0, len(state), step):
            self.frame("CHUNK", state[at : at + step])
            self.flush()
        self.frame("CHECKPOINT_END", zlib.crc32(state))
        self.flush()


@dataclasses.dataclass
class Plan:
    """What a session is to be."""

    instance: str
    versions: Versions
    initial: bytes
    fresh: Callable[[], Immortal]
    impulses: Impulses


class Session:
    def __init__(self, plan: Plan, connected: socket.socket) -> None:
        self.plan = plan
        self.link = Link(connected)
        self.inbox = Inbox(self.link, plan.impulses)
        self.machine: Optional[Machine] = None
        self.kind: Type[Immortal] = Immortal
        self.outputs = Gathered(self.link, frames.HELLO_BYTES_MAX)
        #: The last input that was handled, or that is being handled.
        self.input = 0
        self.effects: Optional[Effects] = None
        self.begun: Set[int] = set()
        #: It became the primary before its first input.
        self.primary_is_due = False
        #: It came as far as the end of replay: the program works.
        self.caught_up = False

    def run(self) -> None:
        """Runs until the connection ends, which is always an exception."""
        reader = threading.Thread(target=self.inbox.read, daemon=True)
        self.plan.impulses._connected(self.link)
        reader.start()
        try:
            self._greet()
            while True:
                self._serve(*self.inbox.next())
        except Fault as why:
            self.link.try_write(frames.frame("FAULT", why.input, why.text))
            raise
        finally:
            if self.effects is not None:
                self.effects.end()
            self.link.shut()
            self.inbox.close()
            self.plan.impulses._disconnected()
            reader.join()
            self.link.socket.close()

    def _greet(self) -> None:
        versions = self.plan.versions
        hello = ("amrita-immortal", frames.VERSION, frames.VERSION, self.plan.instance)
        self.link.write(frames.frame("HELLO", *hello, versions.program, versions.upgrade_to))
        name, values = self.inbox.next()
        if name != "WELCOME" or values[0] != frames.VERSION:
            raise Lost(f"the node does not welcome this program: {name} {values}")
        self.outputs = Gathered(self.link, max(1 << 10, values[3]))
        self.kind = type(self.plan.fresh())

    def _serve(self, name: str, values: Tuple[Any, ...]) -> None:
        if name == "DELIVER":
            self._deliver(*values)
        elif name == "TAKE_CHECKPOINT":
            self._checkpoint(values[0])
        elif name == "END_OF_REPLAY":
            self.caught_up = True
        elif name == "PRIMARY":
            self._primary()
        elif name == "STANDBY":
            self._standby()
        elif name == "LOAD":
            self._load(*values)
        elif name == "GENESIS":
            self._genesis()
        else:
            raise Lost(f"the node sent something that has no place here: {name}")

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        """Whatever fails is a fault at the input that stands."""
        try:
            yield
        except (Lost, Said, Fault):
            raise
        except Exception as why:
            traceback.print_exc()
            raise Fault(self.input, f"{type(why).__name__}: {why}") from why

    def _machine(self) -> Machine:
        if self.machine is None:
            raise Lost("the node sent something before the program has a state")
        return self.machine

    def _genesis(self) -> None:
        with self._guarded():
            plan = self.plan
            more = (plan.instance, plan.versions, plan.fresh)
            self.machine = Machine.first(*more, self.outputs)
            self.machine.program.loaded()
        self.input = 0
        if self.plan.initial:
            self.outputs.frame("INITIAL", self.plan.initial)
        self._checkpoint(0)

    def _load(self, input_: int, size: int) -> None:
        self.input = input_
        was_primary = self.effects is not None
        if self.effects is not None:
            self.effects.end()
        parts, got = [], 0
        while True:
            name, values = self.inbox.next()
            if name == "LOADED" and got + len(values[0]) <= size:
                parts.append(values[0])
                got += len(values[0])
            elif name == "LOAD_END":
                break
            else:
                raise Lost(f"the node sent something that has no place in a checkpoint: {name}")
        data = b"".join(parts)
        if zlib.crc32(data) != values[0] or got != size:
            raise Fault(input_, "the checkpoint is damaged: its checksum is another one")
        with self._guarded():
            plan = self.plan
            more = (plan.instance, plan.versions, self.kind, data)
            self.machine = Machine.load(*more, self.outputs)
            self.machine.program.loaded()
        if was_primary:
            self._begin_effects()

    def _checkpoint(self, request: int) -> None:
        with self._guarded():
            state = self._machine().save()
        self.outputs.checkpoint(request, state)

    def _deliver(self, first: int, time: int, data: bytes) -> None:
        if first != self.input + 1:
            raise Fault(self.input, f"input {self.input + 1} was expected, and {first} came")
        machine = self._machine()
        in_handler.now = True
        try:
            with self._guarded():
                for block in frames.blocks(data):
                    sender = Sender(block.name, block.kind)
                    for message in frames.messages(block.data):
                        self.input += 1
                        machine.handle(self.input, time, sender, message)
        except frames.Garbled as why:
            raise Lost(f"the node sent garbage: {why}") from why
        finally:
            in_handler.now = False
        self.outputs.frame("DONE", self.input)
        self.outputs.flush()
        if self.effects is not None:
            self._begin_new_effects(self.effects)
        if self.primary_is_due:
            self._primary()

    def _primary(self) -> None:
        """Only after START: before it there is nothing that a program could go by."""
        self.primary_is_due = self.input == 0
        if self.primary_is_due:
            return
        self.plan.impulses._set_primary(True)
        self._begin_effects()
        with self._guarded():
            self._machine().program.primary(self.plan.impulses)

    def _standby(self) -> None:
        self.primary_is_due = False
        self.plan.impulses._set_primary(False)
        if self.effects is not None:
            self.effects.end()
            self.effects = None
        with self._guarded():
            self._machine().program.standby()

    def _begin_effects(self) -> None:
        """All that is awaited and has no result, also what another primary may have done."""
        self.begun.clear()
        self.effects = Effects(self.link, self.outputs.frame_bytes_max)
        self._begin_new_effects(self.effects)

    def _begin_new_effects(self, effects: Effects) -> None:
        awaited: Dict[int, Any] = self._machine().effects()
        for id_, waiting in awaited.items():
            if id_ not in self.begun:
                effects.begin(id_, type(self._machine().program), waiting)
        self.begun = set(awaited)
