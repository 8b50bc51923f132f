"""Retries: which writes get a key, what is repeated, and what is said of the outcome. The nodes are
scripts."""

import contextlib
import io
import socket
import traceback
import unittest
from typing import Any

import amrita
from amrita._http import Request
from amrita._keys import are_taken_by

from .support import BREAK, SILENCE, Scripted as Node

DONE = (200, {"documentSelfLink": "/core/examples/a"})
NO_OWNER = (503, {"code": "NO_OWNER", "outcome": "notApplied"})
UNKNOWN = (503, {"code": "NO_OWNER", "outcome": "unknown"})


class Retries(unittest.TestCase):
    def client(self, *nodes: Node, **options: Any) -> amrita.Client:
        for node in nodes:
            self.addCleanup(node.listener.close)
        made = amrita.Client([node.address for node in nodes], **{"patience": 3, **options})
        self.addCleanup(made.close)
        return made

    def test_which_writes_take_a_key(self) -> None:
        direct = b'{"taskInfo":{"isDirect":true}}'
        for path, body, takes in [
            ("/core/examples", b"{}", True),
            ("/core/examples/immortals", b"{}", True),
            ("/core/immortals", b"{}", False),
            ("/core/immortals/a", b"{}", False),
            ("/core/immortals/a/skip", b"{}", False),
            ("/core/immortals/a/impulses", b"{}", True),
            ("/core/immortalsx", b"{}", True),
            ("/core/node-selectors/default", b"{}", False),
            ("/core/sql", b"{}", False),
            ("/core/node-selectors/default/forwarding", b"{}", True),
            (
                "/core/node-selectors/default/forwarding?target=ALL",
                b'{"taskInfo": {"isDirect": true}, "querySpec": {}}',
                False,
            ),
            ("/core/auth/tokens", b"{}", False),
            ("/core/auth/join-tokens/", b"{}", False),
            ("/core/auth/tokens/one", b"{}", True),
            ("/core/ambrosia/cra/AmbrosiaBinaries/a-a0", b"{}", False),
            ("/core/node-groups/default", b"{}", False),
            ("/core/authz/can-i", b"{}", False),
            ("/core/authz/roles", b"{}", True),
            ("/core/query-tasks", b"{}", True),
            ("/core/query-tasks", direct, False),
            ("/core/local-query-tasks/", direct, False),
            ("/core/examples", direct, True),
            ("/core/immortals/impulses", b"{}", False),
            ("/core/immortals/impulses/impulses", b"{}", True),
            ("/core/immortals/config/impulses", b"{}", True),
            ("/core/examples/config", b"{}", False),
            ("/core/examples/one/stats", b"{}", False),
        ]:
            self.assertEqual(are_taken_by(Request("POST", path, body)), takes, (path, body))

    def test_a_write_is_repeated_at_the_next_node_under_the_same_key(self) -> None:
        first, second = Node(BREAK, DONE), Node(DONE)
        client = self.client(first, second)
        client.create("/core/examples", {})
        self.assertEqual((len(first.asked), len(second.asked)), (1, 1))
        self.assertIsNotNone(first.keys()[0])
        self.assertEqual(first.keys(), second.keys())

    def test_the_next_write_has_another_key(self) -> None:
        node = Node(DONE, DONE)
        client = self.client(node)
        client.create("/core/examples", {})
        client.create("/core/examples", {})
        self.assertEqual(len(set(node.keys())), 2)

    def test_a_node_that_asks_for_it_is_asked_again(self) -> None:
        node = Node(NO_OWNER, NO_OWNER, DONE)
        self.client(node).create("/core/examples", {})
        self.assertEqual(len(node.asked), 3)

    def test_without_keys_what_may_have_happened_is_not_repeated(self) -> None:
        node = Node(BREAK, DONE)
        with self.assertRaises(amrita.Unreachable) as caught:
            self.client(node, keys=False).create("/core/examples", {})
        self.assertEqual((caught.exception.outcome, len(node.asked)), ("unknown", 1))
        node = Node(NO_OWNER, DONE)
        self.client(node, keys=False).create("/core/examples", {})
        self.assertEqual(node.keys(), [None, None])

    def test_a_no_of_one_node_does_not_hide_that_another_may_have_done_it(self) -> None:
        nodes = Node(BREAK, *[NO_OWNER] * 99), Node(*[NO_OWNER] * 99)
        with self.assertRaises(amrita.Refused) as caught:
            self.client(*nodes, patience=0.3).create("/core/examples", {})
        found = caught.exception
        self.assertEqual((found.code, found.outcome), ("NO_OWNER", "unknown"))
        self.assertIn("may have happened", str(found))

    def test_a_nodes_own_unknown_is_not_taken_back_by_a_later_no(self) -> None:
        with self.assertRaises(amrita.Refused) as caught:
            self.client(Node(UNKNOWN, *[NO_OWNER] * 99), patience=0.3).create("/core/examples", {})
        self.assertEqual(caught.exception.outcome, "unknown")

    def test_an_answer_that_did_not_look_for_the_key_settles_nothing(self) -> None:
        for status, code, outcome in [
            (403, "ACCESS_DENIED", "unknown"),
            (503, "QUORUM_NOT_MET", "unknown"),
            (422, "KEY_REUSED", "unknown"),
            (412, "PRECONDITION_FAILED", "notApplied"),
        ]:
            body = {"code": code, "outcome": "notApplied", "message": "no"}
            client = self.client(Node(BREAK, (status, body), BREAK, (status, body)))
            with self.assertRaises(amrita.Refused) as caught:
                client.patch("/core/examples/a", {"n": 1})
            found = caught.exception
            told = (found.code, found.outcome, found.body["outcome"])
            self.assertEqual(told, (code, outcome, outcome))
            answer = client.request("PATCH", "/core/examples/a", {"n": 1})
            self.assertEqual((answer.outcome, answer.body["outcome"]), (outcome, outcome))

    def test_an_error_that_is_not_a_nodes_tells_nothing_of_a_write(self) -> None:
        for status in (502, 307):
            with self.assertRaises(amrita.Refused) as caught:
                self.client(Node((status, "no node"))).create("/core/examples", {})
            self.assertEqual(caught.exception.outcome, "unknown")

    def test_without_a_key_a_later_answer_settles_nothing(self) -> None:
        there = {"code": "ALREADY_EXISTS", "outcome": "notApplied"}
        node = Node(BREAK, (409, there))
        with self.assertRaises(amrita.AlreadyExists) as caught:
            self.client(node).register("a")
        self.assertEqual((caught.exception.outcome, node.keys()), ("unknown", [None, None]))

    def test_an_impulse_waits_for_a_program_under_one_key(self) -> None:
        refused = (409, {"code": "REFUSED", "outcome": "notApplied"})
        shown = (200, {"replicas": [{"role": "STANDBY"}]})
        node = Node(refused, shown, refused, shown, (200, {"input": 3}))
        self.assertEqual(self.client(node).impulse("till", 1, [5]), 3)
        keys = [key for key in node.keys() if key is not None]
        self.assertEqual((len(keys), len(set(keys))), (3, 1))
        held = Node(refused, (200, {"replicas": [{"role": "HELD"}]}))
        with self.assertRaises(amrita.Refused):
            self.client(held).impulse("till", 1, [5])

    def test_what_concerns_one_node_is_not_asked_of_the_next_one_too(self) -> None:
        first, second = Node(BREAK), Node(DONE)
        with self.assertRaises(amrita.Unreachable) as caught:
            self.client(first, second).request("DELETE", "/core/management")
        self.assertEqual((caught.exception.outcome, second.asked), ("unknown", []))

    def test_a_node_that_accepts_and_says_nothing_is_passed_over(self) -> None:
        silent, second = Node(SILENCE), Node(DONE)
        self.client(silent, second, patience=2).create("/core/examples", {})
        self.assertEqual(silent.keys(), second.keys())

    def test_what_a_node_that_is_not_there_did_is_known(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            address = "http://127.0.0.1:%d" % gone.getsockname()[1]
        with self.assertRaises(amrita.Unreachable) as caught:
            amrita.Client(address, patience=0.2).create("/core/examples", {})
        self.assertEqual(caught.exception.outcome, "notApplied")

    def test_a_nodes_own_words_are_what_is_told(self) -> None:
        for word, outcome in [(NO_OWNER, "notApplied"), (UNKNOWN, "unknown")]:
            with self.assertRaises(amrita.Refused) as caught:
                self.client(Node(*[word] * 99), patience=0.2).create("/core/examples", {})
            found = caught.exception
            self.assertEqual((found.code, found.outcome), ("NO_OWNER", outcome))

    def test_an_error_is_an_exception_of_its_kind(self) -> None:
        body = {"code": "PRECONDITION_FAILED", "message": "read it again", "outcome": "notApplied"}
        with self.assertRaises(amrita.PreconditionFailed) as caught:
            self.client(Node((412, body))).patch("/core/examples/a", {}, if_match='"1.0.0"')
        self.assertEqual(caught.exception.message, "read it again")
        with self.assertRaises(amrita.LoginNeeded):
            self.client(Node((401, {}))).get("/core/examples/a")

    def test_a_silent_node_does_not_hold_up_a_read_for_ever(self) -> None:
        with self.assertRaises(amrita.Unreachable) as caught:
            self.client(Node(SILENCE), patience=0.2).get("/core/examples/a")
        self.assertIsNone(caught.exception.outcome)

    def test_what_cannot_be_sent_is_refused(self) -> None:
        client = self.client(Node())
        for wrong in (
            lambda: client.get("core/examples"),
            lambda: client.create("/core/examples", {"n": float("nan")}),
            lambda: client.create("/core/examples", {}, key="a\r\nhost: b"),
            lambda: client.create("/core/examples", [1]),
            lambda: amrita.Client("ftp://x"),
            lambda: amrita.Client([]),
        ):
            with self.assertRaises(amrita.BadValue):
                wrong()

    def test_a_name_that_is_a_utilitys_or_would_lead_elsewhere_is_refused(self) -> None:
        node = Node()
        client = self.client(node)
        seats = client.kind("/app/seats")
        for name in ("config", "stats", "template", "available", "subscriptions", "ui"):
            for ask in (seats.get, seats.delete, seats.get_or_none):
                with self.assertRaisesRegex(amrita.BadValue, f"can have the name '{name}'"):
                    ask(name)
            with self.assertRaises(amrita.BadValue):
                client.patch(f"/app/seats/{name}", {"n": 1})
        for name in ("", "..", "A1/config", "A1?documentVersion=0", "a b", "a#b", "50%", "a\n"):
            for call in (seats.get, client.immortal, lambda it: client.impulse(it, 1)):
                with self.assertRaises(amrita.BadValue):
                    call(name)
        self.assertEqual(node.asked, [])

    def test_a_none_that_a_node_would_pass_over_is_refused(self) -> None:
        node = Node(DONE)
        client = self.client(node)
        with self.assertRaisesRegex(amrita.BadValue, "'holder' is None.*merge=True"):
            client.patch("/core/examples/a", {"n": 1, "holder": None})
        self.assertEqual(node.asked, [])
        client.patch("/core/examples/a", {"holder": None}, merge=True)

    def test_a_login_is_in_no_error_and_in_no_representation(self) -> None:
        redirected, elsewhere = Node((307, {})), Node(DONE)
        client = self.client(redirected, token="hush-hush")
        with self.assertRaises(amrita.Refused) as caught:
            client.get("/core/examples/a")
        self.assertEqual(elsewhere.asked, [])
        said = [repr(client), repr(vars(client)), repr(caught.exception), str(caught.exception)]
        said.append(repr(Request("GET", "/a", headers={"authorization": "Bearer hush"})))
        node = Node((200, {"authToken": "hush"}))
        said.append(repr(self.client(node).request("POST", "/core/authn/basic", {})))
        for address in ("http://ann:hush@host:1", "http://:hush@host", "ann:hush@host:x"):
            with self.assertRaises(amrita.BadValue) as refused:
                amrita.Client(address)
            said.append(str(refused.exception))
        with self.assertRaises(amrita.BadValue) as refused:
            self.client(Node(), token="hush\u20ac").get("/core/examples/a")
        written = io.StringIO()
        with contextlib.redirect_stderr(written):
            traceback.print_exception(None, refused.exception, refused.exception.__traceback__)
        causes = [refused.exception.__cause__, refused.exception.__context__]
        said += [written.getvalue(), repr([vars(one) for one in causes if one]), repr(causes)]
        self.assertNotIn("hush", "\n".join(said))

    def test_a_login_shows_the_password_in_no_other_request(self) -> None:
        class Watching(Node):
            """While a login is on its way, another request of the same client is made."""

            def answer(self, word: Any) -> bytes:
                if len(self.asked) == 1:
                    client.get("/core/examples/a")
                return super().answer(word)

        node = Watching((200, {}), DONE)
        client = self.client(node, token="mine")
        with self.assertRaisesRegex(amrita.AmritaError, "given no token"):
            client.login("ann", "secret")
        shown = [headers.get("authorization", "") for _, headers in node.asked]
        self.assertTrue(shown[0].startswith("Basic "))
        self.assertEqual(shown[1], "Bearer mine")
