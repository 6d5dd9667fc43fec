"""Arithmetic, texts, choices and types: what each operator gives, and what it refuses."""

import math
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from bson import Decimal128, ObjectId, Regex

from consona.documents.errors import OperatorError, PatternTooSlow
from consona.documents.values import MISSING
from documents.expressions.expression_tools import check, value_of

DAY = datetime(2024, 5, 1, 12, tzinfo=UTC)
D = Decimal128


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"$add": [1, 2, 3]}, 6),
        ({"$add": [1, 2.5]}, 3.5),
        ({"$add": [1, None]}, None),
        ({"$add": ["$missing", 1]}, None),
        ({"$add": []}, 0),
        ({"$add": [D("1.10"), 1]}, D("2.10")),
        ({"$add": [2**63 - 1, 1]}, 2.0**63),
        ({"$add": [DAY, 1500]}, DAY + timedelta(milliseconds=1500)),
        ({"$subtract": [5, 7]}, -2),
        ({"$subtract": [DAY, DAY - timedelta(hours=1)]}, 3_600_000),
        ({"$subtract": [DAY, 1000]}, DAY - timedelta(seconds=1)),
        ({"$multiply": [3, 4, 0.5]}, 6.0),
        ({"$multiply": [2**62, 4]}, 2.0**64),
        ({"$divide": [6, 3]}, 2.0),
        ({"$divide": [D("1"), 8]}, D("0.125")),
        ({"$mod": [-7, 3]}, -1),
        ({"$mod": [7, -3]}, 1),
        ({"$mod": [7.5, 2]}, 1.5),
        ({"$abs": -5}, 5),
        ({"$abs": [D("-1.50")]}, D("1.50")),
        ({"$ceil": 2.1}, 3.0),
        ({"$ceil": -2.8}, -2.0),
        ({"$floor": -2.1}, -3.0),
        ({"$floor": 4}, 4),
        ({"$round": [2.5]}, 2.0),
        ({"$round": [3.5, 0]}, 4.0),
        ({"$round": [19.25, 1]}, 19.2),
        ({"$round": [1234, -2]}, 1200),
        ({"$round": [1250, -2]}, 1200),
        ({"$round": [D("28.73"), 1]}, D("28.7")),
        ({"$round": [math.inf, 2]}, math.inf),
        ({"$trunc": [7.85, 1]}, 7.8),
        ({"$trunc": [-129, -1]}, -120),
        ({"$sqrt": 25}, 5.0),
        ({"$pow": [2, 10]}, 1024),
        ({"$pow": [2, 0.5]}, math.sqrt(2)),
        ({"$pow": [2, 64]}, 2.0**64),
        ({"$pow": [-1, 10**12 + 1]}, -1),
        ({"$pow": [10, 10**9]}, math.inf),
        ({"$pow": [5, -1]}, 0.2),
        ({"$exp": 0}, 1.0),
        ({"$ln": 1}, 0.0),
        ({"$log": [100, 10]}, 2.0),
        ({"$log10": 1000}, 3.0),
        ({"$sin": 0}, 0.0),
        ({"$degreesToRadians": 180}, math.pi),
        ({"$atan2": [0, 1]}, 0.0),
        ({"$bitAnd": [6, 3]}, 2),
        ({"$bitOr": [6, 3]}, 7),
        ({"$bitXor": [6, 3]}, 5),
        ({"$bitNot": 0}, -1),
        ({"$sum": [1, "x", 2.5]}, 3.5),
        ({"$sum": "$list"}, 6),
        ({"$sum": ["$list", 4]}, 4),
        ({"$sum": "$missing"}, 0),
        ({"$sum": [0.1] * 10}, 1.0),
        ({"$avg": "$list"}, 2.0),
        ({"$avg": ["x"]}, None),
        ({"$max": "$list"}, 3),
        ({"$min": [3, None, "a", 2]}, 2),
        ({"$stdDevPop": [2, 4, 4, 4, 5, 5, 7, 9]}, 2.0),
        ({"$stdDevSamp": [1]}, None),
    ],
    ids=str,
)
def test_arithmetic_gives(expression, expected):
    check(expression, {"list": [1, 2, 3]}, expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"$divide": [1, 0]}, "$divide cannot divide by 0"),
        ({"$mod": [1, 0]}, "$mod cannot divide by 0"),
        ({"$add": [DAY, DAY]}, "takes one date at most"),
        ({"$add": [DAY, 10**18]}, "leaves the years 1 to 9999"),
        ({"$add": [DAY, math.nan]}, "leaves the years 1 to 9999"),
        ({"$multiply": ["2", 1]}, "$multiply takes numbers"),
        ({"$sqrt": -1}, "$sqrt takes numbers from 0 on"),
        ({"$ln": 0}, "$ln takes numbers above 0"),
        ({"$log": [5, 1]}, "no base of a logarithm"),
        ({"$pow": [0, -1]}, "0 has no negative powers"),
        ({"$round": [1, 101]}, "places -20 to 100"),
        ({"$acos": 2}, "$acos is not defined"),
        ({"$sin": D("1")}, "$sin is not made for a Decimal128"),
        ({"$bitAnd": [1.5]}, "takes ints"),
    ],
    ids=str,
)
def test_arithmetic_refuses(expression, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        value_of(expression)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"$concat": ["$name", " - ", "x"]}, "Grüße - x"),
        ({"$concat": ["a", None]}, None),
        ({"$toUpper": "$name"}, "GRüßE"),
        ({"$toLower": None}, ""),
        ({"$toUpper": 5}, "5"),
        ({"$toLower": DAY}, "2024-05-01t12:00:00.000z"),
        ({"$strLenCP": "$name"}, 5),
        ({"$strLenBytes": "$name"}, 7),
        ({"$substrCP": ["$name", 1, 3]}, "rüß"),
        ({"$substrCP": ["$name", 9, 3]}, ""),
        ({"$substrBytes": ["hello", 1, -1]}, "ello"),
        ({"$substr": [None, 0, 1]}, ""),
        ({"$strcasecmp": ["ABC", "abd"]}, -1),
        ({"$indexOfCP": ["$name", "ß"]}, 3),
        ({"$indexOfBytes": ["$name", "ß"]}, 4),
        ({"$indexOfCP": ["foo", "o", 2]}, 2),
        ({"$indexOfCP": ["foo", "o", 5, 1]}, -1),
        ({"$indexOfCP": [None, "o"]}, None),
        ({"$split": ["a,b,,c", ","]}, ["a", "b", "", "c"]),
        ({"$trim": {"input": " \n x \t"}}, "x"),
        ({"$ltrim": {"input": "ggreat", "chars": "g"}}, "reat"),
        ({"$rtrim": {"input": "xgg", "chars": "g"}}, "x"),
        ({"$replaceOne": {"input": "aa", "find": "a", "replacement": "b"}}, "ba"),
        ({"$replaceAll": {"input": "aa", "find": "a", "replacement": "b"}}, "bb"),
        ({"$replaceAll": {"input": "aa", "find": None, "replacement": "b"}}, None),
        ({"$regexMatch": {"input": "$name", "regex": "^gr", "options": "i"}}, True),
        ({"$regexMatch": {"input": None, "regex": "x"}}, False),
        ({"$regexMatch": {"input": "x", "regex": re.compile("X", re.IGNORECASE)}}, True),
        ({"$regexFind": {"input": "cafe42", "regex": r"(\d)(x)?"}}, {"match": "4", "idx": 4, "captures": ["4", None]}),
        ({"$regexFind": {"input": "cafe", "regex": "z"}}, None),
        (
            {"$regexFindAll": {"input": "ab", "regex": Regex("")}},
            [{"match": "", "idx": at, "captures": []} for at in (0, 1, 2)],
        ),
    ],
    ids=str,
)
def test_texts_give(expression, expected):
    check(expression, {"name": "Grüße"}, expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"$concat": ["a", 1]}, "$concat takes text"),
        ({"$strLenCP": None}, "$strLenCP takes text"),
        ({"$substrBytes": ["ß", 0, 1]}, "would cut a letter in two"),
        ({"$split": ["a", ""]}, "separator that is not empty"),
        ({"$substrCP": ["a", -1, 1]}, "at least 0"),
        ({"$regexMatch": {"input": "a", "regex": "("}}, "not valid"),
        ({"$regexMatch": {"input": 5, "regex": "a"}}, "takes text as its input"),
        ({"$regexFind": {"input": "a", "regex": Regex("a", "i"), "options": "m"}}, "has options twice"),
    ],
    ids=str,
)
def test_texts_refuse(expression, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        value_of(expression)


def test_a_text_does_not_grow_without_end():
    doubled = {"$reduce": {"input": {"$range": [0, 60]}, "initialValue": "xx", "in": {"$concat": ["$$value"] * 2}}}
    with pytest.raises(OperatorError, match="would make a text of more than"):
        value_of(doubled)
    with pytest.raises(OperatorError, match="would make a text of more than"):
        value_of({"$replaceAll": {"input": "x" * 10_000, "find": "x", "replacement": "y" * 10_000}})


def test_a_pattern_takes_bounded_time():
    with pytest.raises(PatternTooSlow):
        value_of({"$regexMatch": {"input": "a" * 5000 + "!", "regex": "(a|aa)+$"}})


def test_patterns_from_documents_share_one_time():
    expression = {"$map": {"input": {"$range": [0, 5]}, "in": {"$regexMatch": {
        "input": "a" * 5000 + "!", "regex": {"$concat": ["(a|aa)+$|", {"$toString": "$$this"}]}}}}}  # fmt: skip
    with pytest.raises(PatternTooSlow):
        value_of(expression)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"$eq": [1, 1.0]}, True),
        ({"$eq": ["$missing", None]}, False),
        ({"$lt": ["$missing", None]}, True),
        ({"$gt": ["a", 5]}, True),
        ({"$gte": [math.nan, -5]}, False),
        ({"$eq": [math.nan, math.nan]}, True),
        ({"$ne": [True, 1]}, True),
        ({"$lte": [[1, 2], [1, 3]]}, True),
        ({"$cmp": [1, 2]}, -1),
        ({"$cmp": [{"a": 1}, {"a": 1}]}, 0),
        ({"$and": []}, True),
        ({"$or": []}, False),
        ({"$and": [1, "x", []]}, True),
        ({"$not": [0]}, True),
        ({"$cond": [None, 1, 2]}, 2),
        ({"$cond": {"if": True, "then": 1, "else": {"$divide": [1, "$zero"]}}}, 1),
        ({"$or": [True, {"$divide": [1, "$zero"]}]}, True),
        ({"$ifNull": ["$missing", None, 3]}, 3),
        ({"$ifNull": ["$missing", "$gone"]}, MISSING),
        ({"$switch": {"branches": [{"case": False, "then": 1}, {"case": 1, "then": 2}], "default": 3}}, 2),
        ({"$type": "$missing"}, "missing"),
        ({"$type": 2**40}, "long"),
        ({"$isNumber": D("1")}, True),
        ({"$isNumber": "1"}, False),
        ({"$toInt": "42"}, 42),
        ({"$toInt": 2.9}, 2),
        ({"$toLong": DAY}, 1714564800000),
        ({"$toDouble": "1.5e3"}, 1500.0),
        ({"$toDecimal": "24.990"}, D("24.990")),
        ({"$toString": 3.0}, "3"),
        ({"$toString": DAY}, "2024-05-01T12:00:00.000Z"),
        ({"$toString": True}, "true"),
        ({"$toBool": "false"}, True),
        ({"$toBool": 0}, False),
        ({"$toDate": 1714564800000}, DAY),
        ({"$toDate": "2024-05-01T14:00:00+02:00"}, DAY),
        ({"$toObjectId": "f" * 24}, ObjectId("f" * 24)),
        ({"$toUUID": str(UUID(int=7))}, UUID(int=7)),
        ({"$toInt": None}, None),
        ({"$convert": {"input": "x", "to": "int", "onError": "bad"}}, "bad"),
        ({"$convert": {"input": None, "to": 16, "onNull": -1}}, -1),
    ],
    ids=str,
)
def test_choices_and_types_give(expression, expected):
    check(expression, {"zero": 0}, expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"$switch": {"branches": [{"case": False, "then": 1}]}}, "no branch fits"),
        ({"$toInt": "4.5"}, "cannot make a value of type string into int: the text is no whole number"),
        ({"$toInt": 2**31}, "does not fit into 32 bits"),
        ({"$toLong": math.inf}, "not finite"),
        ({"$toDouble": "abc"}, "the text is no number"),
        ({"$toDate": "yesterday"}, "the text is no date"),
        ({"$toObjectId": "xyz"}, "24 hexadecimal digits"),
        ({"$toDate": True}, "cannot make a value of type bool into date"),
        ({"$convert": {"input": 1, "to": "regex"}}, "cannot convert to this type"),
    ],
    ids=str,
)
def test_choices_and_types_refuse(expression, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        value_of(expression)
