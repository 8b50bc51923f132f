"""How a program reaches its node: the Unix socket in the node's sandbox, or an HTTP upgrade."""

from __future__ import annotations

import os
import socket
from typing import List
from urllib.parse import quote

from .._codec import loads
from .._http import Address
from .._names import checked_name
from ..errors import BadValue
from .session import Lost, Said

#: The name of the socket in a node's sandbox.
SOCKET_NAME = "immortals.sock"

#: So long a node may take to be reached and to answer an upgrade; then it is tried again.
CONNECT_SECONDS_MAX = 5.0

#: An answer to an upgrade with a longer head is none.
HEAD_BYTES_MAX = 16 << 10


class Dial:
    """`http://host:port`, a socket, or the sandbox that has it; or several of these behind commas,
    of which the first is taken that is there."""

    def __init__(self, node: str) -> None:
        self.places: List[str] = [one.strip() for one in node.split(",") if one.strip()]
        if not self.places:
            raise BadValue("a node is needed: its address, or its sandbox")
        for place in self.places:
            if "://" in place and Address(place).is_tls:
                raise BadValue(
                    f"{place} asks for TLS, in which programs do not attach: attach to the node on "
                    "this machine by its socket"
                )
        self.first = 0

    def connect(self, instance: str) -> socket.socket:
        why = ""
        for step in range(len(self.places)):
            which = (self.first + step) % len(self.places)
            place = self.places[which]
            try:
                connected = _http(place, instance) if _is_address(place) else _unix(place)
            except (OSError, Lost) as error:
                why = str(error)
                continue
            except Said:
                self.first = which
                raise
            self.first = which
            return connected
        shown = ", ".join(self.places)
        raise Lost(
            f"no node answers at {shown}: {why}. Start one, or name yours with --node (its "
            "sandbox, or its address, which begins with http://)"
        )

    def turn_to_the_next(self) -> None:
        """The node that was reached does not take the program."""
        self.first = (self.first + 1) % len(self.places)


def _is_address(place: str) -> bool:
    if "://" in place:
        return True
    host, _, port = place.rpartition(":")
    return bool(host) and "/" not in host and port.isdigit() and not os.path.exists(place)


def _unix(place: str) -> socket.socket:
    path = os.path.join(place, SOCKET_NAME) if os.path.isdir(place) else place
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.connect(path)
    except OSError:
        connected.close()
        raise
    return connected


def _http(place: str, instance: str) -> socket.socket:
    address = Address(place)
    connected = socket.create_connection((address.host, address.port), CONNECT_SECONDS_MAX)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [
            f"GET /core/immortals/{quote(checked_name(instance))}/attach HTTP/1.1",
            f"Host: {address.authority}",
            "Connection: Upgrade",
            "Upgrade: amrita-immortal",
        ]
        connected.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            # One byte after the other: nothing behind the head may be taken away.
            byte = connected.recv(1)
            head += byte
            if not byte or len(head) > HEAD_BYTES_MAX:
                raise Lost("the node has closed the connection" if not byte else "is it a node?")
        status = head.split(None, 2)[1].decode("latin-1")
        if status == "101":
            connected.settimeout(None)
            return connected
        raise _refusal(status, _body(connected, head))
    except BaseException:
        connected.close()
        raise


def _body(connected: socket.socket, head: bytes) -> bytes:
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = min(HEAD_BYTES_MAX, int(line.split(b":")[1]))
    body = b""
    while len(body) < length:
        data = connected.recv(length - len(body))
        if not data:
            break
        body += data
    return body


def _refusal(status: str, body: bytes) -> Exception:
    """A node's problems have a code and a message; whatever else answers has a status."""
    try:
        fields = loads(body)
        return Said(fields["code"], fields["message"])
    except (BadValue, KeyError, TypeError):
        return Lost(f"the answer is {status} and not 101: is it a node with immortals?")
