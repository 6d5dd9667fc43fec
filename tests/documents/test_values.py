"""MongoDB's order over values, and what counts as equal."""

import math
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from bson import Binary, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from consona.documents.values import MISSING, order, same, type_name

# From the lowest to the highest; those of one line are equal.
ASCENDING = [
    [MinKey()],
    [MISSING],
    [None],
    [math.nan, Decimal128("NaN")],
    [-math.inf, Decimal128("-Infinity")],
    [-(2**63)],
    [-1.5, Decimal128("-1.50")],
    [0, 0.0, -0.0, Decimal128("0")],
    [0.1],
    [Decimal128("0.11")],
    [1, 1.0, Decimal128("1.0")],
    [2**53],
    [2**53 + 1],
    [math.inf, Decimal128("Infinity")],
    [""],
    ["A"],
    ["a"],
    ["aa"],
    ["b"],
    ["é"],
    ["\U0001f600"],
    [{}],
    [{"a": 1}],
    [{"a": 1, "b": 1}],
    [{"b": 1}],
    [{"a": "x"}],
    [[]],
    [[1], [1.0]],
    [[1, 0]],
    [[2]],
    [["a"]],
    [b"zz"],
    [b"aaa"],
    [UUID(int=1)],
    [ObjectId("0" * 24)],
    [ObjectId("f" * 24)],
    [False],
    [True],
    [datetime(1, 1, 1, tzinfo=UTC)],
    [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)],
    [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1)],
    [Timestamp(1, 1)],
    [Timestamp(1, 2)],
    [Regex("a")],
    [Regex("a", "i")],
    [MaxKey()],
]


def test_values_of_all_types_have_one_order():
    flat = [(place, value) for place, line in enumerate(ASCENDING) for value in line]
    shuffled = random.Random(5).sample(flat, len(flat))
    assert [place for place, _ in sorted(shuffled, key=lambda pair: order(pair[1]))] == [place for place, _ in flat]


@pytest.mark.parametrize("line", [line for line in ASCENDING if len(line) > 1], ids=repr)
def test_equal_values_have_equal_keys_that_hash_alike(line):
    assert len({order(value) for value in line}) == 1
    assert all(same(one, other) for one in line for other in line)


def test_a_bool_is_no_number():
    assert not same(True, 1)
    assert not same([True], [1])
    assert not same({"a": False}, {"a": 0})


def test_the_order_of_fields_counts():
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_binary_data_compares_by_length_then_kind_then_bytes():
    assert order(b"b") < order(b"aa") < order(Binary(b"aa", 5))


@pytest.mark.parametrize(
    ("value", "name"),
    [(1, "int"), (2**31, "long"), (-(2**31) - 1, "long"), (1.0, "double"), (True, "bool"), (MISSING, "missing")],
)
def test_types_have_the_names_that_mongodb_gives_them(value, name):
    assert type_name(value) == name
