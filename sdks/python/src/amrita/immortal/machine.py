"""A program's state with what it waits for: handles one input after the other, goes out into a
checkpoint and comes back, and becomes its next version."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, Optional, Type

from .._codec import decode, dumps, encode, loads
from ..errors import BadValue
from . import frames
from .book import Book, Waiting
from .program import Context, Immortal, Outcome, Outputs, Rejected, Sender, _Method, call_method
from .program import remembered_by

#: The version of what stands round the state in a checkpoint.
CHECKPOINT_FORMAT = 1

Fresh = Callable[[], Immortal]


@dataclasses.dataclass
class Versions:
    """The version of a program, and the one that it can turn its state into."""

    program: int = 0
    #: The class of the next version. Its `upgrade(old)` makes the new state.
    next: Optional[Type[Any]] = None
    upgrade_to: int = 0


class Machine:
    def __init__(
        self,
        me: str,
        versions: Versions,
        version: int,
        program: Immortal,
        book: Book,
        outputs: Outputs,
    ) -> None:
        self.me, self.versions, self.version = me, versions, version
        self.program, self.book, self.outputs = program, book, outputs
        self.context = Context(me, book, outputs)

    @classmethod
    def first(cls, me: str, versions: Versions, fresh: Fresh, outputs: Outputs) -> "Machine":
        """The first state. What cannot be read back the same would be found out after the first
        crash, so it is tried at once."""
        program = fresh()
        if not dataclasses.is_dataclass(program):
            raise TypeError(f"{type(program).__name__} is no dataclass: its fields are the state")
        made = cls(me, versions, versions.program, program, Book(), outputs)
        saved = made.save()
        if cls.load(me, versions, type(program), saved, outputs).save() != saved:
            raise TypeError("the first state, saved and loaded, is another one")
        return made

    @classmethod
    def load(
        cls, me: str, versions: Versions, kind: Type[Immortal], data: bytes, outputs: Outputs
    ) -> "Machine":
        saved: Dict[str, Any] = loads(data)
        if not isinstance(saved, dict) or saved.get("format") != CHECKPOINT_FORMAT:
            raise BadValue("the checkpoint is not one of a program in Python")
        version = saved["version"]
        if version == versions.upgrade_to and versions.next is not None:
            kind = versions.next
        elif version != versions.program:
            raise BadValue(f"the state is of version {version}; this is {versions.program}")
        program = decode(saved["state"], kind, "the state")
        return cls(me, versions, version, program, Book.load(saved["book"]), outputs)

    def save(self) -> bytes:
        state = encode(self.program)
        head = {"format": CHECKPOINT_FORMAT, "version": self.version}
        return dumps({**head, "book": self.book.save(), "state": state})

    def handle(self, input_: int, now: int, sender: Sender, message: frames.Message) -> None:
        """Handles one input."""
        kind = message.kind
        call = message.id if kind == frames.CALL else None
        context = self.context
        context._enter(input_, now, sender, call)
        if kind in (frames.FORK, frames.CALL, frames.IMPULSE):
            call_method(self.program, context, message)
        elif kind == frames.ANSWER:
            source = "" if sender.name == self.me else sender.name
            self._resume(message, lambda it: it.what == "answer" and it.source == source)
        elif kind == frames.TIMER:
            self._resume(message, lambda it: it.what == "timer")
        elif kind == frames.RESULT:
            self._resume(message, lambda it: it.what == "effect")
        elif kind == frames.START:
            known = _Method(type(self.program).start, 2)
            known.function(self.program, context, *known.arguments(message.payload))
        elif kind == frames.UPGRADE:
            self._upgrade(message.id)

    def _resume(self, message: frames.Message, is_right: Callable[[Waiting], bool]) -> None:
        waiting = self.book.strike(message.id, is_right)
        if waiting is None:
            return
        then = getattr(self.program, waiting.then)
        remembered = remembered_by(getattr(type(self.program), waiting.then), waiting.remember)
        try:
            if waiting.what == "timer":
                then(self.context, **remembered)
            else:
                outcome = Outcome(message.status, message.payload)
                then(self.context, outcome, **remembered)
        except Rejected as why:
            # Nobody is there to be told, and to go on as if it had worked would be worse.
            raise RuntimeError(f"{waiting.then} does not deal with a refusal: {why}") from why

    def _upgrade(self, version: int) -> None:
        if version == self.version:
            return
        following = self.versions.next
        if following is None or version != self.versions.upgrade_to:
            raise RuntimeError(
                f"this program is version {self.version} and cannot become version {version}"
            )
        self.program = following.upgrade(self.program)
        self.version = version

    def effects(self) -> Dict[int, Waiting]:
        return self.book.effects()
