"""Dataclasses to JSON and back, and their schema."""

import enum
import json
import unittest
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Dict, List, Literal, Optional, Tuple, Union

from amrita import BadValue, Document
from amrita._codec import decode, dumps, encode, loads, schema_of, state_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Inner:
    n: int
    text: str = "x"


@dataclass
class Everything:
    whole: int
    real: float
    yes: bool
    inner: Inner
    colour: Colour = Colour.RED
    words: List[str] = field(default_factory=list)
    by_name: Dict[str, Inner] = field(default_factory=dict)
    maybe: Optional[int] = None
    pair: Tuple[int, str] = (1, "a")
    either: Union[int, str] = 7
    one_of: Literal["a", "b"] = "a"
    anything: Any = None


class Codec(unittest.TestCase):
    def test_everything_comes_back(self) -> None:
        made = Everything(
            10**40,
            0.1,
            True,
            Inner(1),
            Colour.BLUE,
            ["ä"],
            {"k": Inner(2, "y")},
            5,
            (2, "b"),
            "s",
            "b",
        )
        text = dumps(encode(made))
        self.assertEqual(decode(loads(text), Everything), made)

    def test_numbers_stay_digit_for_digit(self) -> None:
        whole = (2**53 + 1, -(2**63) - 1, 10**300)
        for number in (*whole, 0.1, 1e22, 5e-324, -0.0, 1.7976931348623157e308):
            back = loads(dumps(number))
            self.assertEqual((repr(back), type(back)), (repr(number), type(number)))

    def test_a_number_that_no_float_holds_keeps_its_digits(self) -> None:
        for text in ("1e400", "0.10000000000000000001", "-1e-400", "3.141592653589793238462643"):
            back = loads(text)
            self.assertIs(type(back), Decimal, text)
            self.assertEqual(Decimal(dumps(back).decode()), Decimal(text))
        mixed = {"a": [Decimal("1.10"), 1.5, "x", None], "b": 2**70}
        self.assertEqual(dumps(encode(mixed)), b'{"a":[1.10,1.5,"x",null],"b":1180591620717411303424}')
        for text in ("1.10", "0.1", "1e22", "123456789.123456", "5e-324", "0.0", "0e-400"):
            self.assertIs(type(loads(text)), float, text)
        self.assertEqual(repr(loads("-0")), "-0.0")
        self.assertEqual(repr(decode(loads("-0"), int)), "0")
        self.assertEqual(decode(loads("[1e400, 0.1, 7]"), List[Decimal])[1:], [Decimal("0.1"), 7])
        with self.assertRaisesRegex(BadValue, "float can hold"):
            decode(loads("1e400"), float)

    def test_what_is_wrong_is_named(self) -> None:
        for value, place in [
            ({"a": [1, float("nan")]}, r"the value\.a\[1\]: JSON has no nan"),
            ({"a": {"b": float("-inf")}}, r"the value\.a\.b: JSON has no -inf"),
            ([Decimal("NaN")], r"the value\[0\]: JSON has no NaN"),
        ]:
            with self.assertRaisesRegex(BadValue, place):
                dumps(encode(value))
        for text in ("NaN", "[Infinity]", "-Infinity", "1e99999999999999999999", "[" * 99999):
            with self.assertRaises(BadValue):
                loads(text)

    def test_what_is_none_is_not_there_in_a_state(self) -> None:
        @dataclass
        class Leaf:
            n: int
            note: Optional[str] = None

        @dataclass
        class Tree:
            leaf: Leaf
            leaves: List[Leaf]
            must: Optional[int]
            free: Any = None

        tree = Tree(Leaf(1), [Leaf(2, "x"), Leaf(3)], None, {"kept": None})
        state = state_of(tree)
        leaves = [{"n": 2, "note": "x"}, {"n": 3}]
        self.assertEqual(state, {"leaf": {"n": 1}, "leaves": leaves, "free": {"kept": None}})
        self.assertEqual(decode(state, Tree), tree)
        self.assertEqual(schema_of(Tree)["required"], ["leaf", "leaves"])
        self.assertEqual(state_of({"a": None, "b": [None]}), {"b": [None]})

    def test_only_the_fields_that_a_node_adds_are_left_out(self) -> None:
        body = {"documentSelfLink": "/a/b", "documentVersion": 0, "documents": 3, "documentation": "x"}
        self.assertEqual(Document.of(body).value, {"documents": 3, "documentation": "x"})
        with self.assertRaisesRegex(BadValue, "no field 'documents'"):
            Document.of({**body, "n": 1}, Inner)

    def test_what_is_no_json_is_refused(self) -> None:
        wrong: List[Any] = [float("nan"), float("inf"), {1: 2}, {"a"}, object(), "\ud800"]
        for value in wrong:
            with self.assertRaises(BadValue, msg=repr(value)):
                dumps(encode(value))

    def test_what_does_not_fit_is_refused_with_its_place(self) -> None:
        right = encode(Everything(1, 1.0, True, Inner(1)))
        for place, wrong in [
            ("whole", 1.0),
            ("whole", True),
            ("real", "1"),
            ("yes", 1),
            ("inner.n", "no"),
            ("colour", "green"),
            ("words[0]", 1),
            ("by_name.k.n", None),
            ("pair", [1]),
            ("one_of", "c"),
        ]:
            state = json.loads(json.dumps(right))
            if place == "words[0]":
                state["words"] = [wrong]
            elif place == "by_name.k.n":
                state["by_name"] = {"k": {"n": wrong}}
            elif place == "inner.n":
                state["inner"]["n"] = wrong
            else:
                state[place] = wrong
            with self.assertRaises(BadValue) as caught:
                decode(state, Everything)
            self.assertIn(place, str(caught.exception))
        with self.assertRaisesRegex(BadValue, "no field 'other'"):
            decode({**right, "other": 1}, Everything)
        with self.assertRaisesRegex(BadValue, "whole"):
            decode({}, Everything)

    def test_the_schema_says_the_same(self) -> None:
        @dataclass
        class Seat:
            row: str = field(metadata={"readOnly": True})
            price: float = field(default=10.0, metadata={"minimum": 0})
            tags: List[str] = field(default_factory=list)
            holder: Optional[str] = None

        self.assertEqual(
            schema_of(Seat),
            {
                "type": "object",
                "properties": {
                    "row": {"type": "string", "readOnly": True},
                    "price": {"type": "number", "minimum": 0, "default": 10.0},
                    "tags": {"type": "array", "items": {"type": "string"}, "default": []},
                    "holder": {"type": "string"},
                },
                "required": ["row"],
                "additionalProperties": False,
            },
        )

    def test_a_field_without_a_schema_is_refused(self) -> None:
        @dataclass
        class Wrong:
            when: complex

        with self.assertRaisesRegex(BadValue, "complex"):
            schema_of(Wrong)
