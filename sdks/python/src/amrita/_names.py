"""Names of documents and of instances, before they become a part of a path. A name that would lead
elsewhere (to a utility, to a query, to another document) is refused, as a node would refuse it."""

from __future__ import annotations

import unicodedata

from .errors import BadValue

#: The ends of a path that name a utility of a service: no document has such a name.
UTILITIES = ("stats", "config", "template", "available", "explain", "subscriptions", "ui")

#: The fields that a node has in each document. Others may begin with the same word.
BUILT_IN_FIELDS = frozenset(
    (
        "documentVersion",
        "documentEpoch",
        "documentKind",
        "documentSelfLink",
        "documentUpdateTimeMicros",
        "documentUpdateAction",
        "documentExpirationTimeMicros",
        "documentOwner",
        "documentDescription",
        "documentSourceLink",
        "documentUpdateNode",
        "documentAuthPrincipalLink",
        "documentTransactionId",
    )
)


def checked_link(link: str) -> str:
    """The link of a factory."""
    if not link.startswith("/"):
        raise BadValue(f"a link begins with '/', and '{link}' does not")
    for part in link[1:].split("/"):
        _check_part(part, link)
    return link


def checked_document(link: str) -> str:
    """The link of a document."""
    name = checked_link(link).rsplit("/", 1)[1]
    if name in UTILITIES:
        raise BadValue(
            f"no document can have the name '{name}': {link} is a utility of the service. Ask for "
            "it with request()"
        )
    return link


def checked_name(name: str) -> str:
    """One part of a link: the name of a document or of an instance."""
    if "/" in name:
        raise BadValue(f"the name '{name}' must not have a '/' in it")
    _check_part(name, name)
    return name


def _check_part(part: str, whole: str) -> None:
    if part in ("", ".", ".."):
        raise BadValue(f"'{whole}' has an empty, '.' or '..' part: a name is needed there")
    if any(_is_wrong(letter) for letter in part):
        raise BadValue(
            f"{whole!r} has a blank, a control character or one of ? # % \\ \" < >: names are "
            "without these"
        )


def _is_wrong(letter: str) -> bool:
    return letter in '?#%\\"<>' or letter.isspace() or unicodedata.category(letter) == "Cc"
