"""What can go wrong, as exceptions. All of them are an `AmritaError`, and all of them say in
`outcome` whether a write may have happened: "notApplied" (surely not), "unknown" (it may have), or
None (it was no write)."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Type


class AmritaError(Exception):
    """Anything that this package raises about a cluster."""

    code: str = "ERROR"
    message: str = ""
    outcome: Optional[str] = None

    def __init__(
        self, message: str, *, code: Optional[str] = None, outcome: Optional[str] = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = outcome
        if code is not None:
            self.code = code


class Unreachable(AmritaError):
    """No node answered, or the patience was over while a node was thinking."""

    code = "UNREACHABLE"


class BadValue(AmritaError, ValueError):
    """A value that is not what it should be: it does not fit a dataclass, or cannot be JSON."""

    code = "BAD_VALUE"


class Refused(AmritaError):
    """A node answered with an error. `code` is stable and meant for programs."""

    def __init__(self, status: int, body: Dict[str, Any]) -> None:
        self.status = status
        self.body = body
        self.details: List[str] = list(body.get("details") or [])
        code = str(body.get("code") or f"HTTP_{status}")
        message = str(body.get("message") or f"the answer is {status}")
        super().__init__(message, code=code, outcome=body.get("outcome"))

    @property
    def may_work_later(self) -> bool:
        """Whether the same request may work later."""
        return "SHOULD_RETRY" in self.details

    def __str__(self) -> str:
        maybe = "; the write may have happened" if self.outcome == "unknown" else ""
        return f"{self.code}: {self.message}{maybe}"


class NotFound(Refused):
    """No such document, version, page or service."""


class AlreadyExists(Refused):
    """POST of what is there, or of what was deleted (code MARKED_DELETED)."""


class PreconditionFailed(Refused):
    """`if_match` does not hold, or the version is not the current one: read it again."""


class OlderDefinition(Refused):
    """The kind is defined by a newer version of a program: nothing was changed."""


class ChangesGone(Refused):
    """The changes after this token are not kept any more, at any node that answers: begin anew."""


class LoginNeeded(Refused):
    """Who asks did not log in, or the token is not valid (any more)."""


class Forbidden(Refused):
    """Who asks may not do this."""


_BY_CODE: Dict[str, Type[Refused]] = {
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "MARKED_DELETED": AlreadyExists,
    "PRECONDITION_FAILED": PreconditionFailed,
    "VERSION_MISMATCH": PreconditionFailed,
    "CHANGES_GONE": ChangesGone,
    "OLDER_DEFINITION": OlderDefinition,
}
_BY_STATUS: Dict[int, Type[Refused]] = {401: LoginNeeded, 403: Forbidden, 404: NotFound}


def refused(status: int, body: Any, outcome: Optional[str] = None) -> Refused:
    """The exception for an answer with an error; `outcome` is what is known of a write."""
    fields = dict(body) if isinstance(body, dict) else {}
    if outcome is not None:
        fields["outcome"] = outcome
    kind = _BY_CODE.get(str(fields.get("code"))) or _BY_STATUS.get(status) or Refused
    return kind(status, fields)


class TaskFailed(AmritaError):
    """A task has ended, and not with FINISHED. `task` is the task's document."""

    code = "TASK_FAILED"

    def __init__(self, stage: str, task: Dict[str, Any]) -> None:
        info = task.get("taskInfo") or {}
        failure = info.get("failure") or {}
        why = task.get("failureMessage") or failure.get("message") or "no reason is given"
        super().__init__(f"{task.get('documentSelfLink')} is {stage}: {why}", code=f"TASK_{stage}")
        self.stage = stage
        self.task = task
