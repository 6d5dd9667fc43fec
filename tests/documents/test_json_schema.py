"""`$jsonSchema`: which documents fit a schema, and which schemas are refused."""

import re
from datetime import UTC, datetime

import pytest
from bson import Decimal128

from consona.documents.errors import OperatorError, PatternTooSlow
from consona.documents.filters import parse_filter
from consona.documents.json_schema import parse_schema

DAY = datetime(2024, 5, 1, tzinfo=UTC)


def of(schema):
    return {"properties": {"a": schema}}


@pytest.mark.parametrize(
    ("schema", "fitting", "others"),
    [
        ({}, [{}, {"a": 1}], []),
        ({"required": ["a", "b"]}, [{"a": None, "b": 1}], [{"a": 1}, {}]),
        (of({"bsonType": "string"}), [{"a": "x"}, {}], [{"a": 1}, {"a": None}, {"a": ["x"]}]),
        (of({"bsonType": ["int", "null"]}), [{"a": 1}, {"a": None}], [{"a": 1.0}, {"a": 2**40}]),
        (of({"bsonType": "number"}), [{"a": 1}, {"a": 1.5}, {"a": Decimal128("1")}], [{"a": True}]),
        (of({"bsonType": "date"}), [{"a": DAY}], [{"a": "2024-05-01"}]),
        (of({"type": "number"}), [{"a": 2**40}], [{"a": "1"}]),
        (of({"type": ["object", "array"]}), [{"a": {}}, {"a": []}], [{"a": 1}]),
        (of({"enum": ["x", 1, None]}), [{"a": 1.0}, {"a": None}, {}], [{"a": "y"}, {"a": True}]),
        (of({"minimum": 1, "maximum": 3}), [{"a": 1}, {"a": 3.0}, {"a": "text"}], [{"a": 0.9}, {"a": 4}]),
        (of({"minimum": 1, "exclusiveMinimum": True}), [{"a": 1.1}], [{"a": 1}]),
        (of({"maximum": 3, "exclusiveMaximum": True}), [{"a": Decimal128("2.9")}], [{"a": 3}]),
        (of({"multipleOf": 2}), [{"a": 4}, {"a": -6.0}, {"a": "x"}], [{"a": 3}, {"a": float("nan")}]),
        (of({"multipleOf": Decimal128("0.1")}), [{"a": Decimal128("0.3")}], [{"a": Decimal128("0.35")}]),
        (of({"minLength": 1, "maxLength": 2}), [{"a": "ab"}, {"a": 5}], [{"a": ""}, {"a": "abc"}]),
        (of({"pattern": "^x"}), [{"a": "xy"}, {"a": 5}], [{"a": "yx"}]),
        (of({"minItems": 1, "maxItems": 2}), [{"a": [1]}, {"a": "x"}], [{"a": []}, {"a": [1, 2, 3]}]),
        (of({"uniqueItems": True}), [{"a": [1, 2]}], [{"a": [1, 1.0]}]),
        (of({"items": {"bsonType": "int"}}), [{"a": [1, 2]}, {"a": []}, {"a": 5}], [{"a": [1, "x"]}]),
        (of({"items": [{"type": "string"}], "additionalItems": False}), [{"a": ["x"]}], [{"a": ["x", 1]}, {"a": [1]}]),
        (of({"minProperties": 1, "maxProperties": 1}), [{"a": {"x": 1}}], [{"a": {}}, {"a": {"x": 1, "y": 2}}]),
        (of({"properties": {"b": {"type": "string"}}, "required": ["b"]}), [{"a": {"b": "x"}}], [{"a": {}}]),
        ({"properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}], [{"a": 1, "b": 2}]),
        ({"additionalProperties": {"type": "number"}}, [{"a": 1}], [{"a": "x"}]),
        (
            {"patternProperties": {"^n_": {"type": "number"}}, "additionalProperties": False},
            [{"n_1": 1}],
            [{"n_1": "x"}, {"x": 1}],
        ),
        ({"dependencies": {"card": ["address"]}}, [{"card": 1, "address": 2}, {"address": 1}], [{"card": 1}]),
        ({"dependencies": {"a": {"properties": {"b": {"type": "number"}}}}}, [{"b": "x"}], [{"a": 1, "b": "x"}]),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1, "b": 1}], [{"a": 1}]),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}], [{}]),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}], [{"a": 1, "b": 1}, {}]),
        ({"not": {"required": ["a"]}}, [{}], [{"a": 1}]),
        ({"title": "A thing", "description": "with words"}, [{}], []),
    ],
    ids=str,
)
def test_a_schema_lets_pass_what_fits(schema, fitting, others):
    matches = parse_filter({"$jsonSchema": schema}).matches
    assert [document for document in fitting if not matches(document)] == []
    assert [document for document in others if matches(document)] == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "a schema is a document"),
        ({"$ref": "#"}, "'$ref' is no keyword"),
        ({"format": "email"}, "'format' is no keyword"),
        (of({"type": "integer"}), "knows no type 'integer'"),
        (of({"type": "string", "bsonType": "string"}), "stand side by side"),
        (of({"exclusiveMinimum": True}), "stands without minimum"),
        (of({"minimum": 1, "exclusiveMinimum": 5}), "is true or false"),
        (of({"minimum": "1"}), "minimum is a number"),
        (of({"multipleOf": 0}), "is above 0"),
        (of({"maxLength": -1}), "whole number from 0"),
        (of({"pattern": "("}), "not valid"),
        ({"required": []}, "at least one name"),
        ({"required": ["a", "a"]}, "a name twice"),
        ({"enum": []}, "at least one value"),
        ({"anyOf": []}, "at least one schema"),
        ({"title": 5}, "title is text"),
        ({"properties": []}, "a document of schemas"),
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_says_why(schema, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        parse_schema(schema)


def test_a_schema_is_not_nested_without_end():
    schema = {}
    for _ in range(102):
        schema = {"not": schema}
    with pytest.raises(OperatorError, match="nested more than 100"):
        parse_schema(schema)


def test_a_pattern_of_a_schema_takes_bounded_time():
    with pytest.raises(PatternTooSlow):
        parse_schema(of({"pattern": "(a|aa)+$"}))({"a": "a" * 5000 + "!"})


def test_a_text_index_and_a_text_search_are_refused():
    from consona.documents.indexes import parse_index

    with pytest.raises(OperatorError, match=r"no kind of index here.*\$regex"):
        parse_index([("name", "text")], {})
    with pytest.raises(OperatorError, match=r"\$text is refused: no engine here keeps a text index"):
        parse_filter({"$text": {"$search": "tea"}})
