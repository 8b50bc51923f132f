"""Immortals without a node: what handlers do, and a session with a node that is a script."""

import contextlib
import io
import socket
import struct
import tempfile
import threading
import unittest
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

from amrita import BadValue
from amrita.immortal import LATER, Context, Document, Immortal, Impulses, Interface, Outcome
from amrita.immortal import Rejected, Reply, RunError, Written, frames, method, run
from amrita.immortal.book import Book
from amrita.immortal.frames import Message
from amrita.immortal.program import Outputs
from amrita.immortal.testing import Play


class Rates(Interface):
    @method(1)
    def rate(self, context: Context, currency: str) -> int:
        """Somebody else's."""


@dataclass
class Savings(Immortal):
    balance: int = 0
    waiting: List[Reply] = field(default_factory=list)
    seen: List[str] = field(default_factory=list)
    timer: int = 0

    @method(1)
    def deposit(self, context: Context, amount: int) -> None:
        if amount < 0:
            raise Rejected("below 0")
        self.balance += amount
        for reply in self.waiting:
            context.answer(reply, self.balance)
        self.waiting = []

    @method(2)
    def withdraw(self, context: Context, amount: int) -> int:
        if amount > self.balance:
            raise Rejected("not so much is there")
        self.balance -= amount
        return self.balance

    @method(3)
    def next_deposit(self, context: Context) -> Any:
        self.waiting.append(context.reply())
        return LATER

    @method(4)
    def convert(self, context: Context, currency: str) -> None:
        Rates.at("rates").rate(currency).call(context, then=self.converted, currency=currency)

    def converted(self, context: Context, outcome: Outcome, currency: str) -> None:
        if outcome.is_error:
            self.seen.append(f"{currency}: {outcome.error}")
        else:
            self.seen.append(f"{currency}: {outcome.value(int)}")

    @method(5)
    def remind(self, context: Context, seconds: float) -> None:
        self.timer = context.after(seconds, then=self.reminded, text="time")

    def reminded(self, context: Context, text: str) -> None:
        self.seen.append(f"{text} {context.random_below(1000) < 1000}")

    @method(6)
    def forget(self, context: Context) -> bool:
        return context.cancel(self.timer)

    @method(7)
    def ask(self, context: Context, number: int) -> None:
        context.effect(self.outside, number, then=self.asked)

    @staticmethod
    def outside(number: int) -> int:
        if number == 0:
            raise Rejected("no")
        return 100 // (number - 1)

    def asked(self, context: Context, outcome: Outcome) -> None:
        self.seen.append(outcome.error or str(outcome.value()))

    @method(9)
    def note(self, context: Context, link: str) -> None:
        document = Document.at(link)
        document.post({"balance": self.balance}).fork(context)
        document.act("close", {}).fork(context)
        document.delete().fork(context)
        document.patch({"balance": self.balance}).call(context, then=self.noted)

    def noted(self, context: Context, outcome: Outcome) -> None:
        try:
            written = Written.of(outcome)
            self.seen.append(f"version {written.version}")
        except Rejected as why:
            self.seen.append(f"{why}; {Written.told(outcome).code}")

    @method(8)
    def twice(self, context: Context, amount: int) -> None:
        Savings.me().deposit(amount).fork(context)
        Savings.at(context.me).deposit(amount).fork(context)


ME = Savings.at("savings")


class Handlers(unittest.TestCase):
    def setUp(self) -> None:
        quiet = contextlib.redirect_stderr(io.StringIO())
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)
        self.play = Play("savings", Savings)
        self.addCleanup(lambda: self.play.check())

    def test_money_stays_where_it_is(self) -> None:
        play = self.play
        play.fork("client", ME.deposit(10))
        play.checkpoint()
        call = play.call("client", ME.withdraw(3))
        play.crash()
        self.assertEqual(play.answer_to("client", call), 7)
        with self.assertRaisesRegex(Rejected, "not so much"):
            play.answer_to("client", play.call("client", ME.withdraw(100)))
        play.crash()
        self.assertEqual(play.program.balance, 7)

    def test_a_write_to_a_document_is_a_message_and_what_became_of_it_an_answer(self) -> None:
        play = self.play
        play.fork("client", ME.deposit(5))
        play.fork("client", ME.note("/app/accounts/jane"))
        said = list(play.said)
        link = "/app/accounts/jane"
        self.assertEqual([it.to for it in said], [link, f"{link}/actions/close", link, link])
        self.assertEqual([it.message.method for it in said], [1, 5, 4, 3])
        bodies = [it.message.payload for it in said]
        self.assertEqual(bodies, [b'{"balance":5}', b"{}", b"", b'{"balance":5}'])
        play.answer(said[3], {"status": 200, "body": {"documentVersion": 7}})
        self.assertEqual(play.program.seen, ["version 7"])
        play.crash()
        play.fork("client", ME.note(link))
        refused = {"code": "NOT_FOUND", "message": "it is gone"}
        play.answer(play.said[-1], {"status": 404, "body": refused})
        self.assertEqual(play.program.seen[1:], ["NOT_FOUND (404): it is gone; NOT_FOUND"])
        with self.assertRaisesRegex(ValueError, "no link"):
            Document.at("jane")

    def test_a_wrong_message_changes_nothing_and_a_caller_is_told(self) -> None:
        play = self.play

        @dataclass
        class Other(Immortal):
            @method(1)
            def deposit(self, context: Context, amount: str) -> None:
                """With another type."""

            @method(2)
            def withdraw(self, context: Context) -> None:
                """With fewer arguments."""

            @method(77)
            def unknown(self, context: Context) -> None:
                """Not there."""

        other = Other.at("savings")
        for message, why in [
            (other.deposit("x"), "must be a whole number"),
            (other.withdraw(), "0 arguments were given"),
            (other.unknown(), "there is no method 77"),
        ]:
            call = play.call("client", message)
            with self.assertRaisesRegex(Rejected, why):
                play.answer_to("client", call)
            play.fork("client", message)
        self.assertEqual(play.program, Savings())

    def test_an_answer_may_come_later(self) -> None:
        play = self.play
        call = play.call("client", ME.next_deposit())
        with self.assertRaises(KeyError):
            play.answer_to("client", call)
        play.checkpoint()
        play.crash()
        play.impulse(ME.deposit(5))
        self.assertEqual(play.answer_to("client", call), 5)

    def test_answers_find_their_way_back_after_a_crash(self) -> None:
        play = self.play
        play.fork("client", ME.convert("EUR"))
        play.fork("client", ME.convert("JPY"))
        play.checkpoint()
        play.crash()
        first, second = play.said
        play.answer(second, 160)
        play.answer(first, error="closed")
        play.answer(first, 1)
        self.assertEqual(play.program.seen, ["JPY: 160", "EUR: closed"])

    def test_timers_fire_at_their_time_and_are_cancelled(self) -> None:
        play = self.play
        play.fork("client", ME.remind(10))
        play.wait(9)
        self.assertEqual(play.program.seen, [])
        play.checkpoint()
        play.crash()
        play.wait(2)
        self.assertEqual(play.program.seen, ["time True"])
        play.fork("client", ME.remind(1))
        self.assertTrue(play.answer_to("client", play.call("client", ME.forget())))
        self.assertFalse(play.answer_to("client", play.call("client", ME.forget())))
        play.wait(60)
        self.assertEqual(play.program.seen, ["time True"])

    def test_effects_give_their_result_or_why_there_is_none(self) -> None:
        for number in (3, 0, 1):
            self.play.fork("client", ME.ask(number))
        self.play.checkpoint()
        self.play.crash()
        self.assertEqual(self.play.perform(), 3)
        self.assertEqual(
            self.play.program.seen,
            ["50", "no", "ZeroDivisionError: integer division or modulo by zero"],
        )

    def test_its_own_name_is_itself(self) -> None:
        self.play.fork("client", ME.twice(4))
        self.assertEqual((self.play.program.balance, self.play.said), (8, []))


class Mistakes(unittest.TestCase):
    def test_a_program_that_is_not_the_same_twice_is_found(self) -> None:
        drawn = iter(range(100))

        @dataclass
        class Random(Immortal):
            last: int = 0

            @method(1)
            def draw(self, context: Context) -> int:
                self.last = next(drawn)
                return self.last

        play = Play("random", Random)
        play.call("client", Random.at("random").draw())
        with self.assertRaisesRegex(AssertionError, "the program now says"):
            play.check()

    def test_a_field_that_is_forgotten_is_found(self) -> None:
        @dataclass
        class Forgets(Immortal):
            count: int = 0

            @method(1)
            def add(self, context: Context) -> int:
                self.hidden = getattr(self, "hidden", 0) + 1
                return self.hidden

        play = Play("forgets", Forgets)
        play.call("client", Forgets.at("forgets").add())
        play.checkpoint()
        play.call("client", Forgets.at("forgets").add())
        with self.assertRaisesRegex(AssertionError, "the program now says"):
            play.check()

    def test_what_cannot_be_a_program_is_refused(self) -> None:
        class Bare(Immortal):
            """Not a dataclass."""

        @dataclass
        class Unordered(Immortal):
            names: Set[str] = field(default_factory=lambda: {"a"})

        with self.assertRaises(TypeError):
            Play("bare", Bare)
        with self.assertRaisesRegex(BadValue, "no order"):
            Play("unordered", Unordered)
        with self.assertRaisesRegex(TypeError, "two methods"):

            class Double(Immortal):
                @method(1)
                def one(self, context: Context) -> None: ...

                @method(1)
                def two(self, context: Context) -> None: ...

        with self.assertRaises(ValueError):
            method(-1)
        with self.assertRaises(AttributeError):
            ME.nothing()
        with self.assertRaisesRegex(TypeError, "found by its name"):
            Context("x", Book(), Outputs()).after(1, then=lambda context: None)


class Node:
    """A node that is a script: one connection, its frames one by one."""

    def __init__(self, case: unittest.TestCase, program: Any, **options: Any) -> None:
        folder = tempfile.TemporaryDirectory()
        case.addCleanup(folder.cleanup)
        path = str(Path(folder.name) / "immortals.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        case.addCleanup(self.listener.close)
        self.impulses = Impulses()
        self.ended: List[Any] = []

        def main() -> None:
            try:
                run(program, "test", path, impulses=self.impulses, **options)
                self.ended.append(None)
            except RunError as why:
                self.ended.append(why)

        self.thread = threading.Thread(target=main, daemon=True)
        self.thread.start()
        case.addCleanup(self.end)

    def end(self) -> None:
        self.impulses.stop()
        self.thread.join(10)
        if hasattr(self, "connected"):
            self.connected.close()

    def accept(self) -> Tuple[Any, ...]:
        if hasattr(self, "connected"):
            self.connected.close()
        self.listener.settimeout(10)
        self.connected, _ = self.listener.accept()
        self.connected.settimeout(10)
        hello = self.hears("HELLO")
        self.say("WELCOME", 1, "n1", 0, 1 << 20, 4 << 20, 0)
        return hello

    def say(self, name: str, *values: Any) -> None:
        self.connected.sendall(frames.frame(name, *values))

    def read(self) -> Tuple[str, Tuple[Any, ...]]:
        return frames.read(self._exactly(struct.unpack("<I", self._exactly(4))[0]))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.connected.recv(count - len(data))
            if not more:
                raise EOFError("the program has closed the connection")
            data += more
        return data

    def hears(self, wanted: str) -> Tuple[Any, ...]:
        name, values = self.read()
        if name != wanted:
            raise AssertionError(f"{wanted} was expected, and {name} {values} came")
        return values

    def hears_checkpoint(self, request: int) -> bytes:
        assert self.hears("CHECKPOINT") == (request,)
        data = b""
        while True:
            name, values = self.read()
            if name == "CHECKPOINT_END":
                assert values == (zlib.crc32(data),)
                return data
            data += values[0]

    def loads(self, input_: int, data: bytes) -> None:
        self.say("LOAD", input_, len(data))
        for at in range(0, len(data), 7):
            self.say("LOADED", data[at : at + 7])
        self.say("LOAD_END", zlib.crc32(data))

    def genesis(self) -> bytes:
        self.say("GENESIS")
        return self.hears_checkpoint(0)

    def delivers(self, first: int, *said: Message, name: str = "", kind: int = frames.NODE) -> None:
        self.say("DELIVER", first, 1_700_000_000_000_000, frames.block(kind, name, 0, list(said)))


START = Message(frames.START)


def fork(number: int, payload: bytes) -> Message:
    return Message(frames.FORK, method=number, payload=payload)


@dataclass
class Slow(Immortal):
    """Handles a message when it is let."""

    count: int = 0
    told: Dict[str, int] = field(default_factory=dict)

    @method(1)
    def work(self, context: Context) -> None:
        GATE.wait(10)
        self.count += 1

    @method(2)
    def fail(self, context: Context) -> None:
        raise RuntimeError("boom")

    @method(3)
    def wrongly(self, context: Context) -> None:
        IMPULSES[0].send(Slow.me().work())


GATE = threading.Event()
IMPULSES: List[Impulses] = []


class Sessions(unittest.TestCase):
    def setUp(self) -> None:
        # What a program says of its failures is for people.
        quiet = contextlib.redirect_stderr(io.StringIO())
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)

    def test_from_the_first_start_to_a_replay(self) -> None:
        node = Node(self, Savings, version=3)
        self.assertEqual(node.accept(), ("amrita-immortal", 1, 1, "test", 3, 3))
        first = node.genesis()
        node.delivers(1, START)
        self.assertEqual(node.hears("DONE"), (1,))
        deposit = fork(1, b"[10]")
        withdraw = Message(frames.CALL, 300, 2, payload=b"[3]")
        node.delivers(2, deposit, withdraw, name="client", kind=frames.INSTANCE)
        answer = Message(frames.ANSWER, 300, status=1, payload=b"7")
        self.assertEqual(node.hears("SEND"), ("client", 1, answer.put()))
        self.assertEqual(node.hears("DONE"), (3,))
        node.say("TAKE_CHECKPOINT", 5)
        second = node.hears_checkpoint(5)
        self.assertNotEqual(first, second)
        node.accept()
        node.loads(3, second)
        node.delivers(4, fork(1, b"[1]"), name="client", kind=frames.INSTANCE)
        self.assertEqual(node.hears("DONE"), (4,))
        node.say("TAKE_CHECKPOINT", 6)
        self.assertIn(b'"balance":8', node.hears_checkpoint(6))

    def test_a_ping_is_answered_while_a_handler_is_busy(self) -> None:
        GATE.clear()
        node = Node(self, Slow)
        node.accept()
        node.genesis()
        node.delivers(1, START, fork(1, b"[]"))
        node.say("PING", 7)
        self.assertEqual(node.hears("PONG"), (7,))
        GATE.set()
        self.assertEqual(node.hears("DONE"), (2,))

    def test_impulses_only_of_the_primary_and_with_their_fate(self) -> None:
        node = Node(self, Slow)
        node.accept()
        node.genesis()
        self.assertTrue(node.impulses.send(Slow.me().work()).lost)
        node.say("PRIMARY", 1)
        node.delivers(1, START)
        node.hears("DONE")
        self.assertTrue(node.impulses.wait_until_primary(10))
        tickets = [node.impulses.post(Slow.me().work()) for _ in range(3)]
        message = Message(frames.IMPULSE, method=1, payload=b"[]")
        for number in (1, 2, 3):
            self.assertEqual(node.hears("IMPULSE"), (number, "", message.put()))
        node.say("CREDIT", "", 0)
        node.say("FATE", 2, frames.LOST, 0)
        node.say("FATE", 1, frames.LOGGED, 2)
        self.assertEqual(tickets[0].wait(), (frames.LOGGED, 2))
        self.assertTrue(tickets[1].wait().lost)
        self.assertEqual(node.impulses.room(""), 0)
        self.assertFalse(node.impulses.wait_for_room("", 0.01))
        node.connected.close()
        self.assertTrue(tickets[2].wait().unknown)

    def test_effects_are_done_by_the_primary_and_again_by_the_next(self) -> None:
        node = Node(self, Savings)
        node.accept()
        node.genesis()
        node.delivers(1, START, fork(7, b"[3]"))
        self.assertEqual((node.hears("AWAIT"), node.hears("DONE")), ((1, 0), (2,)))
        node.say("PRIMARY", 1)
        self.assertEqual(node.hears("RESULT"), (1, 1, b"50"))
        node.say("STANDBY")
        node.say("PRIMARY", 2)
        self.assertEqual(node.hears("RESULT"), (1, 1, b"50"))
        node.delivers(3, Message(frames.RESULT, 1, 0, 1, b"50"))
        self.assertEqual(node.hears("DONE"), (3,))
        node.delivers(4, fork(7, b"[5]"))
        self.assertEqual((node.hears("AWAIT"), node.hears("DONE")), ((2, 0), (4,)))
        self.assertEqual(node.hears("RESULT"), (2, 1, b"25"))

    def test_a_handler_that_fails_is_a_fault_three_times(self) -> None:
        node = Node(self, Slow)
        node.accept()
        state = node.genesis()
        for time in range(3):
            if time > 0:
                node.accept()
                node.loads(0, state)
            node.delivers(1, START, fork(2, b"[]"))
            self.assertEqual(node.hears("FAULT"), (2, "RuntimeError: boom"))
        node.thread.join(10)
        self.assertEqual(node.ended[0].code, "FAULT")

    def test_an_impulse_of_a_handler_is_a_fault(self) -> None:
        node = Node(self, Slow)
        IMPULSES[:] = [node.impulses]
        node.accept()
        node.genesis()
        node.delivers(1, START, fork(3, b"[]"))
        self.assertIn("handlers fork", node.hears("FAULT")[1])

    def test_a_damaged_checkpoint_is_a_fault(self) -> None:
        node = Node(self, Slow)
        node.accept()
        node.say("LOAD", 9, 3)
        node.say("LOADED", b"abc")
        node.say("LOAD_END", 1)
        self.assertEqual(node.hears("FAULT")[0], 9)
        node.accept()
        node.loads(9, b'{"format": 99}')
        self.assertEqual(node.hears("FAULT")[0], 9)

    def test_a_gap_is_a_fault_and_garbage_the_end_of_the_connection(self) -> None:
        node = Node(self, Slow)
        node.accept()
        state = node.genesis()
        node.delivers(2, START)
        self.assertEqual(node.hears("FAULT")[0], 0)
        node.accept()
        node.loads(0, state)
        node.connected.sendall(b"\1\0\0\0\x42")
        with self.assertRaises((EOFError, ConnectionError)):
            node.read()
        node.accept()
        node.connected.sendall(struct.pack("<I", 1 << 30))
        with self.assertRaises((EOFError, ConnectionError)):
            node.read()

    def test_what_the_node_says_ends_it_or_does_not(self) -> None:
        node = Node(self, Slow)
        node.accept()
        node.say("ERROR", "RELOAD", "once more")
        node.accept()
        node.say("ERROR", "UNKNOWN_INSTANCE", "register it")
        node.thread.join(10)
        self.assertEqual(node.ended[0].code, "UNKNOWN_INSTANCE")

    def test_who_gives_up_says_so(self) -> None:
        with self.assertRaises(RunError) as caught:
            run(Slow, "test", "http://127.0.0.1:1", give_up_after=0.05)
        self.assertEqual(caught.exception.code, "UNREACHABLE")
        with self.assertRaises(BadValue):
            run(Slow, "test", "https://127.0.0.1:1")


if __name__ == "__main__":
    unittest.main()
