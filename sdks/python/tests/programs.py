#!/usr/bin/env python3
"""Immortals for the tests: `programs.py NAME --node NODE --instance INSTANCE`."""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List

from amrita import immortal
from amrita.immortal import Context, Document, Immortal, Outcome, Written, method


def say(line: str) -> None:
    print(line, flush=True)


@dataclass
class Counter(Immortal):
    """Counts, and notices what is missing, doubled or out of order."""

    last: Dict[str, int] = field(default_factory=dict)
    wrong: List[str] = field(default_factory=list)

    @method(1)
    def add(self, context: Context, number: int) -> int:
        sender = context.sender.name
        last = self.last.get(sender, 0)
        if number != last + 1:
            self.wrong.append(f"{sender}: {number} after {last}")
        self.last[sender] = number
        if sender.startswith("/"):
            write = Document.at(sender).act("heard", {"number": number})
            write.call(context, then=self.written, number=number)
        return number

    def written(self, context: Context, outcome: Outcome, number: int) -> None:
        """A document that has told it something has a word of it, which is written once."""
        last = Written.of(outcome).body["heard"][-1]
        if last != number:
            self.wrong.append(f"wrote {number}, and the document says {last}")

    @method(9)
    def report(self, context: Context) -> None:
        say(f"report {self.last} wrong {self.wrong}")


@dataclass
class Caller(Immortal):
    """Calls the counter with one number after the other, now and then after a pause, and lets an
    effect have its say."""

    sent: int = 0
    answered: int = 0
    effects: int = 0
    wrong: int = 0
    stopped: bool = False

    def start(self, context: Context, first: int = 1) -> None:
        self.sent = first - 1
        self.next(context)

    def next(self, context: Context) -> None:
        if self.stopped:
            return
        self.sent += 1
        Counter.at("counter").add(self.sent).call(context, then=self.added, number=self.sent)

    def added(self, context: Context, outcome: Outcome, number: int) -> None:
        if outcome.value(int) != number or number != self.answered + 1:
            self.wrong += 1
        self.answered = number
        if number % 50 == 0:
            context.after(0.01, then=self.next)
        elif number % 20 == 0:
            context.effect(self.ask_the_clock, number, then=self.told, number=number)
        else:
            self.next(context)

    @staticmethod
    def ask_the_clock(number: int) -> List[float]:
        return [number, time.time()]

    def told(self, context: Context, outcome: Outcome, number: int) -> None:
        self.effects += 1
        self.wrong += outcome.value(list)[0] != number
        self.next(context)

    @method(8)
    def stop(self, context: Context) -> None:
        self.stopped = True

    @method(9)
    def report(self, context: Context) -> None:
        done = f"sent {self.sent} answered {self.answered}"
        say(f"report {done} effects {self.effects} wrong {self.wrong}")


@dataclass
class Faulty(Immortal):
    """Fails at a message, as long as it is told to by its environment."""

    seen: int = 0

    @method(1)
    def work(self, context: Context, text: str) -> None:
        if text == "bomb" and "DEFUSED" not in os.environ:
            raise RuntimeError("boom")
        self.seen += 1
        say(f"seen {self.seen}")


@dataclass
class One(Immortal):
    sum: int = 0

    @method(1)
    def add(self, context: Context, number: int) -> None:
        self.sum += number
        say(f"one {self.sum}")
        context.after(0.5, then=self.later, number=number)

    def later(self, context: Context, number: int) -> None:
        say(f"one later {number}")


@dataclass
class Two(Immortal):
    """The next version of `One`: it counts in cents."""

    cents: int = 0

    @classmethod
    def upgrade(cls, old: One) -> "Two":
        return cls(old.sum * 100)

    @method(1)
    def add(self, context: Context, number: int) -> None:
        self.cents += number * 100
        say(f"two {self.cents}")

    def later(self, context: Context, number: int) -> None:
        say(f"two later {number}")


@dataclass
class Flood(Immortal):
    """Sends a message to itself as often as it is told to, and says how long that took."""

    left: int = 0
    begun: int = 0

    @method(1)
    def go(self, context: Context, count: int) -> None:
        self.left, self.begun = count, context.now_micros
        for _ in range(min(count, 1000)):
            Flood.me().one().fork(context)

    @method(2)
    def one(self, context: Context) -> None:
        self.left -= 1
        if self.left >= 1000:
            Flood.me().one().fork(context)
        if self.left == 0:
            say(f"flood {context.now_micros - self.begun}")


def main() -> int:
    name = sys.argv[1]
    options: Dict[str, Any] = {}
    if name == "One":
        options = {"version": 1, "upgrade_to": (2, Two)}
    return immortal.main(globals()[name], name.lower(), sys.argv[2:], **options)


if __name__ == "__main__":
    sys.exit(main())
