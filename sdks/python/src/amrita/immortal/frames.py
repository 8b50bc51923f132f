"""The frames and messages of `api/immortal-protocol.md`: bytes to values and back."""

from __future__ import annotations

import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

VERSION = 1

#: A frame before WELCOME has told another limit.
HELLO_BYTES_MAX = 64 << 10

#: Name, type and fields of each frame. `n` is an unsigned varint, `s` a text, `*` the rest.
_FRAMES: Tuple[Tuple[str, int, str], ...] = (
    ("HELLO", 0x01, "s n n s n n"),
    ("SEND", 0x02, "s n *"),
    ("AWAIT", 0x03, "n n"),
    ("CANCEL", 0x04, "n"),
    ("DONE", 0x05, "n"),
    ("IMPULSE", 0x06, "n s *"),
    ("RESULT", 0x07, "n u8 *"),
    ("CHECKPOINT", 0x08, "n"),
    ("CHUNK", 0x09, "*"),
    ("CHECKPOINT_END", 0x0A, "u32"),
    ("INITIAL", 0x0B, "*"),
    ("ASK_CHECKPOINT", 0x0C, ""),
    ("PONG", 0x0D, "n"),
    ("FAULT", 0x0E, "n s"),
    ("WELCOME", 0x81, "n s n n n n"),
    ("GENESIS", 0x82, ""),
    ("LOAD", 0x83, "n n"),
    ("LOADED", 0x84, "*"),
    ("LOAD_END", 0x85, "u32"),
    ("DELIVER", 0x86, "n n *"),
    ("END_OF_REPLAY", 0x87, "n"),
    ("PRIMARY", 0x88, "n"),
    ("STANDBY", 0x89, ""),
    ("TAKE_CHECKPOINT", 0x8A, "n"),
    ("FATE", 0x8B, "n u8 n"),
    ("CREDIT", 0x8C, "s n"),
    ("PING", 0x8D, "n"),
    ("ERROR", 0xFF, "s s"),
)
_BY_NAME: Dict[str, Tuple[int, List[str]]] = {
    name: (kind, fields.split()) for name, kind, fields in _FRAMES
}
_BY_TYPE: Dict[int, Tuple[str, List[str]]] = {
    kind: (name, fields.split()) for name, kind, fields in _FRAMES
}

# Kinds of messages.
FORK, CALL, ANSWER, IMPULSE, START, TIMER, RESULT, UPGRADE, SKIPPED = range(9)
# Kinds of sources.
NODE, INSTANCE, OUTSIDE = range(3)
# What an answer or a result is.
VALUE, EMPTY, ERROR = 1, 2, 3
# What became of an impulse.
LOGGED, LOST, UNKNOWN = range(3)


class Garbled(Exception):
    """Bytes that are not what they should be."""


def number(value: int) -> bytes:
    """n: seven bits a byte, the lowest first."""
    if value < 0x80:
        if value < 0:
            raise ValueError(f"{value} is below 0")
        return bytes((value,))
    if value >= 1 << 64:
        raise ValueError(f"{value} has more than 64 bits")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value: int) -> bytes:
    """z: small numbers of either sign are short."""
    return number(value << 1 if value >= 0 else (-value << 1) - 1)


def counted(data: bytes) -> bytes:
    return number(len(data)) + data


class Reader:
    """Takes one thing after the other from the front of some bytes."""

    __slots__ = ("data", "at", "end")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at, self.end = data, at, len(data)

    def has_more(self) -> bool:
        return self.at < self.end

    def take(self, count: int) -> bytes:
        start = self.at
        if count > self.end - start:
            raise Garbled("a frame is cut short")
        self.at = start + count
        return self.data[start : self.at]

    def n(self) -> int:
        data, at = self.data, self.at
        try:
            byte = data[at]
            if byte < 0x80:
                self.at = at + 1
                return byte
            value, shift = byte & 0x7F, 7
            while True:
                at += 1
                byte = data[at]
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift > 63:
                    raise Garbled("a number is too long")
        except IndexError:
            raise Garbled("a frame is cut short") from None
        if value >= 1 << 64:
            raise Garbled("a number is too large")
        self.at = at + 1
        return value

    def z(self) -> int:
        value = self.n()
        return value >> 1 ^ -(value & 1)

    def s(self) -> str:
        try:
            return self.take(self.n()).decode("utf-8")
        except UnicodeDecodeError as why:
            raise Garbled(f"a text is not UTF-8: {why}") from None

    def u8(self) -> int:
        return self.take(1)[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def rest(self) -> bytes:
        return self.take(self.end - self.at)

    def field(self, kind: str) -> Any:
        return self.rest() if kind == "*" else getattr(self, kind)()


def _put(kind: str, value: Any) -> bytes:
    if kind == "n":
        return number(value)
    if kind == "s":
        return counted(value.encode("utf-8"))
    if kind == "u8":
        return bytes((value,))
    if kind == "u32":
        return struct.pack("<I", value)
    return bytes(value)


def frame(name: str, *values: Any) -> bytes:
    """A whole frame, with its length."""
    kind, fields = _BY_NAME[name]
    if len(values) != len(fields):
        raise ValueError(f"{name} has {len(fields)} fields")
    body = b"".join(_put(field, value) for field, value in zip(fields, values))
    return struct.pack("<IB", len(body) + 1, kind) + body


def read(data: bytes) -> Tuple[str, Tuple[Any, ...]]:
    """Name and fields of a frame, given without its length. Surplus at its end is ignored."""
    if not data:
        raise Garbled("a frame is empty")
    known = _BY_TYPE.get(data[0])
    if known is None:
        raise Garbled(f"there is no frame of the type {data[0]:#04x}")
    name, fields = known
    reader = Reader(data, 1)
    return name, tuple([reader.field(kind) for kind in fields])


class Message(NamedTuple):
    """A message. `id` is that of a call, an answer, a timer or a result, or the version of an
    UPGRADE."""

    kind: int
    id: int = 0
    method: int = 0
    status: int = 0
    payload: bytes = b""

    def put(self) -> bytes:
        """With its length, as it stands in a SEND, an IMPULSE or a block."""
        kind = self.kind
        head = bytes((kind,))
        if kind in (FORK, IMPULSE):
            head += signed(self.method)
        elif kind == CALL:
            head += number(self.id) + signed(self.method)
        elif kind in (ANSWER, RESULT):
            head += number(self.id) + bytes((self.status,))
        elif kind in (TIMER, UPGRADE):
            head += number(self.id)
        return counted(head + self.payload)


def read_message(data: bytes) -> Message:
    """A message, given without its length."""
    reader = Reader(data)
    kind = reader.u8()
    if kind in (FORK, IMPULSE):
        return Message(kind, method=reader.z(), payload=reader.rest())
    if kind == CALL:
        return Message(kind, reader.n(), reader.z(), payload=reader.rest())
    if kind in (ANSWER, RESULT):
        return Message(kind, reader.n(), status=reader.u8(), payload=reader.rest())
    if kind in (TIMER, UPGRADE):
        return Message(kind, reader.n())
    if kind == START:
        return Message(kind, payload=reader.rest())
    if kind == SKIPPED:
        return Message(kind)
    raise Garbled(f"there is no message of the kind {kind}")


def messages(data: bytes) -> Iterator[Message]:
    reader = Reader(data)
    while reader.at < reader.end:
        yield read_message(reader.take(reader.n()))


class Block(NamedTuple):
    """Inputs from one source. Its messages are read as they are needed."""

    kind: int
    name: str
    first: int
    #: How many messages stand in `data`.
    length: int
    data: bytes


def blocks(data: bytes) -> Iterator[Block]:
    reader = Reader(data)
    while reader.at < reader.end:
        kind, name, first, count = reader.u8(), reader.s(), reader.n(), reader.n()
        yield Block(kind, name, first, count, reader.take(reader.n()))


def block(kind: int, name: str, first: int, said: List[Message]) -> bytes:
    data = b"".join(message.put() for message in said)
    head = bytes((kind,)) + counted(name.encode()) + number(first) + number(len(said))
    return head + counted(data)

