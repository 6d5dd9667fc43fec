"""Paths, variables, constants, and what is refused."""

import re
from datetime import UTC, datetime

import pytest
from bson import Decimal128

from consona.documents.collation import parse_collation
from consona.documents.document import Literal
from consona.documents.errors import DocumentRefused, OperatorError
from consona.documents.expressions import known_operators, moment, parse_expression
from consona.documents.filters import parse_filter
from consona.documents.indexes import parse_index
from consona.documents.values import MISSING
from documents.expressions.expression_tools import check, value_of

DOCUMENT = {
    "a": {"b": {"c": 5}},
    "list": [{"x": 1}, {"x": [2, 3]}, {"y": 9}, 7, [{"x": 8}]],
    "deep": [{"in": [{"x": 1}, {"x": 2}]}, {"in": {"x": 3}}],
    "nothing": None,
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("$a.b.c", 5),
        ("$a.b", {"c": 5}),
        ("$a.x", MISSING),
        ("$a.b.c.d", MISSING),
        ("$nothing", None),
        ("$nothing.x", MISSING),
        ("$list.x", [1, [2, 3]]),
        ("$list.0", []),
        ("$deep.in.x", [[1, 2], 3]),
        ("$$ROOT.a.b.c", 5),
        ("$$CURRENT.a.b.c", 5),
        ("$$REMOVE", MISSING),
        ("plain", "plain"),
        ({"k": "$a.b.c", "gone": "$zzz", "n": 1}, {"k": 5, "n": 1}),
        (["$a.b.c", "$zzz", 1], [5, None, 1]),
        ({"$literal": {"$add": ["$a", 1]}}, {"$add": ["$a", 1]}),
        ({"$let": {"vars": {"x": "$a.b"}, "in": "$$x.c"}}, 5),
        ({"$let": {"vars": {"x": 1}, "in": {"$let": {"vars": {"x": 2, "y": "$$x"}, "in": ["$$x", "$$y"]}}}}, [2, 1]),
        ({"$let": {"vars": {"x": "$list"}, "in": "$$x.x"}}, [1, [2, 3]]),
        ({"$eq": ["$a.b.c", Literal({"$add": [1, 4]})]}, False),
        ([], []),
        ({}, {}),
        (None, None),
    ],
    ids=str,
)
def test_an_expression_gives(expression, expected):
    check(expression, DOCUMENT, expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"$ad": [1, 2]}, "'$ad' is no operator of an expression. Did you mean"),
        ({"$function": {}}, "$function is refused: it runs code"),
        ({"$add": [1], "$subtract": [1, 2]}, "$add stands beside 1 more"),
        ("$$x", "no variable '$$x' here"),
        ("$a..b", "no path of an expression"),
        ("$", "no path of an expression"),
        ({"a.b": 1}, "no field that an expression could make"),
        ({"a": {"x": 1, "$add": [1]}}, "no field that an expression could make"),
        ({"$let": {"vars": {"X": 1}, "in": 1}}, "no name of a variable"),
        ({"$let": {"vars": {"x": 1}}}, "$let lacks its argument 'in'"),
        ({"$let": {"vars": {"x": 1}, "in": 1, "of": 2}}, "$let has no argument 'of'"),
        ({"$subtract": [1]}, "$subtract takes 2 arguments, not 1"),
        ({"$switch": {"branches": []}}, "takes a list of branches"),
        ({"$map": {"input": [], "in": "$$that"}}, "no variable '$$that'"),
    ],
    ids=str,
)
def test_a_mistake_shows_when_it_is_understood_and_names_the_operator(expression, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        parse_expression(expression)


def test_an_expression_is_not_nested_without_end():
    expression = 1
    for _ in range(101):
        expression = {"$abs": expression}
    with pytest.raises(OperatorError, match="nested more than 100"):
        parse_expression(expression)


def test_errors_tell_the_type_and_never_the_value():
    with pytest.raises(OperatorError, match=r"\$add takes numbers and a date, not a value of type string") as caught:
        value_of({"$add": [1, "$secret"]}, {"secret": "s3cret"})
    assert "s3cret" not in repr(caught.value)


def test_now_is_one_moment_for_all_documents_of_a_query():
    variables = moment(lambda: datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC))
    expression = parse_expression("$$NOW", variables)
    assert expression({}) == expression({"a": 1}) == datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)


def test_a_variable_may_change_between_documents():
    variables = {"x": 1}
    expression = parse_expression({"$add": ["$$x", "$a"]}, variables)
    assert expression({"a": 1}) == 2
    variables["x"] = 10
    assert expression({"a": 1}) == 11


@pytest.mark.parametrize("name", [name for name in known_operators() if name != "$literal"])
def test_what_no_document_can_hold_is_refused_by_every_operator(name):
    with pytest.raises((OperatorError, DocumentRefused), match=r"takes|lacks|no argument|no value of a document"):
        parse_expression({name: [object()]})


# In filters.


def test_a_filter_compares_fields_with_each_other():
    query = parse_filter({"$expr": {"$gt": ["$spent", "$budget"]}, "open": True})
    assert query.matches({"spent": 5, "budget": 4, "open": True})
    assert not query.matches({"spent": 5, "budget": 6, "open": True})
    assert not query.matches({"spent": 5, "budget": 4})


def test_expr_stands_among_and_or_and_nor():
    query = parse_filter({"$or": [{"a": 1}, {"$nor": [{"$expr": {"$lt": ["$b", 2]}}]}]})
    assert [query.matches(found) for found in ({"a": 1, "b": 1}, {"b": 2}, {"b": 1})] == [True, True, False]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"a": {"$elemMatch": {"b": 1, "$expr": True}}}, "it stands in no $elemMatch"),
        ({"a": {"$expr": True}}, "$expr stands below a field"),
        ({"$expr": {"$nope": 1}}, "'$nope' is no operator of an expression"),
    ],
    ids=str,
)
def test_expr_is_refused_where_it_cannot_ask_the_document(raw, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        parse_filter(raw)


def test_a_partial_index_cannot_ask_expressions():
    with pytest.raises(OperatorError, match=r"\$expr cannot stand in a partialFilterExpression"):
        parse_index("a", {"partialFilterExpression": {"$and": [{"$expr": {"$gt": ["$a", 1]}}]}})


def test_expressions_compare_by_the_collation():
    query = parse_filter({"$expr": {"$eq": ["$name", "ADA"]}}, parse_collation({"locale": "en", "strength": 2}))
    assert query.matches({"name": "ada"})
    assert not parse_filter({"$expr": {"$eq": ["$name", "ADA"]}}).matches({"name": "ada"})


def test_what_a_user_sends_stays_a_value():
    query = parse_filter({"$expr": {"$eq": ["$token", Literal("$token")]}})
    assert not query.matches({"token": "x7Kq"})


@pytest.mark.parametrize(
    ("value", "expected"), [(0, False), (0.0, False), (Decimal128("0"), False), (None, False), ("", True), ([], True)]
)
def test_truth_is_mongodbs(value, expected):
    assert parse_filter({"$expr": "$a"}).matches({"a": value}) is expected
