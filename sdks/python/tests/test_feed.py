"""Feeds of changes against nodes that are scripts: nothing is lost, and nothing told twice."""

import asyncio
import unittest
from dataclasses import dataclass
from typing import Any, Dict, List, Optional
from urllib.parse import parse_qs, urlsplit

import amrita

from .support import BREAK, SILENCE, Scripted

TEXT = "\u6f22\u5b57 \U0001f389"
GONE = (410, {"code": "CHANGES_GONE", "message": "too far behind"})


def change(number: int, **more: Any) -> Dict[str, Any]:
    link = "/app/a/1"
    document = {"documentSelfLink": link, "documentVersion": number, "text": TEXT, **more}
    told = {"link": link, "version": number, "action": "PATCH", "isMatch": True}
    return {**told, "document": document, "token": f"t{number}"}


def page(*numbers: int) -> Any:
    return (200, {"changes": [change(one) for one in numbers], "token": f"t{numbers[-1]}"})


@dataclass
class Text:
    text: str


class Feeds(unittest.TestCase):
    def client(self, *nodes: Scripted, **options: Any) -> amrita.Client:
        for node in nodes:
            self.addCleanup(node.listener.close)
        made = amrita.Client([node.address for node in nodes], **options)
        self.addCleanup(made.close)
        return made

    def asked_after(self, node: Scripted) -> List[Optional[str]]:
        queries = [parse_qs(urlsplit(line.split()[1]).query) for line, _ in node.asked]
        return [query.get("after", [None])[0] for query in queries]

    def test_the_token_is_not_ahead_of_what_the_reader_was_given(self) -> None:
        node = Scripted(page(1, 2, 3), page(2, 3))
        feed = self.client(node).watch("/app/a", after="t0")
        for told in feed:
            self.assertEqual((told.version, feed.token), (1, "t1"))
            break
        told = []
        for one in feed:
            told.append(one.version)
            if len(told) == 2:
                break
        self.assertEqual(told, [2, 3])
        self.assertEqual(self.asked_after(node), ["t0", "t1"])

    def test_an_answer_that_is_cut_is_asked_for_again(self) -> None:
        node = Scripted()
        whole = node.answer(page(1, 2))
        letter = whole.index("\U0001f389".encode()) + 2
        node.script = [
            [whole[:letter]],
            [whole[:-3]],
            BREAK,
            (200, "no page"),
            (503, {"code": "BUSY"}),
            [whole[:letter], whole[letter : letter + 1], whole[letter + 1 :]],
        ]
        feed = self.client(node).watch("/app/a", after="t0")
        told = feed.next()
        self.assertEqual([(one.version, one.document["text"]) for one in told], [(1, TEXT), (2, TEXT)])
        self.assertEqual(self.asked_after(node), ["t0"] * 6)

    def test_what_does_not_fit_stops_the_reader_before_it_and_not_before_others(self) -> None:
        answer = {"changes": [change(1), change(2, more=1)], "token": "t2"}
        node = Scripted((200, answer))
        feed = self.client(node).kind("/app/a", Text).watch(after="t0")
        told = []
        with self.assertRaises(amrita.BadValue):
            for one in feed:
                told.append(one.version)
        self.assertEqual((told, feed.token), ([1], "t1"))

    def test_a_reader_that_is_cancelled_goes_on_where_it_was(self) -> None:
        node = Scripted(page(1, 2), page(2), SILENCE, page(3))
        self.addCleanup(node.listener.close)

        async def read() -> List[int]:
            told = []
            async with amrita.AsyncClient(node.address) as client:
                feed = client.watch("/app/a", after="t0")

                async def take(pause: float) -> None:
                    async for one in feed:
                        told.append(one.version)
                        await asyncio.sleep(pause)

                # At its first change, and then while it waits for the next page.
                for pause in (9, 0):
                    with self.assertRaises(asyncio.TimeoutError):
                        await asyncio.wait_for(take(pause), 0.3)
                async for one in feed:
                    told.append(one.version)
                    return told
            return told

        self.assertEqual(asyncio.run(read()), [1, 2, 3])
        self.assertEqual(self.asked_after(node), ["t0", "t1", "t2", "t2"])

    def test_a_node_that_forgot_is_not_the_last_word_while_another_is_away(self) -> None:
        forgetful, away = Scripted(*[GONE] * 99), Scripted(BREAK, BREAK, page(1))
        told = self.client(forgetful, away).watch("/app/a", after="t0").next()
        self.assertEqual([one.version for one in told], [1])
        nobody = Scripted(GONE), Scripted(GONE)
        with self.assertRaises(amrita.ChangesGone):
            self.client(*nobody).watch("/app/a", after="t0").next()


if __name__ == "__main__":
    unittest.main()
