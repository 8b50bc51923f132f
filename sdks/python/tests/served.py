"""A program of a service for the tests: `served.py MODE --node NODE`. It says what it does."""

import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from amrita.immortal import Interface, method
from amrita.service import Call, Refusal, Service

MODE = sys.argv[1]


@dataclass
class Counter:
    count: int = 0
    by: str = ""
    note: Optional[str] = None
    heard: List[int] = field(default_factory=list)


counters = Service("/app/counters", Counter, version=MODE)


@counters.create
def create(call: Call, new: Counter) -> None:
    new.by = MODE


@counters.put
def put(call: Call, before: Counter, new: Counter) -> None:
    if new.count < before.count:
        raise Refusal(f"it does not go back from {before.count} to {new.count}")


@counters.patch
def patch(call: Call, before: Counter, new: Counter) -> Counter:
    return Counter(new.count, MODE, new.note, before.heard)


@counters.delete
def delete(call: Call, before: Counter) -> None:
    if before.note == "keep":
        raise Refusal("it is to be kept", 403)


@counters.action
def add(call: Call, state: Counter, number: int = 1) -> None:
    if MODE == "slow":
        time.sleep(0.05)
    if MODE == "dies" or state.note == "deadly":
        print("dying", flush=True)
        os._exit(3)
    if MODE == "hangs":
        print("hanging", flush=True)
        threading.Event().wait()
    state.count += number
    state.by = MODE
    print(f"added at {call.name}", flush=True)


class Told(Interface):
    """The counter of `programs.py`."""

    @method(1)
    def add(self, context: Any, number: int) -> int:
        """Somebody else's."""


@counters.action
def tell(call: Call, state: Counter) -> None:
    """Counts, and tells an immortal."""
    state.count += 1
    Told.at("counter").add(state.count).fork(call)
    if state.note == "refuse":
        raise Refusal("counted, told, and refused")


@counters.action
def heard(call: Call, state: Counter, number: int) -> None:
    """The immortal has a word of its own."""
    state.heard.append(number)


@counters.action
def fail(call: Call, state: Counter) -> None:
    raise KeyError("something that is not there")


@counters.action
def spoil(call: Call, state: Counter) -> Dict[str, Any]:
    return {"count": "not a number"}


@counters.action
def who(call: Call, state: Counter) -> None:
    state.note = call.user


if __name__ == "__main__":
    sys.exit(counters.main(sys.argv[2:]))
