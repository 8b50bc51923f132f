"""Retries: which writes get a key, what is repeated, and what is said of the outcome. The nodes are
scripts."""

import json
import socket
import threading
import unittest
from typing import Any, Dict, List, Optional, Tuple

import amrita
from amrita._http import Request
from amrita._keys import are_taken_by

BREAK, SILENCE = object(), object()


class Node:
    """Answers each request with the next word of its script: a status and a body, or an end of the
    connection after the request was read."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: List[Tuple[str, Dict[str, str]]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connected, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connected,), daemon=True).start()

    def _talk(self, connected: socket.socket) -> None:
        with connected, connected.makefile("rb") as file:
            while True:
                line = file.readline()
                if not line:
                    return
                headers = {}
                for header in iter(file.readline, b"\r\n"):
                    name, _, value = header.decode().partition(":")
                    headers[name] = value.strip()
                file.read(int(headers.get("content-length", 0)))
                self.asked.append((line.decode().strip(), headers))
                word = self.script.pop(0)
                if word is BREAK:
                    return
                if word is SILENCE:
                    threading.Event().wait(30)
                    return
                status, body = word
                data = json.dumps(body).encode()
                head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode()
                connected.sendall(head + data)

    def keys(self) -> List[Optional[str]]:
        return [headers.get("idempotency-key") for _, headers in self.asked]


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
            ("/core/node-groups/default", b"{}", False),
            ("/core/authz/can-i", b"{}", False),
            ("/core/authz/roles", b"{}", True),
            ("/core/query-tasks", b"{}", True),
            ("/core/query-tasks", direct, False),
            ("/core/local-query-tasks/", direct, False),
            ("/core/examples", direct, True),
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
        with self.assertRaises(amrita.Unreachable) as caught:
            self.client(*nodes, patience=0.3).create("/core/examples", {})
        self.assertEqual(caught.exception.outcome, "unknown")

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
