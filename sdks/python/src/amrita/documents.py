"""What a client gives back: documents, changes, and what to ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Generic, Iterable, List, Optional, TypeVar, Union
from urllib.parse import quote

from ._codec import decode
from ._names import BUILT_IN_FIELDS
from .errors import BadValue

T = TypeVar("T")
Json = Dict[str, Any]


@dataclass(frozen=True)
class Document(Generic[T]):
    """A document as a node showed it. `value` is the state alone, of your dataclass if the kind has
    one; `body` is everything, the built-in fields included."""

    body: Json
    value: T

    @classmethod
    def of(cls, body: Json, type_: Any = None) -> "Document[Any]":
        own = {name: value for name, value in body.items() if name not in BUILT_IN_FIELDS}
        value: Any = own if type_ is None else decode(own, type_)
        return cls(body, value)

    @property
    def link(self) -> str:
        return str(self.body["documentSelfLink"])

    @property
    def name(self) -> str:
        """The last part of the link."""
        return self.link.rsplit("/", 1)[1]

    @property
    def version(self) -> int:
        return int(self.body["documentVersion"])

    @property
    def etag(self) -> str:
        """To be given as `if_match`. Never used again, not even when the link is made again."""
        body = self.body
        time = body["documentUpdateTimeMicros"]
        return f'"{body["documentEpoch"]}.{body["documentVersion"]}.{time:x}"'

    @property
    def expires_at_micros(self) -> int:
        """When it goes, in microseconds since 1970; 0 for never."""
        return int(self.body.get("documentExpirationTimeMicros", 0))

    @property
    def owner(self) -> Optional[str]:
        return self.body.get("documentOwner")

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


@dataclass(frozen=True)
class Change(Generic[T]):
    """One committed change of a document."""

    #: POST, PUT, PATCH, DELETE, or EXPIRE.
    action: str
    link: str
    version: int
    #: Whether the document, as it is now, is one of those that are watched.
    is_match: bool
    document: Document[T]
    before: Optional[Document[T]]
    #: To go on behind this change, at any node.
    token: str

    @classmethod
    def of(cls, body: Json, type_: Any = None) -> "Change[Any]":
        before = body.get("documentBefore") or body.get("before")
        return cls(
            action=body["action"],
            link=body["link"],
            version=body["version"],
            is_match=body["isMatch"],
            document=Document.of(body["document"], type_),
            before=Document.of(before, type_) if before else None,
            token=body["token"],
        )

    @property
    def is_gone(self) -> bool:
        return self.action in ("DELETE", "EXPIRE")


Tag = Union[str, "Document[Any]"]


def tag_of(tag: Tag) -> str:
    return tag.etag if isinstance(tag, Document) else tag


def encoded(path: str) -> str:
    """A path as it stands on the wire; what is escaped already is escaped once more, so give it as
    it is. A query behind it is left alone."""
    path, mark, query = path.partition("?")
    if not path.startswith("/"):
        raise BadValue(f"a link begins with '/', and '{path}' does not")
    return quote(path, safe="/:@!$&'()*+,;=-._~") + mark + query


def with_query(path: str, parameters: Dict[str, Any]) -> str:
    """A path with these parameters; those that are None are left out."""
    given = []
    for name, value in parameters.items():
        if value is None or value is False:
            continue
        shown = "true" if value is True else str(value)
        given.append(f"{name}={quote(shown, safe='/')}")
    if not given:
        return path
    return path + ("&" if "?" in path else "?") + "&".join(given)


@dataclass
class Where:
    """A clause of a query. Made by `term`, `prefix`, `wildcard`, `phrase`, `between`, and joined
    with `&`, `|` and `~`."""

    body: Json
    must: str = "MUST_OCCUR"

    def __and__(self, other: "Where") -> "Where":
        return Where({"booleanClauses": [self._as("MUST_OCCUR"), other._as("MUST_OCCUR")]})

    def __or__(self, other: "Where") -> "Where":
        return Where({"booleanClauses": [self._as("SHOULD_OCCUR"), other._as("SHOULD_OCCUR")]})

    def __invert__(self) -> "Where":
        flipped = "MUST_NOT_OCCUR" if self.must == "MUST_OCCUR" else "MUST_OCCUR"
        return Where(self.body, flipped)

    def _as(self, occurrence: str) -> Json:
        if self.must == "MUST_OCCUR":
            return {"occurance": occurrence, **self.body}
        inner = {"occurance": "MUST_NOT_OCCUR", **self.body}
        if occurrence == "MUST_OCCUR":
            return inner
        return {"occurance": occurrence, "booleanClauses": [inner]}

    def query(self) -> Json:
        if self.must == "MUST_OCCUR":
            return self.body
        return {"booleanClauses": [self._as("MUST_OCCUR")]}


def _matching(name: str, value: Any, how: str) -> Where:
    text = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    return Where({"term": {"propertyName": name, "matchType": how, "matchValue": str(text)}})


def term(name: str, value: Any) -> Where:
    """The field has this value (or its list has an item that has it: `term("tags.item", "x")`)."""
    return _matching(name, value, "TERM")


def prefix(name: str, value: str) -> Where:
    return _matching(name, value, "PREFIX")


def wildcard(name: str, pattern: str) -> Where:
    """`*` and `?` stand for anything and for one character."""
    return _matching(name, pattern, "WILDCARD")


def phrase(name: str, words: str) -> Where:
    return _matching(name, words, "PHRASE")


def between(
    name: str,
    least: Optional[float] = None,
    most: Optional[float] = None,
    *,
    exclusive: bool = False,
) -> Where:
    """The field is a number from `least` to `most`; a bound that is None is none."""
    whole = all(bound is None or isinstance(bound, int) for bound in (least, most))
    range_: Json = {"type": "LONG" if whole else "DOUBLE"}
    if least is not None:
        range_.update(min=least, isMinInclusive=not exclusive)
    if most is not None:
        range_.update(max=most, isMaxInclusive=not exclusive)
    return Where({"term": {"propertyName": name, "range": range_}})


@dataclass
class Question:
    """What is asked of `/core/query-tasks`."""

    where: Where
    sort: Optional[str] = None
    descending: bool = False
    sort_type: str = "STRING"
    options: List[str] = field(default_factory=list)
    page_size: int = 500

    def body(self) -> Json:
        options = ["EXPAND_CONTENT", *self.options]
        spec: Json = {"query": self.where.query(), "resultLimit": self.page_size}
        if self.sort is not None:
            options.append("SORT")
            spec["sortTerm"] = {"propertyName": self.sort, "propertyType": self.sort_type}
            spec["sortOrder"] = "DESC" if self.descending else "ASC"
        spec["options"] = options
        return {"taskInfo": {"isDirect": True}, "querySpec": spec}


def documents_of(page: Json, type_: Any = None) -> Iterable[Document[Any]]:
    """The documents of one page, in its order."""
    documents = page.get("documents") or {}
    for link in page.get("documentLinks") or []:
        if link in documents:
            yield Document.of(documents[link], type_)
