"""Keeps a program connected: one session after the other, until it is stopped or cannot go on."""

from __future__ import annotations

import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type

from .._codec import dumps, encode
from ..errors import AmritaError, BadValue
from .dial import Dial, Door
from .impulses import Impulses
from .machine import Fresh, Versions
from .session import Fault, Lost, Plan, Said, Session

#: The pause before the connection is made again; doubled with each further time.
PAUSE_SECONDS_MIN = 0.01
PAUSE_SECONDS_MAX = 1.0

#: So often a program may fail at the same input in a row; then it gives up.
FAULTS_MAX = 3

#: So long it is tried again when the node says that another program is attached, or that it has no
#: replica: both may be over in a moment.
REFUSED_SECONDS_MAX = 30.0

#: Where a node is looked for when none is named.
NODE_DEFAULT = (
    "http://127.0.0.1:8001,http://127.0.0.1:8002,http://127.0.0.1:8003,http://127.0.0.1:8000"
)


class RunError(AmritaError):
    """Why a program does not go on: `code` is the node's, or FAULT, or UNREACHABLE."""


def run(
    fresh: Fresh,
    instance: str,
    node: str = NODE_DEFAULT,
    *,
    arguments: Sequence[Any] = (),
    version: int = 0,
    upgrade_to: Optional[Tuple[int, Type[Any]]] = None,
    give_up_after: Optional[float] = None,
    impulses: Optional[Impulses] = None,
    token: Optional[str] = None,
    ca_file: Optional[str] = None,
) -> None:
    """Runs a program until `impulses.stop()`. `fresh` makes the state before the first input.

    `node` is the address of a node, its sandbox, or the socket in it; of several behind commas the
    first is taken that is there. A node that speaks TLS is named by `https://`: `ca_file` is who
    signs its certificate, and `token` is shown to it; without them `AMRITA_CA_FILE` and
    `AMRITA_TOKEN` in the environment say so. `arguments` are what `start` is given at the very first start.
    `version` is that of the state and the code; with `upgrade_to=(2, Two)` the program also has the
    code of the next version: a class whose `upgrade(old)` makes the new state of the old one.
    """
    dial = Dial(node, token, ca_file)
    impulses = impulses or Impulses()
    next_version, following = upgrade_to or (version, None)
    versions = Versions(version, following, next_version)
    worries = _Worries(versions, give_up_after)
    initial = dumps(encode(list(arguments))) if arguments else b""
    while not impulses.is_stopped:
        session = None
        try:
            connected = dial.connect(Door.of_instance(instance))
            plan = Plan(instance, versions, initial, fresh, impulses)
            session = Session(plan, connected)
            session.run()
        except (Lost, Said, Fault) as ended:
            if impulses.is_stopped:
                return
            if isinstance(ended, Said):
                dial.turn_to_the_next()
            caught_up = session is not None and session.caught_up
            impulses._pause(worries.after(ended, caught_up))


def main(
    fresh: Fresh, instance: str, argv: Optional[Sequence[str]] = None, **options: Any
) -> int:
    """The whole main program of an immortal: takes `--node` and `--instance`, and gives the exit
    code. `sys.exit(main(Bank, "bank"))`."""
    try:
        given, rest = parse(sys.argv[1:] if argv is None else argv)
        if rest:
            raise BadValue(f"{rest[0]} is unknown. There are --node URL-OR-SOCKET, --instance NAME")
        run(fresh, given.get("instance", instance), given.get("node", NODE_DEFAULT), **options)
    except KeyboardInterrupt:
        return 130
    except AmritaError as why:
        _tell(str(why))
        return 1
    return 0


def parse(argv: Sequence[str]) -> Tuple[Dict[str, str], List[str]]:
    """`--node` and `--instance`, and the arguments that are left."""
    given: Dict[str, str] = {}
    rest: List[str] = []
    left = list(argv)
    while left:
        one = left.pop(0)
        name, mark, value = one.partition("=")
        if name not in ("--node", "--instance"):
            rest.append(one)
            continue
        if not mark:
            if not left:
                raise BadValue(f"{one} needs a value")
            value = left.pop(0)
        given[name[2:]] = value
    return given, rest


class _Worries:
    """What went wrong lately."""

    def __init__(self, versions: Versions, give_up_after: Optional[float]) -> None:
        self.versions = versions
        self.give_up_after = give_up_after
        self.pause = PAUSE_SECONDS_MIN
        self.since: Optional[float] = None
        self.fault: Tuple[int, int] = (0, 0)
        self.told = ""

    def after(self, ended: Exception, caught_up: bool) -> float:
        """How long to wait before the next session, or an exception: there is none."""
        if caught_up:
            self.pause, self.since, self.told = PAUSE_SECONDS_MIN, None, ""
        if self.since is None:
            self.since = time.monotonic()
        waited = time.monotonic() - self.since
        if isinstance(ended, Fault):
            times = self.fault[1] + 1 if self.fault[0] == ended.input else 1
            self.fault = (ended.input, times)
            if times >= FAULTS_MAX:
                text = f"the program failed {times} times at input {ended.input}: {ended.text}"
                raise RunError(text, code="FAULT")
            _tell(f"failed at input {ended.input}, trying again: {ended.text}")
        elif isinstance(ended, Said):
            self._was_refused(ended, waited)
        elif self.give_up_after is not None and waited >= self.give_up_after:
            raise RunError(str(ended), code="UNREACHABLE")
        else:
            self._tell_once(str(ended))
        pause = self.pause
        self.pause = min(self.pause * 2, PAUSE_SECONDS_MAX)
        return pause

    def _was_refused(self, ended: Said, waited: float) -> None:
        versions = self.versions
        passes = ended.code in ("RELOAD", "STOPPING", "NOT_PRIMARY")
        may_pass = ended.code in ("ATTACHED", "NOT_HERE") and waited < REFUSED_SECONDS_MAX
        if ended.code in ("PROGRAM_VERSION", "UPGRADED") and versions.next is not None:
            # The upgrade is done: this program is the new version, and says so from now on.
            if versions.program != versions.upgrade_to:
                versions.program = versions.upgrade_to
                passes = True
        if not passes and not may_pass:
            raise RunError(f"the node refuses: {ended.code}: {ended.text}", code=ended.code)
        self._tell_once(f"{ended.code}: {ended.text}")

    def _tell_once(self, why: str) -> None:
        if self.told != why:
            self.told = why
            _tell(f"{why}; trying again")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
