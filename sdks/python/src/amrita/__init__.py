"""Amrita for Python: documents, tasks and programs that stay alive while machines die.

    import amrita

    client = amrita.Client("http://127.0.0.1:8001,http://127.0.0.1:8002,http://127.0.0.1:8003")
    seats = client.kind("/app/seats", Seat).define()        # Seat is a dataclass
    seats.create(Seat(row="A"), name="A1")

`amrita.AsyncClient` is the same for asyncio, `amrita.immortal` is for programs that go on when they
are killed, `amrita.testing.cluster()` starts real nodes for a test.
"""

from .client import AsyncClient, AsyncFeed, AsyncKind, Client, Feed, Kind
from .documents import (
    Change,
    Document,
    Question,
    Where,
    between,
    phrase,
    prefix,
    term,
    wildcard,
)
from .errors import (
    AlreadyExists,
    AmritaError,
    BadValue,
    ChangesGone,
    Forbidden,
    LoginNeeded,
    NotFound,
    OlderDefinition,
    PreconditionFailed,
    Refused,
    TaskFailed,
    Unreachable,
)

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "AmritaError",
    "AsyncClient",
    "AsyncFeed",
    "AsyncKind",
    "BadValue",
    "Change",
    "ChangesGone",
    "Client",
    "Document",
    "Feed",
    "Forbidden",
    "Kind",
    "LoginNeeded",
    "NotFound",
    "OlderDefinition",
    "PreconditionFailed",
    "Question",
    "Refused",
    "TaskFailed",
    "Unreachable",
    "Where",
    "between",
    "phrase",
    "prefix",
    "term",
    "wildcard",
]
