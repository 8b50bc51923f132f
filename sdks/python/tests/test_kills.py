"""Clients and readers of changes while nodes are killed: nothing lost, nothing doubled."""

import asyncio
import collections
import threading
import time
import unittest
from typing import Callable, Dict, List

import amrita
from amrita import testing

EXAMPLES = "/core/examples"
DOCUMENTS = 6
KILLS = 4


class Killer:
    """Kills one node after the other, each as soon as the one before is back."""

    def __init__(self, cluster: testing.Cluster, kills: int = KILLS) -> None:
        self.cluster, self.kills = cluster, kills

    def run(self) -> None:
        for number in range(self.kills):
            time.sleep(0.3)
            which = number % len(self.cluster.nodes)
            self.cluster.kill(which)
            time.sleep(0.3)
            self.cluster.start(which)
            self.cluster.wait_until_ready()


class Kills(unittest.TestCase):
    def setUp(self) -> None:
        made = testing.cluster()
        self.cluster = made.__enter__()
        self.addCleanup(made.__exit__, None, None, None)

    def check(self, made: List[str], patched: Dict[str, int]) -> None:
        """Each document is there once, with as many versions as it was written to."""
        with self.cluster.client() as client:
            listed = [one.link for one in client.documents(EXAMPLES)]
            self.assertEqual(sorted(listed), sorted([*made, *patched]))
            for link, count in patched.items():
                found = client.get(link)
                self.assertEqual((found.version, found.value["counter"]), (count, count), link)
        self.assertGreater(sum(patched.values()), 50, "it was hardly tried")

    def test_threads_write_while_nodes_die(self) -> None:
        client = self.cluster.client(patience=60)
        stop = threading.Event()
        made: List[str] = []
        patched: Dict[str, int] = {}
        wrong: List[BaseException] = []

        def write(number: int) -> None:
            try:
                link = client.create(EXAMPLES, {"name": "w"}, name=f"w{number}").link
                count = 0
                while not stop.is_set():
                    count += 1
                    # Without a condition: one that is done twice shows as a version too many.
                    client.patch(link, {"counter": count})
                    made.append(client.create(EXAMPLES, {"name": f"{number}-{count}"}).link)
                patched[link] = count
            except BaseException as why:
                wrong.append(why)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        Killer(self.cluster).run()
        stop.set()
        for writer in writers:
            writer.join()
        client.close()
        self.assertEqual(wrong, [])
        self.check(made, patched)

    def test_asyncio_writes_while_nodes_die(self) -> None:
        made: List[str] = []
        patched: Dict[str, int] = {}

        async def write(client: amrita.AsyncClient, number: int, stop: asyncio.Event) -> None:
            link = (await client.create(EXAMPLES, {"name": "w"}, name=f"w{number}")).link
            count = 0
            while not stop.is_set():
                count += 1
                await client.patch(link, {"counter": count})
                made.append((await client.create(EXAMPLES, {"name": f"{number}-{count}"})).link)
            patched[link] = count

        async def everything() -> None:
            stop = asyncio.Event()
            async with self.cluster.async_client(patience=60) as client:
                writers = [asyncio.ensure_future(write(client, n, stop)) for n in range(4)]
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, Killer(self.cluster).run)
                stop.set()
                await asyncio.gather(*writers)

        asyncio.run(everything())
        self.check(made, patched)

    def test_a_feed_tells_everything_once_while_nodes_die(self) -> None:
        writer, reader = self.cluster.client(patience=60), self.cluster.client()
        feed = reader.watch(EXAMPLES)
        feed.begin()
        told: Dict[str, List[int]] = collections.defaultdict(list)
        newest: Dict[str, int] = {}
        stop, over = threading.Event(), threading.Event()
        wrong: List[BaseException] = []

        def guarded(work: Callable[[], None]) -> threading.Thread:
            def run() -> None:
                try:
                    work()
                except BaseException as why:
                    wrong.append(why)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        def write() -> None:
            for number in range(DOCUMENTS):
                writer.create(EXAMPLES, {"name": "f"}, name=f"f{number}")
            count = 0
            while not stop.is_set():
                count += 1
                link = f"{EXAMPLES}/f{count % DOCUMENTS}"
                newest[link] = writer.patch(link, {"counter": count}).version

        def read() -> None:
            while not over.is_set():
                for change in feed.next(1):
                    told[change.link].append(change.version)

        threads = [guarded(write), guarded(read)]
        Killer(self.cluster).run()
        stop.set()
        threads[0].join()

        def is_everything() -> bool:
            return wrong != [] or all(told[link][-1:] == [end] for link, end in newest.items())

        try:
            testing.wait_for("the last changes", is_everything)
        finally:
            over.set()
            threads[1].join()
            writer.close()
            reader.close()
        self.assertEqual(wrong, [])
        self.assertEqual(len(newest), DOCUMENTS)
        for link, end in newest.items():
            self.assertEqual(told[link], list(range(end + 1)), link)

    def test_a_feed_goes_on_at_nodes_that_were_all_killed(self) -> None:
        with self.cluster.client() as client:
            feed = client.watch(EXAMPLES)
            feed.begin()
            client.create(EXAMPLES, {"name": "g"}, name="g")
            self.assertEqual([change.version for change in feed.next(20)], [0])
            client.patch(f"{EXAMPLES}/g", {"counter": 1})
            for which in range(3):
                self.cluster.kill(which)
            for which in range(3):
                self.cluster.start(which)
            self.cluster.wait_until_ready()
            again = client.watch(EXAMPLES, after=feed.token)
            self.assertEqual([change.version for change in again.next(20)], [1])

    def test_a_reader_that_was_away_for_long_is_told_all(self) -> None:
        with self.cluster.client(patience=60) as client:
            large = client.kind("/app/large", schema={"type": "object"}).define()
            token = large.watch().begin()
            # More than the changes that a node keeps in memory.
            for number in range(300):
                large.create({"text": "x" * 200_000}, name=f"d{number}")
            feed = large.watch(after=token)
            names: List[str] = []
            while len(names) < 300:
                names += [change.document.name for change in feed.next(20)]
            self.assertEqual(sorted(names), sorted(f"d{number}" for number in range(300)))
            large.create({"text": "y"}, name="small")
            while "small" not in names:
                names += [change.document.name for change in feed.next(20)]

    def test_a_frozen_node_is_left_for_another(self) -> None:
        with self.cluster.client(patience=40) as client:
            client.create(EXAMPLES, {"name": "z"}, name="z")
            self.cluster.pause(0)
            try:
                began = time.monotonic()
                client.patch(f"{EXAMPLES}/z", {"counter": 1})
                self.assertLess(time.monotonic() - began, 30)
            finally:
                self.cluster.go_on(0)
            self.assertEqual(client.get(f"{EXAMPLES}/z").version, 1)
