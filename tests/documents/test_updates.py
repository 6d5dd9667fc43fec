"""What each update makes of a document, and what it refuses."""

import copy
import math
import re
from datetime import UTC, datetime

import pytest
from bson import Decimal128, ObjectId, Timestamp

from consona.documents.document import Literal
from consona.documents.errors import DocumentRefused, OperatorError
from consona.documents.filters import parse_filter
from consona.documents.updates import parse_replacement, parse_update, upserted
from consona.documents.values import identical

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


def updated(document, update, *, query=None, array_filters=None):
    document = copy.deepcopy(document)
    place = parse_filter(query).place(document) if query else None
    change = parse_update(update, array_filters=array_filters, now=lambda: NOW)
    changed = change.apply(document, place=place)
    return document, changed


@pytest.mark.parametrize(
    ("document", "update", "expected"),
    [
        ({"a": 1}, {"$set": {"a": 2}}, {"a": 2}),
        ({}, {"$set": {"a.b.c": 2}}, {"a": {"b": {"c": 2}}}),
        ({"a": [1, 2]}, {"$set": {"a.1": 5}}, {"a": [1, 5]}),
        ({"a": [1]}, {"$set": {"a.3": 5}}, {"a": [1, None, None, 5]}),
        ({"a": [1]}, {"$set": {"a.2.b": 5}}, {"a": [1, None, {"b": 5}]}),
        ({}, {"$set": {"a.0": 5}}, {"a": {"0": 5}}),
        ({}, {"$set": {"b": 1, "a": 2, "10": 3, "9": 4}}, {"a": 2, "b": 1, "9": 4, "10": 3}),
        ({"a": 1, "b": 2}, {"$unset": {"a": ""}}, {"b": 2}),
        ({"a": [1, 2]}, {"$unset": {"a.0": ""}}, {"a": [None, 2]}),
        ({"a": 1}, {"$unset": {"x.y": "", "a.b": ""}}, {"a": 1}),
        ({"a": 1}, {"$inc": {"a": 2, "b": 3}}, {"a": 3, "b": 3}),
        ({"a": 1}, {"$inc": {"a": 0.5}}, {"a": 1.5}),
        ({"a": Decimal128("1.10")}, {"$inc": {"a": 1}}, {"a": Decimal128("2.10")}),
        ({"a": 3}, {"$mul": {"a": 2, "b": 5, "c": 1.5}}, {"a": 6, "b": 0, "c": 0.0}),
        ({"a": 3}, {"$min": {"a": 2, "b": 1}}, {"a": 2, "b": 1}),
        ({"a": 3}, {"$max": {"a": 2}}, {"a": 3}),
        ({"a": 3}, {"$max": {"a": "text"}}, {"a": "text"}),
        ({"a": 1, "c": 3}, {"$rename": {"a": "b.x"}}, {"c": 3, "b": {"x": 1}}),
        ({"a": 1, "b": 2}, {"$rename": {"a": "b"}}, {"b": 1}),
        ({"b": 2}, {"$rename": {"a": "b"}}, {"b": 2}),
        ({}, {"$currentDate": {"a": True, "b": {"$type": "date"}}}, {"a": NOW, "b": NOW}),
        ({}, {"$currentDate": {"a": {"$type": "timestamp"}}}, {"a": Timestamp(int(NOW.timestamp()), 1)}),
        ({"a": 1}, {"$setOnInsert": {"b": 1}}, {"a": 1}),
        ({"a": [1]}, {"$push": {"a": 2, "b": 3}}, {"a": [1, 2], "b": [3]}),
        ({"a": [1]}, {"$push": {"a": [2, 3]}}, {"a": [1, [2, 3]]}),
        ({"a": [1]}, {"$push": {"a": {"$each": [2, 3]}}}, {"a": [1, 2, 3]}),
        ({"a": [1, 2]}, {"$push": {"a": {"$each": [9], "$position": 0}}}, {"a": [9, 1, 2]}),
        ({"a": [1, 2]}, {"$push": {"a": {"$each": [9], "$position": -1}}}, {"a": [1, 9, 2]}),
        ({"a": [3, 1]}, {"$push": {"a": {"$each": [2], "$sort": 1, "$slice": 2}}}, {"a": [1, 2]}),
        ({"a": [3, 1]}, {"$push": {"a": {"$each": [2], "$sort": -1, "$slice": -2}}}, {"a": [2, 1]}),
        (
            {"a": [{"s": 5, "n": 1}, {"s": 7, "n": 2}]},
            {"$push": {"a": {"$each": [{"s": 6, "n": 3}], "$sort": {"s": -1}}}},
            {"a": [{"s": 7, "n": 2}, {"s": 6, "n": 3}, {"s": 5, "n": 1}]},
        ),
        ({"a": [1]}, {"$push": {"a": {"$each": [], "$slice": 0}}}, {"a": []}),
        ({"a": [1]}, {"$addToSet": {"a": 1, "b": 1}}, {"a": [1], "b": [1]}),
        ({"a": [1]}, {"$addToSet": {"a": {"$each": [1.0, 2, 2]}}}, {"a": [1, 2]}),
        ({"a": [1, 5, 7]}, {"$pull": {"a": {"$gte": 5}}}, {"a": [1]}),
        ({"a": [1, 2, 1]}, {"$pull": {"a": 1}}, {"a": [2]}),
        ({"a": ["apple", "pear"]}, {"$pull": {"a": re.compile("^a")}}, {"a": ["pear"]}),
        ({"a": [{"s": 8, "i": "B"}, {"s": 5}]}, {"$pull": {"a": {"s": 8, "i": "B"}}}, {"a": [{"s": 5}]}),
        ({"a": [{"q": [1, 9]}, {"q": [1]}]}, {"$pull": {"a": {"q": {"$elemMatch": {"$gt": 5}}}}}, {"a": [{"q": [1]}]}),
        ({"a": [[1, 2], 1]}, {"$pull": {"a": [1, 2]}}, {"a": [1]}),
        ({}, {"$pull": {"a": 1}}, {}),
        ({"a": [1, 2, 3, 1]}, {"$pullAll": {"a": [1, 3]}}, {"a": [2]}),
        ({"a": [1, 2, 3]}, {"$pop": {"a": 1}}, {"a": [1, 2]}),
        ({"a": [1, 2, 3]}, {"$pop": {"a": -1}}, {"a": [2, 3]}),
        ({"a": []}, {"$pop": {"a": 1}}, {"a": []}),
        ({"a": 13}, {"$bit": {"a": {"and": 10}}}, {"a": 8}),
        ({"a": 13}, {"$bit": {"a": {"or": 2}, "b": {"xor": 5}}}, {"a": 15, "b": 5}),
        ({"a": [{"b": 1}, {"b": 2}]}, {"$inc": {"a.$[].b": 1}}, {"a": [{"b": 2}, {"b": 3}]}),
        ({"a": [[1, 2], [3]]}, {"$inc": {"a.$[].$[]": 1}}, {"a": [[2, 3], [4]]}),
    ],
)
def test_what_an_operator_makes_of_a_document(document, update, expected):
    result, changed = updated(document, update)
    assert identical(result, expected)
    assert changed is not identical(document, expected)


def test_the_positional_operator_changes_the_element_that_the_filter_found():
    document = {"grades": [80, 85, 90]}
    assert updated(document, {"$set": {"grades.$": 82}}, query={"grades": 80})[0] == {"grades": [82, 85, 90]}
    document = {"grades": [{"g": 80, "std": 8}, {"g": 85, "std": 5}]}
    query = {"grades": {"$elemMatch": {"g": {"$lte": 90}, "std": {"$lt": 8}}}}
    assert updated(document, {"$set": {"grades.$.std": 6}}, query=query)[0]["grades"][1] == {"g": 85, "std": 6}


def test_array_filters_choose_elements():
    document = {"grades": [95, 102, 90, 150]}
    result, _ = updated(document, {"$set": {"grades.$[e]": 100}}, array_filters=[{"e": {"$gte": 100}}])
    assert result == {"grades": [95, 100, 90, 100]}
    document = {"g": [{"t": "q", "qs": [1, 9]}, {"t": "x", "qs": [9]}]}
    filters = [{"a.t": "q"}, {"$or": [{"b": {"$gt": 5}}, {"b": 0}]}]
    result, _ = updated(document, {"$inc": {"g.$[a].qs.$[b]": 1}}, array_filters=filters)
    assert result == {"g": [{"t": "q", "qs": [1, 10]}, {"t": "x", "qs": [9]}]}


@pytest.mark.parametrize(
    ("document", "update", "words"),
    [
        ({"a": "x"}, {"$inc": {"a": 1}}, r"\$inc needs a number, and the field holds a string"),
        ({"a": None}, {"$inc": {"a": 1}}, "holds a null"),
        ({}, {"$inc": {"a": "1"}}, r"\$inc takes a number"),
        ({"a": 2**63 - 1}, {"$inc": {"a": 1}}, "64 bits"),
        ({"a": 2**62}, {"$mul": {"a": 4}}, "64 bits"),
        ({"a": 1}, {"$push": {"a": 1}}, "needs an array"),
        ({"a": 1}, {"$pull": {"a": 1}}, "needs an array"),
        ({"a": 1}, {"$addToSet": {"a": 1}}, "needs an array"),
        ({"a": 1}, {"$pop": {"a": 1}}, "needs an array"),
        ({"a": 1.5}, {"$bit": {"a": {"and": 1}}}, "integers"),
        ({"a": 1}, {"$set": {"a.b": 1}}, "is no document"),
        ({"a": None}, {"$set": {"a.b": 1}}, "is no document"),
        ({"a": [1]}, {"$set": {"a.b": 1}}, "which is an array"),
        ({"a": []}, {"$set": {"a.9999999": 1}}, "behind the end"),
        ({"a": [1]}, {"$set": {"a.$": 1}}, "found no element"),
        ({"a": 1}, {"$set": {"a.$[]": 1}}, "is no document"),
        ({}, {"$set": {"a.$[]": 1}}, "must exist"),
        ({"a": {}}, {"$set": {"a.$[]": 1}}, "is no array"),
        ({"_id": 1}, {"$set": {"_id": 2}}, "never changes"),
        ({"_id": 1}, {"$unset": {"_id": ""}}, "never changes"),
        ({"a": [{"b": 1}]}, {"$rename": {"a.0.b": "c"}}, "through an array"),
        ({}, {}, "document of operators"),
        ({}, [], "at least one stage"),
        ({}, {"a": 1}, "'a' is none"),
        ({}, {"$set": 5}, "takes a document"),
        ({}, {"$sett": {"a": 1}}, r"Did you mean \$set"),
        ({}, {"$where": {"a": 1}}, "runs code"),
        ({}, {"$set": {"a": 1}, "$inc": {"a": 1}}, "twice"),
        ({}, {"$set": {"a": 1, "a.b": 2}}, "twice"),
        ({}, {"$rename": {"a": "a"}}, "twice"),
        ({}, {"$rename": {"a": 5}}, "new name as text"),
        ({}, {"$rename": {"a.$": "b"}}, "elements of arrays"),
        ({}, {"$set": {"$a": 1}}, "no name of a field"),
        ({}, {"$set": {"$[]": 1}}, "begins with"),
        ({}, {"$set": {"a.$.b.$": 1}}, "more than one"),
        ({}, {"$set": {"a.$[X]": 1}}, "no name of a field"),
        ({}, {"$set": {"a..b": 1}}, "no path"),
        ({}, {"$push": {"a": {"$each": 5}}}, "takes a list"),
        ({}, {"$push": {"a": {"$each": [], "$slize": 5}}}, r"\$slice"),
        ({}, {"$push": {"a": {"$each": [], "$sort": 2}}}, r"\$sort"),
        ({}, {"$push": {"a": {"$each": [], "$position": 1.5}}}, "whole number"),
        ({}, {"$pop": {"a": 2}}, "the last element"),
        ({}, {"$pullAll": {"a": 5}}, "takes a list"),
        ({}, {"$bit": {"a": {"not": 5}}}, "and, or, xor"),
        ({}, {"$currentDate": {"a": "now"}}, "takes true"),
        ({}, {"$set": {"a.$[x]": 1}}, "has no filter"),
    ],
)
def test_an_update_that_cannot_be_done_says_why(document, update, words):
    with pytest.raises(OperatorError, match=words):
        updated(document, update)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ([{"y": 1}], "does not use"),
        ([{"x": 1, "y": 1}], "one name"),
        ([{"x": 1}, {"x": 2}], "two filters"),
        ([{}], "one name"),
        ([5], "list of filters"),
    ],
)
def test_array_filters_that_do_not_fit_are_refused(filters, words):
    with pytest.raises(OperatorError, match=words):
        parse_update({"$set": {"a.$[x]": 1}}, array_filters=filters)


@pytest.mark.parametrize("value", [{"$gt": 1}, {"a.b": 1}, "\ud800", 2**64, {1, 2}])
def test_what_no_document_may_hold_cannot_be_set_either(value):
    for update in (
        {"$set": {"a": value}},
        {"$push": {"a": value}},
        {"$max": {"a": value}},
        {"$addToSet": {"a": value}},
    ):
        with pytest.raises(DocumentRefused):
            parse_update(update)


def test_a_value_of_a_user_cannot_become_an_operator_of_an_update():
    with pytest.raises(DocumentRefused, match="dollar"):
        parse_update({"$set": {"name": Literal({"$each": [1]})}})


def test_nothing_changes_where_the_values_are_the_same():
    assert updated({"a": 1, "b": math.nan}, {"$set": {"a": 1, "b": math.nan}})[1] is False
    assert updated({"a": 1}, {"$set": {"a": 1.0}})[1] is True
    assert updated({"a": 1}, {"$inc": {"a": 0}})[1] is False


def upsert(query, update):
    return upserted(parse_filter(query), parse_update(update))


def test_an_upsert_begins_with_what_the_filter_says():
    query = {"_id": 7, "a": 1, "b.c": {"$eq": 2}, "d": {"$gt": 5}, "$and": [{"e": 3}], "f": {"$in": [1, 2]}}
    assert upsert(query, {"$set": {"g": 4}, "$setOnInsert": {"h": 5}}) == {
        "_id": 7,
        "a": 1,
        "b": {"c": 2},
        "e": 3,
        "g": 4,
        "h": 5,
    }


def test_an_upsert_makes_an_id_where_none_is_given():
    assert isinstance(upsert({"a": 1}, {"$set": {"b": 1}})["_id"], ObjectId)
    assert upsert({"a": 1}, {"$set": {"_id": 9}})["_id"] == 9


def test_an_upsert_whose_filter_contradicts_itself_is_refused():
    with pytest.raises(OperatorError, match="twice"):
        upsert({"a": 1, "$and": [{"a": 2}]}, {"$set": {"b": 1}})


def test_a_replacement_keeps_the_id():
    document = {"_id": 1, "a": 1}
    assert parse_replacement({"b": 2}).apply(document)
    assert document == {"_id": 1, "b": 2}
    assert not parse_replacement({"_id": 1, "b": 2}).apply(document)
    with pytest.raises(OperatorError, match="another _id"):
        parse_replacement({"_id": 2}).apply(document)
    with pytest.raises(OperatorError, match="without operators"):
        parse_replacement({"$set": {"a": 1}})
    assert upserted(parse_filter({"_id": 5, "x": 1}), parse_replacement({"b": 2})) == {"_id": 5, "b": 2}
