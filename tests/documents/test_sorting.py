"""In which order documents come."""

import random

import pytest

from consona.documents.collation import parse_collation
from consona.documents.errors import OperatorError
from consona.documents.sorting import parse_sort

MIXED = [{"n": 0}, {"n": 1, "a": None}, {"n": 2, "a": 2}, {"n": 3, "a": "x"}, {"n": 4, "a": {}}, {"n": 5, "a": True}]


def numbers(documents):
    return [document["n"] for document in documents]


def test_types_have_their_order_and_a_missing_field_is_null():
    shuffled = [MIXED[3], MIXED[1], MIXED[5], MIXED[0], MIXED[4], MIXED[2]]
    assert numbers(parse_sort("a").sorted(shuffled)) == [1, 0, 2, 3, 4, 5]
    assert numbers(parse_sort("a", -1).sorted(shuffled)) == [5, 4, 3, 2, 1, 0]


def test_an_array_sorts_by_its_smallest_element_upwards_and_by_its_greatest_downwards():
    documents = [{"n": 0, "a": [1, 9]}, {"n": 1, "a": 5}, {"n": 2, "a": []}, {"n": 3}]
    assert numbers(parse_sort("a").sorted(documents)) == [2, 3, 0, 1]
    assert numbers(parse_sort("a", -1).sorted(documents)) == [0, 1, 3, 2]


def test_a_path_goes_through_arrays():
    documents = [{"n": 0, "a": [{"b": 3}, {"b": 7}]}, {"n": 1, "a": {"b": 5}}, {"n": 2, "a": [1]}]
    assert numbers(parse_sort("a.b").sorted(documents)) == [2, 0, 1]
    assert numbers(parse_sort("a.b", -1).sorted(documents)) == [0, 1, 2]


def test_several_fields_and_what_is_equal_stays_in_order():
    documents = [
        {"n": 0, "a": 1, "b": 1},
        {"n": 1, "a": 0, "b": 2},
        {"n": 2, "a": 1, "b": 2},
        {"n": 3, "a": 1.0, "b": 1},
    ]
    assert numbers(parse_sort([("a", 1), ("b", -1)]).sorted(documents)) == [1, 2, 0, 3]
    assert numbers(parse_sort({"a": -1}).sorted(documents)) == [0, 2, 3, 1]


@pytest.mark.parametrize("sort", [[("a", 1)], [("a", -1)], [("a", 1), ("b", -1)]])
@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_the_first_ones_are_those_of_the_whole_order(sort, count):
    rng = random.Random(1)
    documents = [{"n": n, "a": rng.randrange(9), "b": rng.random()} for n in range(4000)]
    parsed = parse_sort(sort)
    assert parsed.first(iter(documents), count) == parsed.sorted(documents)[:count]


def test_a_collation_orders_texts():
    documents = [{"n": 0, "a": "b"}, {"n": 1, "a": "A"}, {"n": 2, "a": "C"}]
    collation = parse_collation({"locale": "en", "strength": 2})
    assert numbers(parse_sort("a", collation=collation).sorted(documents)) == [1, 0, 2]
    assert numbers(parse_sort("a").sorted(documents)) == [1, 2, 0]


@pytest.mark.parametrize(
    "raw", [5, [("a", 2)], [("a", True)], [("a", 1), ("a", -1)], [("$a", 1)], [(1, 1)], [("", 1)], [("a", 1, 2)]]
)
def test_a_sort_that_cannot_be_understood_is_refused(raw):
    with pytest.raises(OperatorError):
        parse_sort(raw)
