#!/usr/bin/env python3
"""Books seats. Who wants one holds it first; a hold goes by itself after a while.

    python3 seats.py                                          # with three nodes of its own
    python3 seats.py --nodes http://127.0.0.1:8001,http://127.0.0.1:8002 --port 9000

    curl localhost:9000/hold -d '{"seat": "A1", "who": "jane"}'
    curl localhost:9000/book -d '{"seat": "A1", "who": "jane"}'
    curl localhost:9000/seats

A seat and a hold are documents of two kinds, defined when the program starts. The name of a hold
is that of its seat, so there is one at most; nobody has to remove it, because it expires. The
program keeps nothing: kill it and start it again, or start two of them. Each can be killed at any
moment, and so can the nodes.
"""

import argparse
import contextlib
import json
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Optional

import amrita
import amrita.testing


@dataclass
class Seat:
    row: str
    booked_by: Optional[str] = None


@dataclass
class Hold:
    who: str


class Hall:
    def __init__(self, client: amrita.Client, hold_seconds: int) -> None:
        self.client = client
        self.seats = client.kind("/app/hall/seats", Seat).define()
        self.holds = client.kind("/app/hall/holds", Hold, expiresAfterSeconds=hold_seconds).define()

    def build(self, rows: str, count: int) -> None:
        """Makes the seats that are not there yet."""
        for row in rows:
            for number in range(1, count + 1):
                with contextlib.suppress(amrita.AlreadyExists):
                    self.seats.create(Seat(row), name=f"{row}{number}")

    def hold(self, seat: str, who: str) -> str:
        if self.seats.get(seat).value.booked_by is not None:
            return f"{seat} is booked"
        try:
            # The first who makes it has it; `revive`, because an earlier one may have been deleted.
            self.holds.create(Hold(who), name=seat, revive=True)
        except amrita.AlreadyExists:
            hold = self.holds.get_or_none(seat)
            if hold is None or hold.value.who != who:
                return f"{seat} is held by somebody else"
        return "ok"

    def book(self, seat: str, who: str) -> str:
        found = self.seats.get(seat)
        if found.value.booked_by is not None:
            # Asked once more, because the first answer was lost: it is theirs.
            return "ok" if found.value.booked_by == who else f"{seat} is booked"
        hold = self.holds.get_or_none(seat)
        if hold is None or hold.value.who != who:
            return f"{seat} is not held by {who} (any more)"
        try:
            # Only if nobody has booked it since it was read: whatever happens, it is booked once.
            self.seats.patch(seat, {"booked_by": who}, if_match=found)
        except amrita.PreconditionFailed:
            return self.book(seat, who)
        self.holds.delete(seat)
        return "ok"

    def show(self) -> Dict[str, str]:
        board = {seat.name: seat.value.booked_by or "free" for seat in self.seats.documents()}
        for hold in self.holds.documents():
            if board.get(hold.name) == "free":
                board[hold.name] = "held"
        return dict(sorted(board.items()))

    def tell(self) -> None:
        """Says what happens, whichever program did it."""
        feed = self.client.watch(prefix="/app/hall/")
        print("watching", flush=True)
        while True:
            try:
                for change in feed:
                    self.tell_one(change)
            except amrita.ChangesGone:
                # It was cut off for too long to know what was meanwhile.
                feed = self.client.watch(prefix="/app/hall/")
            except amrita.AmritaError as why:
                print(f"no changes at the moment: {why}", flush=True)
                time.sleep(1)

    @staticmethod
    def tell_one(change: "amrita.Change[Any]") -> None:
        name, state = change.document.name, change.document.value
        if change.link.startswith("/app/hall/holds/"):
            if change.action == "EXPIRE":
                print(f"{name}: the hold of {state['who']} is over", flush=True)
            elif not change.is_gone:
                print(f"{name}: held by {state['who']}", flush=True)
        elif state.get("booked_by"):
            print(f"{name}: booked by {state['booked_by']}", flush=True)


def handler_of(hall: Hall) -> type:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(lambda: hall.show())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            work = {"/hold": hall.hold, "/book": hall.book}[self.path]
            self.answer(lambda: work(body["seat"], body["who"]))

        def answer(self, work: Any) -> None:
            try:
                said = work()
                status = 200 if said == "ok" or isinstance(said, dict) else 409
            except amrita.NotFound as why:
                status, said = 404, why.message
            except amrita.AmritaError as why:
                status, said = 503, str(why)
            data = json.dumps(said).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """The feed says what happens."""

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description="Books seats.")
    parser.add_argument("--nodes", help="addresses of nodes; without it three are started")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--hold-seconds", type=int, default=120)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        nodes = options.nodes
        if nodes is None:
            cluster = stack.enter_context(amrita.testing.cluster())
            nodes = ",".join(cluster.addresses)
            print(f"three nodes: {nodes}", flush=True)
        hall = Hall(amrita.Client(nodes), options.hold_seconds)
        hall.build("AB", 5)
        threading.Thread(target=hall.tell, daemon=True).start()
        server = ThreadingHTTPServer(("127.0.0.1", options.port), handler_of(hall))
        print(f"serving at http://127.0.0.1:{server.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
