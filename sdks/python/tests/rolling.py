"""Two versions of a program, of which the second has more: `rolling.py VERSION --node NODE`."""

import sys
from dataclasses import dataclass
from typing import Any, Optional

from amrita.service import Call, Refusal, Service

VERSION = sys.argv[1]


@dataclass
class Old:
    count: int = 0


@dataclass
class New:
    count: int = 0
    note: Optional[str] = None


rolling: "Service[Any]" = Service(
    "/app/rolling", Old if VERSION == "1" else New, version=VERSION
)


@rolling.action
def add(call: Call, state: Any) -> None:
    state.count += 1


if VERSION != "1":

    @rolling.delete
    def delete(call: Call, before: New) -> None:
        raise Refusal("it stays")

    @rolling.action
    def annotate(call: Call, state: New) -> None:
        state.note = "annotated"


if __name__ == "__main__":
    sys.exit(rolling.main(sys.argv[2:]))
