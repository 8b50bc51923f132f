"""Immortals at real nodes, with SIGKILL of programs and of nodes."""

import time
import unittest
from typing import Dict, List

from amrita import testing
from amrita.testing import Program

from tests.support import EXAMPLES, HERE

HELLO = str(EXAMPLES / "hello.py")
PROGRAMS = str(HERE / "programs.py")
ROUNDS = 6


class WithNodes(unittest.TestCase):
    def setUp(self) -> None:
        made = testing.cluster()
        self.cluster = made.__enter__()
        self.addCleanup(made.__exit__, None, None, None)
        self.client = self.cluster.client(patience=60)
        self.addCleanup(self.client.close)

    def place(self, which: int) -> str:
        """A node as programs name it: by its sandbox or by its address."""
        node = self.cluster.nodes[which]
        return node.address if which == 0 else str(node.sandbox)

    def start(self, file: str, name: str, which: int, *more: str, **options: object) -> Program:
        arguments = [file, name, "--node", self.place(which), *more]
        return self.cluster.program(arguments, **options)

    def roles(self, instance: str) -> Dict[int, str]:
        """The role of each copy, by the number of its node."""
        shown = self.client.immortal(instance)
        names = [node.name for node in self.cluster.nodes]
        return {names.index(one["node"]): one["role"] for one in shown["replicas"]}

    def all_copies(self, instance: str) -> None:
        def are_there() -> bool:
            return sorted(self.roles(instance).values()) == ["PRIMARY", "STANDBY", "STANDBY"]

        testing.wait_for(f"all copies of {instance}", are_there)

    def primary(self, instance: str) -> int:
        def look() -> object:
            found = [which for which, role in self.roles(instance).items() if role == "PRIMARY"]
            return [found[0]] if found else None

        return testing.wait_for(f"a primary of {instance}", look)[0]  # type: ignore[index]


class Hello(WithNodes):
    def test_client1_is_killed_at_its_prompt_and_the_server_while_it_serves(self) -> None:
        for name in ("server", "client1", "client2", "client3"):
            self.client.register(name)
        servers = [self.start(HELLO, "server", which, "--numbers") for which in range(3)]
        client = self.start(HELLO, "client1", 0)
        client.says("Press enter to continue")
        client.kill()
        client = self.start(HELLO, "client1", 0)
        client.says("Press enter to continue")
        primary = self.primary("server")
        servers[primary].kill()
        client.type()
        client.says("Sent message 3.")
        client.says("Press enter to shutdown")
        # A client without a program does not deliver: so it ends when the server has it.
        alive = servers[(primary + 1) % 3]
        alive.says("#3 ")
        client.type()
        self.assertEqual(client.wait(), 0)
        client = self.start(HELLO, "client2", 1)
        client.says("Enter a message")
        client.type("grüße, 世界")
        client.says("Sending keyboard input grüße, 世界")
        alive.says("#4 ")
        client.type()
        self.assertEqual(client.wait(), 0)
        servers[primary] = self.start(HELLO, "server", primary, "--numbers")
        client = self.start(HELLO, "client3", 2)
        self.assertEqual(client.wait(), 0)
        done = [line for line in client.said if "completed" in line]
        self.assertEqual(len(done), 3, client.said)
        self.assertIn("processing 7 messages", done[-1])
        texts = [f"client1: !! Client: Hello World {n}!" for n in (1, 2, 3)]
        texts += ["client2: grüße, 世界"]
        texts += [f"client3: !! Client: Hello World {n}!" for n in (1, 2, 3)]
        expected = [f"#{number} {text}" for number, text in enumerate(texts, 1)]
        for server in servers:
            server.says("#7 ")
            self.assertEqual([line for line in server.said if line], expected)

    def test_a_client_in_rust_and_a_server_in_python_understand_each_other(self) -> None:
        for name in ("server", "client3"):
            self.client.register(name)
        self.start(HELLO, "server", 0)
        binary = testing.binary()
        arguments = [binary, "example", "hello-client3", "--node", self.place(1)]
        client = self.cluster.program(arguments)
        self.assertEqual(client.wait(), 0)
        self.assertEqual(len([line for line in client.said if "completed" in line]), 3)


class ExactlyOnce(WithNodes):
    def report(self, programs: List[Program], instance: str) -> str:
        """What the copies say of their state: the same."""
        for program in programs:
            program.said.clear()
        self.client.impulse(instance, 9)
        said = {program.says("report") for program in programs}
        self.assertEqual(len(said), 1, said)
        return said.pop()

    def test_calls_timers_and_effects_while_programs_and_nodes_die(self) -> None:
        for name in ("counter", "caller"):
            self.client.register(name)
        programs = {
            (name, which): self.start(PROGRAMS, name.capitalize(), which)
            for name in ("counter", "caller")
            for which in range(3)
        }
        self.primary("caller")
        for number in range(ROUNDS):
            time.sleep(0.5)
            for name in ("counter", "caller"):
                victim = self.primary(name)
                # So that what a copy waits for comes out of a checkpoint, too.
                self.client.request("POST", f"/core/immortals/{name}/checkpoint")
                time.sleep(0.1)
                programs[name, victim].kill()
                time.sleep(0.1)
                programs[name, victim] = self.start(PROGRAMS, name.capitalize(), victim)
            node = number % 3
            self.cluster.kill(node)
            time.sleep(0.3)
            self.cluster.start(node)
            self.cluster.wait_until_ready()
        self.client.impulse("caller", 8)
        self.all_copies("caller")
        self.all_copies("counter")
        time.sleep(0.5)
        callers = [programs["caller", which] for which in range(3)]
        counters = [programs["counter", which] for which in range(3)]
        words = self.report(callers, "caller").split()
        sent, answered, effects, wrong = (int(words[at]) for at in (2, 4, 6, 8))
        self.assertEqual((answered, wrong), (sent, 0))
        self.assertGreater(sent, 100, "it was hardly tried")
        self.assertGreaterEqual(effects, sent // 20 - sent // 100 - 1)
        said = self.report(counters, "counter")
        self.assertEqual(said, f"report {{'caller': {sent}}} wrong []")
        for program in programs.values():
            program.kill()

    def impulse(self, number: int) -> None:
        """While the primary's program has just died, an owner may say that no program is attached:
        surely not logged."""

        def hand_in() -> int:
            key = f"number-{number}"
            return self.client.impulse("counter", 1, [number], sender="me", key=key)

        testing.wait_for(f"impulse {number} to be logged", hand_in)

    def test_impulses_from_outside_while_everything_dies(self) -> None:
        self.client.register("counter")
        programs = [self.start(PROGRAMS, "Counter", which) for which in range(3)]
        self.primary("counter")
        for number in range(1, 121):
            self.impulse(number)
            if number % 20 == 0:
                victim = self.primary("counter")
                programs[victim].kill()
                programs[victim] = self.start(PROGRAMS, "Counter", victim)
            if number % 40 == 10:
                # Two copies must be there when a node goes.
                self.all_copies("counter")
                node = number // 40
                self.cluster.kill(node)
                self.cluster.start(node)
            if number % 20 == 19:
                self.all_copies("counter")
        self.all_copies("counter")
        said = self.report(programs, "counter")
        self.assertEqual(said, "report {'client/me': 120} wrong []")


class BadDays(WithNodes):
    def test_a_program_that_fails_at_an_input_goes_on_when_it_is_mended(self) -> None:
        self.client.register("faulty", replicas=1)
        [which] = self.roles("faulty")
        program = self.start(PROGRAMS, "Faulty", which)
        self.primary("faulty")
        self.client.impulse("faulty", 1, ["a"])
        self.client.impulse("faulty", 1, ["bomb"])
        program.says("failed 3 times at input 3")
        self.assertEqual(program.wait(), 1)
        held = self.client.request("POST", "/core/immortals/faulty/release")
        self.assertIn(held.status, (200, 409))
        mended = self.start(PROGRAMS, "Faulty", which, env={"DEFUSED": "1"})
        mended.says("seen 2")
        self.client.impulse("faulty", 1, ["b"])
        mended.says("seen 3")

    def test_a_program_is_upgraded_in_its_place_in_the_log(self) -> None:
        self.client.register("one", currentVersion=1)
        programs = [self.start(PROGRAMS, "One", which) for which in range(3)]
        self.primary("one")
        self.client.impulse("one", 1, [3])
        programs[0].says("one 3")
        answer = self.client.request("PATCH", "/core/immortals/one", {"upgradeVersion": 2})
        self.assertEqual(answer.status, 200, answer.body)

        def is_upgraded() -> bool:
            copies = self.client.immortal("one")["replicas"]
            return [copy.get("programVersion") for copy in copies] == [2, 2, 2]

        testing.wait_for("version 2", is_upgraded)
        for program in programs:
            program.says("two later 3")
        self.client.impulse("one", 1, [4])
        for program in programs:
            program.says("two 700")
        # Whoever comes back is the new version, too.
        self.client.request("POST", "/core/immortals/one/checkpoint")
        programs[1].kill()
        again = self.start(PROGRAMS, "One", 1)
        # Otherwise the checkpoint may be later than the impulse, which is then not handled again.
        again.says("PROGRAM_VERSION")
        self.all_copies("one")
        self.client.impulse("one", 1, [1])
        again.says("two 800")

    def test_who_is_not_registered_is_told_so(self) -> None:
        for which in (0, 1):
            program = self.start(PROGRAMS, "Counter", which)
            self.assertEqual(program.wait(), 1)
            program.says("UNKNOWN_INSTANCE")


if __name__ == "__main__":
    unittest.main()
