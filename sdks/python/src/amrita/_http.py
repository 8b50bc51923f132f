"""HTTP/1.1 as far as a node speaks it, over any stream of bytes; and the two kinds of stream there
are: one that blocks, and one of asyncio.

Everything here is `async`. With the stream that blocks nothing ever waits for another task, so that
such a call is run to its end by one `send(None)`: see `run_blocking`.
"""

from __future__ import annotations

import asyncio
import gzip
import select
import socket
import ssl
import time
import zlib
from dataclasses import dataclass, field
from typing import Any, Coroutine, Dict, List, Optional, Tuple, TypeVar
from urllib.parse import urlsplit

from ._codec import loads
from .errors import AmritaError, BadValue

T = TypeVar("T")

#: How long it may take to connect to a node before the next one is tried.
CONNECT_SECONDS_MAX = 1.0

#: The longest line of a head, and the most lines: who sends more is no node.
LINE_BYTES_MAX = 64 << 10
HEADERS_MAX = 200


class NotSent(Exception):
    """The node surely did not get the request."""


class Broken(Exception):
    """The node may have got it."""


class OutOfTime(Exception):
    """The patience was over."""


@dataclass
class Request:
    method: str
    path: str
    body: bytes = field(default=b"", repr=False)
    #: Not shown: a login is among them.
    headers: Dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_write(self) -> bool:
        return self.method not in ("GET", "HEAD", "OPTIONS")


@dataclass
class Response:
    """An answer of a node."""

    status: int
    #: Neither is shown: the answer to a login has a token in both.
    headers: Dict[str, str] = field(repr=False)
    data: bytes = field(repr=False)
    #: Of an error that a write has got: "notApplied" or "unknown".
    outcome: Optional[str] = None

    @property
    def body(self) -> Any:
        return loads(self.data) if self.data else None

    @property
    def etag(self) -> Optional[str]:
        return self.headers.get("etag")


class Address:
    """`http://host:port`."""

    def __init__(self, text: str) -> None:
        # Before an '@' there may be a password, which must not come into an error or a log.
        if "@" in text:
            shown = text.rpartition("@")[2]
            raise BadValue(f"'...@{shown}' has more than a host and a port: a login goes elsewhere")
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            port = parts.port
        except ValueError as why:
            raise BadValue(f"'{text}' is no address: {why}") from why
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadValue(f"'{text}' is no address of a node: it is http://HOST:PORT")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise BadValue(f"'{text}' has more than a host and a port")
        self.is_tls = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or (443 if self.is_tls else 80)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = f"{shown}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"


def trust(ca_file: str) -> ssl.SSLContext:
    """Believes the certificates that an authority in this file has signed, and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as why:
        raise BadValue(f"{ca_file}: {why}") from why
    return context


class Stream:
    """A connection to a node, for one request at a time."""

    #: No operation lasts longer than until then, by `time.monotonic()`.
    deadline: float = float("inf")

    async def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def line(self) -> bytes:
        raise NotImplementedError

    async def exactly(self, count: int) -> bytes:
        raise NotImplementedError

    def is_fresh(self) -> bool:
        """Whether an idle connection can be used once more."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Io:
    """What a client needs of the world beside streams."""

    async def connect(
        self, address: Address, tls: Optional[ssl.SSLContext], deadline: float
    ) -> Stream:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


async def exchange(stream: Stream, head: bytes, body: bytes) -> Tuple[Response, bool]:
    """One request and its answer, and whether the connection may be used again."""
    await stream.write(head + body)
    line = await stream.line()
    parts = line.decode("latin-1").split(None, 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise Broken(f"this is no answer of a node: {line[:80]!r}")
    status = int(parts[1])
    headers = await _headers(stream)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        data = await _chunks(stream)
    elif status in (204, 304):
        data = b""
    elif "content-length" in headers:
        data = await stream.exactly(int(headers["content-length"]))
    else:
        raise Broken("the answer does not say how long it is")
    if headers.get("content-encoding") == "gzip":
        data = gzip.decompress(data)
    return Response(status, headers, data), headers.get("connection", "").lower() != "close"


async def _headers(stream: Stream) -> Dict[str, str]:
    headers: Dict[str, str] = {}
    for _ in range(HEADERS_MAX):
        line = (await stream.line()).decode("latin-1").rstrip("\r\n")
        if not line:
            return headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise Broken("the head of the answer has no end")


async def _chunks(stream: Stream) -> bytes:
    parts: List[bytes] = []
    while True:
        line = await stream.line()
        size = int(line.split(b";")[0], 16)
        if size == 0:
            await _headers(stream)
            return b"".join(parts)
        parts.append(await stream.exactly(size))
        await stream.line()


def run_blocking(call: Coroutine[Any, Any, T]) -> T:
    """Runs a call whose streams block. It never has to wait for anything else."""
    try:
        call.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    call.close()
    raise AssertionError("a call over a blocking stream waited for something else")


class BlockingStream(Stream):
    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.buffer = b""

    def _limit(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTime()
        self.socket.settimeout(None if left == float("inf") else left)

    async def write(self, data: bytes) -> None:
        self._limit()
        self.socket.sendall(data)

    def _more(self) -> None:
        self._limit()
        data = self.socket.recv(256 << 10)
        if not data:
            raise ConnectionError("the node has closed the connection")
        self.buffer += data

    async def line(self) -> bytes:
        while True:
            end = self.buffer.find(b"\n")
            if end >= 0:
                line, self.buffer = self.buffer[: end + 1], self.buffer[end + 1 :]
                return line
            if len(self.buffer) > LINE_BYTES_MAX:
                raise ConnectionError("a line of the head is too long")
            self._more()

    async def exactly(self, count: int) -> bytes:
        parts = [self.buffer[:count]]
        self.buffer = self.buffer[count:]
        missing = count - len(parts[0])
        while missing > 0:
            self._limit()
            data = self.socket.recv(min(missing, 1 << 20))
            if not data:
                raise ConnectionError("the node has closed the connection")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def is_fresh(self) -> bool:
        # Something to read on an idle connection is its end.
        if self.buffer:
            return False
        poller = select.poll()
        poller.register(self.socket, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poller.poll(0)

    def close(self) -> None:
        self.socket.close()


class BlockingIo(Io):
    async def connect(
        self, address: Address, tls: Optional[ssl.SSLContext], deadline: float
    ) -> Stream:
        limit = min(CONNECT_SECONDS_MAX, max(0.001, deadline - time.monotonic()))
        connected = socket.create_connection((address.host, address.port), timeout=limit)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            connected = tls.wrap_socket(connected, server_hostname=address.host)
        return BlockingStream(connected)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class AsyncStream(Stream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> bytes:
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the node has closed the connection")
        return line

    async def exactly(self, count: int) -> bytes:
        return await self.reader.readexactly(count)

    def is_fresh(self) -> bool:
        return not self.reader.at_eof() and not self.writer.is_closing()

    def close(self) -> None:
        # Not awaited: nobody needs to know when the last byte has gone.
        self.writer.close()


class AsyncIo(Io):
    async def connect(
        self, address: Address, tls: Optional[ssl.SSLContext], deadline: float
    ) -> Stream:
        limit = min(CONNECT_SECONDS_MAX, max(0.001, deadline - time.monotonic()))
        connecting = asyncio.open_connection(
            address.host, address.port, ssl=tls, limit=LINE_BYTES_MAX
        )
        return AsyncStream(*await asyncio.wait_for(connecting, limit))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Node:
    """A node, with the connections to it that are idle."""

    #: The most idle connections that are kept.
    IDLE_MAX = 1024

    def __init__(self, address: Address) -> None:
        self.address = address
        self.idle: List[Stream] = []

    async def ask(
        self, io: Io, tls: Optional[ssl.SSLContext], request: Request, deadline: float
    ) -> Response:
        """One attempt. Raises `NotSent`, `Broken` or `OutOfTime`."""
        head = self._head(request)
        stream = await self._connected(io, tls, deadline)
        stream.deadline = deadline
        try:
            response, keep = await _in_time(exchange(stream, head, request.body), stream)
        except OutOfTime:
            stream.close()
            raise
        except socket.timeout as why:
            stream.close()
            raise OutOfTime() from why
        except (OSError, EOFError, ValueError, zlib.error, Broken) as why:
            stream.close()
            raise Broken(str(why) or type(why).__name__) from why
        except BaseException:
            stream.close()
            raise
        if keep and len(self.idle) < self.IDLE_MAX:
            self.idle.append(stream)
        else:
            stream.close()
        return response

    async def _connected(self, io: Io, tls: Optional[ssl.SSLContext], deadline: float) -> Stream:
        while self.idle:
            try:
                stream = self.idle.pop()
            except IndexError:  # Another thread took it.
                break
            if stream.is_fresh():
                return stream
            stream.close()
        if self.address.is_tls and tls is None:
            raise AmritaError(
                f"{self.address} speaks TLS: say whose certificate to believe, with ca_file"
            )
        try:
            context = tls if self.address.is_tls else None
            return await io.connect(self.address, context, deadline)
        except asyncio.TimeoutError as why:
            raise NotSent(f"{self.address}: no connection in time") from why
        except OSError as why:
            raise NotSent(f"{self.address}: {why}") from why

    def _head(self, request: Request) -> bytes:
        lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {self.address.authority}"]
        if not _is_plain(lines[0]):
            raise BadValue(f"a request for {request.path!r} cannot be sent")
        for name, value in request.headers.items():
            lines.append(f"{name}: {value}")
            if not _is_plain(lines[-1]):
                # Its value may be a secret.
                raise BadValue(f"the header {name!r} has a line break or a letter that HTTP has not")
        if request.body or request.is_write:
            lines.append(f"content-length: {len(request.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def close(self) -> None:
        while self.idle:
            self.idle.pop().close()


def _is_plain(line: str) -> bool:
    return all(letter >= " " and letter <= "\xff" and letter != "\x7f" for letter in line)


async def _in_time(call: Coroutine[Any, Any, T], stream: Stream) -> T:
    """With asyncio the deadline is one timer, which ends the connection."""
    if not isinstance(stream, AsyncStream) or stream.deadline == float("inf"):
        return await call
    loop = asyncio.get_running_loop()
    late = False

    def end() -> None:
        nonlocal late
        late = True
        stream.writer.transport.abort()

    timer = loop.call_later(max(0.0, stream.deadline - time.monotonic()), end)
    try:
        return await call
    except (OSError, EOFError):
        if late:
            raise OutOfTime() from None
        raise
    finally:
        timer.cancel()
