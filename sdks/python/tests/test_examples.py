"""The examples, each started by its one command, and killed."""

import importlib.util
import re
import signal
import threading
import unittest
from typing import Any, Dict, List, Tuple

from amrita import testing
from amrita.testing import Program

from tests.support import EXAMPLES, ask


def address_in(line: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found is not None, line
    return found.group()


def asked_until_answered(doors: List[str], path: str, body: Any) -> Tuple[int, Any]:
    """Asks one door after the other, the same again, until one of them knows."""

    def look() -> Any:
        for door in doors:
            try:
                answer = ask(door + path, body)
            except OSError:
                continue
            if answer[0] in (200, 404, 409):
                return answer
        return None

    return testing.wait_for(f"an answer to {body}", look)


class Seats(unittest.TestCase):
    SEATS = str(EXAMPLES / "seats.py")

    def test_it_starts_by_one_command(self) -> None:
        program = Program([self.SEATS, "--port", "0"])
        self.addCleanup(program.kill)
        address = address_in(program.says("serving at"))
        body = {"seat": "A1", "who": "jane"}
        self.assertEqual(ask(address + "/hold", body), (200, "ok"))
        self.assertEqual(ask(address + "/book", body), (200, "ok"))
        self.assertEqual(ask(address + "/seats")[1]["A1"], "jane")
        program.process.send_signal(signal.SIGINT)
        self.assertEqual(program.wait(), 0)

    def test_each_seat_is_booked_once_while_programs_and_nodes_die(self) -> None:
        with testing.cluster() as cluster:
            nodes = ",".join(cluster.addresses)
            ports = [str(port) for port in testing.free_ports(2)]
            doors = [f"http://127.0.0.1:{port}" for port in ports]

            def start(which: int) -> Program:
                more = ["--nodes", nodes, "--port", ports[which], "--hold-seconds", "60"]
                return cluster.program([self.SEATS, *more])

            programs = [start(0), start(1)]
            for program in programs:
                program.says("serving at")
            won: Dict[str, List[str]] = {}
            lock = threading.Lock()

            def want(who: str) -> None:
                for row in "AB":
                    for number in range(1, 6):
                        body = {"seat": f"{row}{number}", "who": who}
                        if asked_until_answered(doors, "/hold", body)[1] != "ok":
                            continue
                        if asked_until_answered(doors, "/book", body)[1] == "ok":
                            with lock:
                                won.setdefault(body["seat"], []).append(who)

            people = [threading.Thread(target=want, args=(f"p{n}",)) for n in range(3)]
            for person in people:
                person.start()
            for which in (0, 1):
                cluster.kill(which)
                programs[which].kill()
                programs[which] = start(which)
                programs[which].says("serving at")
                cluster.start(which)
                cluster.wait_until_ready()
            for person in people:
                person.join()
            shown = ask(doors[0] + "/seats")[1]
            self.assertEqual({seat: [who] for seat, who in shown.items()}, won)
            self.assertEqual(len(won), 10)

    def test_a_hold_goes_by_itself_and_the_feed_says_so(self) -> None:
        with testing.cluster(1) as cluster:
            more = ["--nodes", cluster.addresses[0], "--port", "0", "--hold-seconds", "1"]
            program = cluster.program([self.SEATS, *more])
            address = address_in(program.says("serving at"))
            program.says("watching")
            jane, joe = ({"seat": "A2", "who": who} for who in ("jane", "joe"))
            self.assertEqual(ask(address + "/hold", jane), (200, "ok"))
            self.assertEqual(ask(address + "/hold", joe)[0], 409)
            program.says("A2: held by jane")
            program.says("A2: the hold of jane is over")
            self.assertEqual(ask(address + "/book", jane)[0], 409)
            self.assertEqual(ask(address + "/hold", joe), (200, "ok"))
            self.assertEqual(ask(address + "/book", joe), (200, "ok"))
            program.says("A2: booked by joe")
            self.assertEqual(ask(address + "/hold", {"seat": "Z9", "who": "joe"})[0], 404)


    def test_a_hold_that_ends_in_the_middle_books_nothing_twice(self) -> None:
        name = importlib.util.spec_from_file_location("seats", self.SEATS)
        assert name is not None and name.loader is not None
        seats = importlib.util.module_from_spec(name)
        name.loader.exec_module(seats)
        with testing.cluster(1) as cluster, cluster.client() as client:
            hall, other = seats.Hall(client, 60), seats.Hall(client, 60)
            hall.build("A", 1)
            self.assertEqual(hall.hold("A1", "jane"), "ok")
            look = hall.holds.get_or_none

            def look_and_lose_it(name: str) -> Any:
                hold = look(name)
                hall.holds.get_or_none = look
                hall.holds.delete(name)
                self.assertEqual((other.hold(name, "joe"), other.book(name, "joe")), ("ok", "ok"))
                return hold

            hall.holds.get_or_none = look_and_lose_it
            self.assertEqual(hall.book("A1", "jane"), "A1 is booked")
            self.assertEqual(hall.show(), {"A1": "joe"})


class Bank(unittest.TestCase):
    BANK = str(EXAMPLES / "bank.py")

    def test_it_starts_by_one_command(self) -> None:
        port = testing.free_ports(1)[0]
        program = Program([self.BANK, "--port", str(port)])
        self.addCleanup(program.kill)
        doors = []
        while len(doors) < 3:
            doors.append(address_in(program.line("a door at")))
        body = {"id": "t1", "from": "mint", "to": "jane", "amount": 100}
        self.assertEqual(asked_until_answered(doors, "/transfers", body), (200, "done"))
        program.process.send_signal(signal.SIGINT)
        program.wait()

    def test_no_money_is_lost_or_made_while_copies_and_nodes_die(self) -> None:
        with testing.cluster() as cluster:
            client = cluster.client(patience=60)
            self.addCleanup(client.close)
            client.register("bank")
            nodes = ",".join(cluster.addresses)
            ports = [str(port) for port in testing.free_ports(3)]
            doors = [f"http://127.0.0.1:{port}" for port in ports]

            def start(which: int) -> Program:
                more = ["--node", str(cluster.nodes[which].sandbox), "--nodes", nodes]
                return cluster.program([self.BANK, *more, "--port", ports[which]])

            copies = [start(which) for which in range(3)]
            for number in range(4):
                body = {"id": f"m{number}", "from": "mint", "to": f"a{number}", "amount": 1000}
                self.assertEqual(asked_until_answered(doors, "/transfers", body)[1], "done")
            expected = {f"a{number}": 1000 for number in range(4)}
            results: Dict[str, str] = {}
            lock = threading.Lock()

            def pay(who: int) -> None:
                mine = doors[who % 3 :] + doors[: who % 3]
                for number in range(40):
                    source, to, amount = f"a{who}", f"a{(who + 1 + number) % 4}", 7 + number
                    if source == to:
                        continue
                    body = {"id": f"{who}-{number}", "from": source, "to": to, "amount": amount}
                    said = asked_until_answered(mine, "/transfers", body)[1]
                    with lock:
                        results[body["id"]] = said
                        if said == "done":
                            expected[source] -= amount
                            expected[to] += amount

            people = [threading.Thread(target=pay, args=(n,)) for n in range(4)]
            for person in people:
                person.start()
            for which in (0, 1, 2):
                copies[which].kill()
                copies[which] = start(which)
                copies[which].says("a door at")
                cluster.kill((which + 1) % 3)
                cluster.start((which + 1) % 3)
                cluster.wait_until_ready()
            for person in people:
                person.join()
            self.assertEqual(len(results), 4 * 30)
            for said in results.values():
                self.assertTrue(said == "done" or "has not so much" in said, said)

            def shows_it(door: str) -> bool:
                accounts = dict(ask(door + "/accounts")[1])
                accounts.pop("mint", None)
                return accounts == expected

            for door in doors:
                testing.wait_for(f"the same at {door}: {expected}", lambda: shows_it(door))
            self.assertEqual(sum(ask(doors[0] + "/accounts")[1].values()), 0)
            wrong = {"id": "w", "from": "a0", "to": "a1", "amount": 10**9}
            self.assertEqual(asked_until_answered(doors, "/transfers", wrong)[0], 409)
            later = {"id": "l", "from": "mint", "to": "late", "amount": 10**30, "delay": 0.2}
            self.assertEqual(asked_until_answered(doors, "/transfers", later), (200, "later"))

            def is_later() -> bool:
                return bool(ask(doors[0] + "/accounts")[1].get("late") == 10**30)

            testing.wait_for("the later one", is_later)


if __name__ == "__main__":
    unittest.main()
