"""The client against real nodes, both kinds of it."""

import asyncio
import concurrent.futures
import time
import unittest
from dataclasses import dataclass, field
from decimal import Decimal
from typing import List, Optional

import amrita
from amrita import testing


@dataclass
class Seat:
    row: str = field(metadata={"readOnly": True})
    price: float = 10.0
    tags: List[str] = field(default_factory=list)
    holder: Optional[str] = None


@dataclass
class Place:
    name: str
    why: Optional[str] = None


@dataclass
class Trip:
    start: Place
    stops: List[Place]
    note: Optional[str]


class OneCluster(unittest.TestCase):
    """Three nodes for all tests of a class that kill none."""

    @classmethod
    def setUpClass(cls) -> None:
        made = testing.cluster()
        cls.cluster = made.__enter__()
        cls.addClassCleanup(made.__exit__, None, None, None)
        cls.client = cls.cluster.client()
        cls.addClassCleanup(cls.client.close)


class Documents(OneCluster):
    def test_a_document_from_its_birth_to_its_end(self) -> None:
        client = self.client
        made = client.create("/core/examples", {"name": "first"}, name="life")
        self.assertEqual((made.link, made.version), ("/core/examples/life", 0))
        with self.assertRaises(amrita.AlreadyExists):
            client.create("/core/examples", {"name": "first"}, name="life")
        self.assertEqual(client.get(made.link).value["name"], "first")
        changed = client.patch(made.link, {"counter": 5}, if_match=made)
        with self.assertRaises(amrita.PreconditionFailed) as caught:
            client.patch(made.link, {"counter": 6}, if_match=made)
        self.assertEqual(caught.exception.outcome, "notApplied")
        put = client.put(made.link, {"name": "second"}, if_match=changed.etag)
        self.assertEqual((put.value["name"], put.version), ("second", 2))
        self.assertEqual(client.get(made.link, version=1).value["counter"], 5)
        self.assertEqual(client.get(made.link, local=True).link, made.link)
        client.delete(made.link)
        client.delete(made.link)
        self.assertIsNone(client.get_or_none(made.link))
        with self.assertRaises(amrita.NotFound):
            client.get(made.link)
        with self.assertRaises(amrita.AlreadyExists):
            client.create("/core/examples", {"name": "third"}, name="life")
        client.create("/core/examples", {"name": "third"}, name="life", revive=True)

    def test_the_etag_is_the_one_that_the_node_sends(self) -> None:
        link = self.client.create("/core/examples", {"name": "tag"}).link
        answer = self.client.request("GET", link)
        self.assertEqual(self.client.get(link).etag, answer.etag)

    def test_many_writes_are_one_request(self) -> None:
        def post(name: str) -> dict:
            body = {"documentSelfLink": name, "name": name}
            return {"method": "POST", "path": "/core/examples", "body": body}

        client = self.client
        requests = [post("{k}/a"), post("{k}/b")]
        made = client.batch(requests, atomic="all", key="a batch")
        self.assertEqual((made["outcome"], len(made["requests"])), ("applied", 2))
        self.assertEqual(client.batch(requests, atomic="all", key="a batch"), made)
        self.assertEqual(client.get("/core/examples/{k}/a").version, 0)
        patches = [
            {"method": "PATCH", "path": "/core/examples/{k}/b", "body": {"name": "c"}},
            {"method": "PATCH", "path": "/core/examples/{k}/none", "body": {"name": "c"}},
        ]
        with self.assertRaises(amrita.Refused) as caught:
            client.batch(patches)
        self.assertEqual(caught.exception.outcome, "notApplied")
        self.assertEqual(client.get("/core/examples/{k}/b").value["name"], "{k}/b")
        mixed = client.batch(patches[1:] + [post(f"apart-{number}") for number in range(9)])
        self.assertEqual(mixed["outcome"], "mixed")
        self.assertEqual(mixed["requests"][0]["error"]["code"], "NOT_FOUND")

    def test_the_same_key_is_the_same_write(self) -> None:
        client = self.client
        first = client.create("/core/examples", {"name": "x"}, key="same-key")
        again = client.create("/core/examples", {"name": "x"}, key="same-key")
        self.assertEqual(first.link, again.link)
        with self.assertRaises(amrita.Refused) as caught:
            client.create("/core/examples", {"name": "y"}, key="same-key")
        self.assertEqual(caught.exception.code, "KEY_REUSED")

    def test_numbers_of_any_size_come_back(self) -> None:
        numbers = [2**53 + 1, 2**64, -(2**63) - 1, 10**60, 0.1, 1e22, 5e-324, -0.0]
        numbers.append(Decimal("0.10000000000000000001"))
        self.client.define("/app/numbers", {"type": "object"})
        link = self.client.create("/app/numbers", {"all": numbers}).link
        back = self.client.get(link).value["all"]
        self.assertEqual([repr(one) for one in back], [repr(one) for one in numbers])
        self.client.put(link, {"all": back, "more": 1})
        again = self.client.get(link).value["all"]
        self.assertEqual([repr(one) for one in again], [repr(one) for one in numbers])

    def test_names_and_texts_of_every_script(self) -> None:
        text = 'ß 漢字 \u0000\u2028 "\\ 🎉'
        link = self.client.create("/core/examples", {"name": text}).link
        self.assertEqual(self.client.get(link).value["name"], text)

    def test_pages_are_streamed(self) -> None:
        kind = self.client.kind("/app/many", schema={"type": "object"}).define()
        for number in range(25):
            kind.create({"n": number, "even": number % 2 == 0}, name=f"d{number}")
        listed = [document.value["n"] for document in kind.documents(page_size=4)]
        self.assertEqual(sorted(listed), list(range(25)))
        ordered = kind.documents(order_by="n desc", filter="n lt 20", page_size=7)
        self.assertEqual([one.value["n"] for one in ordered], list(range(19, -1, -1)))
        self.assertEqual(kind.count(filter="even eq true"), 13)
        where = amrita.term("documentKind", "app:many") & amrita.between("n", 5, 15)
        question = amrita.Question(
            where & ~amrita.term("even", True), sort="n", sort_type="LONG", page_size=2
        )
        found = self.client.query(question)
        self.assertEqual([one.value["n"] for one in found], [5, 7, 9, 11, 13, 15])
        either = where & (amrita.term("n", 6) | amrita.term("n", 8) | amrita.term("n", 99))
        self.assertEqual({one.value["n"] for one in self.client.query(either)}, {6, 8})

    def test_many_threads_share_a_client(self) -> None:
        link = self.client.create("/core/counters", {}, name="shared").link
        before = self.client.get(link).version
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: self.client.patch(link, {}), range(40)))
        self.assertEqual(self.client.get(link).version, before + 40)

    def test_a_task_is_started_and_waited_for(self) -> None:
        self.client.create("/core/examples", {"name": "for the task"})
        clause = {"term": {"propertyName": "name", "matchValue": "for the task"}}
        task = self.client.start("/core/example-tasks", {"customQueryClause": clause})
        done = self.client.wait(task, timeout=30)
        self.assertEqual(done.body["taskInfo"]["stage"], "FINISHED")
        self.assertEqual(done.value["deletedCount"], 1)

    def test_a_task_that_fails_is_an_exception(self) -> None:
        task = self.client.start("/core/example-tasks", {"customQueryClause": {}})
        with self.assertRaises(amrita.TaskFailed) as caught:
            self.client.wait(task, 30)
        self.assertEqual((caught.exception.code, caught.exception.stage), ("TASK_FAILED", "FAILED"))
        self.assertIn("is empty", caught.exception.message)


class Kinds(OneCluster):
    def test_a_kind_of_a_dataclass(self) -> None:
        seats = self.client.kind("/app/seats", Seat, merge=["tags"]).define()
        made = seats.create(Seat("A", tags=["window"]), name="A1")
        self.assertEqual(made.value, Seat("A", 10.0, ["window"]))
        self.assertEqual(seats.patch("A1", {"tags": ["quiet"]}).value.tags, ["window", "quiet"])
        with self.assertRaises(amrita.Refused) as caught:
            seats.patch("A1", {"row": "B"})
        self.assertIn("readOnly", caught.exception.message)
        with self.assertRaises(amrita.Refused):
            seats.create({"row": "A", "colour": "red"})
        booked = seats.update("A1", lambda seat: Seat(seat.row, seat.price, seat.tags, "jane"))
        self.assertEqual((booked.value.holder, booked.version), ("jane", 2))
        self.assertEqual([one.value.row for one in seats.documents()], ["A"])

    def test_what_is_none_is_not_there(self) -> None:
        trips = self.client.kind("/app/trips", Trip).define()
        trip = Trip(Place("a"), [Place("b", "why"), Place("c")], None)
        self.assertEqual(trips.create(trip, name="one").value, trip)
        self.assertEqual(trips.put("one", trip).value, trip)
        trips.patch("one", {"note": "x"})
        with self.assertRaises(amrita.BadValue):
            trips.patch("one", {"note": None})
        self.assertIsNone(trips.patch("one", {"note": None}, merge=True).value.note)

    def test_it_is_defined_again_and_changed(self) -> None:
        first = self.client.kind("/app/things", schema={"type": "object"}).define()
        first.define()
        first.create({"anything": 1}, name="one")
        narrow = {"type": "object", "required": ["n"], "properties": {"n": {"type": "array"}}}
        second = self.client.kind("/app/things", schema=narrow).define()

        def is_refused() -> bool:
            try:
                second.create({"anything": 1})
                return False
            except amrita.Refused:
                return True

        testing.wait_for("the new schema", is_refused)
        third = self.client.kind("/app/things", schema=narrow, merge=["n"], retentionLimit=5)
        third.define()
        shown = self.client.get("/core/factories/app:things")
        self.assertEqual((shown.value["merge"], shown.value["retentionLimit"]), (["n"], 5))
        second.define()
        again = self.client.get(shown.link)
        self.assertEqual(again.version, shown.version, "what is not named stays")
        none = self.client.kind("/app/things", schema=narrow, merge=None, retentionLimit=None)
        none.define()
        none.define()
        again = self.client.get(shown.link)
        self.assertEqual(set(again.value), {"link", "kind", "schema"})
        self.assertEqual(again.version, shown.version + 1, "the same once more changes nothing")
        with self.assertRaises(amrita.Refused) as caught:
            self.client.undefine("/app/things")
        self.assertEqual((caught.exception.code, caught.exception.outcome), ("REFUSED", "notApplied"))
        self.client.undefine("/app/things", with_documents=True)
        second.define()
        self.assertEqual(second.get("one").value, {"anything": 1})

    def test_what_a_program_has_said_of_its_kind_stays(self) -> None:
        link = "/app/served"
        schema = {"type": "object", "properties": {"row": {"type": "string"}}}
        served = {"handlers": ["put"], "actions": ["hold"]}
        self.client.define(link, schema, version="2.1", **served)
        self.client.define(link)
        self.client.define(link, schema)
        for version in ({}, {"version": "2.0.9"}):
            with self.assertRaises(amrita.OlderDefinition) as caught:
                self.client.define(link, {"type": "object"}, **version)
            self.assertEqual(caught.exception.outcome, "notApplied")
        shown = self.client.get("/core/factories/app:served")
        self.assertEqual(shown.version, 0)
        self.client.define(link, {"type": "object"}, version="2.10")
        shown = self.client.get(shown.link)
        self.assertEqual({**served, "version": "2.10"}, {k: shown[k] for k in [*served, "version"]})
        self.assertEqual(shown["schema"], {"type": "object"})

    def test_a_document_goes_when_its_time_is_over(self) -> None:
        holds = self.client.kind("/app/short", schema={"type": "object"}, expiresAfterSeconds=1)
        holds.define()
        feed = holds.watch()
        feed.begin()
        holds.create({"who": "jane"}, name="A1")
        actions = [change.action for change in (feed.next(20) + feed.next(20))]
        self.assertEqual(actions, ["POST", "EXPIRE"])
        self.assertIsNone(holds.get_or_none("A1"))
        holds.create({"who": "joe"}, name="A1")


class Asyncio(OneCluster):
    def test_everything_by_asyncio(self) -> None:
        asyncio.run(self.everything())

    async def everything(self) -> None:
        async with self.cluster.async_client() as client:
            seats = client.kind("/app/async", Seat)
            await seats.define()
            feed = seats.watch()
            await feed.begin()
            made = await asyncio.gather(
                *(seats.create(Seat("R"), name=f"s{number}") for number in range(50))
            )
            self.assertEqual(len({one.link for one in made}), 50)
            await seats.patch("s1", {"holder": "jane"}, if_match=made[1])
            with self.assertRaises(amrita.PreconditionFailed):
                await seats.patch("s1", {"holder": "joe"}, if_match=made[1])
            names = [one.name async for one in seats.documents(page_size=7)]
            self.assertEqual(sorted(names), sorted(f"s{number}" for number in range(50)))
            self.assertEqual(await seats.count(filter="holder eq jane"), 1)
            told = []
            async for change in feed:
                told.append((change.link, change.version))
                if len(told) == 51:
                    break
            self.assertEqual(len(set(told)), 51)
            question = amrita.term("documentKind", "app:async") & amrita.term("holder", "jane")
            self.assertEqual([one.name async for one in client.query(question)], ["s1"])
            task = await client.start("/core/example-tasks", {})
            await client.wait(task, timeout=30)
            booked = await seats.update("s2", lambda seat: Seat(seat.row, seat.price, [], "ann"))
            self.assertEqual((booked.value.holder, booked.version), ("ann", 1))
            self.assertEqual((await seats.update("s2", lambda seat: None)).version, 1)
            await seats.delete("s1")
            self.assertIsNone(await seats.get_or_none("s1"))

    def test_the_patience_has_an_end(self) -> None:
        async def ask() -> None:
            async with amrita.AsyncClient("http://127.0.0.1:1", patience=0.3) as client:
                await client.get("/core/examples/a")

        began = time.monotonic()
        with self.assertRaises(amrita.Unreachable):
            asyncio.run(ask())
        self.assertLess(time.monotonic() - began, 5)
