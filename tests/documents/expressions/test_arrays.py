"""Arrays, sets and documents as values: what each operator gives, and what it refuses."""

import re

import pytest

from consona.documents.errors import OperatorError
from consona.documents.values import MISSING
from documents.expressions.expression_tools import check, value_of

DOCUMENT = {"n": [3, 1, 2], "people": [{"name": "Bob", "age": 20}, {"name": "Ada"}, {"name": "Cy", "age": 5}, 7]}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"$arrayElemAt": ["$n", 0]}, 3),
        ({"$arrayElemAt": ["$n", -1]}, 2),
        ({"$arrayElemAt": ["$n", 5]}, MISSING),
        ({"$arrayElemAt": [None, 0]}, None),
        ({"$first": "$n"}, 3),
        ({"$last": "$n"}, 2),
        ({"$first": [[]]}, MISSING),
        ({"$firstN": {"input": "$n", "n": 2}}, [3, 1]),
        ({"$lastN": {"input": "$n", "n": 2}}, [1, 2]),
        ({"$maxN": {"input": "$n", "n": 2}}, [3, 2]),
        ({"$minN": {"input": [None, 5, 4], "n": 5}}, [4, 5]),
        ({"$concatArrays": ["$n", [9]]}, [3, 1, 2, 9]),
        ({"$concatArrays": ["$n", "$missing"]}, None),
        ({"$in": [2, "$n"]}, True),
        ({"$in": ["$missing", [None]]}, False),
        ({"$in": [1.0, [1, 2]]}, True),
        ({"$indexOfArray": ["$n", 2]}, 2),
        ({"$indexOfArray": ["$n", 3, 1]}, -1),
        ({"$indexOfArray": ["$missing", 3]}, None),
        ({"$isArray": ["$n"]}, True),
        ({"$isArray": "x"}, False),
        ({"$range": [0, 10, 4]}, [0, 4, 8]),
        ({"$range": [3, 0, -1]}, [3, 2, 1]),
        ({"$range": [0, -3]}, []),
        ({"$reverseArray": "$n"}, [2, 1, 3]),
        ({"$size": "$n"}, 3),
        ({"$slice": ["$n", 2]}, [3, 1]),
        ({"$slice": ["$n", -2]}, [1, 2]),
        ({"$slice": ["$n", -5, 2]}, [3, 1]),
        ({"$slice": ["$n", 1, 1]}, [1]),
        ({"$zip": {"inputs": [[1, 2, 3], ["a"]]}}, [[1, "a"]]),
        ({"$zip": {"inputs": [[1, 2], ["a"]], "useLongestLength": True}}, [[1, "a"], [2, None]]),
        ({"$zip": {"inputs": [[1, 2], ["a"]], "useLongestLength": True, "defaults": [0, "z"]}}, [[1, "a"], [2, "z"]]),
        ({"$map": {"input": "$n", "as": "x", "in": {"$multiply": ["$$x", 2]}}}, [6, 2, 4]),
        ({"$map": {"input": "$people", "in": "$$this.age"}}, [20, None, 5, None]),
        ({"$map": {"input": None, "in": 1}}, None),
        ({"$filter": {"input": "$n", "cond": {"$gte": ["$$this", 2]}}}, [3, 2]),
        ({"$filter": {"input": "$n", "as": "x", "cond": {"$gte": ["$$x", 2]}, "limit": 1}}, [3]),
        ({"$reduce": {"input": "$n", "initialValue": 0, "in": {"$add": ["$$value", "$$this"]}}}, 6),
        ({"$reduce": {"input": [], "initialValue": "x", "in": 1}}, "x"),
        ({"$sortArray": {"input": "$n", "sortBy": 1}}, [1, 2, 3]),
        ({"$sortArray": {"input": "$n", "sortBy": -1}}, [3, 2, 1]),
        (
            {"$sortArray": {"input": "$people", "sortBy": {"age": 1, "name": 1}}},
            [7, {"name": "Ada"}, {"name": "Cy", "age": 5}, {"name": "Bob", "age": 20}],
        ),
        ({"$setUnion": [[1, 2], [2, 3], [1.0]]}, [1, 2, 3]),
        ({"$setIntersection": [[1, 2, 2], [2, 3]]}, [2]),
        ({"$setDifference": [[1, 2, 1], [2]]}, [1]),
        ({"$setEquals": [[1, 2, 1], [2, 1]]}, True),
        ({"$setIsSubset": [[1], [1, 2]]}, True),
        ({"$setUnion": [[1], None]}, None),
        ({"$anyElementTrue": [[0, None, 1]]}, True),
        ({"$allElementsTrue": [[1, 0]]}, False),
        ({"$mergeObjects": [{"a": 1, "b": 2}, None, {"b": 3}]}, {"a": 1, "b": 3}),
        ({"$objectToArray": {"a": 1}}, [{"k": "a", "v": 1}]),
        ({"$arrayToObject": [[["a", 1], ["b", 2], ["a", 3]]]}, {"a": 3, "b": 2}),
        ({"$arrayToObject": {"$literal": [{"k": "a", "v": 1}]}}, {"a": 1}),
        ({"$getField": "n"}, [3, 1, 2]),
        ({"$getField": {"field": {"$literal": "$x.y"}, "input": {"$literal": {"$x.y": 4}}}}, 4),
        ({"$getField": {"field": "x", "input": None}}, None),
        ({"$setField": {"field": "a.b", "input": {}, "value": 1}}, {"a.b": 1}),
        ({"$setField": {"field": "a", "input": {"a": 1, "b": 2}, "value": "$$REMOVE"}}, {"b": 2}),
        ({"$unsetField": {"field": "a", "input": {"a": 1, "b": 2}}}, {"b": 2}),
        ({"$bsonSize": {"a": 1}}, 12),
        ({"$binarySize": "ß"}, 2),
    ],
    ids=str,
)
def test_arrays_and_documents_give(expression, expected):
    check(expression, DOCUMENT, expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"$size": "$missing"}, "$size takes an array, not a value of type missing"),
        ({"$arrayElemAt": ["$n", 1.5]}, "takes a whole number as the place"),
        ({"$in": [1, 2]}, "$in takes an array"),
        ({"$range": [0, 10**9]}, "would make an array of more than"),
        ({"$range": [0, 1, 0]}, "a step other than 0"),
        ({"$slice": ["$n", 1, 0]}, "gives at least one element"),
        ({"$zip": {"inputs": []}}, "at least one array"),
        ({"$zip": {"inputs": [[1]], "defaults": [1]}}, "only with useLongestLength"),
        ({"$zip": {"inputs": [[1]], "useLongestLength": True, "defaults": [1, 2]}}, "as many defaults as arrays"),
        ({"$map": {"input": 5, "in": 1}}, "$map takes an array"),
        ({"$filter": {"input": [1], "cond": True, "limit": 0}}, "limit of at least 1"),
        ({"$sortArray": {"input": [], "sortBy": 2}}, "sorts by 1, by -1"),
        ({"$setIsSubset": [None, []]}, "$setIsSubset takes an array"),
        ({"$mergeObjects": [1]}, "$mergeObjects takes a document"),
        ({"$arrayToObject": [[["a", 1], {"k": "b", "v": 2}, 5]]}, "takes pairs"),
        ({"$arrayToObject": [[[1, 1]]]}, "keys that are text"),
        ({"$getField": "$n"}, "takes a name, and '$n' is a path"),
        ({"$firstN": {"input": [1], "n": 0}}, "an n of at least 1"),
    ],
    ids=str,
)
def test_arrays_and_documents_refuse(expression, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        value_of(expression, DOCUMENT)


def test_an_array_does_not_grow_without_end():
    doubled = {"$reduce": {"input": {"$range": [0, 60]}, "initialValue": [0], "in": {"$concatArrays": ["$$value"] * 2}}}
    with pytest.raises(OperatorError, match="would make an array of more than"):
        value_of(doubled)
