"""Random documents, filters and updates, for the tests that hold engines against the reference."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

DAY = datetime(2024, 5, 1, tzinfo=UTC)
PATHS = ["a", "b", "a.b", "a.c", "b.a", "a.b.c", "a.0", "a.0.b"]

scalars = st.one_of(
    st.sampled_from([0, 1, 2, 5, -1, 2**31, 2**53 + 1, 1.0, 2.5, -0.0, 1e300, True, False, None]),
    st.sampled_from(["", "x", "xy", "X", "1", "{", "[", '{"$date"', "é", "\x00", "\U0001f600", '"', "a'b"]),
    st.sampled_from([DAY, DAY + timedelta(milliseconds=1), datetime(1, 1, 1, tzinfo=UTC)]),
    st.sampled_from(
        [ObjectId("0" * 24), ObjectId("f" * 24), UUID(int=1), b"", b"ab", Timestamp(1, 1), Timestamp(10, 1)]
    ),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), Decimal128("1"), Decimal128("2.5"), Decimal128("0.1")]),
    st.sampled_from([Decimal128("NaN"), MinKey(), MaxKey(), Regex("x"), Regex("x", "i")]),
    st.integers(-3, 3),
)
keys = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)
documents = st.dictionaries(keys, values, max_size=3)
collections = st.lists(documents, min_size=1, max_size=8).map(
    lambda found: [{"_id": number, **document} for number, document in enumerate(found)]
)

plain = st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(keys, scalars, max_size=2))
comparable = plain.filter(lambda value: not isinstance(value, Regex))
TYPES = ["int", "long", "double", "decimal", "number", "string", "object", "array", "bool", "null", "date", "objectId"]
TYPES += ["binData", "regex", "timestamp", "minKey", "maxKey"]
patterns = st.sampled_from(["x", "^x", "^$", "y$", "^xy*", "X"])


def operators(inner):
    return st.one_of(
        st.builds(
            lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), comparable
        ),
        st.builds(lambda op, value: {op: value}, st.sampled_from(["$in", "$nin"]), st.lists(plain, max_size=3)),
        st.builds(lambda low, high: {"$gte": low, "$lt": high}, comparable, comparable),
        st.booleans().map(lambda value: {"$exists": value}),
        st.sampled_from(TYPES).map(lambda name: {"$type": name}),
        st.integers(0, 3).map(lambda size: {"$size": size}),
        st.builds(
            lambda source, options: {"$regex": source, "$options": options}, patterns, st.sampled_from(["", "i"])
        ),
        st.lists(comparable, max_size=2).map(lambda found: {"$all": found}),
        st.builds(lambda divisor, rest: {"$mod": [divisor, rest]}, st.integers(1, 3), st.integers(-1, 2)),
        st.integers(0, 6).map(lambda mask: {"$bitsAllSet": mask}),
        inner.map(lambda found: {"$not": found}),
        inner.map(lambda found: {"$elemMatch": found}),
        st.builds(lambda name, value: {"$elemMatch": {name: value}}, keys, st.one_of(comparable, inner)),
    )


conditions = st.recursive(operators(st.nothing()), operators, max_leaves=3)


def literally(value):
    return {"$literal": value}


def of_values(inner):
    """Expressions that fit every value, so that no engine meets an error that another does not."""
    return st.one_of(
        st.builds(lambda op, one, other: {op: [one, other]}, st.sampled_from(COMPARISONS), inner, inner),
        st.builds(lambda one, two, three: {"$cond": [one, two, three]}, inner, inner, inner),
        st.builds(lambda one, other: {"$ifNull": [one, other]}, inner, inner),
        st.builds(lambda op, found: {op: found}, st.sampled_from(["$and", "$or"]), st.lists(inner, max_size=2)),
        inner.map(lambda found: {"$not": [found]}),
        inner.map(lambda found: {"$type": [found]}),
        inner.map(lambda found: {"$isArray": [found]}),
        st.lists(inner, max_size=2),
        inner.map(lambda found: {"k": found}),
        st.builds(lambda found, each: {"$map": {"input": _array(found), "in": each}}, inner, inner),
        st.builds(lambda found: {"$filter": {"input": _array(found), "cond": {"$gt": ["$$this", 1]}}}, inner),
        inner.map(lambda found: {"$size": _array(found)}),
        st.builds(lambda one, other: {"$in": [one, _array(other)]}, inner, inner),
        st.builds(lambda op, found: {op: [found]}, st.sampled_from(["$max", "$min"]), inner),
        st.builds(lambda one, other: {"$setUnion": [_array(one), _array(other)]}, inner, inner),
        st.builds(lambda one, other: {"$let": {"vars": {"x": one}, "in": ["$$x", other]}}, inner, inner),
    )


def _array(expression):
    return {"$cond": [{"$isArray": [expression]}, expression, [expression]]}


COMPARISONS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp"]
leaves = st.one_of(
    st.sampled_from(["$a", "$b", "$c", "$a.b", "$a.b.c", "$b.a", "$_id", "$$ROOT", "$$ROOT.a", "$$REMOVE"]),
    scalars.map(literally),
)
expressions = st.recursive(leaves, of_values, max_leaves=5)

fields = st.builds(lambda path, value: {path: value}, st.sampled_from([*PATHS, "_id"]), st.one_of(plain, conditions))
filters = st.recursive(
    st.one_of(fields, fields, fields, expressions.map(lambda found: {"$expr": found})),
    lambda inner: st.one_of(
        st.builds(
            lambda op, found: {op: found},
            st.sampled_from(["$and", "$or", "$nor"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda one, other: {**one, **other}, inner, inner),
    ),
    max_leaves=3,
)
sorts = st.lists(
    st.tuples(st.sampled_from(["a", "b", "a.b", "_id"]), st.sampled_from([1, -1])), max_size=2, unique_by=lambda x: x[0]
)

numbers = st.sampled_from([1, -2, 2**31, 2**62, 0.5, Decimal128("1.5"), float("inf")])
targets = st.sampled_from(["a", "b", "c", "a.b", "a.c.b", "a.0", "a.1.b", "b.$[]", "a.$[].b", "a.$", "a.$[x]"])
storable = values


def _update(op, value):
    return st.builds(lambda path, found: {op: {path: found}}, targets, value)


updates = st.one_of(
    *[_update(op, storable) for op in ("$set", "$min", "$max", "$setOnInsert", "$push", "$addToSet")],
    *[_update(op, numbers) for op in ("$inc", "$mul")],
    _update("$unset", st.just("")),
    _update("$rename", st.sampled_from(["b", "c", "b.c"])),
    _update("$pull", st.one_of(comparable, conditions)),
    _update("$pullAll", st.lists(comparable, max_size=2)),
    _update("$pop", st.sampled_from([1, -1])),
    _update("$bit", st.builds(lambda op, mask: {op: mask}, st.sampled_from(["and", "or", "xor"]), st.integers(0, 7))),
    _update(
        "$push",
        st.builds(
            lambda each, position, length, sort: {
                "$each": each,
                "$position": position,
                "$slice": length,
                "$sort": sort,
            },
            st.lists(storable, max_size=2),
            st.integers(-2, 2),
            st.integers(-2, 2),
            st.sampled_from([1, -1, {"b": 1}, {"a.b": -1}]),
        ),
    ),
    st.builds(lambda one, two: {"$set": {"a": one, "c.b": two}}, storable, storable),
    st.builds(lambda one, two: {"$set": {"b": one}, "$inc": {"a": two}}, storable, numbers),
    st.builds(lambda one: {"$set": {"z": one, "b": one}, "$unset": {"a": 1}}, storable),
)
