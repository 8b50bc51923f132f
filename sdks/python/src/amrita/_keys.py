"""Which writes take an `Idempotency-Key`: those that a node remembers. It refuses the others that
have one, as it would be ignored. The same rules as in the Rust client (`crates/client`)."""

from __future__ import annotations

import json
import secrets
import threading

from ._http import Request
from ._names import UTILITIES

#: Where nothing is a document. To ask for the same twice there is to have it once.
KEYLESS = (
    "/core/ambrosia",
    "/core/authn",
    "/core/authz/can-i",
    "/core/backups",
    "/core/immortals",
    "/core/management",
    "/core/node-groups",
    "/core/node-selectors",
    "/core/sql",
)
#: Passes on what is sent there, to where keys are taken.
FORWARDING = "/core/node-selectors/default/forwarding"
#: Each POST makes another secret, which is shown once.
SECRETS = ("/core/auth/join-tokens", "/core/auth/tokens")
QUERIES = ("/core/query-tasks", "/core/local-query-tasks")


def are_taken_by(request: Request) -> bool:
    path = request.path.split("?", 1)[0].rstrip("/")
    parts = path.split("/")
    # An instance may have the name `impulses`, and then it is not meant.
    if parts[1:3] == ["core", "immortals"] and len(parts) == 5 and parts[4] == "impulses":
        return True
    if path == FORWARDING:
        # A direct query is passed on as it is.
        is_query = request.method == "POST" and b'"querySpec"' in (request.body or b"")
        return not (is_query and _is_direct(request.body))
    if parts[-1] in UTILITIES or _makes_secret(request.method, path):
        return False
    if any(path == one or path.startswith(one + "/") for one in KEYLESS):
        return False
    return not (request.method == "POST" and path in QUERIES and _is_direct(request.body))


def _makes_secret(method: str, path: str) -> bool:
    return method == "POST" and path in SECRETS


def is_done_each_time(request: Request) -> bool:
    """Whether a request is done each time that it is sent: it is about the very node that is asked,
    which stops or joins another cluster, and then the next node would, too; or it makes a secret."""
    path = request.path.split("?", 1)[0].rstrip("/")
    if path == "/core/management" or _makes_secret(request.method, path):
        return True
    return request.method == "POST" and path == "/core/node-groups/default"


def _is_direct(body: bytes) -> bool:
    """A direct query makes no document."""
    try:
        return json.loads(body)["taskInfo"]["isDirect"] is True
    except (ValueError, KeyError, TypeError):
        return False


class Keys:
    """Keys for the writes of one client. No two clients may have the same, or the one's write would
    be taken for a repetition of the other's: so they come from the system's random source."""

    def __init__(self) -> None:
        self.prefix = secrets.token_hex(16)
        self.number = 0
        self.lock = threading.Lock()

    def next(self) -> str:
        with self.lock:
            self.number += 1
            return f"{self.prefix}-{self.number}"
