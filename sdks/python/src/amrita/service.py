"""The handlers of a kind of documents, in a program of your own beside the nodes.

    @dataclass
    class Seat:
        row: str
        held_by: Optional[str] = None

    seats = Service("/app/seats", Seat)

    @seats.action
    def hold(call: Call, seat: Seat, who: str) -> None:
        if seat.held_by not in (None, who):
            raise Refusal(f"it is held by {seat.held_by}")
        seat.held_by = who

    if __name__ == "__main__":
        sys.exit(seats.main())

`POST /app/seats/A1/actions/hold {"who": "jane"}` calls `hold`; what the seat is afterwards is
written. Start as many copies as you like, beside any nodes: each call goes to one of them. A copy
may be killed at any moment: a call that it had goes to another one, and nothing is written twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import re
import signal
import socket
import sys
import threading
import time
import traceback
import typing
from typing import Any, Callable, Dict, Generic, List, Optional, Sequence, TypeVar, cast

from . import _service_frames as frames
from ._codec import decode, dumps, kept, loads, state_of
from ._names import checked_link, checked_name
from ._service_frames import CallFrame
from ._threads import Threads, still_there
from .client import Client
from .errors import AmritaError, BadValue, OlderDefinition
from .immortal.dial import Dial, Door, from_environment
from .immortal.frames import Garbled
from .immortal.runner import NODE_DEFAULT, RunError
from .immortal.session import Frames, Link, Lost, Said

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: The pause before a connection is made again; doubled with each further time.
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.01, 1.0

#: What a node says that does not know the kind: it may be defined in a moment.
UNDEFINED_SECONDS_MAX = 30.0

#: So long a program that leaves waits for its handlers.
LEAVE_SECONDS_MAX = 10.0

#: The version of a program that is that of its definition as well.
_NUMBERS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")

#: What a node says when it lets a program go that may come again.
_PASSING = ("STOPPING", "RELOAD", "BUSY", "SILENT", "LATE")


class Refusal(Exception):
    """Raised by a handler that says no: nothing is written, and the client is told why. `status` is
    400, 403, 404 or 409."""

    def __init__(self, message: str, status: int = 409) -> None:
        super().__init__(message)
        if status not in (400, 403, 404, 409):
            raise ValueError(f"a refusal has the status 400, 403, 404 or 409, not {status}")
        self.message, self.status = message, status


@dataclasses.dataclass(frozen=True)
class Call:
    """What a handler is told beside the states."""

    #: The document.
    link: str
    #: The version that is being made.
    version: int
    #: Microseconds since 1970, by the clock of the document's owner.
    time_micros: int
    #: The link of the user on whose behalf it is; empty if it is not known who asks.
    user: str
    #: What the client has sent with a PATCH or to an action.
    body: Dict[str, Any]
    _messages: List[frames.Message] = dataclasses.field(
        default_factory=list, repr=False, compare=False
    )

    @property
    def name(self) -> str:
        return self.link.rsplit("/", 1)[1]

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return self.time_micros / 1e6

    def fork(self, to: str, number: int, payload: bytes) -> None:
        """Sends a message to an immortal, mostly by `Ledger.at("ledger").pay(5).fork(call)`. It is
        part of the version: it comes to the immortal once if the version is written, and not at all
        if it is not."""
        checked_name(to)
        self._messages.append(frames.Message(to, number, payload))


class Service(Generic[T]):
    """The handlers of the kind at a link. `type_` is a dataclass, or `dict`; `version` is that of
    the program, for people, and if it is numbers ("2.1") also that of the definition: an older copy
    that is started again does not take the definition back. `calls_max` is how many handlers run at
    a time, each in a thread; more of the `definition` is what `Client.define` takes
    (`expiresAfterSeconds=60`)."""

    def __init__(
        self,
        link: str,
        type_: Any,
        *,
        version: str = "",
        calls_max: int = 8,
        **definition: Any,
    ) -> None:
        self.link, self.type = checked_link(link), type_
        self.version, self.calls_max, self.definition = version, calls_max, definition
        self._handlers: Dict[str, Callable[..., Any]] = {}
        self._actions: Dict[str, "_Action"] = {}
        self._stop = threading.Event()
        self._running: Optional[_Connection] = None
        #: The threads of connections that have ended, while a handler is still busy there.
        self._left: List[Threads] = []

    # What a program writes.

    def create(self, function: F) -> F:
        """`f(call, new)`: a document is made. What `f` gives is written; without that, `new`."""
        return self._handler("create", function)

    def put(self, function: F) -> F:
        """`f(call, before, new)`: a whole new state."""
        return self._handler("put", function)

    def patch(self, function: F) -> F:
        """`f(call, before, new)`: a change; `new` is the state with the change in it."""
        return self._handler("patch", function)

    def delete(self, function: F) -> F:
        """`f(call, before)`: the document is about to be deleted."""
        return self._handler("delete", function)

    def action(self, function: F) -> F:
        """`f(call, state, ...)`: POST to `LINK/actions/NAME`. The further arguments are the fields
        of the body. What `f` gives is written; without that, `state`."""
        name = function.__name__
        if name in self._actions:
            raise TypeError(f"{self.link} has the action {name} twice")
        self._actions[name] = _Action(function)
        return function

    def _handler(self, name: str, function: F) -> F:
        if name in self._handlers:
            raise TypeError(f"{self.link} has two handlers of {name}")
        self._handlers[name] = function
        return function

    # What runs it.

    def define(self, client: Client) -> None:
        """Defines the kind, with what this program does for it; or changes its definition. What
        else somebody has said of the kind stays. Raises `OlderDefinition` if it is that of a newer
        version of the program."""
        more = {**self.definition, "handlers": list(self._handlers), "actions": list(self._actions)}
        if _NUMBERS.fullmatch(self.version):
            more["version"] = self.version
        if self.type is dict:
            client.define(self.link, **more)
        else:
            client.define(self.link, type_=self.type, **more)

    def main(self, argv: Optional[Sequence[str]] = None) -> int:
        """The whole main program: takes `--node`, defines the kind if the node is named by an
        address, and serves until it is told to end (SIGTERM, or CTRL-C); gives the exit code."""
        try:
            node = _node_of(list(sys.argv[1:] if argv is None else argv))
            with contextlib.suppress(ValueError):
                # Not in the main thread: whoever has it has its signals.
                signal.signal(signal.SIGTERM, lambda *_: self._stop_by_signal())
            running = _Running(lambda: self._define_and_run(node))
            running.join()
        except KeyboardInterrupt:
            self.stop()
            return 130
        except AmritaError as why:
            _tell(str(why))
            return 1
        return 0

    def _define_and_run(self, node: str) -> None:
        addresses = [one.strip() for one in node.split(",") if "://" in one]
        if addresses:
            token, ca_file = from_environment(addresses)
            with Client(addresses, token=token, ca_file=ca_file) as client:
                try:
                    self.define(client)
                except OlderDefinition as why:
                    # As while it is replaced. What it has is asked of it all the same.
                    _tell(f"{why.message}. This copy (version '{self.version}') serves as it is")
        self.run(node)

    def run(
        self,
        node: str = NODE_DEFAULT,
        *,
        token: Optional[str] = None,
        ca_file: Optional[str] = None,
    ) -> None:
        """Serves until `stop()`. `node` is named as for `amrita.immortal.run`: an address, a
        sandbox, or several behind commas, of which the first is taken that is there."""
        dial, door = Dial(node, token, ca_file), Door.of_kind(self.link)
        pause, since, told = PAUSE_SECONDS_MIN, time.monotonic(), ""
        while not self._stop.is_set():
            try:
                connection = _Connection(self, dial.connect(door))
                self._running = connection
                if self._stop.is_set():
                    # It was told so while it was on its way here.
                    connection.leave()
                connection.serve()
            except (Lost, Said) as ended:
                if self._stop.is_set():
                    return
                connection_was_up = self._running is not None and self._running.is_welcome
                if connection_was_up:
                    pause, since, told = PAUSE_SECONDS_MIN, time.monotonic(), ""
                if isinstance(ended, Said):
                    dial.turn_to_the_next()
                    _check_passing(ended, time.monotonic() - since)
                if told != str(ended):
                    told = str(ended)
                    _tell(f"{told}; trying again")
            finally:
                if self._running is not None:
                    self._left.append(self._running.handlers)
                self._running = None
            self._check_hanging()
            self._stop.wait(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _check_hanging(self) -> None:
        """A thread cannot be ended from outside, so what hangs is bounded by ending the program."""
        self._left = still_there(self._left)
        hanging = sum(one.hanging() for one in self._left)
        if hanging >= self.calls_max:
            raise RunError(
                f"{hanging} handlers hang, as many as run at a time: this program ends, so that "
                "whoever has started it starts it anew",
                code="HANGING",
            )

    def stop(self) -> None:
        """Takes no more calls, answers those that there are, and lets `run` return."""
        self._stop.set()
        running = self._running
        if running is not None:
            running.leave()

    def _stop_by_signal(self) -> None:
        # What the signal has interrupted may hold a lock.
        threading.Thread(target=self.stop, daemon=True).start()

    # What answers a call.

    def _answer(self, asked: CallFrame) -> bytes:
        """The frame that answers a call."""
        try:
            return self._answered(asked)
        except Refusal as no:
            return frames.refused(asked.number, no.status, no.message)
        except _Theirs as why:
            return frames.refused(asked.number, 400, str(why))
        except Exception as why:
            traceback.print_exc()
            return frames.failed(asked.number, f"{type(why).__name__}: {why}")

    def _answered(self, asked: CallFrame) -> bytes:
        body = loads(asked.body) if asked.body else {}
        call = Call(asked.link, asked.version, asked.time, asked.user, body)
        before = loads(asked.before) if asked.before else None
        after = loads(asked.after) if asked.after else None
        if asked.handler == "action":
            action = self._actions.get(asked.action)
            if action is None:
                raise LookupError(f"this version of the program has no action '{asked.action}'")
            made = action.run(call, self._read(before), body)
            return self._state(call, asked, before, made)
        handler = self._handlers.get(asked.handler)
        if handler is None:
            # To write it as it is would pass by a rule that another version has.
            raise LookupError(f"this version of the program has no handler of {asked.handler}")
        if asked.handler == "delete":
            handler(call, self._read(before))
            return frames.as_it_is(asked.number, call._messages)
        if asked.handler == "create":
            new = self._read_theirs(after)
            made = handler(call, new)
        else:
            stored = self._read(before)
            new = self._read_theirs(after)
            made = handler(call, stored, new)
        return self._state(call, asked, after, new if made is None else made)

    def _read(self, fields: Any) -> Any:
        """A state. What a newer version of the program has put into it is passed over here."""
        return fields if self.type is dict else decode(fields, self.type, passing=True)

    def _read_theirs(self, fields: Any) -> Any:
        """A state that the client has to answer for."""
        try:
            return self._read(fields)
        except BadValue as why:
            raise _Theirs(why.message) from why

    def _state(
        self, call: Call, asked: CallFrame, source: Dict[str, Any], made: Any
    ) -> bytes:
        """The frame for a state. Fields that a newer version of the program has put in stay."""
        if not isinstance(made, dict) and not dataclasses.is_dataclass(made):
            raise TypeError(f"a handler gives a state or None, not {type(made).__name__}")
        fields = state_of(made)
        if self.type is not dict:
            fields = kept(fields, source, self.type)
        return frames.state(asked.number, dumps(fields), call._messages)


class _Theirs(Exception):
    """What a client has sent does not fit."""


class _Running:
    """A thread that runs a program, beside the main one, which has the signals."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run, self._why = run, cast(Optional[BaseException], None)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._run()
        except BaseException as why:
            self._why = why

    def join(self) -> None:
        """Waits for its end, and raises what it has ended with."""
        self._thread.join()
        if self._why is not None:
            raise self._why


class _Action:
    """A function with the types of its arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())[2:]
        self.types = {one.name: hints.get(one.name, Any) for one in parameters}
        self.needed = [one.name for one in parameters if one.default is one.empty]

    def run(self, call: Call, state: Any, body: Dict[str, Any]) -> Any:
        unknown = [name for name in body if name not in self.types]
        if unknown:
            there = ", ".join(self.types) or "none"
            raise _Theirs(
                f"{self.function.__name__} has no field '{unknown[0]}'; it has {there}"
            )
        missing = [name for name in self.needed if name not in body]
        if missing:
            raise _Theirs(f"{self.function.__name__} needs the field '{missing[0]}'")
        try:
            given = {name: decode(value, self.types[name], name) for name, value in body.items()}
        except BadValue as why:
            raise _Theirs(why.message) from why
        made = self.function(call, state, **given)
        return state if made is None else made


class _Connection:
    """One connection, from SERVE to its end."""

    def __init__(self, service: "Service[Any]", connected: socket.socket) -> None:
        self.service, self.link = service, Link(connected)
        self.handlers = Threads(service.calls_max, "amrita-handler")
        self.is_welcome = False
        self._open = 0
        self._changed = threading.Condition()
        self._has_served = False
        self._is_leaving = False

    def serve(self) -> None:
        service = self.service
        handlers, actions = list(service._handlers), list(service._actions)
        said = frames.serve(service.link, service.version, service.calls_max, handlers, actions)
        try:
            with self._changed:
                if self._is_leaving:
                    raise Lost("it has left before it came")
                self.link.write(said)
                self._has_served = True
            self._read()
        except OSError as why:
            raise Lost(f"cannot read from the node: {why}") from why
        except Garbled as why:
            raise Lost(f"the node sent garbage: {why}") from why
        finally:
            self.link.shut()
            self.handlers.end()

    def _read(self) -> None:
        coming = Frames(self.link.socket)
        for frame in coming:
            said = frames.read(frame)
            if isinstance(said, frames.Welcome):
                # Calls have up to three states.
                coming.bytes_max = max(coming.bytes_max, 3 * said.frame_bytes_max)
                self.is_welcome = True
                _tell(f"serving {self.service.link} at node {said.node}")
            else:
                self._said(said)

    def _said(self, said: frames.FromNode) -> None:
        if isinstance(said, frames.Ping):
            self.link.write(frames.pong(said.number))
        elif isinstance(said, frames.Error):
            raise Said(said.code, said.text)
        elif isinstance(said, CallFrame):
            with self._changed:
                self._open += 1
            self.handlers.begin(functools.partial(self._handle, said))

    def _handle(self, asked: CallFrame) -> None:
        try:
            self.link.try_write(self.service._answer(asked))
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    def leave(self) -> None:
        with self._changed:
            if self._is_leaving:
                return
            self._is_leaving = True
            if not self._has_served:
                return
        self.link.try_write(frames.leave())
        until = time.monotonic() + LEAVE_SECONDS_MAX
        threading.Thread(target=self._end, args=(until,), daemon=True).start()

    def _end(self, until: float) -> None:
        """Calls may be on their way here: the connection stays for a moment."""
        time.sleep(0.1)
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0, max(0, until - time.monotonic()))
        self.link.shut()


def _check_passing(ended: Said, waited: float) -> None:
    passes = ended.code in _PASSING
    may_pass = ended.code in ("UNKNOWN_KIND", "NO_HANDLERS") and waited < UNDEFINED_SECONDS_MAX
    if not passes and not may_pass:
        raise RunError(f"the node refuses: {ended.code}: {ended.text}", code=ended.code)


def _node_of(argv: List[str]) -> str:
    node = NODE_DEFAULT
    left = list(argv)
    while left:
        one = left.pop(0)
        name, mark, value = one.partition("=")
        if name != "--node":
            raise BadValue(f"{one} is unknown. There is --node URL-OR-SOCKET")
        if not mark and not left:
            raise BadValue(f"{one} needs a value")
        node = value if mark else left.pop(0)
    return cast(str, node)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
