"""Effects without a node: each gives a result, whatever it does."""

import queue
import sys
import unittest
from dataclasses import dataclass
from typing import Any, Tuple

from amrita.immortal import Immortal, frames
from amrita.immortal.book import Waiting
from amrita.immortal.effects import Effects


@dataclass
class One(Immortal):
    @staticmethod
    def leaves() -> None:
        sys.exit(3)

    @staticmethod
    def talks(size: int) -> str:
        return "x" * size


@dataclass
class Two(One):
    @staticmethod
    def is_new() -> str:
        return "new"


class Link:
    def __init__(self) -> None:
        self.written: "queue.Queue[bytes]" = queue.Queue()

    def try_write(self, data: bytes) -> None:
        self.written.put(data)


class EffectsTest(unittest.TestCase):
    def result(self, kind: Any, work: str, *arguments: Any) -> Tuple[int, bytes]:
        link = Link()
        effects = Effects(link, 4096)
        self.addCleanup(effects.end)
        effects.begin(1, kind, Waiting("effect", "then", {}, work=work, arguments=list(arguments)))
        _, values = frames.read(link.written.get(timeout=10)[4:])
        return values[1], values[2]

    def test_one_that_ends_its_thread_is_an_error(self) -> None:
        self.assertEqual(self.result(One, "leaves"), (frames.ERROR, b"SystemExit: 3"))

    def test_a_result_that_fits_no_frame_is_an_error(self) -> None:
        self.assertEqual(self.result(One, "talks", 3), (frames.VALUE, b'"xxx"'))
        status, why = self.result(One, "talks", 4096)
        self.assertEqual(status, frames.ERROR)
        self.assertIn(b"4098 bytes, and a frame has at most 4096", why)

    def test_what_the_next_version_asks_for_is_done_by_it(self) -> None:
        link = Link()
        effects = Effects(link, 4096)
        self.addCleanup(effects.end)
        effects.begin(1, One, Waiting("effect", "then", {}, work="talks", arguments=[1]))
        effects.begin(2, Two, Waiting("effect", "then", {}, work="is_new"))
        found = dict(frames.read(link.written.get(timeout=10)[4:])[1][::2] for _ in range(2))
        self.assertEqual(found, {1: b'"x"', 2: b'"new"'})


if __name__ == "__main__":
    unittest.main()
