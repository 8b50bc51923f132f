#!/usr/bin/env python3
"""Books seats: the rules are in this program, the seats are in the cluster.

    amrita up                                                         # three nodes
    python3 booking.py --node http://127.0.0.1:8001                   # as many of these as you like

    curl localhost:8001/app/booking -d '{"documentSelfLink": "A1", "row": "A"}'
    curl localhost:8002/app/booking/A1/actions/hold -d '{"who": "jane", "seconds": 60}'
    curl localhost:8003/app/booking/A1/actions/book -d '{"who": "jane"}'

A seat is held for a while by whoever wants it, and booked by who holds it. Kill a copy, or a node,
at any moment: another one takes over, and no seat is booked twice.
"""

import sys
from dataclasses import dataclass, field
from typing import Optional

from amrita.service import Call, Refusal, Service


@dataclass
class Seat:
    row: str = field(metadata={"readOnly": True, "pattern": "^[A-Z]$"})
    held_by: Optional[str] = None
    #: Seconds since 1970.
    held_until: float = 0
    booked_by: Optional[str] = None

    def is_held(self, call: Call) -> bool:
        return self.held_by is not None and call.time < self.held_until


seats = Service("/app/booking", Seat, version="1")


@seats.create
def create(call: Call, seat: Seat) -> None:
    if seat.held_by or seat.booked_by:
        raise Refusal("a new seat is free: nobody holds it or has booked it", 400)


@seats.action
def hold(call: Call, seat: Seat, who: str, seconds: float = 60) -> None:
    if seat.booked_by:
        raise Refusal(f"{call.name} is booked")
    if seat.is_held(call) and seat.held_by != who:
        raise Refusal(f"{call.name} is held by somebody else")
    seat.held_by, seat.held_until = who, call.time + seconds


@seats.action
def book(call: Call, seat: Seat, who: str) -> None:
    if seat.booked_by:
        raise Refusal(f"{call.name} is booked")
    if not seat.is_held(call) or seat.held_by != who:
        raise Refusal(f"{call.name} is not held by {who} (any more)")
    seat.booked_by, seat.held_by, seat.held_until = who, None, 0


@seats.delete
def delete(call: Call, seat: Seat) -> None:
    if seat.booked_by:
        raise Refusal(f"{call.name} is booked: nobody may take it away")


if __name__ == "__main__":
    sys.exit(seats.main())
