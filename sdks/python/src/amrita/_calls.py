"""Everything that a client can do, over any kind of stream. `AsyncClient` is this as it stands;
`Client` runs the same calls over streams that block."""

from __future__ import annotations

import base64
import time
from typing import Any, AsyncIterator, Dict, List, Optional, Sequence, Union

from ._codec import dumps, encode, schema_of, without_nothing
from ._http import Request, Response
from ._retry import Cluster
from .documents import (
    Change,
    Document,
    Json,
    Question,
    Tag,
    Where,
    documents_of,
    encoded,
    tag_of,
    with_query,
)
from .errors import AlreadyExists, AmritaError, BadValue, ChangesGone, TaskFailed, refused

#: How long a request is tried unless the client is told otherwise, in seconds.
PATIENCE_SECONDS = 15.0

#: How long one question for changes waits at a node, in seconds.
WATCH_SECONDS = 20

#: For how long the nodes may be away before a feed is given up. With its token it can go on.
AWAY_SECONDS_MAX = 60.0

#: How long another node may take to say whether it still knows what one node does not.
OTHERS_SECONDS_MAX = 5.0

KINDS = "/core/factories"
ENDED = ("FINISHED", "FAILED", "CANCELLED")
Nodes = Union[str, Sequence[str]]


def addresses(nodes: Nodes) -> List[str]:
    if isinstance(nodes, str):
        return [one.strip() for one in nodes.split(",") if one.strip()]
    return list(nodes)


class Calls:
    """The calls of a client, all `async`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    # Any request

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        if_match: Optional[Tag] = None,
        key: Optional[str] = None,
        headers: Optional[Dict[str, str]] = None,
        patience: Optional[float] = None,
        attempt: Optional[float] = None,
    ) -> Response:
        """Sends any request and gives the answer, which may tell of an error."""
        given = {name.lower(): value for name, value in (headers or {}).items()}
        data = b"" if body is None else dumps(encode(body))
        if data:
            given.setdefault("content-type", "application/json")
        if if_match is not None:
            given["if-match"] = tag_of(if_match)
        if key is not None:
            given["idempotency-key"] = key
        sent = Request(method, encoded(path), data, given)
        return await self._cluster.send(sent, patience, attempt)

    async def _ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        response = await self.request(method, path, body, **more)
        if response.status >= 300:
            raise refused(response.status, _or_nothing(response))
        return response.body

    # Documents

    async def create(
        self,
        factory: str,
        state: Any,
        *,
        name: Optional[str] = None,
        expires_at_micros: Optional[int] = None,
        key: Optional[str] = None,
        revive: bool = False,
        type_: Any = None,
    ) -> Document[Any]:
        body = without_nothing(_object(state))
        if name is not None:
            body["documentSelfLink"] = name
        if expires_at_micros is not None:
            body["documentExpirationTimeMicros"] = expires_at_micros
        headers = {"pragma": "xn-force-index-update"} if revive else None
        made = await self._ask("POST", factory, body, key=key, headers=headers)
        return Document.of(made, type_)

    async def get(
        self, link: str, *, version: Optional[int] = None, local: bool = False, type_: Any = None
    ) -> Document[Any]:
        parameters = {"documentVersion": version, "consistency": "local" if local else None}
        return Document.of(await self._ask("GET", with_query(link, parameters)), type_)

    async def get_or_none(self, link: str, *, type_: Any = None) -> Optional[Document[Any]]:
        response = await self.request("GET", link)
        if response.status == 404:
            return None
        if response.status >= 300:
            raise refused(response.status, _or_nothing(response))
        return Document.of(response.body, type_)

    async def put(
        self,
        link: str,
        state: Any,
        *,
        if_match: Optional[Tag] = None,
        key: Optional[str] = None,
        type_: Any = None,
    ) -> Document[Any]:
        body = without_nothing(_object(state))
        return Document.of(await self._ask("PUT", link, body, if_match=if_match, key=key), type_)

    async def patch(
        self,
        link: str,
        changes: Any,
        *,
        if_match: Optional[Tag] = None,
        key: Optional[str] = None,
        merge: bool = False,
        type_: Any = None,
    ) -> Document[Any]:
        headers = {"content-type": "application/merge-patch+json"} if merge else None
        body = _object(changes)
        asked = self._ask("PATCH", link, body, if_match=if_match, key=key, headers=headers)
        return Document.of(await asked, type_)

    async def delete(
        self, link: str, *, if_match: Optional[Tag] = None, key: Optional[str] = None
    ) -> None:
        await self._ask("DELETE", link, if_match=if_match, key=key)

    # Many documents

    async def documents(
        self,
        factory: str,
        *,
        filter: Optional[str] = None,
        order_by: Optional[str] = None,
        page_size: int = 500,
        type_: Any = None,
    ) -> AsyncIterator[Document[Any]]:
        parameters = {
            "expand": True,
            "$limit": page_size,
            "$filter": filter,
            "$orderby": order_by,
        }
        first = await self._ask("GET", with_query(factory, parameters))
        async for document in self._pages(first, type_):
            yield document

    async def _pages(self, page: Json, type_: Any) -> AsyncIterator[Document[Any]]:
        while True:
            for document in documents_of(page, type_):
                yield document
            following = page.get("nextPageLink")
            if not following:
                return
            page = _results(await self._ask("GET", with_query(following, {"expand": True})))

    async def count(self, factory: str, *, filter: Optional[str] = None) -> int:
        parameters = {"$count": True, "$filter": filter}
        return int((await self._ask("GET", with_query(factory, parameters)))["documentCount"])

    async def query(self, question: Union[Question, Where], *, type_: Any = None) -> AsyncIterator[
        Document[Any]
    ]:
        asked = question if isinstance(question, Question) else Question(question)
        answer = await self._ask("POST", "/core/query-tasks", asked.body())
        async for document in self._pages(_results(answer), type_):
            yield document

    # Kinds

    async def define(
        self,
        link: str,
        schema: Optional[Json] = None,
        *,
        type_: Any = None,
        **definition: Any,
    ) -> Document[Any]:
        if schema is None:
            schema = schema_of(type_) if type_ is not None else {"type": "object"}
        wanted = {"link": link, "schema": schema, **definition}
        try:
            return await self.create(KINDS, wanted)
        except AlreadyExists as there:
            if there.code == "MARKED_DELETED":
                return await self.create(KINDS, wanted, revive=True)
        definition_link = f"{KINDS}/{link.strip('/').replace('/', ':')}"
        found = await self.get(definition_link)
        now = found.value
        changed = {name: new for name, new in wanted.items() if now.get(name) != new}
        return await self.patch(definition_link, changed) if changed else found

    async def undefine(self, link: str) -> None:
        await self.delete(f"{KINDS}/{link.strip('/').replace('/', ':')}")

    # Tasks

    async def start(
        self, factory: str, state: Any, *, name: Optional[str] = None, key: Optional[str] = None
    ) -> str:
        made = await self.create(factory, state, name=name, key=key)
        return made.link

    async def wait(self, task: str, timeout: Optional[float] = None) -> Document[Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        feed = FeedCalls(self, task)
        await feed.begin()
        document = await self.get(task)
        while True:
            stage = (document.body.get("taskInfo") or {}).get("stage")
            if stage == "FINISHED":
                return document
            if stage in ENDED:
                raise TaskFailed(stage, document.body)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise AmritaError(f"{task} is still {stage} after {timeout} s", code="TIMEOUT")
            try:
                for change in await feed.next(left):
                    document = change.document
            except ChangesGone:
                feed = FeedCalls(self, task)
                await feed.begin()
                document = await self.get(task)

    # Immortals

    async def register(self, name: str, **options: Any) -> Json:
        shown: Json = await self._ask("POST", "/core/immortals", {"name": name, **options})
        return shown

    async def immortal(self, name: str) -> Json:
        shown: Json = await self._ask("GET", f"/core/immortals/{name}")
        return shown

    async def impulse(
        self,
        instance: str,
        method: int,
        arguments: Sequence[Any] = (),
        *,
        sender: str = "python",
        key: Optional[str] = None,
    ) -> int:
        body = {"method": method, "payload": encode(list(arguments)), "from": sender}
        path = f"/core/immortals/{instance}/impulses"
        return int((await self._ask("POST", path, body, key=key))["input"])

    # Logging in

    async def login(self, name: str, password: str, seconds: int = 3600) -> str:
        cluster = self._cluster
        before = cluster.authorization
        cluster.authorization = basic(name, password)
        body = {"requestType": "LOGIN", "sessionExpirationSeconds": seconds}
        try:
            response = await self.request("POST", "/core/authn/basic", body)
            if response.status >= 300:
                raise refused(response.status, _or_nothing(response))
        except BaseException:
            cluster.authorization = before
            raise
        token = response.headers.get("x-xenon-auth-token", "")
        cluster.authorization = f"Bearer {token}"
        return token


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


class FeedCalls:
    """A reader of changes. It goes on at another node when one dies, with its token."""

    def __init__(
        self,
        calls: Calls,
        path: str,
        *,
        filter: Optional[str] = None,
        prefix: Optional[str] = None,
        before: bool = False,
        after: Optional[str] = None,
        type_: Any = None,
    ) -> None:
        self._calls = calls
        self._path = path
        self._type = type_
        is_all = path.rstrip("/") == "/core/changes"
        self._parameters = {
            "watch": None if is_all else True,
            "$filter": filter,
            "prefix": prefix,
            "before": before,
        }
        #: Where it stands: given as `after`, another reader goes on from here, at any node.
        self.token = after

    async def begin(self) -> str:
        """From here on changes are told. What is there already is read after this."""
        if self.token is None:
            self.token = (await self._page(None, 0))["token"]
        return self.token

    async def next(self, at_most: Optional[float] = None) -> List[Change[Any]]:
        """The next changes: as soon as there are some, or none after this many seconds."""
        await self.begin()
        seconds = WATCH_SECONDS if at_most is None else max(0, min(WATCH_SECONDS, int(at_most + 1)))
        page = await self._page(self.token, seconds)
        changes = [Change.of(one, self._type) for one in page["changes"]]
        self.token = page["token"]
        return changes

    async def _page(self, after: Optional[str], seconds: int) -> Json:
        path = with_query(self._path, {**self._parameters, "after": after})
        if after is not None:
            path = with_query(path, {"wait": str(seconds)})
        patience, attempt = seconds + AWAY_SECONDS_MAX, seconds + OTHERS_SECONDS_MAX
        response = await self._calls.request("GET", path, patience=patience, attempt=attempt)
        if response.status == 410:
            # A node that has started since does not know what was before; another one may.
            asked = Request("GET", encoded(path))
            others = await self._calls._cluster.ask_the_others(asked, seconds + OTHERS_SECONDS_MAX)
            response = next((one for one in others if one.status < 300), response)
        if response.status >= 300:
            raise refused(response.status, _or_nothing(response))
        page: Json = response.body
        return page


def _or_nothing(response: Response) -> Any:
    try:
        return response.body
    except BadValue:
        return None


def _results(page: Json) -> Json:
    return page.get("results") or page


def _object(state: Any) -> Json:
    found = encode(state)
    if not isinstance(found, dict):
        raise BadValue(f"the state of a document is an object, not {found!r}")
    return dict(found)
