#!/usr/bin/env python3
"""A bank's ledger that does not die, and an HTTP door at each copy of it.

    python3 bank.py                       # with three nodes and three copies of its own

    curl localhost:9001/transfers -d '{"id": "t1", "from": "mint", "to": "jane", "amount": 100}'
    curl localhost:9002/transfers -d '{"id": "t2", "from": "jane", "to": "joe", "amount": 30}'
    curl localhost:9003/accounts

To have it with nodes of your own: `amrita immortal register bank`, and beside each node

    python3 bank.py --node http://127.0.0.1:8001 --port 9001

The ledger is an immortal: each transfer is logged on a quorum before any copy sees it, and every
copy handles all of them in the same order. There is no line about failures in it. A door hands a
transfer in as an impulse with the transfer's id as its key, and answers when its own copy has
handled it. Who got no answer sends the same transfer again, to any door: it is done once.
"""

import argparse
import contextlib
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Optional

import amrita
import amrita.testing
from amrita import immortal
from amrita.immortal import Context, Immortal, Rejected, method

#: So many results of transfers are remembered for those who ask again.
RESULTS_MAX = 10_000

#: How long a door waits for its own copy.
HANDLED_SECONDS_MAX = 10.0


class Window:
    """Through it the door of this process looks at the ledger. No part of the state."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.ledger: Optional["Bank"] = None

    def show(self, ledger: "Bank") -> None:
        with self.changed:
            self.ledger = ledger
            self.changed.notify_all()

    def result_of(self, transfer: str) -> str:
        with self.changed:
            known = lambda: self.ledger is not None and transfer in self.ledger.results
            if not self.changed.wait_for(known, HANDLED_SECONDS_MAX):
                raise amrita.AmritaError("logged, and not handled here yet: ask again")
            assert self.ledger is not None
            return self.ledger.results[transfer]


WINDOW = Window()


@dataclass
class Bank(Immortal):
    """Accounts, and what became of each transfer. `mint` makes the money, so all is always 0."""

    accounts: Dict[str, int] = field(default_factory=dict)
    results: Dict[str, str] = field(default_factory=dict)

    @method(1)
    def transfer(
        self, context: Context, id: str, source: str, to: str, amount: int, delay: float = 0
    ) -> None:
        if id in self.results:
            return
        if delay > 0:
            self.tell(id, "later")
            context.after(delay, then=self.due, id=id, source=source, to=to, amount=amount)
        else:
            self.due(context, id, source, to, amount)

    def due(self, context: Context, id: str, source: str, to: str, amount: int) -> None:
        try:
            self.move(source, to, amount)
            self.tell(id, "done")
        except Rejected as why:
            self.tell(id, str(why))

    def move(self, source: str, to: str, amount: int) -> None:
        if amount <= 0:
            raise Rejected("an amount is above 0")
        if source != "mint" and self.accounts.get(source, 0) < amount:
            raise Rejected(f"{source} has not so much")
        self.accounts[source] = self.accounts.get(source, 0) - amount
        self.accounts[to] = self.accounts.get(to, 0) + amount

    def tell(self, id: str, result: str) -> None:
        self.results[id] = result
        if len(self.results) > RESULTS_MAX:
            del self.results[next(iter(self.results))]
        WINDOW.show(self)

    @method(2)
    def balance(self, context: Context, account: str) -> int:
        """For other immortals."""
        return self.accounts.get(account, 0)

    def loaded(self) -> None:
        WINDOW.show(self)


def handler_of(client: amrita.Client, instance: str) -> type:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ledger = WINDOW.ledger
            self.answer(200, dict(ledger.accounts) if ledger else {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            arguments = [body["id"], body["from"], body["to"], body["amount"], body.get("delay", 0)]
            try:
                client.impulse(instance, 1, arguments, sender="door", key=body["id"])
                result = WINDOW.result_of(body["id"])
                self.answer(200 if result in ("done", "later") else 409, result)
            except amrita.AmritaError as why:
                self.answer(503, str(why))

        def answer(self, status: int, said: Any) -> None:
            data = json.dumps(said).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """One line for each request is too much."""

    return Handler


def serve(node: str, nodes: str, instance: str, port: int) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", port), handler_of(amrita.Client(nodes), instance))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"a door at http://127.0.0.1:{server.server_port}", flush=True)
    immortal.run(Bank, instance, node)


def main() -> None:
    parser = argparse.ArgumentParser(description="A bank's ledger that does not die.")
    parser.add_argument("--node", help="the node beside it; without it three are started")
    parser.add_argument("--nodes", help="all nodes, for the door; without it the node beside it")
    parser.add_argument("--instance", default="bank")
    parser.add_argument("--port", type=int, default=9001)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        if options.node is not None:
            nodes = options.nodes or options.node
            return serve(options.node, nodes, options.instance, options.port)
        with amrita.testing.cluster() as cluster:
            cluster.client().register(options.instance)
            nodes = ",".join(cluster.addresses)
            for number, node in enumerate(cluster.nodes):
                more = ["--nodes", nodes, "--instance", options.instance]
                port = str(options.port + number)
                copy = cluster.program([__file__, "--node", node.address, "--port", port, *more])
                print(copy.line("a door at"), "process", copy.process.pid, flush=True)
            while True:
                time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
