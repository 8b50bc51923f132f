"""Asks one node, goes to the next when that one does not answer, and repeats a write under one
`Idempotency-Key`, so that a repetition is not a second write."""

from __future__ import annotations

import base64
import ssl
import time
from typing import Dict, List, Optional, Sequence

from . import _keys
from ._http import Address, Broken, Io, Node, NotSent, OutOfTime, Request, Response, trust
from .errors import AmritaError, BadValue, Unreachable

#: The pause after all nodes were tried once in vain; doubled with each further time.
PAUSE_SECONDS_MIN = 0.005
PAUSE_SECONDS_MAX = 0.2

#: How long one node may think about what may be repeated before another is asked: longer than a
#: node waits for a task that it is to answer for, which is ten seconds.
ATTEMPT_SECONDS_MAX = 12.0

#: Codes of answers that say "try again": the request was surely not carried out, or its key makes
#: it safe to repeat.
TRY_AGAIN = ("NO_OWNER", "BUSY", "STOPPING", "TIMEOUT")


class Cluster:
    """The nodes of a cluster, as a client sees them."""

    def __init__(
        self,
        addresses: Sequence[str],
        io: Io,
        *,
        patience: float,
        token: Optional[str] = None,
        password: Optional[Sequence[str]] = None,
        ca_file: Optional[str] = None,
        keys: bool = True,
    ) -> None:
        self.nodes = [Node(Address(one)) for one in addresses]
        if not self.nodes:
            raise BadValue("the address of at least one node is needed")
        self.io = io
        self.patience = patience
        self.keys = _keys.Keys() if keys else None
        self.tls: Optional[ssl.SSLContext] = trust(ca_file) if ca_file else None
        #: The node that answered last.
        self.preferred = 0
        self.authorization: Optional[str] = None
        if token is not None:
            self.authorization = f"Bearer {token}"
        elif password is not None:
            text = ":".join(password).encode()
            self.authorization = "Basic " + base64.b64encode(text).decode()

    async def send(
        self,
        request: Request,
        patience: Optional[float] = None,
        attempt: Optional[float] = None,
    ) -> Response:
        """Sends any request. A write without a key of its own gets one. An answer that tells of an
        error is an answer."""
        headers: Dict[str, str] = request.headers
        has_key = "idempotency-key" in headers
        takes_key = request.is_write and _keys.are_taken_by(request)
        if takes_key and not has_key and self.keys is not None:
            headers["idempotency-key"] = self.keys.next()
            has_key = True
        if self.authorization is not None:
            headers["authorization"] = self.authorization
        is_same_twice = not takes_key and self.keys is not None
        safe = not request.is_write or has_key or is_same_twice
        deadline = time.monotonic() + (self.patience if patience is None else patience)
        longest = (attempt or ATTEMPT_SECONDS_MAX) if safe else float("inf")
        return await self._attempts(request, safe, deadline, longest)

    async def _attempts(
        self, request: Request, safe: bool, deadline: float, longest: float
    ) -> Response:
        answer: Optional[Response] = None
        why, unknown, pause = "", False, PAUSE_SECONDS_MIN
        while True:
            start = self.preferred
            for step in range(len(self.nodes)):
                which = (start + step) % len(self.nodes)
                until = min(deadline, time.monotonic() + longest)
                try:
                    response = await self.nodes[which].ask(self.io, self.tls, request, until)
                except NotSent as error:
                    why = str(error)
                except Broken as error:
                    why, unknown = str(error), request.is_write
                    if not safe:
                        raise self._in_vain(why, unknown) from None
                except OutOfTime:
                    why, unknown = "no answer in time", unknown or request.is_write
                    if until == deadline:
                        return self._last_word(answer, why, unknown)
                else:
                    if not _is_try_again(response, safe):
                        self.preferred = which
                        return response
                    answer = response
                    unknown = unknown or _is_unknown(response)
            if time.monotonic() + pause >= deadline:
                return self._last_word(answer, why, unknown)
            await self.io.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _last_word(self, answer: Optional[Response], why: str, unknown: bool) -> Response:
        """A node's own words are better than ours; but when one attempt may have been carried out,
        another node's "surely not" is not the whole truth."""
        if answer is None or (unknown and not _is_unknown(answer)):
            raise self._in_vain(why, unknown)
        return answer

    def _in_vain(self, why: str, unknown: bool) -> AmritaError:
        tried = ", ".join(str(node.address) for node in self.nodes)
        maybe = "; the write may have happened" if unknown else ""
        outcome = "unknown" if unknown else None
        return Unreachable(f"no node answers at {tried}: {why}{maybe}", outcome=outcome)

    async def ask_the_others(self, request: Request, patience: float) -> List[Response]:
        """Asks each node but the preferred one, once, and gives what they say."""
        said = []
        if self.authorization is not None:
            request.headers["authorization"] = self.authorization
        for which in range(len(self.nodes)):
            if which == self.preferred:
                continue
            deadline = time.monotonic() + patience
            try:
                said.append(await self.nodes[which].ask(self.io, self.tls, request, deadline))
            except (NotSent, Broken, OutOfTime):
                continue
            if said[-1].status < 300:
                self.preferred = which
                break
        return said

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def _outcome(response: Response) -> object:
    try:
        body = response.body
    except BadValue:
        return None
    return body.get("outcome") if isinstance(body, dict) else None


def _is_unknown(response: Response) -> bool:
    return _outcome(response) == "unknown"


def _is_try_again(response: Response, safe: bool) -> bool:
    """Whether the node asks for the same request again. `safe`: a repetition does no harm."""
    if response.status not in (503, 504):
        return False
    try:
        body = response.body
    except BadValue:
        return False
    if not isinstance(body, dict) or body.get("code") not in TRY_AGAIN:
        return False
    return safe or body.get("outcome") == "notApplied"
