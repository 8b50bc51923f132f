"""Writes to documents. A write is a message that follows from an input as every other: it is made
exactly once, whoever dies in the middle, and in order with all that this program has written before
to documents of the same partition."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

from .._codec import dumps, encode
from ..errors import BadValue
from .program import Outcome, Outgoing, Rejected

#: The methods of messages to documents.
POST, PUT, PATCH, DELETE, ACT = 1, 2, 3, 4, 5


class Document:
    """A document that is written to, by its link.

        Document.at("/core/orders/o1").patch({"paid": True}).fork(context)
        Document.at("/app/seats/A1").act("hold", {"for": "jane"}).call(context, then=self.held)

    What is called by `then` gets the outcome: see `Written.of`."""

    def __init__(self, link: str) -> None:
        if not link.startswith("/"):
            raise ValueError(f"'{link}' is no link of a document")
        self.link = link

    @classmethod
    def at(cls, link: str) -> "Document":
        return cls(link)

    def post(self, state: Any) -> Outgoing:
        """Makes it. The program names its documents itself: all copies must say the same."""
        return self._write(POST, state)

    def put(self, state: Any) -> Outgoing:
        """Replaces what it says."""
        return self._write(PUT, state)

    def patch(self, fields: Any) -> Outgoing:
        """Changes what it says."""
        return self._write(PATCH, fields)

    def delete(self) -> Outgoing:
        return Outgoing(self.link, DELETE, b"")

    def act(self, action: str, body: Any) -> Outgoing:
        """Has an action of it done."""
        return Document(f"{self.link}/actions/{action}")._write(ACT, body)

    def _write(self, method: int, body: Any) -> Outgoing:
        return Outgoing(self.link, method, dumps(encode(body)))


@dataclasses.dataclass(frozen=True)
class Written:
    """What became of a write."""

    #: As HTTP has it: 200, or why it was refused, such as 404 or 409.
    status: int
    #: The document as it was written, or the error. None when there is none, or when it is longer
    #: than 256 KiB.
    body: Any

    @classmethod
    def of(cls, outcome: Outcome) -> "Written":
        """Raises `Rejected` with the code and the words when the write was refused."""
        written = cls.told(outcome)
        if written.status < 400:
            return written
        body = written.body if isinstance(written.body, dict) else {}
        raise Rejected(f"{body.get('code', '')} ({written.status}): {body.get('message', '')}")

    @classmethod
    def told(cls, outcome: Outcome) -> "Written":
        """The same, whether it was made or refused."""
        value = outcome.value()
        if not isinstance(value, dict) or not isinstance(value.get("status"), int):
            raise BadValue("this is not the outcome of a write to a document")
        return cls(value["status"], value.get("body"))

    @property
    def version(self) -> Optional[int]:
        """The version that was written."""
        return self.body.get("documentVersion") if isinstance(self.body, dict) else None

    @property
    def code(self) -> Optional[str]:
        """The name of the error, such as `NOT_FOUND`."""
        return self.body.get("code") if isinstance(self.body, dict) else None
