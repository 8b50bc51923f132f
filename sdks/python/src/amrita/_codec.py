"""Dataclasses to JSON and back, by their annotations, and the JSON Schema that says the same.

Numbers stay as they are: an integer of any size is an integer, a double is written with as many
digits as bring it back, and any other number (`0.10000000000000000001`, `1e400`) is a `Decimal`. NaN
and infinity are no JSON, and refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import decimal
import enum
import functools
import json
import math
import sys
import typing
from decimal import Decimal
from typing import Any, Dict, List, Tuple, Union

from ._names import BUILT_IN_FIELDS
from .errors import BadValue

_UNIONS: Tuple[Any, ...] = (Union,)
if sys.version_info >= (3, 10):
    import types

    _UNIONS = (Union, types.UnionType)

#: A number without an exponent that is no longer than this is held by a double, digit for digit.
_SHORT = 15


def dumps(value: Any) -> bytes:
    """JSON as it goes over the wire. `BadValue` names the place of what cannot be written."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        # With a Decimal in it, which `json` does not know; or the place is to be named.
        try:
            text = _written(value, "the value")
        except RecursionError:
            raise BadValue("the value is nested too deep to be written as JSON") from None
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as why:
        raise BadValue(f"this cannot be written as JSON: {why}") from why


def _written(value: Any, where: str) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise BadValue(f"{where}: JSON has no {value}")
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise BadValue(f"{where}: JSON has no {value}")
    if isinstance(value, dict):
        rows = []
        for key, one in value.items():
            if not isinstance(key, str):
                raise BadValue(f"{where}: a key of JSON is a text, not {key!r}")
            rows.append(f"{json.dumps(key, ensure_ascii=False)}:{_written(one, f'{where}.{key}')}")
        return "{" + ",".join(rows) + "}"
    if isinstance(value, (list, tuple)):
        items = [_written(one, f"{where}[{at}]") for at, one in enumerate(value)]
        return "[" + ",".join(items) + "]"
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as why:
        raise BadValue(f"{where} cannot be written as JSON: {why}") from why


def loads(data: Union[bytes, str]) -> Any:
    try:
        return json.loads(data, parse_float=_real, parse_int=_whole, parse_constant=_no_number)
    except RecursionError:
        raise BadValue("this is JSON that is nested too deep") from None
    except ValueError as why:
        raise BadValue(f"this is not JSON: {why}") from why


def _real(text: str) -> Union[float, Decimal]:
    number = float(text)
    if len(text) <= _SHORT and "e" not in text and "E" not in text:
        return number
    try:
        exact = Decimal(text)
    except decimal.DecimalException as why:
        raise ValueError(f"the exponent of {text[:40]} is too large") from why
    return number if math.isfinite(number) and Decimal(repr(number)) == exact else exact


def _whole(text: str) -> Union[int, float]:
    # An integer has no sign at 0.
    return -0.0 if text == "-0" else int(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"JSON has no {text}")


@functools.lru_cache(maxsize=None)
def _fields(kind: type) -> Dict[str, Tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return {field.name: (field, hints[field.name]) for field in dataclasses.fields(kind)}


def encode(value: Any) -> Any:
    """What `json` can write: dataclasses become objects, enums their values."""
    if value is None or isinstance(value, (bool, str, float, Decimal)) or type(value) is int:
        return value
    if isinstance(value, enum.Enum):
        return encode(value.value)
    if isinstance(value, int):
        return int(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _fields(type(value))}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise BadValue(f"a key of JSON is a text, not {key!r}")
        return {key: encode(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(one) for one in value]
    if isinstance(value, (set, frozenset)):
        raise BadValue("a set has no order that is the same everywhere: use a dict or a list")
    raise BadValue(f"{type(value).__name__} cannot be written as JSON")


def decode(value: Any, hint: Any, where: str = "", *, passing: bool = False) -> Any:
    """A value of that type, or `BadValue` with the place of what does not fit. `passing`: fields
    that a dataclass does not know are passed over; `kept` has them back."""
    if hint is Any or hint is dataclasses.MISSING or isinstance(hint, typing.TypeVar):
        return value
    if hint is None or hint is type(None):
        return _is(value is None, value, "null", where)
    origin = typing.get_origin(hint)
    if origin in _UNIONS:
        return _decode_union(value, hint, where, passing)
    if origin is not None:
        return _decode_generic(value, origin, typing.get_args(hint), where, passing)
    if not isinstance(hint, type):
        return value
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(value, hint, where, passing)
    if issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError as why:
            raise BadValue(f"{where or 'the value'}: {why}") from why
    return _decode_plain(value, hint, where)


def _is(fits: bool, value: Any, wanted: str, where: str) -> Any:
    if not fits:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise BadValue(f"{where or 'the value'} must be {wanted}, not {shown}")
    return value


def _decode_plain(value: Any, hint: type, where: str) -> Any:
    if hint is bool:
        return _is(isinstance(value, bool), value, "true or false", where)
    if hint is int:
        # As which `-0` is read.
        if type(value) is float and value == 0 and math.copysign(1, value) < 0:
            return 0
        return _is(type(value) is int, value, "a whole number", where)
    if hint is float:
        _is(type(value) in (int, float, Decimal), value, "a number", where)
        try:
            number = float(value)
        except OverflowError as why:
            raise BadValue(f"{where or 'the value'} is too large for a float") from why
        return _is(math.isfinite(number), value, "a number that a float can hold", where)
    if hint is Decimal:
        _is(type(value) in (int, float, Decimal), value, "a number", where)
        return Decimal(repr(value)) if type(value) is float else Decimal(value)
    if hint is str:
        return _is(isinstance(value, str), value, "a text", where)
    if hint is dict:
        return _is(isinstance(value, dict), value, "an object", where)
    if hint is list:
        return _is(isinstance(value, list), value, "a list", where)
    if hint is tuple:
        return tuple(_is(isinstance(value, list), value, "a list", where))
    return _is(isinstance(value, hint), value, hint.__name__, where)


def _decode_union(value: Any, hint: Any, where: str, passing: bool) -> Any:
    why = []
    # The one that knows all fields, before one that passes some over.
    for pass_over in (False, True) if passing else (False,):
        for one in typing.get_args(hint):
            try:
                return decode(value, one, where, passing=pass_over)
            except BadValue as error:
                why.append(error.message)
    raise BadValue("; or ".join(dict.fromkeys(why)))


def _decode_generic(
    value: Any, origin: Any, arguments: Tuple[Any, ...], where: str, passing: bool
) -> Any:
    if origin is typing.Literal:
        return _is(value in arguments, value, f"one of {list(arguments)}", where)
    if origin is list:
        _is(isinstance(value, list), value, "a list", where)
        kind = arguments[0]
        items = enumerate(value)
        return [decode(one, kind, f"{where}[{at}]", passing=passing) for at, one in items]
    if origin is tuple:
        _is(isinstance(value, list), value, "a list", where)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        _is(len(value) == len(arguments), value, f"a list of {len(arguments)}", where)
        parts = enumerate(zip(value, arguments))
        return tuple(
            decode(one, kind, f"{where}[{at}]", passing=passing) for at, (one, kind) in parts
        )
    if origin is dict:
        _is(isinstance(value, dict), value, "an object", where)
        if arguments[0] is not str:
            raise BadValue(f"{where}: a key of JSON is a text: write Dict[str, ...]")
        kind = arguments[1]
        fields = value.items()
        return {key: decode(one, kind, f"{where}.{key}", passing=passing) for key, one in fields}
    if isinstance(origin, type) and dataclasses.is_dataclass(origin):
        return _decode_dataclass(value, origin, where, passing)
    raise BadValue(f"{where}: {origin} is no type of JSON")


def _decode_dataclass(value: Any, kind: Any, where: str, passing: bool) -> Any:
    _is(isinstance(value, dict), value, f"an object ({kind.__name__})", where)
    known = _fields(kind)
    given = {}
    for name, (field, hint) in known.items():
        if name in value and field.init:
            place = f"{where}.{name}" if where else name
            given[name] = decode(value[name], hint, place, passing=passing)
        elif field.init and _may_be_nothing(hint) and _has_no_default(field):
            given[name] = None
    unknown = [name for name in value if name not in known and name not in BUILT_IN_FIELDS]
    if unknown and not passing:
        raise BadValue(f"{where or kind.__name__} has no field '{unknown[0]}'")
    try:
        return kind(**given)
    except TypeError as why:
        raise BadValue(f"{where or kind.__name__}: {why}") from why


def kept(new: Any, source: Any, hint: Any) -> Any:
    """What was made of `source`, as JSON, with the fields of `source` that its type does not know,
    at any depth. An item of a list is the one that it was before if it is the same, wherever it
    stands by now, or else if it stands where one stood that is gone."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        hint = next((one for one in arguments if _is_one(source, one) and _is_one(new, one)), Any)
        return new if hint is Any else kept(new, source, hint)
    kind = origin if isinstance(origin, type) else hint
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _kept_fields(new, source, kind)
    if kind is dict and len(arguments) == 2 and isinstance(new, dict) and isinstance(source, dict):
        of = arguments[1]
        fields = new.items()
        return {key: kept(one, source[key], of) if key in source else one for key, one in fields}
    if kind in (list, tuple) and arguments and isinstance(new, list) and isinstance(source, list):
        if kind is tuple and arguments[1:] != (Ellipsis,):
            parts = list(zip(new, source, arguments))
            return [kept(*part) for part in parts] + new[len(parts) :]
        return _kept_items(new, source, arguments[0])
    return new


def _is_one(value: Any, hint: Any) -> bool:
    """Whether a value in JSON is one of that type."""
    try:
        decode(value, hint, passing=True)
    except BadValue:
        return False
    return True


def _kept_fields(new: Any, source: Any, kind: Any) -> Any:
    if not isinstance(new, dict) or not isinstance(source, dict):
        return new
    known = _fields(kind)
    fields = {name: one for name, one in source.items() if name not in known}
    for name, one in new.items():
        both = name in known and name in source
        fields[name] = kept(one, source[name], known[name][1]) if both else one
    return fields


def _kept_items(new: List[Any], source: List[Any], hint: Any) -> List[Any]:
    places: Dict[str, List[int]] = {}
    for at in reversed(range(len(source))):
        places.setdefault(_known_text(source[at], hint), []).append(at)
    free = set(range(len(source)))
    pairs: Dict[int, int] = {}
    for at, one in enumerate(new):
        same = places.get(json.dumps(one, sort_keys=True, default=str))
        if same:
            pairs[at] = same.pop()
            free.discard(pairs[at])
    for at in range(len(new)):
        if at not in pairs and at in free:
            pairs[at] = at
    items = enumerate(new)
    return [kept(one, source[pairs[at]], hint) if at in pairs else one for at, one in items]


def _known_text(item: Any, hint: Any) -> str:
    """An item as its type would write it."""
    with contextlib.suppress(BadValue):
        item = encode(_without_nothing(decode(item, hint, passing=True)))
    return json.dumps(item, sort_keys=True, default=str)


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def schema_of(kind: type) -> Dict[str, Any]:
    """The JSON Schema of a dataclass. What stands in a field's `metadata` goes into the field's
    schema: `field(metadata={"minimum": 0})`. With `metadata={"readOnly": True}` a field is set when
    the document is made and never changes."""
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise BadValue(f"{kind!r} is no dataclass")
    properties = {}
    required = []
    for name, (field, hint) in _fields(kind).items():
        if name.startswith("document"):
            who = f"{kind.__name__}.{name}"
            raise BadValue(f"{who}: names that begin with 'document' are Amrita's")
        properties[name] = {**_schema(hint), **field.metadata}
        if field.default is not dataclasses.MISSING:
            # A field that is None by default may be missing: null is no value for the server.
            if field.default is not None:
                properties[name]["default"] = encode(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            properties[name]["default"] = encode(field.default_factory())
        elif not _may_be_nothing(hint):
            required.append(name)
    schema: Dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    return schema


_PLAIN = {
    bool: "boolean",
    int: "integer",
    float: "number",
    Decimal: "number",
    str: "string",
    dict: "object",
}


def _schema(hint: Any) -> Dict[str, Any]:
    if hint is Any:
        return {}
    if hint in (None, type(None)):
        return {"type": "null"}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint in (list, tuple):
        return {"type": "array"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        parts = [_schema(one) for one in arguments if one is not type(None)]
        return parts[0] if len(parts) == 1 else {"anyOf": parts}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is list or (origin is tuple and arguments[1:] == (Ellipsis,)):
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is tuple:
        return {"type": "array", "minItems": len(arguments), "maxItems": len(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [encode(one.value) for one in hint]}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return schema_of(hint)
    raise BadValue(f"{hint!r} has no JSON Schema: use numbers, texts, lists, dicts or dataclasses")


def state_of(value: Any) -> Dict[str, Any]:
    """A state as it is written: fields of dataclasses that are None, and those of the state itself,
    are for a server not there. A None in a dict or a list within stays."""
    found = encode(_without_nothing(value))
    if not isinstance(found, dict):
        raise BadValue(f"the state of a document is an object, not {found!r}")
    return {name: one for name, one in found.items() if one is not None}


def _without_nothing(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((name, getattr(value, name)) for name in _fields(type(value)))
        return {name: _without_nothing(one) for name, one in fields if one is not None}
    if isinstance(value, dict):
        return {name: _without_nothing(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nothing(one) for one in value]
    return value


def _may_be_nothing(hint: Any) -> bool:
    return typing.get_origin(hint) in _UNIONS and type(None) in typing.get_args(hint)
