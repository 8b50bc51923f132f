"""The client: `Client` blocks, `AsyncClient` is for asyncio. Both do the same."""

from __future__ import annotations

import asyncio
from typing import Any, AsyncIterator, Dict, Generic, Iterator, List, Optional, Sequence, Tuple
from typing import Type, TypeVar, Union, overload

from ._calls import PATIENCE_SECONDS, Calls, FeedCalls, Nodes, addresses
from ._http import AsyncIo, BlockingIo, Io, Response, run_blocking
from ._names import checked_document, checked_link, checked_name
from ._retry import Cluster
from .documents import Change, Document, Json, Question, Tag, Where
from .errors import PreconditionFailed

T = TypeVar("T")


def _cluster(
    nodes: Nodes,
    io: Io,
    patience: float,
    token: Optional[str],
    password: Optional[Tuple[str, str]],
    ca_file: Optional[str],
    keys: bool,
) -> Cluster:
    more: Dict[str, Any] = {"token": token, "password": password, "ca_file": ca_file}
    return Cluster(addresses(nodes), io, patience=patience, keys=keys, **more)


class AsyncClient(Calls):
    """A client of a cluster, for asyncio. Its methods are those of `Client`, to be awaited; what
    gives many things is an `async for`."""

    def __init__(
        self,
        nodes: Nodes,
        *,
        patience: float = PATIENCE_SECONDS,
        token: Optional[str] = None,
        password: Optional[Tuple[str, str]] = None,
        ca_file: Optional[str] = None,
        keys: bool = True,
    ) -> None:
        super().__init__(_cluster(nodes, AsyncIo(), patience, token, password, ca_file, keys))

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._cluster.close()
        await asyncio.sleep(0)

    def watch(
        self,
        path: str = "/core/changes",
        *,
        filter: Optional[str] = None,
        prefix: Optional[str] = None,
        before: bool = False,
        after: Optional[str] = None,
    ) -> "AsyncFeed[Any]":
        return AsyncFeed(self, path, filter=filter, prefix=prefix, before=before, after=after)

    @overload
    def kind(self, link: str, type_: Type[T], **definition: Any) -> "AsyncKind[T]": ...

    @overload
    def kind(
        self, link: str, type_: None = None, *, schema: Optional[Json] = None, **definition: Any
    ) -> "AsyncKind[Json]": ...

    def kind(
        self, link: str, type_: Any = None, *, schema: Optional[Json] = None, **definition: Any
    ) -> "AsyncKind[Any]":
        return AsyncKind(self, link, type_, schema, definition)


class AsyncFeed(FeedCalls, Generic[T]):
    """Changes, one after the other, for ever: `async for change in feed`."""

    def __aiter__(self) -> AsyncIterator[Change[T]]:
        return self.changes()


def _below(factory: str, name: str) -> str:
    return name if name.startswith("/") else f"{factory}/{checked_name(name)}"


class AsyncKind(Generic[T]):
    """A kind of documents, at its link; see `Kind`."""

    def __init__(
        self, client: AsyncClient, link: str, type_: Any, schema: Optional[Json], definition: Json
    ) -> None:
        self.client, self.link, self.type = client, checked_link(link.rstrip("/")), type_
        self._schema, self._definition = schema, definition

    def at(self, name: str) -> str:
        return checked_document(_below(self.link, name))

    async def define(self) -> None:
        await self.client.define(self.link, self._schema, type_=self.type, **self._definition)

    async def create(self, state: Any, name: Optional[str] = None, **more: Any) -> Document[T]:
        return await self.client.create(self.link, state, name=name, type_=self.type, **more)

    async def get(self, name: str, **more: Any) -> Document[T]:
        return await self.client.get(self.at(name), type_=self.type, **more)

    async def get_or_none(self, name: str) -> Optional[Document[T]]:
        return await self.client.get_or_none(self.at(name), type_=self.type)

    async def put(self, name: str, state: Any, **more: Any) -> Document[T]:
        return await self.client.put(self.at(name), state, type_=self.type, **more)

    async def patch(self, name: str, changes: Any, **more: Any) -> Document[T]:
        return await self.client.patch(self.at(name), changes, type_=self.type, **more)

    async def act(self, name: str, action: str, fields: Any = None, **more: Any) -> Document[T]:
        return await self.client.act(self.at(name), action, fields, type_=self.type, **more)

    async def delete(self, name: str, **more: Any) -> None:
        await self.client.delete(self.at(name), **more)

    async def update(self, name: str, change: Any) -> Document[T]:
        """As `Kind.update`; `change` is a plain function."""
        while True:
            found = await self.get(name)
            wanted = change(found.value)
            if wanted is None:
                return found
            try:
                return await self.put(name, wanted, if_match=found)
            except PreconditionFailed:
                continue

    def documents(self, **more: Any) -> AsyncIterator[Document[T]]:
        return self.client.documents(self.link, type_=self.type, **more)

    async def count(self, **more: Any) -> int:
        return await self.client.count(self.link, **more)

    def watch(self, **more: Any) -> AsyncFeed[T]:
        return AsyncFeed(self.client, self.link, type_=self.type, **more)


class Client:
    """A client of a cluster. May be used by several threads at once.

    `nodes` are the addresses of one or more nodes (`"http://127.0.0.1:8001,http://..."` or a list).
    Any node answers for all; when one dies, the next is asked. Each write has an `Idempotency-Key`,
    so that it is repeated without being done twice.

    A node that refuses something raises `Refused` or one of its kinds (`NotFound`, ...), with
    `code`, `message` and `outcome`; `Unreachable` says that no node answered.
    """

    def __init__(
        self,
        nodes: Nodes,
        *,
        patience: float = PATIENCE_SECONDS,
        token: Optional[str] = None,
        password: Optional[Tuple[str, str]] = None,
        ca_file: Optional[str] = None,
        keys: bool = True,
    ) -> None:
        self._calls = Calls(
            _cluster(nodes, BlockingIo(), patience, token, password, ca_file, keys)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections that are idle."""
        self._calls._cluster.close()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        if_match: Optional[Tag] = None,
        key: Optional[str] = None,
        headers: Optional[Dict[str, str]] = None,
        patience: Optional[float] = None,
    ) -> Response:
        """Any request: `status`, `headers` and `body` of the answer, which may tell of an error."""
        more: Dict[str, Any] = {"if_match": if_match, "key": key, "headers": headers}
        return run_blocking(self._calls.request(method, path, body, patience=patience, **more))

    def create(
        self,
        factory: str,
        state: Any,
        *,
        name: Optional[str] = None,
        expires_at_micros: Optional[int] = None,
        key: Optional[str] = None,
        revive: bool = False,
    ) -> Document[Any]:
        """Makes a document. Raises `AlreadyExists` when the name is taken, also by one that was
        deleted, unless `revive` gives that a new life."""
        more: Dict[str, Any] = {"name": name, "expires_at_micros": expires_at_micros}
        return run_blocking(self._calls.create(factory, state, key=key, revive=revive, **more))

    def get(
        self, link: str, *, version: Optional[int] = None, local: bool = False
    ) -> Document[Any]:
        """The newest acknowledged version. An older one with `version`; what the nearest replica
        has, which may be behind, with `local`."""
        return run_blocking(self._calls.get(link, version=version, local=local))

    def get_or_none(self, link: str) -> Optional[Document[Any]]:
        return run_blocking(self._calls.get_or_none(link))

    def put(
        self, link: str, state: Any, *, if_match: Optional[Tag] = None, key: Optional[str] = None
    ) -> Document[Any]:
        """Replaces the state."""
        return run_blocking(self._calls.put(link, state, if_match=if_match, key=key))

    def patch(
        self,
        link: str,
        changes: Any,
        *,
        if_match: Optional[Tag] = None,
        key: Optional[str] = None,
        merge: bool = False,
    ) -> Document[Any]:
        """Changes the fields that are given. With `if_match` (a document that was read, or its
        etag) only if nobody else has changed it meanwhile, else `PreconditionFailed`. With `merge`
        as a JSON merge patch, in which None removes a field and lists are replaced; without it a
        None is refused, as a node would pass over it."""
        more: Dict[str, Any] = {"if_match": if_match, "key": key}
        return run_blocking(self._calls.patch(link, changes, merge=merge, **more))

    def act(
        self,
        link: str,
        action: str,
        fields: Any = None,
        *,
        if_match: Optional[Tag] = None,
        key: Optional[str] = None,
    ) -> Document[Any]:
        """Has the program of the kind do something with a document (see `amrita.service`):
        `client.act("/app/seats/A1", "hold", {"who": "jane"})`."""
        return run_blocking(self._calls.act(link, action, fields, if_match=if_match, key=key))

    def delete(
        self, link: str, *, if_match: Optional[Tag] = None, key: Optional[str] = None
    ) -> None:
        """Deletes it. To delete what is not there succeeds."""
        run_blocking(self._calls.delete(link, if_match=if_match, key=key))

    def batch(
        self,
        requests: Sequence[Dict[str, Any]],
        *,
        atomic: str = "partition",
        key: Optional[str] = None,
        patience: Optional[float] = None,
    ) -> Dict[str, Any]:
        """Makes many writes in one request; those of one partition all or none (documents with one
        key in braces, as `/app/orders/{42}/a`, lie in one). A request is
        `{"method": "PATCH", "path": "/app/orders/{42}/a", "body": {...}}`, with `ifMatch` if it is
        to hold. The answer has `outcome` (`applied`, or `mixed` when some were done) and `requests`,
        the outcome of each. When none was done, `Refused` is raised. With the same `key` it can be
        called again, and what was done is not done twice."""
        asked = self._calls.batch(requests, atomic=atomic, key=key, patience=patience)
        return run_blocking(asked)

    def documents(
        self,
        factory: str,
        *,
        filter: Optional[str] = None,
        order_by: Optional[str] = None,
        page_size: int = 500,
    ) -> Iterator[Document[Any]]:
        """All documents of a factory, page by page as they are taken. `filter` is an expression
        such as `"price gt 5 and row eq 'A'"`, `order_by` such as `"price desc"`."""
        more: Dict[str, Any] = {"filter": filter, "order_by": order_by, "page_size": page_size}
        return _each(self._calls.documents(factory, **more))

    def count(self, factory: str, *, filter: Optional[str] = None) -> int:
        return run_blocking(self._calls.count(factory, filter=filter))

    def query(self, question: Union[Question, Where]) -> Iterator[Document[Any]]:
        """The documents of all factories that a query finds, page by page:
        `client.query(term("row", "A") & between("price", 1, 9))`."""
        return _each(self._calls.query(question))

    def define(
        self, link: str, schema: Optional[Json] = None, *, type_: Any = None, **definition: Any
    ) -> None:
        """Makes a kind of documents in the whole cluster, or changes what is named here of the one
        that is there. What is not named stays; None takes it away. With a `version` ("2.1") an
        older one changes nothing from then on, and raises `OlderDefinition`."""
        run_blocking(self._calls.define(link, schema, type_=type_, **definition))

    def undefine(self, link: str, *, with_documents: bool = False) -> None:
        """Takes a kind away. One that has documents only if `with_documents` says so: they stay,
        and are there again when it is defined again."""
        run_blocking(self._calls.undefine(link, with_documents=with_documents))

    def start(
        self, factory: str, state: Any, *, name: Optional[str] = None, key: Optional[str] = None
    ) -> str:
        """Starts a task, and gives its link."""
        return run_blocking(self._calls.start(factory, state, name=name, key=key))

    def wait(self, task: str, timeout: Optional[float] = None) -> Document[Any]:
        """Waits for the end of a task. Raises `TaskFailed` when it did not finish."""
        return run_blocking(self._calls.wait(task, timeout))

    def register(self, name: str, **options: Any) -> Json:
        """Registers an immortal: `replicas=["n1", "n2"]` or how many, and other options."""
        return run_blocking(self._calls.register(name, **options))

    def immortal(self, name: str) -> Json:
        """An immortal, as its owner knows it."""
        return run_blocking(self._calls.immortal(name))

    def impulse(
        self,
        instance: str,
        method: int,
        arguments: Sequence[Any] = (),
        *,
        sender: str = "python",
        key: Optional[str] = None,
    ) -> int:
        """Hands a message to an immortal. When this returns it is logged, and will be handled once
        whatever dies. While none of its programs is there, it is tried again for as long as the
        patience lasts. Gives the number of the input."""
        more: Dict[str, Any] = {"sender": sender, "key": key}
        return run_blocking(self._calls.impulse(instance, method, arguments, **more))

    def login(self, name: str, password: str, seconds: int = 3600) -> str:
        """Logs in, shows the token with each request from now on, and gives it."""
        return run_blocking(self._calls.login(name, password, seconds))

    def watch(
        self,
        path: str = "/core/changes",
        *,
        filter: Optional[str] = None,
        prefix: Optional[str] = None,
        before: bool = False,
        after: Optional[str] = None,
    ) -> "Feed[Any]":
        """The changes of a factory, of one document, or of all documents: see `Feed`."""
        more: Dict[str, Any] = {"filter": filter, "prefix": prefix, "before": before}
        return Feed(FeedCalls(self._calls, path, after=after, **more))

    @overload
    def kind(self, link: str, type_: Type[T], **definition: Any) -> "Kind[T]": ...

    @overload
    def kind(
        self, link: str, type_: None = None, *, schema: Optional[Json] = None, **definition: Any
    ) -> "Kind[Json]": ...

    def kind(
        self, link: str, type_: Any = None, *, schema: Optional[Json] = None, **definition: Any
    ) -> "Kind[Any]":
        """A kind of documents, typed by a dataclass if one is given; see `Kind`."""
        return Kind(self, link, type_, schema, definition)


def _each(source: AsyncIterator[T]) -> Iterator[T]:
    steps = source.__aiter__()
    while True:
        try:
            yield run_blocking(steps.__anext__())  # type: ignore[arg-type]
        except StopAsyncIteration:
            return


class Feed(Generic[T]):
    """Changes, one after the other, for ever: `for change in feed`.

    Every committed change is told once, in the order in which each document changed, through deaths
    of nodes. To know everything: `feed.begin()`, then read the documents, then iterate.
    `feed.token` is where it stands: given as `after=`, another reader goes on from there.
    When no node knows any more what came after the token, `ChangesGone` is raised: begin anew.
    """

    def __init__(self, calls: FeedCalls) -> None:
        self._calls = calls

    @property
    def token(self) -> Optional[str]:
        """Behind the last change that was given, or behind the last ones that `next` gave."""
        return self._calls.token

    def begin(self) -> str:
        """From here on changes are told."""
        return run_blocking(self._calls.begin())

    def next(self, at_most: Optional[float] = None) -> List[Change[T]]:
        """The next changes: as soon as there are some, or none after so many seconds."""
        return run_blocking(self._calls.next(at_most))

    def __iter__(self) -> Iterator[Change[T]]:
        return _each(self._calls.changes())


class Kind(Generic[T]):
    """A kind of documents at its link, such as `/app/seats`. With a dataclass the schema is made of
    it, and `document.value` is one. Names are those below the link, or whole links."""

    def __init__(
        self, client: Client, link: str, type_: Any, schema: Optional[Json], definition: Json
    ) -> None:
        self.client, self.link, self.type = client, checked_link(link.rstrip("/")), type_
        self._calls = client._calls
        self._schema, self._definition = schema, definition

    def at(self, name: str) -> str:
        """The link of a name."""
        return checked_document(_below(self.link, name))

    def define(self) -> "Kind[T]":
        """Makes the kind in the whole cluster, or changes what is named here. May be called each
        time that a program starts."""
        self.client.define(self.link, self._schema, type_=self.type, **self._definition)
        return self

    def create(self, state: Any, name: Optional[str] = None, **more: Any) -> Document[T]:
        asked = self._calls.create(self.link, state, name=name, type_=self.type, **more)
        return run_blocking(asked)

    def get(self, name: str, **more: Any) -> Document[T]:
        return run_blocking(self._calls.get(self.at(name), type_=self.type, **more))

    def get_or_none(self, name: str) -> Optional[Document[T]]:
        return run_blocking(self._calls.get_or_none(self.at(name), type_=self.type))

    def put(self, name: str, state: Any, **more: Any) -> Document[T]:
        return run_blocking(self._calls.put(self.at(name), state, type_=self.type, **more))

    def patch(self, name: str, changes: Any, **more: Any) -> Document[T]:
        return run_blocking(self._calls.patch(self.at(name), changes, type_=self.type, **more))

    def act(self, name: str, action: str, fields: Any = None, **more: Any) -> Document[T]:
        asked = self._calls.act(self.at(name), action, fields, type_=self.type, **more)
        return run_blocking(asked)

    def delete(self, name: str, **more: Any) -> None:
        self.client.delete(self.at(name), **more)

    def update(self, name: str, change: Any) -> Document[T]:
        """Reads the document, gives its value to `change`, and writes back what that returns (None:
        nothing is to be written). Once more from the beginning when somebody else was quicker."""
        while True:
            found = self.get(name)
            wanted = change(found.value)
            if wanted is None:
                return found
            try:
                return self.put(name, wanted, if_match=found)
            except PreconditionFailed:
                continue

    def documents(self, **more: Any) -> Iterator[Document[T]]:
        return _each(self._calls.documents(self.link, type_=self.type, **more))

    def count(self, **more: Any) -> int:
        return self.client.count(self.link, **more)

    def watch(self, **more: Any) -> Feed[T]:
        return Feed(FeedCalls(self._calls, self.link, type_=self.type, **more))
