"""Filters: what each operator lets pass, and what is refused."""

import math
import re
from datetime import UTC, datetime

import pytest
from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex

from consona.documents.collation import parse_collation
from consona.documents.document import Literal
from consona.documents.errors import OperatorError
from consona.documents.filters import parse_filter

ID = ObjectId("507f1f77bcf86cd799439011")
DAY = datetime(2024, 5, 1, tzinfo=UTC)


def passes(query, document, collation=None):
    return parse_filter(query, parse_collation(collation)).matches(document)


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ({}, {}),
        (None, {"a": 1}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": Decimal128("1.0")}),
        ({"a": Decimal128("0.5")}, {"a": 0.5}),
        ({"a": 1}, {"a": [0, 1]}),
        ({"a": [0, 1]}, {"a": [0, 1]}),
        ({"a": [0, 1]}, {"a": [[0, 1]]}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": None}, {}),
        ({"a": None}, {"a": None}),
        ({"a": None}, {"a": [1, None]}),
        ({"a.b": None}, {"a": 5}),
        ({"a.b": None}, {"a": [{"b": 1}, {}]}),
        ({"a": {"$gte": None}}, {}),
        ({"a": math.nan}, {"a": math.nan}),
        ({"a": {"$gte": math.nan}}, {"a": math.nan}),
        ({"a": {"$gt": 5}}, {"a": [1, 6]}),
        ({"a": {"$gt": 5, "$lt": 3}}, {"a": [1, 6]}),
        ({"a": {"$lt": "b"}}, {"a": "a"}),
        ({"a": {"$lt": DAY}}, {"a": datetime(2023, 1, 1, tzinfo=UTC)}),
        ({"a": {"$gt": False}}, {"a": True}),
        ({"a": {"$gt": [1]}}, {"a": [1, 2]}),
        ({"a": {"$gt": {"b": 1}}}, {"a": {"b": 2}}),
        ({"a": {"$gt": MinKey()}}, {"a": "x"}),
        ({"a": {"$lt": MaxKey()}}, {"a": 5}),
        ({"a": {"$ne": 1}}, {}),
        ({"a": {"$ne": 1}}, {"a": [2, 3]}),
        ({"a": {"$in": [1, "x"]}}, {"a": "x"}),
        ({"a": {"$in": [None]}}, {}),
        ({"a": {"$in": [re.compile("^x")]}}, {"a": "xy"}),
        ({"a": {"$in": [[1, 2]]}}, {"a": [1, 2]}),
        ({"a": {"$nin": [1, 2]}}, {"a": 3}),
        ({"a": {"$nin": [1, 2]}}, {}),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"b": 2}),
        ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1, "b": 2}),
        ({"$nor": [{"a": 1}, {"b": 2}]}, {"a": 2, "b": 1}),
        ({"a": {"$not": {"$gt": 5}}}, {}),
        ({"a": {"$not": {"$gt": 5}}}, {"a": "text"}),
        ({"a": {"$not": re.compile("^x")}}, {"a": "yx"}),
        ({"a": {"$exists": True}}, {"a": None}),
        ({"a": {"$exists": True}}, {"a": []}),
        ({"a": {"$exists": False}}, {}),
        ({"a.b": {"$exists": False}}, {"a": [1]}),
        ({"a": {"$type": "string"}}, {"a": [1, "x"]}),
        ({"a": {"$type": "array"}}, {"a": []}),
        ({"a": {"$type": "number"}}, {"a": 1.5}),
        ({"a": {"$type": 2}}, {"a": "x"}),
        ({"a": {"$type": ["null", "long"]}}, {"a": 2**40}),
        ({"a": {"$regex": "^J", "$options": "i"}}, {"a": "jane"}),
        ({"a": {"$regex": re.compile("b")}}, {"a": ["abc"]}),
        ({"a": Regex("b")}, {"a": "abc"}),
        ({"a": Regex("b")}, {"a": Regex("b")}),
        ({"a": {"$mod": [4, 0]}}, {"a": 8}),
        ({"a": {"$mod": [4, -1]}}, {"a": -5}),
        ({"a": {"$mod": [4, 1]}}, {"a": 5.9}),
        ({"a": {"$all": [1, 2]}}, {"a": [2, 1, 3]}),
        ({"a": {"$all": [1]}}, {"a": 1}),
        ({"a": {"$all": [[1, 2]]}}, {"a": [1, 2]}),
        ({"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}}, {"a": [{"b": 2}, {"b": 1}]}),
        ({"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, {"a": [0, 2]}),
        ({"a": {"$elemMatch": {"b": 1, "c": {"$gt": 1}}}}, {"a": [{"b": 1, "c": 2}]}),
        ({"a": {"$elemMatch": {"$or": [{"b": 1}, {"c": 1}]}}}, {"a": [{"c": 1}]}),
        ({"a": {"$elemMatch": {"$in": [3]}}}, {"a": [1, 3]}),
        ({"a": {"$elemMatch": {"$not": {"$gt": 1}}}}, {"a": [1, 3]}),
        ({"a": {"$elemMatch": {"$elemMatch": {"$gt": 1}}}}, {"a": [[1], [2]]}),
        ({"a": {"$size": 2}}, {"a": [1, 2]}),
        ({"a": {"$size": 0}}, {"a": []}),
        ({"a": {"$bitsAllSet": 5}}, {"a": 7}),
        ({"a": {"$bitsAnySet": [0, 3]}}, {"a": 8}),
        ({"a": {"$bitsAllClear": 8}}, {"a": 7}),
        ({"a": {"$bitsAnyClear": 7}}, {"a": 5}),
        ({"a": {"$bitsAllSet": [70]}}, {"a": -1}),
        ({"_id": ID}, {"_id": ID}),
        ({"a": 1, "$comment": "why"}, {"a": 1}),
        ({"a.0.b": 1}, {"a": [{"b": 1}, {"b": 2}]}),
        ({"a": {"$eq": 1}}, {"a": 1}),
        ({"by": {"$ref": "users", "$id": 1}}, {"by": {"$ref": "users", "$id": 1}}),
    ],
)
def test_these_pass(query, document):
    assert passes(query, document)


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": True}, {"a": 1}),
        ({"a": "1"}, {"a": 1}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}),
        ({"a": None}, {"a": 0}),
        ({"a.b": None}, {"a": [1]}),
        ({"a.b": None}, {"a": []}),
        ({"a": {"$gt": None}}, {"a": None}),
        ({"a": {"$gt": 5}}, {"a": "9"}),
        ({"a": {"$gt": 5}}, {}),
        ({"a": {"$lt": 5}}, {"a": None}),
        ({"a": {"$lt": 5}}, {"a": math.nan}),
        ({"a": {"$lt": 5}}, {"a": Decimal128("NaN")}),
        ({"a": {"$gt": math.nan}}, {"a": 1}),
        ({"a": {"$gte": math.nan}}, {"a": 1}),
        ({"a": {"$lt": 5}}, {"a": True}),
        ({"a": {"$ne": 1}}, {"a": [1, 2]}),
        ({"a": {"$ne": None}}, {}),
        ({"a": {"$in": []}}, {"a": 1}),
        ({"a": {"$in": [1]}}, {"a": True}),
        ({"a": {"$nin": [1]}}, {"a": [1, 2]}),
        ({"$nor": [{"a": 1}]}, {"a": 1}),
        ({"a": {"$not": {"$gt": 5}}}, {"a": [1, 9]}),
        ({"a": {"$exists": True}}, {}),
        ({"a": {"$exists": False}}, {"a": None}),
        ({"a": {"$type": "int"}}, {"a": 1.0}),
        ({"a": {"$type": "null"}}, {}),
        ({"a": {"$regex": "x"}}, {"a": 5}),
        ({"a": {"$mod": [4, 0]}}, {"a": "8"}),
        ({"a": {"$mod": [4, 0]}}, {"a": math.inf}),
        ({"a": {"$all": []}}, {"a": []}),
        ({"a": {"$all": [1, 2]}}, {"a": [1]}),
        ({"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, {"a": [0, 4]}),
        ({"a": {"$elemMatch": {"$gt": 1}}}, {"a": 2}),
        ({"a": {"$elemMatch": {"b": 1}}}, {"a": {"b": 1}}),
        ({"a": {"$size": 1}}, {"a": 1}),
        ({"a": {"$size": 1}}, {}),
        ({"a": {"$gt": 5, "$lt": 10}}, {"a": [3, 4]}),
        ({"a.1": 5}, {"a": [5]}),
    ],
)
def test_these_do_not_pass(query, document):
    assert not passes(query, document)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"a": {"$lessThan": 1}}, r"'\$lessThan' is no operator"),
        ({"a": {"$gtt": 1}}, r"Did you mean \$gt"),
        ({"$where": "this.a == 1"}, "it runs code"),
        ({"a": {"$where": "1"}}, "it runs code"),
        ({"$gt": 1}, "where the name of a field must be"),
        ({"a": {"$or": [{"b": 1}]}}, "below a field"),
        ({"a": {"$gt": 1, "b": 2}}, "beside operators"),
        ({"$and": []}, "at least one"),
        ({"$or": {"a": 1}}, "takes a list"),
        ({"$or": [5]}, "A filter is a document"),
        ([], "A filter is a document"),
        ({"a": {"$in": 5}}, "takes a list"),
        ({"a": {"$in": [{"$gt": 5}]}}, "cannot hold operators"),
        ({"a": {"$not": 5}}, r"\$not takes operators"),
        ({"a": {"$not": {}}}, r"\$not takes operators"),
        ({"a": {"$size": -1}}, "whole numbers"),
        ({"a": {"$size": 1.5}}, "whole numbers"),
        ({"a": {"$size": True}}, "whole numbers"),
        ({"a": {"$mod": [0, 1]}}, "divide by 0"),
        ({"a": {"$mod": [1]}}, "two numbers"),
        ({"a": {"$mod": [math.nan, 1]}}, "finite"),
        ({"a": {"$type": "text"}}, "no BSON type"),
        ({"a": {"$type": []}}, "at least one type"),
        ({"a": {"$options": "i"}}, r"without \$regex"),
        ({"a": {"$regex": "(", "$options": ""}}, "not valid"),
        ({"a": {"$regex": 5}}, "regular expression is text"),
        ({"a": {"$ne": re.compile("a")}}, "cannot take a regular expression"),
        ({"a": {"$gt": re.compile("a")}}, "cannot compare"),
        ({"a": {"$elemMatch": 5}}, "takes a document"),
        ({"a": {"$all": [{"$elemMatch": {"b": 1}}, 5]}}, "not both"),
        ({"a": {"$bitsAllSet": "x"}}, "whole numbers"),
        ({"a..b": 1}, "no path"),
        ({5: 1}, "by text"),
    ],
)
def test_a_filter_that_cannot_be_understood_says_why(query, words):
    with pytest.raises(OperatorError, match=words):
        parse_filter(query)


def test_a_filter_of_depth_1000_is_refused():
    for wrap in (lambda inner: {"$and": [inner]}, lambda inner: {"a": {"$elemMatch": inner}}):
        query = {"a": 1}
        for _ in range(1000):
            query = wrap(query)
        with pytest.raises(OperatorError, match="levels deep"):
            parse_filter(query)


def test_what_a_login_form_sends_cannot_become_an_operator():
    account = {"name": "ada", "password": "x7Kq"}
    for attack in ({"$ne": None}, {"$gt": ""}, {"$regex": ".*"}, {"$in": ["x7Kq"]}, {"$where": "1"}, {"$exists": True}):
        assert not passes({"name": Literal("ada"), "password": Literal(attack)}, account)
        assert not passes({"name": "ada", "password": {"$eq": Literal(attack)}}, account)
    assert passes({"name": Literal("ada"), "password": Literal("x7Kq")}, account)


@pytest.mark.parametrize(
    ("collation", "query", "document", "expected"),
    [
        ({"locale": "en", "strength": 2}, {"a": "ADA"}, {"a": "ada"}, True),
        ({"locale": "en", "strength": 2}, {"a": "resume"}, {"a": "résumé"}, False),
        ({"locale": "en", "strength": 1}, {"a": "RESUME"}, {"a": "résumé"}, True),
        ({"locale": "en"}, {"a": "ADA"}, {"a": "ada"}, False),
        ({"locale": "en", "strength": 2}, {"a": {"$in": ["ADA"]}}, {"a": ["ada"]}, True),
        ({"locale": "en", "strength": 2}, {"a": {"b": "X"}}, {"a": {"b": "x"}}, True),
        ({"locale": "en", "strength": 2}, {"a": {"$lt": "B"}}, {"a": "a"}, True),
        ({"locale": "en", "strength": 1, "caseLevel": True}, {"a": "É"}, {"a": "e"}, False),
        ({"locale": "en", "numericOrdering": True}, {"a": {"$lt": "item10"}}, {"a": "item9"}, True),
        ({"locale": "simple"}, {"a": "ADA"}, {"a": "ada"}, False),
        ({"locale": "en", "strength": 2}, {"a": {"$regex": "ADA"}}, {"a": "ada"}, False),
    ],
)
def test_a_collation_decides_which_texts_are_equal(collation, query, document, expected):
    assert passes(query, document, collation) is expected


@pytest.mark.parametrize("collation", [{}, 5, {"locale": "en", "strength": 4}, {"locale": "en", "colour": 1}])
def test_a_collation_that_is_not_made_here_is_refused(collation):
    with pytest.raises(OperatorError):
        parse_collation(collation)


@pytest.mark.parametrize(
    ("query", "document", "place"),
    [
        ({"a": 5}, {"a": [4, 5]}, 1),
        ({"a": {"$elemMatch": {"b": 2}}}, {"a": [{"b": 1}, {"b": 2}]}, 1),
        ({"a.b": 2}, {"a": [{"b": 1}, {"b": 2}]}, 1),
        ({"x": 1, "a": {"$gt": 3}}, {"x": 1, "a": [1, 9]}, 1),
        ({"$or": [{"a": 7}, {"a": 9}]}, {"a": [1, 9]}, 1),
        ({"a": {"$nin": [3]}}, {"a": [1, 9]}, None),
        ({"a": 1}, {"a": 1}, None),
    ],
)
def test_the_element_that_let_a_document_pass_is_known(query, document, place):
    assert parse_filter(query).place(document) == place
