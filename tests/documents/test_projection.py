"""What a projection gives out of a document."""

import pytest

from consona.documents.errors import OperatorError
from consona.documents.filters import parse_filter
from consona.documents.projection import parse_projection

DOCUMENT = {
    "_id": 1,
    "name": "Tea",
    "size": {"h": 10, "w": 5, "uom": "cm"},
    "stock": [{"house": "A", "qty": 5}, {"house": "C", "qty": 15}, 7],
    "tags": ["hot", "green", "dry"],
}


def projected(raw, document=DOCUMENT, query=None):
    return parse_projection(raw).apply(document, None if query is None else parse_filter(query))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"name": 1}, {"_id": 1, "name": "Tea"}),
        ({"name": True, "_id": 0}, {"name": "Tea"}),
        (["name"], {"_id": 1, "name": "Tea"}),
        ([], {"_id": 1}),
        ({"_id": 1}, {"_id": 1}),
        ({"size.uom": 1, "_id": 0}, {"size": {"uom": "cm"}}),
        ({"size": {"uom": 1, "h": 1}, "_id": 0}, {"size": {"h": 10, "uom": "cm"}}),
        ({"stock.qty": 1, "_id": 0}, {"stock": [{"qty": 5}, {"qty": 15}]}),
        ({"name.x": 1, "_id": 0}, {}),
        ({"nothing": 1, "_id": 0}, {}),
        ({"size": 0, "stock": 0, "tags": 0}, {"_id": 1, "name": "Tea"}),
        ({"_id": 0, "size": 0, "stock": 0, "tags": 0}, {"name": "Tea"}),
        (
            {"size.h": 0, "stock.qty": 0, "tags": 0, "name": 0, "_id": 0},
            {"size": {"w": 5, "uom": "cm"}, "stock": [{"house": "A"}, {"house": "C"}, 7]},
        ),
        ({"tags": {"$slice": 1}, "_id": 0, "name": 1}, {"name": "Tea", "tags": ["hot"]}),
        ({"tags": {"$slice": -1}, "size": 0, "stock": 0}, {"_id": 1, "name": "Tea", "tags": ["dry"]}),
        ({"tags": {"$slice": [1, 1]}, "_id": 0, "name": 1}, {"name": "Tea", "tags": ["green"]}),
        ({"tags": {"$slice": [-2, 5]}, "_id": 0, "name": 1}, {"name": "Tea", "tags": ["green", "dry"]}),
        ({"stock": {"$elemMatch": {"qty": {"$gt": 5}}}, "_id": 0}, {"stock": [{"house": "C", "qty": 15}]}),
        ({"stock": {"$elemMatch": {"qty": 99}}, "_id": 0}, {}),
        ({"tags": {"$elemMatch": {"$gt": "green"}}, "_id": 0}, {"tags": ["hot"]}),
    ],
)
def test_what_is_given_out(raw, expected):
    assert projected(raw) == expected
    assert list(projected(raw)) == list(expected)


def test_a_slice_alone_leaves_the_other_fields_in():
    assert projected({"tags": {"$slice": 2}}) == {**DOCUMENT, "tags": ["hot", "green"]}


def test_the_positional_operator_gives_the_element_that_the_filter_found():
    assert projected({"tags.$": 1, "_id": 0}, query={"tags": "green"}) == {"tags": ["green"]}
    query = {"stock": {"$elemMatch": {"qty": {"$gt": 5}}}}
    assert projected({"stock.$": 1, "_id": 0}, query=query) == {"stock": [{"house": "C", "qty": 15}]}
    with pytest.raises(OperatorError, match="found no element"):
        projected({"tags.$": 1}, query={"name": "Tea"})


def test_no_projection_gives_whole_documents():
    assert parse_projection(None) is None
    assert parse_projection({}) is None


def test_the_document_itself_stays_as_it_is():
    before = repr(DOCUMENT)
    projected({"stock.qty": 0, "tags": {"$slice": 1}})
    assert repr(DOCUMENT) == before


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"a": 1, "b": 0}, "all 1, or all 0"),
        ({"a": 1, "a.b": 1}, "parent"),
        ({"a": {"$sliced": 1}}, r"\$slice"),
        ({"a": {"$slice": "x"}}, "whole number"),
        ({"a": {"$slice": [1, 0]}}, "at least one"),
        ({"a": "x"}, "neither 1, 0"),
        ({"a.$": 1, "b.$": 1}, "one positional"),
        ({"$a": 1}, "no field"),
        ("name", "list of fields"),
        ({5: 1}, "by text"),
    ],
)
def test_a_projection_that_cannot_be_understood_says_why(raw, words):
    with pytest.raises(OperatorError, match=words):
        parse_projection(raw)
