"""Plays everything outside of a program, without a node.

    play = Play("savings", Savings)
    play.fork("client", Savings.at("savings").deposit(10))
    call = play.call("client", Savings.at("savings").withdraw(3))
    play.crash()                              # from the last checkpoint, by the log
    assert play.answer_to("client", call) == 7
    play.check()

`check` runs all inputs again, from the first state and from each checkpoint. It says where the
program said something else, or that the state at the end is another: it finds the clock, the random
number and the forgotten field before the cluster does. Put it at the end of each test.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Tuple

from .._codec import dumps, encode
from . import frames
from .machine import Fresh, Machine, Versions
from .program import Outcome, Outgoing, Outputs, Sender, perform

_NODE = Sender("", frames.NODE)


class Word(NamedTuple):
    """Something that a program said: a message to somebody, or a frame."""

    to: str
    what: str
    data: Tuple[Any, ...]


class _Recorded(Outputs):
    def __init__(self) -> None:
        self.words: List[Word] = []

    def message(self, to: str, message: bytes) -> None:
        self.words.append(Word(to, "message", (message,)))

    def frame(self, name: str, *values: Any) -> None:
        self.words.append(Word("", name, values))


class _Input(NamedTuple):
    time: int
    sender: Sender
    message: frames.Message


class Said(NamedTuple):
    """A message that a program sent to somebody else."""

    to: str
    message: frames.Message


class Play:
    """A program with all that is outside of it."""

    def __init__(self, name: str, fresh: Fresh, *arguments: Any, time: int = 1_700_000_000) -> None:
        self.name, self.fresh = name, fresh
        self.now_micros = time * 1_000_000
        self._inputs: List[_Input] = []
        self._words: List[List[Word]] = []
        self._outputs = _Recorded()
        self._machine = Machine.first(name, Versions(), fresh, self._outputs)
        self._kind = type(self._machine.program)
        self._checkpoints: List[Tuple[int, bytes]] = [(0, self._machine.save())]
        self._timers: Dict[int, int] = {}
        self._effects: List[int] = []
        self._answers: Dict[Tuple[str, int], Outcome] = {}
        #: All that was sent to others, in order.
        self.said: List[Said] = []
        self._calls = 0
        initial = dumps(encode(list(arguments))) if arguments else b""
        self._put(_NODE, frames.Message(frames.START, payload=initial))

    @property
    def program(self) -> Any:
        """The program, to be looked at."""
        return self._machine.program

    def fork(self, sender: str, message: Outgoing) -> None:
        fork = frames.Message(frames.FORK, method=message.number, payload=message.payload)
        self._put(Sender(sender, frames.INSTANCE), fork)

    def call(self, sender: str, message: Outgoing) -> int:
        """Gives a number, by which the answer is found."""
        self._calls += 1
        number, payload = message.number, message.payload
        call = frames.Message(frames.CALL, self._calls, number, payload=payload)
        self._put(Sender(sender, frames.INSTANCE), call)
        return self._calls

    def impulse(self, message: Outgoing, sender: str = "client/test") -> None:
        impulse = frames.Message(frames.IMPULSE, method=message.number, payload=message.payload)
        self._put(Sender(sender, frames.OUTSIDE), impulse)

    def answer(self, to_call: Said, value: Any = None, *, error: str = "") -> None:
        """Answers a call of the program's."""
        if error:
            status, payload = frames.ERROR, error.encode()
        elif value is None:
            status, payload = frames.EMPTY, b""
        else:
            status, payload = frames.VALUE, dumps(encode(value))
        message = frames.Message(frames.ANSWER, to_call.message.id, status=status, payload=payload)
        self._put(Sender(to_call.to, frames.INSTANCE), message)

    def answer_to(self, sender: str, call: int, type_: Any = Any) -> Any:
        """The answer to a call. Raises `Rejected` with what the program said, `KeyError` when it
        has not answered yet."""
        return self._answers[(sender, call)].value(type_)

    def wait(self, seconds: float) -> None:
        """Lets time go by; timers fire, each at its time."""
        until = self.now_micros + round(seconds * 1_000_000)
        while True:
            due = sorted((at, id_) for id_, at in self._timers.items() if at <= until)
            if not due:
                break
            at, id_ = due[0]
            self.now_micros = max(self.now_micros, at)
            del self._timers[id_]
            self._put(_NODE, frames.Message(frames.TIMER, id_))
        self.now_micros = until

    def perform(self) -> int:
        """Does the effects that are awaited, as the primary would, and gives how many."""
        jobs, self._effects = self._effects, []
        for id_ in jobs:
            waiting = self._machine.book.waiting.get(id_)
            if waiting is not None:
                status, payload = perform(self._kind, waiting.work, waiting.arguments)
                self._put(_NODE, frames.Message(frames.RESULT, id_, 0, status, payload))
        return len(jobs)

    def checkpoint(self) -> None:
        self._checkpoints.append((len(self._inputs), self._machine.save()))

    def crash(self) -> None:
        """The program dies, and comes back from the last checkpoint and the log."""
        self._machine = self._again(*self._checkpoints[-1])

    def check(self) -> None:
        """Fails when the program is not the same in each replay."""
        end = self._machine.save()
        for number, state in self._checkpoints:
            found = self._again(number, state).save()
            if found != end:
                raise AssertionError(
                    f"replayed from input {number} on, the state at the end is another one:\n"
                    f"  {found.decode()}\nand it was\n  {end.decode()}"
                )

    def _again(self, number: int, state: bytes) -> Machine:
        outputs = _Recorded()
        machine = Machine.load(self.name, Versions(), self._kind, state, outputs)
        for at in range(number, len(self._inputs)):
            time, sender, message = self._inputs[at]
            outputs.words = []
            machine.handle(at + 1, time, sender, message)
            if outputs.words != self._words[at]:
                raise AssertionError(
                    f"at input {at + 1} ({message}) the program now says\n  {outputs.words}\n"
                    f"and it said\n  {self._words[at]}"
                )
        machine.outputs = machine.context._outputs = self._outputs
        return machine

    def _put(self, sender: Sender, message: frames.Message) -> None:
        """One input, and then what the program sends to itself."""
        ready = [(sender, message)]
        while ready:
            sender, message = ready.pop(0)
            self.now_micros += 1
            self._inputs.append(_Input(self.now_micros, sender, message))
            self._outputs.words = []
            self._machine.handle(len(self._inputs), self.now_micros, sender, message)
            self._words.append(self._outputs.words)
            for word in self._outputs.words:
                ready += self._heard(word)

    def _heard(self, word: Word) -> List[Tuple[Sender, frames.Message]]:
        if word.what == "AWAIT":
            id_, due = word.data
            if due:
                self._timers[id_] = due
            else:
                self._effects.append(id_)
        elif word.what == "CANCEL":
            self._timers.pop(word.data[0], None)
        elif word.what == "message":
            (message,) = frames.messages(word.data[0])
            if word.to == "":
                return [(Sender(self.name, frames.INSTANCE), message)]
            self.said.append(Said(word.to, message))
            if message.kind == frames.ANSWER:
                outcome = Outcome(message.status, message.payload)
                self._answers[(word.to, message.id)] = outcome
        return []
