"""What a program waits for: the binding's own part of the state."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Dict, List, Optional


@dataclasses.dataclass
class Waiting:
    #: "answer", "timer" or "effect".
    what: str
    #: The method that goes on.
    then: str
    #: What it has to remember until then.
    remember: Dict[str, Any]
    #: Who is to answer; empty for itself.
    source: str = ""
    #: The effect: a static method of the program, and what it is called with.
    work: str = ""
    arguments: List[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Book:
    """It stands in the checkpoint beside the program's state."""

    #: The last id given. Timers, calls and effects share one row of numbers.
    last_id: int = 0
    waiting: Dict[int, Waiting] = dataclasses.field(default_factory=dict)

    def enter(self, waiting: Waiting) -> int:
        self.last_id += 1
        self.waiting[self.last_id] = waiting
        return self.last_id

    def strike(self, id_: int, is_right: Callable[[Waiting], bool]) -> Optional[Waiting]:
        """What came is waited for no more. None when it was cancelled, or never was."""
        found = self.waiting.get(id_)
        if found is None or not is_right(found):
            return None
        return self.waiting.pop(id_)

    def effects(self) -> Dict[int, Waiting]:
        return {id_: one for id_, one in self.waiting.items() if one.what == "effect"}

    def save(self) -> Dict[str, Any]:
        rows = {str(id_): dataclasses.asdict(one) for id_, one in self.waiting.items()}
        return {"lastId": self.last_id, "waiting": rows}

    @classmethod
    def load(cls, saved: Dict[str, Any]) -> "Book":
        rows = {int(id_): Waiting(**one) for id_, one in saved["waiting"].items()}
        return cls(saved["lastId"], rows)
