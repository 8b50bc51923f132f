"""Services without a node: what they make of calls, and how they end."""

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional
from unittest import mock

from amrita import _service_frames as frames
from amrita._codec import dumps, loads
from amrita._service_frames import CallFrame
from amrita._threads import Threads
from amrita.immortal.frames import Reader
from amrita.immortal.runner import RunError
from amrita.service import Call, Service

from tests.support import HERE

LINK = "/app/seats/A1"


@dataclass
class Place:
    name: str
    note: Optional[str] = None


@dataclass
class Seat:
    row: str
    place: Optional[Place] = None
    stops: List[Place] = field(default_factory=list)
    by_name: Dict[str, Place] = field(default_factory=dict)


def made() -> "Service[Seat]":
    seats: "Service[Seat]" = Service("/app/seats", Seat, version="1")

    @seats.create
    def create(call: Call, new: Seat) -> None:
        """As it is."""

    @seats.patch
    def patch(call: Call, before: Seat, new: Seat) -> None:
        """As it is."""

    @seats.action
    def turn(call: Call, seat: Seat) -> None:
        seat.stops.reverse()
        if seat.place:
            seat.place.note = "turned"

    @seats.action
    def cut(call: Call, seat: Seat, count: int) -> None:
        seat.stops = seat.stops[:count]
        seat.stops.append(Place("new"))

    @seats.action
    def rename(call: Call, seat: Seat) -> None:
        for place in seat.stops:
            place.name += "!"
        seat.by_name = {"b": Place("b"), "a": seat.by_name["a"]}

    @seats.action
    def spoil(call: Call, seat: Seat) -> Any:
        return {"row": float("nan")}

    return seats


def asked(handler: str, action: str = "", **states: Any) -> CallFrame:
    texts = [dumps(states[name]) if name in states else b"" for name in ("before", "after", "body")]
    return CallFrame(7, handler, action, LINK, 3, 0, "", *texts)


def answer(service: "Service[Any]", call: CallFrame) -> Any:
    """The state, or the status (0: the handler has failed) and the message."""
    data = service._answer(call)
    reader = Reader(data, 5)
    reader.n()
    outcome = reader.u8()
    if outcome == frames.STATE:
        return loads(data[reader.at :])
    if outcome == frames.REFUSED:
        return reader.n(), reader.s()
    return 0, reader.s()


class Calls(unittest.TestCase):
    def setUp(self) -> None:
        self.seats = made()
        output = mock.patch("traceback.print_exc")
        output.start()
        self.addCleanup(output.stop)

    def act(self, action: str, before: Any, **body: Any) -> Any:
        return answer(self.seats, asked("action", action, before=before, body=body))

    def test_fields_that_a_newer_version_has_put_in_stay_at_any_depth(self) -> None:
        before = {
            "row": "A",
            "colour": "red",
            "place": {"name": "p", "x": 1},
            "stops": [{"name": "a", "x": 2}, {"name": "b", "x": 3, "note": "n"}],
            "by_name": {"a": {"name": "a", "x": 4}},
        }
        turned = self.act("turn", before)
        place = {"name": "p", "x": 1, "note": "turned"}
        wanted = {**before, "place": place, "stops": before["stops"][::-1]}
        self.assertEqual(turned, wanted)
        cut = self.act("cut", before, count=1)
        self.assertEqual(cut["stops"], [{"name": "a", "x": 2}, {"name": "new", "x": 3}])
        cut = self.act("cut", {**before, "stops": before["stops"][1:]}, count=1)
        self.assertEqual(cut["stops"], [{"name": "b", "x": 3, "note": "n"}, {"name": "new"}])
        renamed = self.act("rename", before)
        stops = [{"name": "a!", "x": 2}, {"name": "b!", "x": 3, "note": "n"}]
        self.assertEqual(renamed["stops"], stops)
        by_name = {"b": {"name": "b"}, "a": {"name": "a", "x": 4}}
        self.assertEqual(renamed["by_name"], by_name)
        patched = answer(self.seats, asked("patch", before=before, after=before, body={}))
        self.assertEqual(patched, before)

    def test_what_is_none_is_not_there_at_any_depth(self) -> None:
        new = answer(self.seats, asked("create", after={"row": "A", "stops": [{"name": "a"}]}))
        self.assertEqual(new, {"row": "A", "stops": [{"name": "a"}], "by_name": {}})

    def test_the_client_is_told_what_the_client_has_done_wrong_and_nothing_else(self) -> None:
        good, bad = {"row": "A"}, {"row": 5}
        for call, status, part in (
            (asked("create", after=bad), 400, "row must be a text"),
            (asked("create", after={"row": "A", "place": {"name": 1}}), 400, "place.name"),
            (asked("patch", before=good, after=bad, body=bad), 400, "row must be a text"),
            (asked("patch", before=bad, after=good, body=good), 0, "row must be a text"),
            (asked("action", "turn", before=bad, body={}), 0, "row must be a text"),
            (asked("action", "spoil", before=good, body={}), 0, "nan"),
            (asked("action", "cut", before=good, body={"count": "x"}), 400, "count must be"),
            (asked("action", "cut", before=good, body={}), 400, "needs the field 'count'"),
            (asked("action", "cut", before=good, body={"x": 1}), 400, "has no field 'x'"),
        ):
            with self.subTest(call):
                told = answer(self.seats, call)
                self.assertEqual(told[0], status, told)
                self.assertIn(part, told[1])

    def test_what_a_copy_has_no_handler_of_is_not_waved_through(self) -> None:
        for call in (
            asked("delete", before={"row": "A"}),
            asked("put", before={"row": "A"}, after={"row": "B"}),
            asked("action", "fly", before={"row": "A"}, body={}),
        ):
            told = answer(self.seats, call)
            self.assertEqual(told[0], 0, told)
            self.assertIn("this version of the program has no", told[1])


class Node:
    """One that a program attaches to, at a socket."""

    def __init__(self, place: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(place / "immortals.sock"))
        self.socket.listen(4)
        self.socket.settimeout(20)

    def accept(self) -> socket.socket:
        connected, _ = self.socket.accept()
        connected.settimeout(20)
        self.next(connected)
        welcome = b"\x02\x02n1" + b"\x80\x80\xc0\x04"
        self.say(connected, frames.WELCOME, welcome)
        return connected

    @staticmethod
    def say(to: socket.socket, kind: int, body: bytes) -> None:
        to.sendall(struct.pack("<IB", len(body) + 1, kind) + body)

    @staticmethod
    def next(of: socket.socket) -> bytes:
        def take(count: int) -> bytes:
            data = b""
            while len(data) < count:
                more = of.recv(count - len(data))
                if not more:
                    raise EOFError
                data += more
            return data

        return take(struct.unpack("<I", take(4))[0])

    def call(self, to: socket.socket, action: bytes) -> None:
        text = LINK.encode()
        head = b"\x01\x04" + bytes([len(action)]) + action + bytes([len(text)]) + text
        self.say(to, frames.CALL, head + b"\x01\x01\x00" + b"\x02{}\x00\x02{}")


class Ends(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = Path(folder.name)
        self.node = Node(self.place)
        self.addCleanup(self.node.socket.close)

    def start(self, mode: str) -> "subprocess.Popen[bytes]":
        source = str(HERE.parent / "src")
        environment = {**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(HERE / "served.py"), mode, "--node", str(self.place)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        return process

    def test_a_program_with_a_handler_that_hangs_ends_when_it_is_told_to(self) -> None:
        process = self.start("hangs")
        connected = self.node.accept()
        with connected:
            self.node.call(connected, b"add")
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"hanging\n")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(self.node.next(connected)[0], frames.LEAVE)
        # The node has let it go.
        self.assertEqual(process.wait(5), 0)

    def test_a_program_that_is_told_to_end_while_it_connects_ends(self) -> None:
        seats = made()
        connecting, go_on = threading.Event(), threading.Event()
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)

        def connect(*_: Any) -> socket.socket:
            connecting.set()
            go_on.wait(10)
            return theirs

        with mock.patch("amrita.service.Dial.connect", connect):
            running = threading.Thread(target=seats.run, args=(str(self.place),), daemon=True)
            running.start()
            connecting.wait(10)
            seats.stop()
            go_on.set()
            running.join(5)
        self.assertFalse(running.is_alive())
        self.assertEqual(ours.recv(10), b"", "it has said nothing")

    def test_handlers_that_hang_are_bounded(self) -> None:
        seats: "Service[Any]" = Service("/app/seats", dict, calls_max=2)
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        with mock.patch("amrita._threads.HANGS_SECONDS", 0):
            for count in (1, 2):
                threads = Threads(2, "hangs")
                threads.begin(go_on.wait)
                threads.end()
                seats._left.append(threads)
                time.sleep(0.05)
                if count == 1:
                    seats._check_hanging()
            with self.assertRaises(RunError) as caught:
                seats._check_hanging()
        self.assertIn("2 handlers hang", caught.exception.message)

    def test_threads_are_used_again_and_no_more_of_them_are_made(self) -> None:
        threads = Threads(3, "t")
        seen = set()
        most = threading.Semaphore(0)
        for _ in range(30):
            threads.begin(lambda: (seen.add(threading.get_ident()), most.release()))  # type: ignore
        for _ in range(30):
            self.assertTrue(most.acquire(timeout=5))
        self.assertLessEqual(len(seen), 3)
        threads.end()
