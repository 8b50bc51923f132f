"""Asks one node, goes to the next when that one does not answer, and repeats a write under one
`Idempotency-Key`, so that a repetition is not a second write."""

from __future__ import annotations

import base64
import enum
import ssl
import time
from typing import Any, Dict, Optional, Sequence

from . import _keys
from ._codec import dumps
from ._http import Address, Broken, Io, Node, NotSent, OutOfTime, Request, Response, trust
from .errors import BadValue, Unreachable

#: The pause after all nodes were tried once in vain; doubled with each further time.
PAUSE_SECONDS_MIN = 0.005
PAUSE_SECONDS_MAX = 0.2

#: How long one node may think about what may be repeated before the next one is asked: longer than
#: a node takes until it gives up a request, which is ten seconds.
ATTEMPT_SECONDS_MAX = 12.0

#: Of what is left of the patience one attempt takes this part at most, so that a node that accepts
#: a request and says nothing leaves time for the next one.
ATTEMPT_PART = 0.8

#: Codes of answers that say "try again": the request was surely not carried out, or its key makes
#: it safe to repeat.
TRY_AGAIN = ("NO_OWNER", "NO_PROGRAM", "BUSY", "STOPPING", "TIMEOUT")

#: Errors of these kinds are told by the owner, which has looked for the key before. All other errors
#: may come from a node that knows nothing of what became of the key; a 404 may also mean that the
#: service was taken away meanwhile, and a 422 (the key is that of another request) that an earlier
#: attempt was done: a node salts a password anew for each.
BY_KEY = (400, 409, 412)


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

    async def send(self, request: Request, patience: Optional[float] = None) -> Response:
        """Sends any request. A write without a key of its own gets one.

        An answer that tells of an error is an answer. Its `outcome` says what is known of the write
        as a whole: "unknown" when an attempt before it broke off, unless it speaks for the key."""
        headers: Dict[str, str] = request.headers
        takes_key = request.is_write and _keys.are_taken_by(request)
        if takes_key and "idempotency-key" not in headers and self.keys is not None:
            headers["idempotency-key"] = self.keys.next()
        if self.authorization is not None:
            headers.setdefault("authorization", self.authorization)
        repeat = self._repeat(request, takes_key)
        attempts = _Attempts(self, repeat, self.patience if patience is None else patience)
        while True:
            start = self.preferred
            for step in range(len(self.nodes)):
                which = (start + step) % len(self.nodes)
                response = await attempts.one(which, request)
                if response is not None:
                    self.preferred = which
                    return attempts.judged(response)
            if time.monotonic() + attempts.pause >= attempts.deadline:
                return attempts.in_vain()
            await self.io.sleep(attempts.pause)
            attempts.pause = min(attempts.pause * 2, PAUSE_SECONDS_MAX)

    def _repeat(self, request: Request, takes_key: bool) -> "_Repeat":
        if not request.is_write:
            return _Repeat.READ
        if "idempotency-key" in request.headers:
            return _Repeat.BY_KEY
        if takes_key or self.keys is None or _keys.is_done_each_time(request):
            return _Repeat.NEVER
        return _Repeat.SAME_TWICE

    async def ask_one(self, which: int, request: Request, seconds: float) -> Response:
        """One attempt at one node. Raises `NotSent`, `Broken` or `OutOfTime`."""
        if self.authorization is not None:
            request.headers.setdefault("authorization", self.authorization)
        until = time.monotonic() + seconds
        return await self.nodes[which].ask(self.io, self.tls, request, until)

    def tried(self) -> str:
        return ", ".join(str(node.address) for node in self.nodes)

    def close(self) -> None:
        for node in self.nodes:
            node.close()


class _Repeat(enum.Enum):
    """Why a request may be sent once more after an attempt that may have been done."""

    #: It changes nothing.
    READ = 1
    #: Under its key it is one write, however often it is sent.
    BY_KEY = 2
    #: To ask for the same twice there is to have it once. A later answer does not tell what became
    #: of an earlier attempt.
    SAME_TWICE = 3
    NEVER = 4


class _Attempts:
    """How the attempts at one request went so far."""

    def __init__(self, cluster: Cluster, repeat: _Repeat, patience: float) -> None:
        self.cluster, self.repeat = cluster, repeat
        self.is_write = repeat is not _Repeat.READ
        self.is_safe = repeat is not _Repeat.NEVER
        self.deadline = time.monotonic() + patience
        self.pause = PAUSE_SECONDS_MIN
        #: The last answer that said "try again".
        self.answer: Optional[Response] = None
        self.why = ""
        #: An attempt broke off, and the write may have been done.
        self.in_doubt = False

    async def one(self, which: int, request: Request) -> Optional[Response]:
        """Asks one node. None: the next node is to be asked."""
        cluster, until = self.cluster, self._until()
        try:
            response = await cluster.nodes[which].ask(cluster.io, cluster.tls, request, until)
        except NotSent as error:
            self.why = str(error)
        except Broken as error:
            self.why, self.in_doubt = str(error), self.is_write
            if not self.is_safe:
                return self.in_vain()
        except OutOfTime:
            self.why = f"{cluster.nodes[which].address} gave no answer in time"
            self.in_doubt = self.is_write
            if until >= self.deadline:
                return self.in_vain()
        else:
            if not _is_try_again(response, self.is_safe):
                return response
            self.answer = response
            self.in_doubt = self.in_doubt or (self.is_write and _outcome(response) == "unknown")
        return None

    def _until(self) -> float:
        """When the next attempt is given up."""
        if not self.is_safe:
            return self.deadline
        left = self.deadline - time.monotonic()
        part = min(left * ATTEMPT_PART, ATTEMPT_SECONDS_MAX)
        # With so little left there is no other attempt.
        return self.deadline if left - part < PAUSE_SECONDS_MIN else time.monotonic() + part

    def in_vain(self) -> Response:
        """A node's own words are better than ours."""
        if self.answer is not None:
            return self.judged(self.answer)
        maybe = "; the write may have happened" if self.in_doubt else ""
        outcome = "unknown" if self.in_doubt else "notApplied"
        raise Unreachable(
            f"no node answers at {self.cluster.tried()}: {self.why}{maybe}",
            outcome=outcome if self.is_write else None,
        )

    def judged(self, answer: Response) -> Response:
        """The answer, and what it tells of the write as a whole: one node's "surely not" is not the
        whole truth while another attempt may have been done."""
        if not self.is_write or answer.status < 300:
            return answer
        is_settled = self.repeat is _Repeat.BY_KEY and answer.status in BY_KEY
        said = _outcome(answer)
        if self.in_doubt and not is_settled:
            return _in_doubt(answer)
        # Without an outcome it is not a node that speaks, but something in between.
        answer.outcome = str(said) if said is not None else "unknown"
        return answer


def _in_doubt(answer: Response) -> Response:
    """The same answer, which does not claim to know what became of the write."""
    body = _fields(answer)
    if body:
        body["outcome"] = "unknown"
        if isinstance(body.get("message"), str):
            body["message"] += "; an attempt before broke off"
        answer.data = dumps(body)
    answer.outcome = "unknown"
    return answer


def _fields(response: Response) -> Dict[str, Any]:
    try:
        body = response.body
    except BadValue:
        return {}
    return body if isinstance(body, dict) else {}


def _outcome(response: Response) -> object:
    return _fields(response).get("outcome")


def _is_try_again(response: Response, safe: bool) -> bool:
    """Whether the node asks for the same request again. `safe`: a repetition does no harm."""
    if response.status not in (503, 504):
        return False
    body = _fields(response)
    if body.get("code") not in TRY_AGAIN:
        return False
    return safe or body.get("outcome") == "notApplied"
