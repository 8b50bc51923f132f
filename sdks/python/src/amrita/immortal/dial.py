"""How a program reaches its node: the Unix socket in the node's sandbox, or an HTTP upgrade."""

from __future__ import annotations

import os
import socket
from typing import List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import quote

from .._codec import loads
from .._http import Address, trust
from .._names import checked_link, checked_name
from ..errors import BadValue
from .session import Lost, Said
from .tls import plain_end

#: The name of the socket in a node's sandbox.
SOCKET_NAME = "immortals.sock"

#: The environment variables of what is shown to a node, and of whose certificate is believed.
TOKEN, CA_FILE = "AMRITA_TOKEN", "AMRITA_CA_FILE"

#: So long a node may take to be reached and to answer an upgrade; then it is tried again.
CONNECT_SECONDS_MAX = 5.0

#: An answer to an upgrade with a longer head is none.
HEAD_BYTES_MAX = 16 << 10


class Door(NamedTuple):
    """Where a program asks for an upgrade, and for which protocol."""

    path: str
    protocol: str

    @classmethod
    def of_instance(cls, name: str) -> "Door":
        return cls(f"/core/immortals/{quote(checked_name(name))}/attach", "amrita-immortal")

    @classmethod
    def of_kind(cls, factory: str) -> "Door":
        name = checked_link(factory).strip("/").replace("/", ":")
        return cls(f"/core/factories/{quote(name, safe=':')}/attach", "amrita-service")


class Dial:
    """`http://host:port`, `https://host:port`, a socket, or the sandbox that has it; or several of
    these behind commas, of which the first is taken that is there."""

    def __init__(
        self, node: str, token: Optional[str] = None, ca_file: Optional[str] = None
    ) -> None:
        """`token` and `ca_file` are for nodes with TLS: what is shown to one that asks for a login,
        and who signs its certificate. Without them the environment says so (`AMRITA_TOKEN`,
        `AMRITA_CA_FILE`)."""
        self.places: List[str] = [one.strip() for one in node.split(",") if one.strip()]
        if not self.places:
            raise BadValue("a node is needed: its address, or its sandbox")
        with_tls = [one for one in self.places if "://" in one and Address(one).is_tls]
        if token and len(with_tls) < len(self.places):
            raise BadValue("a token is shown over TLS only: name each node by https://...")
        # In the environment it may stand for others, that speak TLS.
        self.token = _checked_token(token or os.environ.get(TOKEN) or "")
        ca_file = ca_file or os.environ.get(CA_FILE)
        if with_tls and not ca_file:
            raise BadValue(
                f"{with_tls[0]} speaks TLS: say whose certificate to believe, with ca_file or "
                f"{CA_FILE}: tls/ca.pem of a node's sandbox"
            )
        self.tls = trust(ca_file) if with_tls and ca_file else None
        self.first = 0

    def connect(self, door: Door) -> socket.socket:
        why = ""
        for step in range(len(self.places)):
            which = (self.first + step) % len(self.places)
            place = self.places[which]
            try:
                connected = self._http(place, door) if _is_address(place) else _unix(place)
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

    def _http(self, place: str, door: Door) -> socket.socket:
        address = Address(place)
        connected = socket.create_connection((address.host, address.port), CONNECT_SECONDS_MAX)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not address.is_tls or self.tls is None:
                _upgrade(connected, address, door, "")
                return connected
            outer = self.tls.wrap_socket(connected, server_hostname=address.host)
            connected = outer
            _upgrade(outer, address, door, self.token)
            return plain_end(outer)
        except BaseException:
            connected.close()
            raise


def from_environment(addresses: Sequence[str]) -> Tuple[Optional[str], Optional[str]]:
    """The token and the file of the authority that a client of these nodes is to have. A token is shown
    over TLS only: with other nodes it may stand for somebody else."""
    with_tls = [one for one in addresses if Address(one).is_tls]
    is_shown = bool(with_tls) and len(with_tls) == len(addresses)
    token = _checked_token(os.environ.get(TOKEN) or "") if is_shown else ""
    return token or None, (os.environ.get(CA_FILE) or None) if with_tls else None


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


def _checked_token(token: str) -> str:
    token = token.strip()
    if not all("!" <= letter <= "~" for letter in token):
        # It is not shown: it is a secret.
        raise BadValue("the token has a letter that no token has")
    return token


def _upgrade(connected: socket.socket, address: Address, door: Door, token: str) -> None:
    """What follows on the connection are frames, or it raises what the node said instead."""
    lines = [
        f"GET {door.path} HTTP/1.1",
        f"Host: {address.authority}",
        "Connection: Upgrade",
        f"Upgrade: {door.protocol}",
    ]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    connected.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # One byte after the other: nothing behind the head may be taken away.
        byte = connected.recv(1)
        head += byte
        if not byte or len(head) > HEAD_BYTES_MAX:
            raise Lost("the node has closed the connection" if not byte else "is it a node?")
    status = head.split(None, 2)[1].decode("latin-1")
    if status != "101":
        raise _refusal(status, _body(connected, head))
    connected.settimeout(None)


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
        return Lost(f"the answer is {status} and not 101: is it a node of Amrita?")
