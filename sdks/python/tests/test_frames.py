"""The golden frames of the protocol, read and written."""

import struct
import unittest

from amrita.immortal import frames
from amrita.immortal.frames import Message

from tests.support import ROOT

FRAMES = ROOT / "api" / "frames"

HELLO_WORLD = b'["Hello World 1!"]'
FORK = Message(frames.FORK, method=1, payload=HELLO_WORLD)
CALL = Message(frames.CALL, 300, -2, payload=b"[]")
IMPULSE = Message(frames.IMPULSE, method=7, payload=b"[true]")

#: What each file is, in our words.
MEANT = {
    "01-hello": ("HELLO", ("amrita-immortal", 1, 1, "server", 3, 4)),
    "02-send-itself": ("SEND", ("", 1, FORK.put())),
    "02-send": ("SEND", ("server", 2, FORK.put() + CALL.put())),
    "03-await-effect": ("AWAIT", (6, 0)),
    "03-await-timer": ("AWAIT", (5, 1_700_000_000_000_000)),
    "04-cancel": ("CANCEL", (5,)),
    "05-done": ("DONE", (16384,)),
    "06-impulse": ("IMPULSE", (1, "", IMPULSE.put())),
    "07-result": ("RESULT", (6, 1, b"42")),
    "08-checkpoint": ("CHECKPOINT", (9,)),
    "09-chunk": ("CHUNK", (b"123456789",)),
    "0a-checkpoint-end": ("CHECKPOINT_END", (0xCBF43926,)),
    "0b-initial": ("INITIAL", (b"[]",)),
    "0c-ask-checkpoint": ("ASK_CHECKPOINT", ()),
    "0d-pong": ("PONG", (127,)),
    "0e-fault": ("FAULT", (12, "a handler panicked: no such user")),
    "81-welcome": ("WELCOME", (1, "n1", 2, 1 << 20, 4 << 20, 3)),
    "82-genesis": ("GENESIS", ()),
    "83-load": ("LOAD", (1000, 9)),
    "84-chunk": ("LOADED", (b"123456789",)),
    "85-load-end": ("LOAD_END", (0xCBF43926,)),
    "87-end-of-replay": ("END_OF_REPLAY", (1004,)),
    "88-primary": ("PRIMARY", (17,)),
    "89-standby": ("STANDBY", ()),
    "8a-take-checkpoint": ("TAKE_CHECKPOINT", (9,)),
    "8b-fate-logged": ("FATE", (1, frames.LOGGED, 1003)),
    "8b-fate-not-logged": ("FATE", (2, frames.LOST, 0)),
    "8b-fate-unknown": ("FATE", (3, frames.UNKNOWN, 0)),
    "8c-credit": ("CREDIT", ("server", 65536)),
    "8d-ping": ("PING", (127,)),
    "ff-error": ("ERROR", ("ATTACHED", "another program is attached: end it first")),
    "message-0-fork": FORK,
    "message-1-call": CALL,
    "message-2-answer-value": Message(frames.ANSWER, 300, status=1, payload=b"3"),
    "message-2-answer-empty": Message(frames.ANSWER, 301, status=2),
    "message-2-answer-error": Message(
        frames.ANSWER, 302, status=3, payload="no such user: Jörg".encode()
    ),
    "message-3-impulse": IMPULSE,
    "message-4-start": Message(frames.START, payload=b"[]"),
    "message-5-timer": Message(frames.TIMER, 5),
    "message-6-result": Message(frames.RESULT, 6, status=1, payload=b"42"),
    "message-7-upgrade": Message(frames.UPGRADE, 4),
    "message-8-skipped": Message(frames.SKIPPED),
}

BLOCKS = [
    frames.block(frames.INSTANCE, "client", 41, [FORK, CALL]),
    frames.block(frames.OUTSIDE, "client/7", 0, [IMPULSE]),
    frames.block(frames.NODE, "", 0, [Message(frames.TIMER, 5)]),
]
MEANT["86-deliver"] = ("DELIVER", (1001, 1_700_000_000_000_001, b"".join(BLOCKS)))


def golden(name: str) -> bytes:
    lines = (FRAMES / f"{name}.txt").read_text().splitlines()
    return bytes.fromhex("".join(line.split("#")[0] for line in lines))


class GoldenFrames(unittest.TestCase):
    def test_each_file_is_known(self) -> None:
        self.assertEqual({path.stem for path in FRAMES.glob("*.txt")}, set(MEANT))

    def test_each_is_written_as_it_stands(self) -> None:
        for name, meant in MEANT.items():
            with self.subTest(name):
                is_message = isinstance(meant, Message)
                put = meant.put() if is_message else frames.frame(meant[0], *meant[1])
                self.assertEqual(put.hex(), golden(name).hex())

    def test_each_is_read_as_it_is_meant(self) -> None:
        for name, meant in MEANT.items():
            with self.subTest(name):
                data = golden(name)
                if isinstance(meant, Message):
                    self.assertEqual(list(frames.messages(data)), [meant])
                else:
                    self.assertEqual(struct.unpack_from("<I", data)[0], len(data) - 4)
                    self.assertEqual(frames.read(data[4:]), meant)

    def test_blocks_are_read(self) -> None:
        _, (_, _, data) = frames.read(golden("86-deliver")[4:])
        found = [
            (block.kind, block.name, block.first, list(frames.messages(block.data)))
            for block in frames.blocks(data)
        ]
        self.assertEqual(
            found,
            [
                (frames.INSTANCE, "client", 41, [FORK, CALL]),
                (frames.OUTSIDE, "client/7", 0, [IMPULSE]),
                (frames.NODE, "", 0, [Message(frames.TIMER, 5)]),
            ],
        )

    def test_what_is_cut_short_is_refused(self) -> None:
        for name, meant in MEANT.items():
            data = golden(name)
            whole = data[1:] if isinstance(meant, Message) else data[4:]
            for end in range(len(whole)):
                # A rest may be of any length; whatever happens, it is no other exception.
                try:
                    if isinstance(meant, Message):
                        frames.read_message(whole[:end])
                    else:
                        frames.read(whole[:end])
                except frames.Garbled:
                    continue

    def test_surplus_is_ignored_and_unknown_types_are_not(self) -> None:
        self.assertEqual(frames.read(golden("8d-ping")[4:] + b"more"), ("PING", (127,)))
        long = b"\x05" + b"\xff" * 9
        for wrong in (b"", b"\x42", b"\x05", long + b"\xff", long + b"\x7f"):
            with self.assertRaises(frames.Garbled):
                frames.read(wrong)

    def test_numbers_of_every_length_come_back(self) -> None:
        for bits in range(64):
            for value in {(1 << bits) - 1, 1 << bits, -(1 << bits)}:
                if value >= 0:
                    self.assertEqual(frames.Reader(frames.number(value)).n(), value)
                if abs(value) < 1 << 63:
                    self.assertEqual(frames.Reader(frames.signed(value)).z(), value)
        for wrong in (-1, 1 << 64):
            with self.assertRaises(ValueError):
                frames.number(wrong)
