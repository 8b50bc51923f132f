"""What a writer of an immortal writes, and what its handlers may do."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import sys
import typing
from typing import (
    Any,
    Callable,
    Dict,
    List,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from .._codec import decode, dumps, encode, loads
from ..errors import AmritaError, BadValue
from . import frames
from .book import Book, Waiting

F = TypeVar("F", bound=Callable[..., Any])


class Rejected(Exception):
    """A handler says no, and why: the caller gets this as the answer. Not a failure of the program:
    what the handler has changed stays changed."""


class Later:
    """Given back by a handler that answers later, with `context.answer`."""


#: Given back by a handler that answers later.
LATER = Later()


def method(number: int) -> Callable[[F], F]:
    """A method that messages call. Its number is what goes over the wire and into the log: it is
    never given to another method, and a method with other arguments gets a new one."""
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{number} is no number of a method: those below 0 are reserved")

    def mark(function: F) -> F:
        function.__amrita_number__ = number  # type: ignore[attr-defined]
        return function

    return mark


@dataclasses.dataclass
class Reply:
    """Where an answer is to go: kept in the state until it can be given with `context.answer`."""

    to: str = ""
    #: 0: nobody waits.
    id: int = 0


class _Method:
    """A method with the types of its arguments."""

    def __init__(self, function: Callable[..., Any], skipped: int) -> None:
        self.function = function
        self.name = function.__name__
        try:
            hints = typing.get_type_hints(function)
        except NameError as why:
            raise TypeError(f"{function.__qualname__}: {why}") from why
        self.types: List[Any] = []
        self.least = 0
        self.takes_more = False
        for one in list(inspect.signature(function).parameters.values())[skipped:]:
            if one.kind is one.VAR_POSITIONAL:
                self.takes_more = True
                continue
            self.types.append(hints.get(one.name, Any))
            self.least += one.default is one.empty

    def arguments(self, payload: bytes) -> List[Any]:
        """What the handler is called with, or `BadValue`."""
        given = loads(payload) if payload else []
        if not isinstance(given, list):
            raise BadValue("arguments are a JSON array")
        most = len(given) if self.takes_more else len(self.types)
        if not self.least <= len(given) <= most:
            raise BadValue(f"{len(given)} arguments were given, and it takes {len(self.types)}")
        known = [decode(one, kind, "an argument") for one, kind in zip(given, self.types)]
        return known + given[len(self.types) :]


class Interface:
    """What an instance can do, as others see it: a class with functions marked by `@method`. Its
    `at("name")` makes messages for an instance of that name."""

    __amrita_methods__: Dict[int, Callable[..., Any]] = {}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        found: Dict[int, Callable[..., Any]] = {}
        for name in dir(cls):
            function: Any = getattr(cls, name, None)
            number = getattr(function, "__amrita_number__", None)
            if number is None:
                continue
            if number in found and found[number] is not function:
                raise TypeError(f"{cls.__name__} has two methods with the number {number}")
            found[number] = function
        cls.__amrita_methods__ = found

    @classmethod
    def at(cls, instance: str) -> "Proxy":
        return Proxy(cls, instance)

    @classmethod
    def me(cls) -> "Proxy":
        """The instance itself: what is sent comes back as an input."""
        return Proxy(cls, "")


_methods: Dict[Callable[..., Any], _Method] = {}


def method_of(kind: Type[Interface], number: int) -> Optional[_Method]:
    function = kind.__amrita_methods__.get(number)
    if function is None:
        return None
    known = _methods.get(function)
    if known is None:
        known = _methods[function] = _Method(function, 2)
    return known


class Proxy:
    """Makes messages: `Bank.at("bank").deposit("jane", 5)` is one, and is sent by what is called on
    it: `.fork(context)`, `.call(context, then=...)` or `.impulse(impulses)`."""

    def __init__(self, interface: Type[Interface], instance: str) -> None:
        self._interface, self._instance = interface, instance

    def __getattr__(self, name: str) -> Callable[..., "Outgoing"]:
        function = getattr(self._interface, name, None)
        number = getattr(function, "__amrita_number__", None)
        if number is None:
            raise AttributeError(f"{self._interface.__name__} has no method '{name}'")

        def make(*arguments: Any) -> Outgoing:
            return Outgoing(self._instance, number, dumps(encode(list(arguments))))

        return make


@dataclasses.dataclass(frozen=True)
class Outgoing:
    """A message that is not sent yet."""

    to: str
    number: int
    payload: bytes

    def fork(self, context: "Forks") -> None:
        """Sends it, and wants no answer. In a handler of a document's service, `context` is the
        call: the message goes with the version that is written."""
        context.fork(self.to, self.number, self.payload)

    def call(self, context: "Context", /, then: "Then", **remember: Any) -> int:
        """Sends it; `then` is called with the answer and with what is remembered."""
        return context.call(self.to, self.number, self.payload, then, **remember)

    def impulse(self, impulses: Any) -> Any:
        """Hands it in from outside of the handlers, and gives its `Fate`."""
        return impulses.send(self)


class Forks(Protocol):
    """What a message can be sent by."""

    def fork(self, to: str, number: int, payload: bytes) -> None: ...


#: A method of the program, or its name: by that it is found again after a crash.
Then = Union[str, Callable[..., Any]]


class Outcome:
    """What came of a call, a timer or an effect."""

    def __init__(self, status: int, payload: bytes) -> None:
        self.status, self.payload = status, payload

    @property
    def is_error(self) -> bool:
        return self.status == frames.ERROR

    @property
    def error(self) -> Optional[str]:
        """Why there is no value."""
        return self.payload.decode("utf-8", "replace") if self.is_error else None

    def value(self, type_: Any = Any) -> Any:
        """The value, None if there is none. Raises `Rejected` with what the other side said."""
        if self.is_error:
            raise Rejected(self.error)
        value = loads(self.payload) if self.status == frames.VALUE else None
        return decode(value, type_, "the answer")


class Sender(typing.NamedTuple):
    """Who sent an input: an instance, `client/...`, or empty for the node."""

    name: str
    kind: int

    @property
    def is_outside(self) -> bool:
        return self.kind == frames.OUTSIDE


class Outputs:
    """Where a handler's words go."""

    def message(self, to: str, message: bytes) -> None:
        raise NotImplementedError

    def frame(self, name: str, *values: Any) -> None:
        raise NotImplementedError


class Context:
    """What a handler may know and do. All of it is the same on every copy and in every replay."""

    def __init__(self, me: str, book: Book, outputs: Outputs) -> None:
        #: The name of this instance.
        self.me = me
        #: The number of this input, from 1 over the whole life of the instance.
        self.input = 0
        #: When this input was logged, in microseconds since 1970. Never goes back.
        self.now_micros = 0
        #: Who sent this input.
        self.sender = Sender("", frames.NODE)
        self._call: Optional[int] = None
        self._drawn = 0
        self._book = book
        self._outputs = outputs

    def _enter(self, input_: int, now: int, sender: Sender, call: Optional[int]) -> None:
        self.input, self.now_micros, self.sender, self._call = input_, now, sender, call
        self._drawn = 0

    @property
    def now(self) -> float:
        """When this input was logged, in seconds since 1970: the clock of handlers."""
        return self.now_micros / 1e6

    def random(self) -> int:
        """64 bits that look like chance and are the same on every copy. Not for secrets."""
        self._drawn += 1
        text = f"{self.me}\0{self.input}\0{self._drawn}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")

    def random_below(self, bound: int) -> int:
        if bound <= 0:
            raise ValueError("no number is below 0")
        return self.random() * bound >> 64

    # Messages

    def _whom(self, to: str) -> str:
        return "" if to == self.me else to

    def fork(self, to: str, number: int, payload: bytes) -> None:
        """Sends bytes. Proxies do this with `.fork(context)`."""
        message = frames.Message(frames.FORK, method=number, payload=payload)
        self._outputs.message(self._whom(to), message.put())

    def call(
        self, to: str, number: int, payload: bytes, /, then: Then, **remember: Any
    ) -> int:
        """Sends bytes, and goes on with `then(context, outcome, **remember)` when the answer comes.
        Proxies do this with `.call(context, then=...)`."""
        to = self._whom(to)
        id_ = self._book.enter(Waiting("answer", _name(then), encode(remember), to))
        message = frames.Message(frames.CALL, id_, number, payload=payload)
        self._outputs.message(to, message.put())
        return id_

    def reply(self) -> Reply:
        """Where the answer to this input is to go; the handler then gives back `LATER`."""
        return Reply() if self._call is None else Reply(self.sender.name, self._call)

    def answer(self, reply: Reply, value: Any = None) -> None:
        """Gives an answer that somebody waits for; an exception `Rejected` is one, too."""
        if not reply.id:
            return
        if isinstance(value, Rejected):
            status, payload = frames.ERROR, str(value).encode()
        elif value is None:
            status, payload = frames.EMPTY, b""
        else:
            status, payload = frames.VALUE, dumps(encode(value))
        message = frames.Message(frames.ANSWER, reply.id, status=status, payload=payload)
        self._outputs.message(self._whom(reply.to), message.put())

    # Timers and effects

    def after(self, seconds: float, /, then: Then, **remember: Any) -> int:
        """Goes on with `then(context, **remember)` after this time, by the inputs' time."""
        return self.at(self.now_micros + round(seconds * 1_000_000), then, **remember)

    def at(self, micros: int, /, then: Then, **remember: Any) -> int:
        """Goes on at this time (microseconds since 1970), or at once if it is past."""
        id_ = self._book.enter(Waiting("timer", _name(then), encode(remember)))
        # 0 would be a side effect on the wire.
        self._outputs.frame("AWAIT", id_, max(1, micros))
        return id_

    def effect(self, work: Then, /, *arguments: Any, then: Then, **remember: Any) -> int:
        """Has `work(*arguments)`, a static method of the program, done on the primary, where it may
        use the clock, the network and chance; goes on with `then(context, outcome, **remember)`
        when its result is logged. If the primary dies in between it is done again."""
        waiting = Waiting("effect", _name(then), encode(remember))
        waiting.work, waiting.arguments = _name(work), encode(list(arguments))
        id_ = self._book.enter(waiting)
        self._outputs.frame("AWAIT", id_, 0)
        return id_

    def cancel(self, id_: int) -> bool:
        """Waits no more. True if it was still waited for: then `then` is surely not called."""
        waiting = self._book.waiting.pop(id_, None)
        if waiting is None:
            return False
        if waiting.what != "answer":
            self._outputs.frame("CANCEL", id_)
        return True

    def ask_for_checkpoint(self) -> None:
        """Asks the node to take a checkpoint soon."""
        self._outputs.frame("ASK_CHECKPOINT")


def _name(then: Then) -> str:
    name = then if isinstance(then, str) else getattr(then, "__name__", "")
    if not name.isidentifier():
        raise TypeError(f"{then!r} is no method of the program: it must be found by its name again")
    return name


class Immortal(Interface):
    """A program that does not die: a dataclass whose fields are its state, changed by its methods
    and by nothing else.

    Every copy is given the same inputs in the same order, and must reach the same state and say the
    same things. So a handler has no clock, no chance, no files, no network and no sets to iterate
    over: what it needs of these its `context` gives it.
    """

    def start(self, context: Context) -> None:
        """The very first input. Arguments given at the first start follow after `context`."""

    def loaded(self) -> None:
        """This is the state that this copy goes on with, after a start or a LOAD: whoever shows it
        to people may look at it from now on, and not change it."""

    def primary(self, impulses: Any) -> None:
        """This copy is the primary now: threads that take in what comes from outside are started
        here. The state may be looked at, not changed."""

    def standby(self) -> None:
        """This copy is not the primary any more."""


def call_method(program: Immortal, context: Context, message: frames.Message) -> None:
    """Calls the method that a message is for. A message that makes no sense changes nothing."""
    known = method_of(type(program), message.method)
    reply = context.reply()
    try:
        if known is None:
            raise BadValue(f"there is no method {message.method}")
        arguments = known.arguments(message.payload)
    except BadValue as why:
        return _refuse(context, reply, f"method {message.method}: {why}")
    try:
        value = known.function(program, context, *arguments)
    except Rejected as why:
        return _refuse(context, reply, str(why))
    if value is not LATER:
        context.answer(reply, value)


@functools.lru_cache(maxsize=None)
def _hints_of(function: Callable[..., Any]) -> Dict[str, Any]:
    return typing.get_type_hints(function)


def remembered_by(function: Callable[..., Any], remember: Dict[str, Any]) -> Dict[str, Any]:
    """What a method that goes on is called with: of the types that it declares."""
    hints = _hints_of(function)
    return {name: decode(one, hints.get(name, Any), name) for name, one in remember.items()}


def _refuse(context: Context, reply: Reply, why: str) -> None:
    if reply.id:
        context.answer(reply, Rejected(why))
    else:
        line = f"input {context.input} from '{context.sender.name}' is left out: {why}"
        print(line, file=sys.stderr, flush=True)


def perform(program: Type[Immortal], work: str, arguments: Sequence[Any]) -> Tuple[int, bytes]:
    """Does an effect, and gives status and payload of its result."""
    try:
        function = inspect.getattr_static(program, work)
        if not isinstance(function, staticmethod):
            who = f"{program.__name__}.{work}"
            raise AmritaError(f"{who} is no static method: an effect has no state")
        known = _Method(getattr(program, work), 0)
        value = getattr(program, work)(*known.arguments(dumps(list(arguments))))
        if value is None:
            return frames.EMPTY, b""
        return frames.VALUE, dumps(encode(value))
    except Rejected as why:
        return frames.ERROR, str(why).encode()
    except BaseException as why:  # Whatever it is (`sys.exit` too), it is the result.
        return frames.ERROR, f"{type(why).__name__}: {why}".encode()
