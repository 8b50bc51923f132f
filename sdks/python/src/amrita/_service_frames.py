"""The frames of `api/service-protocol.md`: bytes to values and back."""

from __future__ import annotations

import struct
from typing import NamedTuple, Sequence, Tuple, Union

from .immortal.frames import Garbled, Reader, counted, number, signed

VERSION = 2
MAGIC = "amrita-service"

SERVE, ANSWER, LEAVE, PONG = 0x21, 0x22, 0x23, 0x0D
WELCOME, CALL, PING, ERROR = 0xA1, 0xA2, 0x8D, 0xFF

#: Handlers, by their numbers.
HANDLERS = ("create", "put", "patch", "delete", "action")

# What became of a call.
STATE, AS_IT_IS, REFUSED, FAILED, SENDING = 1, 2, 3, 4, 5


class Welcome(NamedTuple):
    version: int
    node: str
    frame_bytes_max: int


class CallFrame(NamedTuple):
    number: int
    handler: str
    action: str
    link: str
    version: int
    #: Microseconds since 1970, by the clock of the document's owner.
    time: int
    user: str
    before: bytes
    after: bytes
    body: bytes


class Message(NamedTuple):
    """To an immortal, with the version that is being made."""

    instance: str
    method: int
    payload: bytes


class Ping(NamedTuple):
    number: int


class Error(NamedTuple):
    code: str
    text: str


def _frame(kind: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack("<IB", len(body) + 1, kind) + body


def _text(value: str) -> bytes:
    return counted(value.encode("utf-8"))


def serve(
    factory: str,
    program_version: str,
    calls_max: int,
    handlers: Sequence[str],
    actions: Sequence[str],
) -> bytes:
    versions = number(VERSION) + number(VERSION)
    names = _text(factory) + _text(program_version)
    has = _texts(handlers) + _texts(actions)
    return _frame(SERVE, _text(MAGIC), versions, names, number(calls_max), has)


def _texts(values: Sequence[str]) -> bytes:
    return number(len(values)) + b"".join(_text(value) for value in values)


def state(call: int, json: bytes, messages: Sequence[Message] = ()) -> bytes:
    return _frame(ANSWER, number(call), _sending(messages), bytes((STATE,)), json)


def as_it_is(call: int, messages: Sequence[Message] = ()) -> bytes:
    return _frame(ANSWER, number(call), _sending(messages), bytes((AS_IT_IS,)))


def _sending(messages: Sequence[Message]) -> bytes:
    if not messages:
        return b""
    parts = [_text(one.instance) + signed(one.method) + counted(one.payload) for one in messages]
    return bytes((SENDING,)) + number(len(messages)) + b"".join(parts)


def refused(call: int, status: int, message: str) -> bytes:
    return _frame(ANSWER, number(call), bytes((REFUSED,)), number(status), _text(message))


def failed(call: int, message: str) -> bytes:
    return _frame(ANSWER, number(call), bytes((FAILED,)), _text(message))


def leave() -> bytes:
    return _frame(LEAVE)


def pong(value: int) -> bytes:
    return _frame(PONG, number(value))


FromNode = Union[Welcome, CallFrame, Ping, Error]


def read(data: bytes) -> FromNode:
    """A frame of a node, given without its length."""
    if not data:
        raise Garbled("a frame is empty")
    reader = Reader(data, 1)
    kind = data[0]
    if kind == WELCOME:
        # More may be said here than this version knows.
        return Welcome(reader.n(), reader.s(), reader.n())
    if kind == ERROR:
        return Error(reader.s(), reader.s())
    said: FromNode
    if kind == PING:
        said = Ping(reader.n())
    elif kind == CALL:
        said = _call(reader)
    else:
        raise Garbled(f"there is no frame of the type {kind:#04x}")
    if reader.has_more():
        raise Garbled(f"a frame of the type {kind:#04x} goes on behind its last field")
    return said


def _call(reader: Reader) -> CallFrame:
    at, handler = reader.n(), reader.u8()
    if handler >= len(HANDLERS):
        raise Garbled(f"there is no handler {handler}")
    action, link, version, time, user = reader.s(), reader.s(), reader.n(), reader.n(), reader.s()
    parts: Tuple[bytes, ...] = tuple(reader.take(reader.n()) for _ in range(3))
    return CallFrame(at, HANDLERS[handler], action, link, version, time, user, *parts)
