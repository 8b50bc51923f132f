"""The golden frames of the service protocol, read and written."""

import unittest

from amrita import _service_frames as frames
from amrita._service_frames import CallFrame, Error, Ping, Welcome
from amrita.immortal.frames import Garbled

from tests.support import ROOT

FRAMES = ROOT / "api" / "service-frames"

TIME = 1_700_000_000_000_000
USER = "/core/authz/users/jane"
LINK = "/app/seats/A1"
ROW = b'{"row":"A"}'

#: What each file is, in our words: bytes that we write, or a frame that we read.
MEANT = {
    "21-serve": frames.serve("/app/seats", "2.1", 8, ["create", "delete"], ["hold"]),
    "22-answer-state": frames.state(300, ROW),
    "22-answer-as-it-is": frames.as_it_is(300),
    "22-answer-refused": frames.refused(300, 409, "held by Jörg"),
    "22-answer-failed": frames.failed(300, "KeyError: who"),
    "22-answer-sending": frames.state(
        300, ROW, [frames.Message("ledger", 1, b"[5]"), frames.Message("mail", 300, b"[]")]
    ),
    "23-leave": frames.leave(),
    "0d-pong": frames.pong(127),
    "a1-welcome": Welcome(2, "n1", 9 << 20),
    "a2-call-create": CallFrame(1, "create", "", LINK, 0, TIME, USER, b"", ROW, b""),
    "a2-call-patch": CallFrame(
        2, "patch", "", LINK, 3, TIME, USER, ROW, b'{"price":5,"row":"A"}', b'{"price":5}'
    ),
    "a2-call-delete": CallFrame(3, "delete", "", LINK, 4, TIME, "", ROW, b"", b""),
    "a2-call-action": CallFrame(
        300, "action", "hold", LINK, 5, TIME, USER, ROW, b"", b'{"who":"jane"}'
    ),
    "8d-ping": Ping(127),
    "ff-error": Error("LATE", "too late"),
}


def golden(name: str) -> bytes:
    lines = (FRAMES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return bytes.fromhex("".join(line.split("#")[0] for line in lines))


class Golden(unittest.TestCase):
    def test_every_file_is_here(self) -> None:
        self.assertEqual({path.stem for path in FRAMES.iterdir()}, set(MEANT))

    def test_each_frame_is_read_or_written_alike(self) -> None:
        for name, meant in MEANT.items():
            with self.subTest(name):
                if isinstance(meant, bytes):
                    self.assertEqual(meant, golden(name))
                else:
                    self.assertEqual(frames.read(golden(name)[4:]), meant)

    def test_what_is_cut_short_or_goes_on_is_garbled(self) -> None:
        for name, meant in MEANT.items():
            if isinstance(meant, bytes):
                continue
            whole = golden(name)[4:]
            for end in range(len(whole)):
                with self.subTest(name, end=end), self.assertRaises(Garbled):
                    frames.read(whole[:end])
            if not isinstance(meant, (Welcome, Error)):
                with self.subTest(name), self.assertRaises(Garbled):
                    frames.read(whole + b"x")
