"""Services at real nodes, with SIGKILL of programs and of nodes."""

import contextlib
import os
import signal
import socket
import struct
import threading
import time
import unittest
from typing import Any, Callable, Dict, Iterator, List, Optional

import amrita
from amrita import _service_frames as frames
from amrita import testing
from amrita._service_frames import CallFrame, Error, Ping
from amrita.testing import Program

from tests.support import EXAMPLES, HERE, ask

SERVED = str(HERE / "served.py")
BOOKING = str(EXAMPLES / "booking.py")
PROGRAMS = str(HERE / "programs.py")
COUNTERS = "/app/counters"

#: What the program of the tests has.
HANDLERS = ["create", "put", "patch", "delete"]
ACTIONS = ["add", "tell", "fail", "spoil", "who"]


class WithNodes(unittest.TestCase):
    NODES = 1

    def setUp(self) -> None:
        made = testing.cluster(self.NODES)
        self.cluster = made.__enter__()
        self.addCleanup(made.__exit__, None, None, None)
        self.client = self.cluster.client(patience=60)
        self.addCleanup(self.client.close)

    def start(self, mode: str, which: int = 0, by_socket: bool = False) -> Program:
        node = self.cluster.nodes[which]
        place = str(node.sandbox) if by_socket else node.address
        program = self.cluster.program([SERVED, mode, "--node", place])
        program.says("serving /app/counters")
        return program

    def make(self, name: str, **state: Any) -> Dict[str, Any]:
        return self.client.create(COUNTERS, state, name=name).value  # type: ignore[no-any-return]

    def act(self, name: str, action: str, client: Any = None, **body: Any) -> Any:
        return (client or self.client).act(f"{COUNTERS}/{name}", action, body)

    def refused(self, code: str, work: Callable[[], Any]) -> amrita.Refused:
        with self.assertRaises(amrita.Refused) as caught:
            work()
        self.assertEqual(caught.exception.code, code, caught.exception.message)
        self.assertEqual(caught.exception.outcome, "notApplied")
        return caught.exception

    def impatient(self) -> "Impatient":
        return Impatient(self.cluster.nodes[0].address)


class Impatient:
    """Asks once, and takes the answer for one."""

    def __init__(self, address: str) -> None:
        self.address = address

    def act(self, link: str, action: str, body: Any) -> Any:
        status, answer = ask(f"{self.address}{link}/actions/{action}", body)
        if status != 200:
            raise amrita.Refused(status, answer)
        return amrita.Document.of(answer)


class OneNode(WithNodes):
    def test_the_handlers_of_a_kind_are_those_of_the_program(self) -> None:
        self.start("one")
        self.assertEqual(self.make("A", count=1), {"count": 1, "by": "one", "heard": []})
        patched = self.client.patch(f"{COUNTERS}/A", {"note": "grüße, 世界"})
        shown = {"count": 1, "by": "one", "note": "grüße, 世界", "heard": []}
        self.assertEqual(patched.value, shown)
        large = 2**60 + 1
        put = self.client.put(f"{COUNTERS}/A", {"count": large})
        self.assertEqual((put.value["count"], put.version), (large, 2))
        shown = self.act("A", "add", number=2)
        self.assertEqual((shown.value["count"], shown.version), (large + 2, 3))
        why = self.refused("REFUSED", lambda: self.client.put(f"{COUNTERS}/A", {"count": 1}))
        self.assertIn("does not go back", why.message)
        self.client.patch(f"{COUNTERS}/A", {"note": "keep"})
        self.refused("ACCESS_DENIED", lambda: self.client.delete(f"{COUNTERS}/A"))
        self.client.patch(f"{COUNTERS}/A", {"note": "go"})
        self.client.delete(f"{COUNTERS}/A")
        self.assertIsNone(self.client.get_or_none(f"{COUNTERS}/A"))

    def test_what_is_wrong_is_refused_with_words(self) -> None:
        self.start("one", by_socket=False)
        self.make("A")
        impatient = self.impatient()
        for code, part, action, body in (
            ("NOT_FOUND", "they have add, tell, heard, fail, spoil, who", "nothing", {}),
            ("BAD_REQUEST", "has no field 'x'", "add", {"x": 1}),
            ("BAD_REQUEST", "a whole number", "add", {"number": "1"}),
            ("BAD_REQUEST", "'not a number'|\"not a number\"", "spoil", {}),
        ):
            why = self.refused(code, lambda a=action, b=body: self.act("A", a, impatient, **b))
            self.assertRegex(why.message, part)
        why = self.refused("PROGRAM_FAILED", lambda: self.act("A", "fail", impatient))
        self.assertIn("KeyError", why.message)
        missing = self.refused("NOT_FOUND", lambda: self.act("B", "add", impatient))
        self.assertIn("there is no document", missing.message)
        self.assertEqual(self.client.get(f"{COUNTERS}/A").version, 0, "nothing was written")

    def test_an_action_has_conditions_and_keys_as_every_write(self) -> None:
        self.start("one")
        self.make("A")
        link = f"{COUNTERS}/A"
        found = self.client.get(link)
        self.client.act(link, "add", if_match=found)
        with self.assertRaises(amrita.PreconditionFailed):
            self.client.act(link, "add", if_match=found)
        for _ in range(3):
            shown = self.client.act(link, "add", key="k")
            self.assertEqual((shown.value["count"], shown.version), (2, 2))
        with self.assertRaises(amrita.Refused) as caught:
            self.client.act(link, "who", key="k")
        self.assertEqual(caught.exception.code, "KEY_REUSED")

    def test_without_a_program_a_write_is_refused_and_the_kind_is_named(self) -> None:
        program = self.start("one")
        self.make("A")
        program.kill()
        begun = time.monotonic()
        impatient = self.impatient()
        why = self.refused("NO_PROGRAM", lambda: self.act("A", "add", impatient))
        self.assertIn(COUNTERS, why.message)
        self.assertIn("start one", why.message)
        # Another copy may come at once, so it was waited for; not the second time.
        self.assertGreater(time.monotonic() - begun, 1)
        begun = time.monotonic()
        self.refused("NO_PROGRAM", lambda: self.act("A", "add", impatient))
        self.assertLess(time.monotonic() - begun, 1)
        self.assertEqual(self.client.get(f"{COUNTERS}/A").version, 0, "what it holds is read")
        self.start("two", by_socket=True)
        self.assertEqual(self.act("A", "add")["by"], "two")

    def test_a_program_that_dies_of_a_call_does_not_take_all_with_it(self) -> None:
        programs = [self.start("one") for _ in range(4)]
        self.make("A")
        self.make("B", note="deadly")
        why = self.refused("PROGRAM_FAILED", lambda: self.act("B", "add", self.impatient()))
        self.assertIn("3 programs", why.message)
        self.assertEqual(self.act("A", "add")["count"], 1)
        testing.wait_for("the dead", lambda: sum(one.is_up for one in programs) == 1)
        self.assertEqual(self.client.get(f"{COUNTERS}/B").version, 0)

    def test_an_old_copy_that_is_started_again_takes_nothing_back(self) -> None:
        def start(version: str) -> Program:
            arguments = [str(HERE / "rolling.py"), version, "--node", self.cluster.nodes[0].address]
            program = self.cluster.program(arguments)
            program.says("serving /app/rolling")
            return program

        old = start("1")
        link = self.client.create("/app/rolling", {}, name="A").link
        new = start("2")
        self.client.act(link, "annotate")
        old.kill()
        old = start("1")
        self.assertIn("serves as it is", "\n".join(old.said))
        impatient = self.impatient()
        for count in range(1, 7):
            # By either of them; a field of the new version stays.
            shown = impatient.act(link, "add", {})
            self.assertEqual(shown.value, {"count": count, "note": "annotated"})
            # By the new one alone.
            impatient.act(link, "annotate", {})
            self.refused("REFUSED", lambda: self.client.delete(link))
        new.kill()
        self.assertEqual(impatient.act(link, "add", {}).value["count"], 7)
        why = self.refused("NO_PROGRAM", lambda: impatient.act(link, "annotate", {}))
        self.assertIn("the action 'annotate'", why.message)

    def test_the_innocent_calls_beside_a_deadly_one_are_all_done(self) -> None:
        program = self.start("slow")
        self.make("deadly", note="deadly")
        names = [f"c{number}" for number in range(6)]
        for name in names:
            self.make(name)
        over = threading.Event()

        def supervise() -> None:
            here = program
            while not over.wait(0.02):
                if not here.is_up:
                    here = self.start("slow")

        def add(name: str) -> None:
            done.append(self.act(name, "add", self.impatient())["count"])

        done: List[int] = []
        supervisor = threading.Thread(target=supervise)
        supervisor.start()
        threads = [threading.Thread(target=add, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        why = self.refused("PROGRAM_FAILED", lambda: self.act("deadly", "add", self.impatient()))
        for thread in threads:
            thread.join(30)
        over.set()
        supervisor.join(30)
        self.assertIn("3 programs", why.message)
        self.assertEqual(done, [1] * len(names))

    def test_a_program_that_is_frozen_is_let_go_and_its_calls_are_made_elsewhere(self) -> None:
        frozen = self.start("one")
        self.make("A")
        os.kill(frozen.process.pid, signal.SIGSTOP)
        added: List[Any] = []
        thread = threading.Thread(target=lambda: added.append(self.act("A", "add")))
        thread.start()
        time.sleep(0.2)
        self.start("two")
        thread.join(30)
        self.assertEqual((added[0]["count"], added[0]["by"]), (1, "two"))
        os.kill(frozen.process.pid, signal.SIGCONT)
        frozen.says("SILENT")
        self.assertEqual(self.client.get(f"{COUNTERS}/A").value["count"], 1)

    def test_a_handler_that_hangs_holds_up_its_document_alone(self) -> None:
        self.start("hangs")
        self.make("A")
        self.make("B")
        failed: List[amrita.AmritaError] = []

        def hang() -> None:
            try:
                self.act("A", "add", self.impatient())
            except amrita.AmritaError as why:
                failed.append(why)

        thread = threading.Thread(target=hang)
        thread.start()
        for number in range(10):
            self.client.patch(f"{COUNTERS}/B", {"count": number})
        self.assertTrue(thread.is_alive())
        thread.join(30)
        self.assertEqual((failed[0].code, failed[0].outcome), ("TIMEOUT", "notApplied"))

    def test_a_program_that_ends_in_good_order_loses_no_call(self) -> None:
        programs = [self.start("slow"), self.start("slow")]
        self.make("A")
        self.make("B")
        done: List[int] = []

        def work(name: str) -> None:
            for _ in range(20):
                self.act(name, "add", self.impatient())
                done.append(1)

        threads = [threading.Thread(target=work, args=(name,)) for name in "AB"]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        programs[0].process.send_signal(signal.SIGTERM)
        self.assertEqual(programs[0].wait(), 0)
        for thread in threads:
            thread.join(30)
        self.assertEqual(len(done), 40)
        counts = [self.client.get(f"{COUNTERS}/{name}").value["count"] for name in "AB"]
        self.assertEqual(counts, [20, 20])


class Bare:
    """A program without the package: it says what it wants."""

    def __init__(self, sandbox: object) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(f"{sandbox}/immortals.sock")
        self.buffer = b""
        self.say(frames.serve(COUNTERS, "bare", 4, HANDLERS, ACTIONS))

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> Optional[frames.FromNode]:
        """The next frame but PINGs, which are answered; None when the node has closed."""
        while True:
            if len(self.buffer) >= 4:
                (length,) = struct.unpack_from("<I", self.buffer)
                if len(self.buffer) >= 4 + length:
                    said = frames.read(self.buffer[4 : 4 + length])
                    self.buffer = self.buffer[4 + length :]
                    if not isinstance(said, Ping):
                        return said
                    self.say(frames.pong(said.number))
                    continue
            data = self.socket.recv(1 << 16)
            if not data:
                return None
            self.buffer += data

    def call(self) -> CallFrame:
        while True:
            said = self.next()
            if isinstance(said, CallFrame):
                return said
            assert said is not None and not isinstance(said, Error), said

    def error(self) -> str:
        while True:
            said = self.next()
            if isinstance(said, Error):
                return said.code
            assert said is not None


class WrongAnswers(WithNodes):
    """One program answers as no program should; another one is there, and nothing is lost."""

    def setUp(self) -> None:
        super().setUp()
        self.good = self.start("good")
        self.make("A")
        self.make("B")
        self.added: List[Any] = []

    def begin(self) -> CallFrame:
        """A call that the bare program gets."""
        self.good.kill()
        self.bare = Bare(self.cluster.nodes[0].sandbox)
        self.addCleanup(self.bare.socket.close)
        testing.wait_for("WELCOME", lambda: self.bare.next())
        self.thread = threading.Thread(target=lambda: self.added.append(self.act("A", "add")))
        self.thread.start()
        return self.bare.call()

    def end(self) -> None:
        self.start("good")
        self.thread.join(30)
        self.assertEqual((self.added[0]["count"], self.added[0]["by"]), (1, "good"))
        self.assertEqual(self.client.get(f"{COUNTERS}/A").version, 1)

    def test_nonsense(self) -> None:
        call = self.begin()
        self.bare.say(frames.state(call.number, b'{"count": 7'))
        self.assertEqual(self.bare.error(), "BAD_ANSWER")
        self.end()

    def test_bytes_that_are_no_frame(self) -> None:
        self.begin()
        self.bare.say(b"\x05\x00\x00\x00GET /")
        self.assertEqual(self.bare.error(), "BAD_FRAME")
        self.end()

    def test_a_hundred_megabytes(self) -> None:
        self.begin()
        self.bare.say(struct.pack("<IB", 100 << 20, frames.ANSWER))
        self.assertEqual(self.bare.error(), "BAD_FRAME")
        self.end()

    def test_an_answer_to_a_call_that_was_not_made(self) -> None:
        call = self.begin()
        self.bare.say(frames.state(call.number + 1000, b'{"count":7}'))
        self.assertEqual(self.bare.error(), "BAD_ANSWER")
        self.end()

    def test_too_late(self) -> None:
        self.begin()
        self.assertEqual(self.bare.error(), "LATE")
        # The client has heard that nothing was written, and asked once more.
        self.end()

    def test_twice(self) -> None:
        call = self.begin()
        answer = frames.state(call.number, b'{"count":41,"by":"bare"}')
        self.bare.say(answer)
        self.thread.join(30)
        self.assertEqual(self.added[0]["count"], 41)
        self.bare.say(answer)
        self.assertEqual(self.bare.error(), "BAD_ANSWER")
        self.assertEqual(self.client.get(f"{COUNTERS}/A").version, 1)


class ThreeNodes(WithNodes):
    NODES = 3

    @contextlib.contextmanager
    def load(self, action: str, names: List[str], counts: Dict[str, int]) -> Iterator[None]:
        """Does that action with each document, over and over; counts what was done."""
        counts.update((name, 0) for name in names)
        stopped = threading.Event()
        errors: List[BaseException] = []

        def work(name: str) -> None:
            client = self.cluster.client(patience=60)
            try:
                while not stopped.is_set():
                    self.act(name, action, client)
                    counts[name] += 1
            except BaseException as why:
                errors.append(why)
            finally:
                client.close()

        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in threads:
                thread.join(60)
        self.assertEqual(errors, [])

    def test_nothing_is_lost_or_doubled_while_programs_and_nodes_die(self) -> None:
        programs = {0: self.start("v1", 0), 1: self.start("v2", 1, by_socket=True)}
        names = [f"c{number}" for number in range(6)]
        for name in names:
            self.make(name)
        counts: Dict[str, int] = {}
        with self.load("add", names, counts):
            for round_ in range(4):
                time.sleep(0.5)
                which = round_ % 2
                programs[which].kill()
                time.sleep(0.3)
                programs[which] = self.start(f"v{round_ + 3}", which)
            self.cluster.kill(2)
            time.sleep(1)
            self.cluster.start(2)
            self.cluster.wait_until_ready()
            time.sleep(0.5)
        self.assertGreater(min(counts.values()), 10)
        for name, count in counts.items():
            found = self.client.get(f"{COUNTERS}/{name}")
            self.assertEqual((found.value["count"], found.version), (count, count), name)

    def test_what_handlers_tell_an_immortal_comes_once_while_all_kinds_of_things_die(self) -> None:
        self.client.register("counter")
        places = [node.address for node in self.cluster.nodes]
        arguments = [[PROGRAMS, "Counter", "--node", place] for place in places]
        immortals = [self.cluster.program(one) for one in arguments]
        programs = [self.start("v1", 0), self.start("v2", 1)]
        names = [f"t{number}" for number in range(4)]
        for name in names:
            self.make(name)
        counts: Dict[str, int] = {}
        with self.load("tell", names, counts):
            for round_ in range(3):
                time.sleep(0.5)
                programs[round_ % 2].kill()
                immortals[round_].kill()
                self.cluster.kill(round_)
                time.sleep(0.5)
                self.cluster.start(round_)
                self.cluster.wait_until_ready()
                immortals[round_] = self.cluster.program(arguments[round_])
                programs[round_ % 2] = self.start("v3", round_ % 2)
            time.sleep(0.5)
        self.client.patch(f"{COUNTERS}/t0", {"note": "refuse"})
        why = self.refused("REFUSED", lambda: self.act("t0", "tell"))
        self.assertIn("counted, told, and refused", why.message)
        self.assertGreater(min(counts.values()), 5)
        expected = {f"{COUNTERS}/{name}": count for name, count in counts.items()}

        def is_told() -> bool:
            immortals[0].said.clear()
            self.client.impulse("counter", 9)
            report = immortals[0].says("report ")
            return all(f"'{link}': {count}" in report for link, count in expected.items())

        testing.wait_for(f"{expected} at the immortal", is_told)

        def is_written() -> bool:
            """What the immortal writes into each document is there once, and in order."""
            for link, count in expected.items():
                if self.client.get(link).value["heard"] != list(range(1, count + 1)):
                    return False
            return True

        testing.wait_for(f"{expected} in the documents", is_written)
        self.client.impulse("counter", 9)
        for program in immortals:
            program.says("wrong []")

    def test_a_program_at_one_node_serves_the_documents_of_all(self) -> None:
        self.start("far", 2)
        names = [f"c{number}" for number in range(12)]
        for name in names:
            self.assertEqual(self.make(name)["by"], "far")
        owners = {self.cluster.owner_of(f"{COUNTERS}/{name}") for name in names}
        self.assertTrue(owners - {2}, "another node owns some of them")


class Booking(WithNodes):
    NODES = 3

    def test_each_seat_is_booked_once_while_copies_and_nodes_die(self) -> None:
        def start(which: int) -> Program:
            program = self.cluster.program([BOOKING, "--node", self.cluster.nodes[which].address])
            program.says("serving /app/booking")
            return program

        programs = [start(0), start(1)]
        seats = [f"{row}{number}" for row in "AB" for number in range(1, 4)]
        for seat in seats:
            self.client.create("/app/booking", {"row": seat[0]}, name=seat)
        won: Dict[str, List[str]] = {}

        def want(who: str) -> None:
            with self.cluster.client(patience=60) as client:
                for seat in seats:
                    try:
                        for action in ("hold", "book"):
                            client.act(f"/app/booking/{seat}", action, {"who": who})
                        won.setdefault(seat, []).append(who)
                    except amrita.Refused as why:
                        self.assertEqual(why.code, "REFUSED", why.message)

        people = [threading.Thread(target=want, args=(f"p{number}",)) for number in range(3)]
        for person in people:
            person.start()
        for which in (0, 1):
            programs[which].kill()
            self.cluster.kill(which)
            self.cluster.start(which)
            self.cluster.wait_until_ready()
            programs[which] = start(which)
        for person in people:
            person.join(60)
        shown = {one.name: one["booked_by"] for one in self.client.documents("/app/booking")}
        self.assertEqual({seat: [who] for seat, who in shown.items()}, won)
        self.assertEqual(len(won), len(seats))
        with self.assertRaises(amrita.Refused):
            self.client.delete(f"/app/booking/{seats[0]}")

    def test_a_hold_ends_by_itself(self) -> None:
        program = self.cluster.program([BOOKING, "--node", self.cluster.nodes[0].address])
        program.says("serving /app/booking")
        self.client.create("/app/booking", {"row": "A"}, name="A1")
        link = "/app/booking/A1"
        self.client.act(link, "hold", {"who": "jane", "seconds": 0.5})
        with self.assertRaises(amrita.Refused):
            self.client.act(link, "hold", {"who": "joe"})
        time.sleep(0.6)
        shown = self.client.act(link, "hold", {"who": "joe"})
        self.assertEqual((shown["held_by"], shown["row"]), ("joe", "A"))
