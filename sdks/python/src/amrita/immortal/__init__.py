"""Programs that go on when their process, their node or their disk dies.

    @dataclass
    class Counter(Immortal):
        sum: int = 0

        @method(1)
        def add(self, context: Context, number: int) -> int:
            self.sum += number
            return self.sum

    sys.exit(main(Counter, "counter"))

An immortal is a state that is changed only by inputs, one after the other. The node beside it logs
each input on a quorum before the program sees it, and gives it to every copy of the program; when
one dies, another carries on with the same state, and nothing is lost or done twice.
"""

from .documents import Document, Written
from .impulses import Fate, Impulses, Ticket
from .program import (
    LATER,
    Context,
    Immortal,
    Interface,
    Outcome,
    Outgoing,
    Rejected,
    Reply,
    Sender,
    method,
)
from .runner import NODE_DEFAULT, RunError, main, parse, run

__all__ = [
    "LATER",
    "NODE_DEFAULT",
    "Context",
    "Document",
    "Fate",
    "Immortal",
    "Impulses",
    "Interface",
    "Outcome",
    "Outgoing",
    "Rejected",
    "Reply",
    "RunError",
    "Sender",
    "Ticket",
    "Written",
    "main",
    "method",
    "parse",
    "run",
]
