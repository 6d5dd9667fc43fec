"""Everything that is wrong is named, where it is."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Required, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.validation import wrong_fields


class Line(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    unit_price: float
    name: Annotated[str, msgspec.Meta(min_length=2)]


@dataclasses.dataclass
class Place:
    city: str
    street: str = ""


class Extra(TypedDict, total=False):
    note: Required[str]
    count: int


class Order(msgspec.Struct):
    lines: list[Line]
    place: Place | None = None
    by_day: dict[str, list[int]] = {}
    pair: tuple[int, str] | None = None
    extra: Extra | None = None


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Range(msgspec.Struct):
    low: int
    high: int

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("low is above high")


def paths(value, declared):
    return {problem.path: problem.message for problem in wrong_fields(value, declared, "body")}


def test_each_member_of_a_deep_structure():
    value = {
        "lines": [{"unitPrice": "x", "name": "a"}, {"unitPrice": 1, "name": "ok"}, 7, {"name": "ok", "unit_price": 1}],
        "place": {"street": 3},
        "by_day": {"mon": [1, "x"], "tue": None},
        "pair": ["x", "y"],
        "extra": {"count": "x"},
    }
    assert paths(value, Order) == {
        "body.lines[0].unitPrice": "expected float, got str",
        "body.lines[0].name": "expected str of length >= 2",
        "body.lines[2]": "expected object, got int",
        "body.lines[3].unitPrice": "is missing",
        "body.lines[3].unit_price": "is not known here",
        "body.place.city": "is missing",
        "body.place.street": "expected str, got int",
        "body.by_day.mon[1]": "expected int, got str",
        "body.by_day.tue": "expected array, got null",
        "body.pair[0]": "expected int, got str",
        "body.extra.note": "is missing",
        "body.extra.count": "expected int, got str",
    }


def test_what_is_right_has_no_problems():
    assert paths({"lines": []}, Order) == {}


@pytest.mark.parametrize("value", [None, 3, "x", [], True])
def test_the_whole_may_be_wrong(value):
    assert list(paths(value, Order)) == ["body"]


def test_members_of_a_union_are_told_apart_by_their_tag():
    assert paths([{"type": "Cat", "lives": "x"}, {"type": "Cow"}, {}], list[Cat | Dog]) == {
        "body[0].lives": "expected int, got str",
        "body[1].type": "invalid value 'Cow'",
        "body[2].type": "is missing",
    }


def test_a_rule_over_several_fields_is_the_objects():
    assert paths({"low": 2, "high": 1}, Range) == {"body": "low is above high"}


def test_a_structure_that_contains_itself_ends():
    value: list = []
    for _ in range(300):
        value = [value]
    assert paths({"lines": value}, Order)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["lines", "place", "name", "unitPrice", "by_day", "city"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(anything)
def test_something_is_named_exactly_when_something_is_wrong(value):
    try:
        msgspec.convert(value, Order)
        right = True
    except msgspec.ValidationError:
        right = False
    assert (paths(value, Order) == {}) is right
