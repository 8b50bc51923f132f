"""Everything that a client can do, over any kind of stream. `AsyncClient` is this as it stands;
`Client` runs the same calls over streams that block."""

from __future__ import annotations

import base64
import time
from typing import Any, AsyncIterator, Dict, List, Optional, Sequence, Union

from ._codec import dumps, encode, schema_of, state_of
from ._http import Broken, NotSent, OutOfTime, Request, Response
from ._names import checked_document, checked_name
from ._retry import PAUSE_SECONDS_MIN, Cluster
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
from .errors import (
    AlreadyExists,
    AmritaError,
    BadValue,
    ChangesGone,
    PreconditionFailed,
    Refused,
    TaskFailed,
    Unreachable,
    refused,
)

#: How long a request is tried unless the client is told otherwise, in seconds.
PATIENCE_SECONDS = 15.0

#: How long one question for changes waits at a node, in seconds.
WATCH_SECONDS = 20

#: For how long the nodes may be away before a feed is given up. With its token it can go on.
AWAY_SECONDS_MAX = 60.0

#: A node that says nothing for this much longer than it was asked to wait is taken for dead.
LATE_SECONDS_MAX = 5.0

#: The longest pause after all nodes were asked for changes in vain.
FEED_PAUSE_SECONDS_MAX = 0.5

#: The pause before an impulse is tried again for which no program was there.
REFUSED_PAUSE_SECONDS = 0.05

KINDS = "/core/factories"
BATCH = "/core/batch"
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
        return await self._cluster.send(sent, patience)

    async def _ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        response = await self.request(method, path, body, **more)
        if response.status >= 300:
            raise _refusal(response)
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
        body = state_of(state)
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
        asked = self._ask("GET", with_query(checked_document(link), parameters))
        return Document.of(await asked, type_)

    async def get_or_none(self, link: str, *, type_: Any = None) -> Optional[Document[Any]]:
        response = await self.request("GET", checked_document(link))
        if response.status == 404:
            return None
        if response.status >= 300:
            raise _refusal(response)
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
        body = state_of(state)
        link = checked_document(link)
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
        link = checked_document(link)
        if not merge and None in body.values():
            name = next(name for name, value in body.items() if value is None)
            raise BadValue(
                f"'{name}' is None, which a PATCH passes over: give merge=True to remove the field, "
                "or leave it out"
            )
        asked = self._ask("PATCH", link, body, if_match=if_match, key=key, headers=headers)
        return Document.of(await asked, type_)

    async def act(
        self,
        link: str,
        action: str,
        fields: Any = None,
        *,
        if_match: Optional[Tag] = None,
        key: Optional[str] = None,
        type_: Any = None,
    ) -> Document[Any]:
        path = f"{checked_document(link)}/actions/{checked_name(action)}"
        body = _object(fields or {})
        return Document.of(await self._ask("POST", path, body, if_match=if_match, key=key), type_)

    async def delete(
        self, link: str, *, if_match: Optional[Tag] = None, key: Optional[str] = None
    ) -> None:
        await self._ask("DELETE", checked_document(link), if_match=if_match, key=key)

    async def batch(
        self,
        requests: Sequence[Json],
        *,
        atomic: str = "partition",
        key: Optional[str] = None,
        patience: Optional[float] = None,
    ) -> Json:
        body = {"requests": list(requests), "atomic": atomic}
        response = await self.request("POST", BATCH, body, key=key, patience=patience)
        if response.status >= 300:
            raise _refusal(response)
        return dict(response.body)

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
        wanted: Json = {"link": link, **definition}
        if schema is not None or type_ is not None:
            wanted["schema"] = schema_of(type_) if schema is None else schema
        try:
            return await self.create(KINDS, wanted)
        except AlreadyExists as there:
            if there.code == "MARKED_DELETED":
                return await self.create(KINDS, wanted, revive=True)
        definition_link = f"{KINDS}/{link.strip('/').replace('/', ':')}"
        while True:
            found = await self.get(definition_link)
            # What is not named here is not touched: somebody else may have said it, such as the
            # program that has the kind's handlers. None takes a field away.
            now = found.value
            changed = {name: new for name, new in wanted.items() if now.get(name) != new}
            if not changed:
                return found
            if "version" in wanted:
                # By which the node sees that it is not older.
                changed["version"] = wanted["version"]
            elif now.get("version"):
                raise _older(link, now["version"])
            try:
                asked = self._ask("PATCH", definition_link, changed, if_match=found)
                return Document.of(await asked)
            except PreconditionFailed:
                continue

    async def undefine(self, link: str, *, with_documents: bool = False) -> None:
        headers = {"pragma": "xn-force-index-update"} if with_documents else None
        definition_link = f"{KINDS}/{link.strip('/').replace('/', ':')}"
        await self._ask("DELETE", definition_link, headers=headers)

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
        shown: Json = await self._ask("GET", f"/core/immortals/{checked_name(name)}")
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
        path = f"/core/immortals/{checked_name(instance)}/impulses"
        cluster = self._cluster
        # One key for all attempts.
        key = cluster.keys.next() if key is None and cluster.keys is not None else key
        deadline = time.monotonic() + cluster.patience
        while True:
            try:
                return int((await self._ask("POST", path, body, key=key))["input"])
            except Refused as why:
                # That no program is there may be over in a moment.
                is_over = why.code != "REFUSED" or why.outcome != "notApplied"
                if is_over or time.monotonic() >= deadline or await self._is_held(instance):
                    raise
            await cluster.io.sleep(REFUSED_PAUSE_SECONDS)

    async def _is_held(self, instance: str) -> bool:
        """Whether a program was stopped until a person has looked."""
        replicas = (await self.immortal(instance)).get("replicas") or []
        return any(one.get("role") in ("HELD", "DIVERGED") for one in replicas)

    # Logging in

    async def login(self, name: str, password: str, seconds: int = 3600) -> str:
        body = {"requestType": "LOGIN", "sessionExpirationSeconds": seconds}
        # With this request only: others of this client may be on their way meanwhile.
        headers = {"authorization": basic(name, password)}
        response = await self.request("POST", "/core/authn/basic", body, headers=headers)
        if response.status >= 300:
            raise _refusal(response)
        token = response.headers.get("x-xenon-auth-token", "")
        if not token:
            raise AmritaError("the node has given no token", code="NO_TOKEN")
        self._cluster.authorization = f"Bearer {token}"
        return token


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
        #: The node that is asked next.
        self._which = calls._cluster.preferred

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

    async def changes(self) -> AsyncIterator[Change[Any]]:
        """The changes one by one. The token goes on with each of them, so that who stops after one,
        or dies, goes on with the next one."""
        await self.begin()
        while True:
            page = await self._page(self.token, WATCH_SECONDS)
            for one in page["changes"]:
                change = Change.of(one, self._type)
                self.token = change.token
                yield change
            self.token = page["token"]

    async def _page(self, after: Optional[str], seconds: int) -> Json:
        """One answer, from whichever node gives one."""
        path = with_query(self._path, {**self._parameters, "after": after})
        if after is not None:
            path = with_query(path, {"wait": str(seconds)})
        cluster = self._calls._cluster
        give_up_at = time.monotonic() + seconds + AWAY_SECONDS_MAX
        why, pause = "", PAUSE_SECONDS_MIN
        while True:
            # A node that has started since does not know what was before; another one may.
            gone: List[Response] = []
            for _ in cluster.nodes:
                try:
                    sent = Request("GET", encoded(path))
                    late = seconds + LATE_SECONDS_MAX
                    response = await cluster.ask_one(self._which, sent, late)
                except (NotSent, Broken, OutOfTime) as error:
                    why = str(error) or "no answer in time"
                else:
                    page = _page_of(response)
                    if page is not None:
                        return page
                    if response.status == 410:
                        gone.append(response)
                    elif 400 <= response.status < 500:
                        raise _refusal(response)
                    why = f"an answer {response.status}"
                self._which = (self._which + 1) % len(cluster.nodes)
            is_over = time.monotonic() >= give_up_at
            if gone and (is_over or len(gone) == len(cluster.nodes)):
                raise _refusal(gone[0])
            if is_over:
                raise Unreachable(f"no node tells changes at {cluster.tried()}: {why}")
            await cluster.io.sleep(pause)
            pause = min(pause * 2, FEED_PAUSE_SECONDS_MAX)


def _page_of(response: Response) -> Optional[Json]:
    """The page of an answer; None if it is none."""
    try:
        page: Any = response.body if response.status < 300 else None
    except BadValue:
        return None
    is_page = isinstance(page, dict) and isinstance(page.get("changes"), list)
    return page if is_page and isinstance(page.get("token"), str) else None


def _older(link: str, version: str) -> Refused:
    text = (
        f"{link} is defined by version {version} of a program, and this definition has none: it "
        f"changes nothing. Give it a version that is not older"
    )
    return refused(409, {"code": "OLDER_DEFINITION", "message": text}, "notApplied")


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _refusal(response: Response) -> Refused:
    try:
        body = response.body
    except BadValue:
        body = None
    return refused(response.status, body, response.outcome)


def _results(page: Json) -> Json:
    return page.get("results") or page


def _object(state: Any) -> Json:
    found = encode(state)
    if not isinstance(found, dict):
        raise BadValue(f"the state of a document is an object, not {found!r}")
    return dict(found)
