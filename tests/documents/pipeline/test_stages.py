"""What each stage makes of documents, and what it refuses."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.documents.collation import parse_collation
from consona.documents.engine import Insert
from consona.documents.errors import OperatorError
from consona.documents.memory_space import Kept, Space, Work
from consona.documents.pipeline.parsing import known_stages, parse_pipeline
from consona.documents.pipeline.stages import Run, no_source
from consona.documents.values import identical, order

TEAS = [
    {"_id": 1, "kind": "green", "price": 4, "tags": ["hot", "organic"], "origin": {"country": "JP", "farm": {"n": 1}}},
    {"_id": 2, "kind": "black", "price": 3, "tags": ["hot"], "origin": {"country": "IN"}},
    {"_id": 3, "kind": "green", "price": 9, "tags": [], "sold": [{"n": 2, "at": "x"}, {"n": 5}]},
    {"_id": 4, "kind": None, "price": 1.5, "tags": "cold"},
    {"_id": 5, "price": 7},
]
SHOPS = [
    {"_id": "a", "sells": ["green", "black"], "city": "Ulm"},
    {"_id": "b", "sells": ["green"], "city": "Bonn"},
    {"_id": "c", "city": "Kiel"},
]
STAFF = [
    {"_id": 1, "name": "Ada"},
    {"_id": 2, "name": "Bob", "boss": "Ada"},
    {"_id": 3, "name": "Cy", "boss": "Bob"},
    {"_id": 4, "name": "Di", "boss": "Cy"},
]


def space_of(**collections):
    space = Space()
    for name, documents in collections.items():
        space.collections[name] = Kept(name)
        work = Work(space.collections[name], None, 0.0)
        for document in documents:
            work.do(Insert(document))
    return space


def result(pipeline, *, documents=TEAS, **options):
    space = space_of(teas=documents, shops=SHOPS, staff=STAFF)
    return list(space.read("teas", parse_pipeline(pipeline, **options).query()))


def ids(pipeline, **options):
    return [document["_id"] for document in result(pipeline, **options)]


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ([], [1, 2, 3, 4, 5]),
        ([{"$match": {"price": {"$gt": 3}}}], [1, 3, 5]),
        ([{"$match": {"$expr": {"$eq": ["$kind", "green"]}}}], [1, 3]),
        ([{"$sort": {"price": -1}}], [3, 5, 1, 2, 4]),
        ([{"$sort": {"kind": 1, "price": -1}}], [5, 4, 2, 3, 1]),
        ([{"$skip": 1}, {"$skip": 1}, {"$limit": 2}, {"$limit": 5}], [3, 4]),
        ([{"$limit": 3}, {"$skip": 1}], [2, 3]),
        ([{"$limit": 3}, {"$match": {"price": {"$lt": 4}}}], [2]),
        ([{"$sort": {"price": 1}}, {"$match": {"price": {"$gt": 3}}}, {"$limit": 1}], [1]),
        ([{"$addFields": {"x": 1}}, {"$sort": {"price": -1}}, {"$limit": 2}], [3, 5]),
        ([{"$addFields": {"x": 1}}, {"$sort": {"price": -1}}, {"$sort": {"_id": 1}}], [1, 2, 3, 4, 5]),
        ([{"$match": {"$expr": {"$gt": ["$price", "$$least"]}}}], [3, 5]),
        ([{"$match": {"_id": {"$gt": 1}}}, {"$match": {"_id": {"$lt": 4}}}], [2, 3]),
    ],
    ids=str,
)
def test_stages_choose_and_order(pipeline, expected):
    assert ids(pipeline, variables={"least": 4}) == expected


@pytest.mark.parametrize(
    ("stages", "document", "expected"),
    [
        ([{"$project": {"a": 1}}], {"_id": 1, "a": 2, "b": 3}, {"_id": 1, "a": 2}),
        ([{"$project": {"_id": 0, "a": 1}}], {"_id": 1, "a": 2, "b": 3}, {"a": 2}),
        ([{"$project": {"a": 0}}], {"_id": 1, "a": 2, "b": 3}, {"_id": 1, "b": 3}),
        ([{"$project": {"_id": 0}}], {"_id": 1, "a": 2}, {"a": 2}),
        ([{"$project": {"a.b": 1}}], {"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ([{"$project": {"a": {"b": 1, "x": "$n"}}}], {"n": 7, "a": {"b": 1, "c": 2}}, {"a": {"b": 1, "x": 7}}),
        ([{"$project": {"a.b": 1}}], {"a": [{"b": 1, "c": 2}, 5, {"c": 1}, [{"b": 2}]]}, {"a": [{"b": 1}, {}, [{"b": 2}]]}),
        ([{"$project": {"a.x": "$n"}}], {"n": 7, "a": [{"b": 1}, 5]}, {"a": [{"x": 7}, {"x": 7}]}),
        ([{"$project": {"a.x": "$n"}}], {"n": 7}, {"a": {"x": 7}}),
        ([{"$project": {"a": "$gone", "b": {"$literal": 1}}}], {"a": 2}, {"b": 1}),
        ([{"$project": {"a": "text"}}], {"a": 2}, {"a": "text"}),
        ([{"$project": {"a": ["$n", "$gone"]}}], {"n": 1}, {"a": [1, None]}),
        ([{"$project": {"_id": "$n"}}], {"_id": 1, "n": 2}, {"_id": 2}),
        ([{"$addFields": {"x": {"$add": ["$n", 1]}}}], {"n": 1}, {"n": 1, "x": 2}),
        ([{"$addFields": {"a.b.c": 1}}], {"a": {"z": 0}}, {"a": {"z": 0, "b": {"c": 1}}}),
        ([{"$addFields": {"a.b": 1}}], {"a": [{"z": 0}, 5]}, {"a": [{"z": 0, "b": 1}, {"b": 1}]}),
        ([{"$addFields": {"a": {"b": 1}}}], {"a": {"z": 0}}, {"a": {"z": 0, "b": 1}}),
        ([{"$set": {"n": "$gone", "m": "$n"}}], {"n": 1}, {"m": 1}),
        ([{"$set": {"n": "$$REMOVE"}}], {"n": 1, "m": 2}, {"m": 2}),
        ([{"$set": {"a": {}}}], {"a": 1}, {"a": {}}),
        ([{"$unset": "a"}], {"a": 1, "b": 2}, {"b": 2}),
        ([{"$unset": ["a.b", "c"]}], {"a": [{"b": 1, "d": 2}], "c": 2}, {"a": [{"d": 2}]}),
        ([{"$replaceRoot": {"newRoot": "$a"}}], {"_id": 1, "a": {"b": 2}}, {"b": 2}),
        ([{"$replaceWith": {"$mergeObjects": [{"d": 0}, "$a"]}}], {"a": {"b": 2}}, {"d": 0, "b": 2}),
        ([{"$unwind": "$a"}], {"a": [1]}, {"a": 1}),
        ([{"$unwind": "$a"}], {"a": 5}, {"a": 5}),
        ([{"$unwind": {"path": "$a.b", "includeArrayIndex": "at.n"}}], {"a": {"b": [7]}}, {"a": {"b": 7}, "at": {"n": 0}}),
        ([{"$unwind": {"path": "$a", "preserveNullAndEmptyArrays": True, "includeArrayIndex": "at"}}], {"a": []},
         {"at": None}),
        ([{"$unwind": {"path": "$a", "preserveNullAndEmptyArrays": True}}], {"a": None}, {"a": None}),
    ],
    ids=str,
)  # fmt: skip
def test_stages_shape_each_document(stages, document, expected):
    kept = repr(document)
    [found] = list(parse_pipeline(stages).over(iter([document]), None))
    assert identical(found, expected), found
    assert repr(document) == kept, "the stage changed what it was given"


@pytest.mark.parametrize("document", [{}, {"a": None}, {"a": []}, {"a": [[]], "b": 1}], ids=str)
def test_unwind_leaves_out_what_has_no_elements(document):
    found = list(parse_pipeline([{"$unwind": "$a"}, {"$unwind": "$a"}]).over(iter([document]), None))
    assert found == []


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        (
            [{"$group": {"_id": "$kind", "n": {"$sum": 1}, "price": {"$avg": "$price"}}}],
            [
                {"_id": "green", "n": 2, "price": 6.5},
                {"_id": "black", "n": 1, "price": 3.0},
                {"_id": None, "n": 2, "price": 4.25},
            ],
        ),
        (
            [{"$group": {"_id": None, "max": {"$max": "$price"}, "min": {"$min": "$kind"}, "c": {"$count": {}}}}],
            [{"_id": None, "max": 9, "min": "black", "c": 5}],
        ),
        (
            [{"$group": {"_id": {"k": "$kind"}, "all": {"$push": "$tags"}}}, {"$match": {"_id.k": "green"}}],
            [{"_id": {"k": "green"}, "all": [["hot", "organic"], []]}],
        ),
        (
            [{"$group": {"_id": None, "first": {"$first": "$kind"}, "last": {"$last": "$kind"}}}],
            [{"_id": None, "first": "green", "last": None}],
        ),
        (
            [{"$group": {"_id": None, "set": {"$addToSet": "$kind"}}}],
            [{"_id": None, "set": ["green", "black", None]}],
        ),
        (
            [{"$group": {"_id": None, "sd": {"$stdDevPop": "$price"}, "ss": {"$stdDevSamp": "$kind"}}}],
            [{"_id": None, "sd": 2.727636339397171, "ss": None}],
        ),
        (
            [{"$group": {"_id": None, "m": {"$mergeObjects": "$origin"}}}],
            [{"_id": None, "m": {"country": "IN", "farm": {"n": 1}}}],
        ),
        (
            [
                {
                    "$group": {
                        "_id": None,
                        "dear": {"$top": {"sortBy": {"price": -1}, "output": "$_id"}},
                        "cheap": {"$bottom": {"sortBy": {"price": -1}, "output": "$_id"}},
                        "two": {"$topN": {"n": 2, "sortBy": {"price": -1}, "output": "$_id"}},
                        "last": {"$bottomN": {"n": 2, "sortBy": {"price": -1}, "output": "$_id"}},
                    }
                }
            ],
            [{"_id": None, "dear": 3, "cheap": 4, "two": [3, 5], "last": [2, 4]}],
        ),
        (
            [
                {
                    "$group": {
                        "_id": None,
                        "f": {"$firstN": {"input": "$_id", "n": 2}},
                        "l": {"$lastN": {"input": "$_id", "n": 2}},
                        "x": {"$maxN": {"input": "$price", "n": 2}},
                        "m": {"$minN": {"input": "$kind", "n": 9}},
                    }
                }
            ],
            [{"_id": None, "f": [1, 2], "l": [4, 5], "x": [9, 7], "m": ["black", "green", "green"]}],
        ),
        ([{"$count": "n"}], [{"n": 5}]),
        ([{"$match": {"price": {"$gt": 100}}}, {"$count": "n"}], []),
        ([{"$limit": 2}, {"$count": "n"}], [{"n": 2}]),
        ([{"$unwind": "$tags"}, {"$count": "n"}], [{"n": 4}]),
        (
            [{"$unwind": "$tags"}, {"$sortByCount": "$tags"}, {"$limit": 1}],
            [{"_id": "hot", "count": 2}],
        ),
        (
            [{"$bucket": {"groupBy": "$price", "boundaries": [0, 4, 8], "default": "dear"}}],
            [{"_id": 0, "count": 2}, {"_id": 4, "count": 2}, {"_id": "dear", "count": 1}],
        ),
        (
            [{"$bucketAuto": {"groupBy": "$price", "buckets": 2, "output": {"ids": {"$push": "$_id"}}}}],
            [
                {"_id": {"min": 1.5, "max": 7}, "ids": [4, 2, 1]},
                {"_id": {"min": 7, "max": 9}, "ids": [5, 3]},
            ],
        ),
        (
            [{"$facet": {"kinds": [{"$sortByCount": "$kind"}], "dear": [{"$match": {"price": {"$gt": 8}}}, {"$count": "n"}]}}],
            [
                {
                    "kinds": [{"_id": "green", "count": 2}, {"_id": None, "count": 2}, {"_id": "black", "count": 1}],
                    "dear": [{"n": 1}],
                }
            ],
        ),
        ([{"$match": {"_id": 9}}, {"$facet": {"none": []}}], [{"none": []}]),
        (
            [{"$match": {"_id": {"$lt": 3}}},
             {"$lookup": {"from": "shops", "localField": "kind", "foreignField": "sells", "as": "in"}},
             {"$project": {"shops": "$in._id"}}],
            [{"_id": 1, "shops": ["a", "b"]}, {"_id": 2, "shops": ["a"]}],
        ),
        (
            [{"$match": {"_id": {"$gt": 3}}},
             {"$lookup": {"from": "shops", "localField": "kind", "foreignField": "sells", "as": "a.in"}},
             {"$project": {"a.in._id": 1}}],
            [{"_id": 4, "a": {"in": [{"_id": "c"}]}}, {"_id": 5, "a": {"in": [{"_id": "c"}]}}],
        ),
        (
            [{"$match": {"_id": 1}},
             {"$lookup": {"from": "shops", "let": {"kind": "$kind", "p": "$price"}, "as": "in", "pipeline": [
                 {"$match": {"$expr": {"$in": ["$$kind", {"$ifNull": ["$sells", []]}]}}},
                 {"$project": {"_id": 0, "where": "$city", "dear": {"$gt": ["$$p", 3]}}}]}},
             {"$project": {"in": 1}}],
            [{"_id": 1, "in": [{"where": "Ulm", "dear": True}, {"where": "Bonn", "dear": True}]}],
        ),
        (
            [{"$match": {"_id": {"$lt": 3}}},
             {"$lookup": {"from": "shops", "localField": "kind", "foreignField": "sells", "as": "in",
                          "pipeline": [{"$match": {"city": "Bonn"}}, {"$count": "n"}]}},
             {"$project": {"in": 1}}],
            [{"_id": 1, "in": [{"n": 1}]}, {"_id": 2, "in": []}],
        ),
        (
            [{"$match": {"_id": 1}}, {"$unionWith": {"coll": "shops", "pipeline": [{"$match": {"city": "Ulm"}}]}},
             {"$project": {"_id": 1}}],
            [{"_id": 1}, {"_id": "a"}],
        ),
        ([{"$match": {"_id": 1}}, {"$unionWith": "nowhere"}, {"$project": {"_id": 1}}], [{"_id": 1}]),
        (
            [{"$limit": 1}, {"$project": {"_id": 0, "who": {"$literal": "Di"}}},
             {"$graphLookup": {"from": "staff", "startWith": "$who", "connectFromField": "boss",
                               "connectToField": "name", "as": "chain", "depthField": "far", "maxDepth": 2}},
             {"$project": {"chain.name": 1, "chain.far": 1}}],
            [{"chain": [{"name": "Di", "far": 0}, {"name": "Cy", "far": 1}, {"name": "Bob", "far": 2}]}],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_stages_bring_documents_together(pipeline, expected):
    found = result(pipeline)
    assert identical(found, expected), found


def test_a_group_compares_by_the_collation():
    documents = [{"_id": 1, "a": "Tea"}, {"_id": 2, "a": "tea"}]
    grouped = [{"$group": {"_id": "$a", "n": {"$sum": 1}}}]
    assert len(result(grouped, documents=documents)) == 2
    collation = parse_collation({"locale": "en", "strength": 2})
    assert result(grouped, documents=documents, collation=collation) == [{"_id": "Tea", "n": 2}]


def test_a_sample_is_of_the_documents_each_at_most_once():
    found = ids([{"$sample": {"size": 3}}])
    assert len(set(found)) == 3
    assert sorted(ids([{"$sample": {"size": 10}}])) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ({}, "A pipeline is a list of stages"),
        ([{"$match": {}, "$sort": {}}], "a document with one operator"),
        ([{"$grup": {}}], "'$grup' is no operator of a pipeline. Did you mean $group"),
        ([{"$match": []}], "$match takes a filter"),
        ([{"$limit": 0}], "whole number from 1"),
        ([{"$limit": 2.5}], "whole number from 1"),
        ([{"$sort": {}}], "at least one field"),
        ([{"$sort": {"a": 2}}], "is 1 or -1"),
        ([{"$project": {}}], "at least one field"),
        ([{"$project": {"a": 1, "b": 0}}], "either keeps fields or leaves fields out"),
        ([{"$project": {"a": 1, "a.b": 1}}], "named twice, or its parent too"),
        ([{"$project": {"$a": 1}}], "'$a' is none"),
        ([{"$project": {"a": {}}}], "is an empty document"),
        ([{"$unset": []}], "a field, or a list"),
        ([{"$unwind": "a"}], 'Write "$field"'),
        ([{"$group": {"n": {"$sum": 1}}}], "takes a document with _id"),
        ([{"$group": {"_id": 1, "n": {"$summe": 1}}}], "no operator of $group, as an accumulator"),
        ([{"$group": {"_id": 1, "n": {"$accumulator": {}}}}], "$accumulator is refused: it runs code"),
        ([{"$group": {"_id": 1, "a.b": {"$sum": 1}}}], "no name of one"),
        ([{"$group": {"_id": 1, "a": {"$topN": {"n": "$x", "sortBy": {"a": 1}, "output": 1}}}}], "takes a constant"),
        ([{"$count": "$n"}], "takes the name of a field"),
        ([{"$bucket": {"groupBy": "$a", "boundaries": [2, 1]}}], "each above the one before"),
        ([{"$bucket": {"groupBy": "$a", "boundaries": [1, "b"]}}], "of one type"),
        ([{"$bucket": {"groupBy": "$a", "boundaries": [1, 5], "default": 2}}], "beside the boundaries"),
        ([{"$facet": {"a": [{"$facet": {"b": []}}]}}], "$facet stands in another"),
        ([{"$facet": {"a": [{"$out": "b"}]}}], "$out stands within $facet"),
        ([{"$out": "b"}, {"$limit": 1}], "it is the last stage"),
        ([{"$out": {"db": "x", "coll": "y"}}], "into this database only"),
        ([{"$merge": {"into": "b", "whenMatched": "drop"}}], "whenMatched is one of"),
        ([{"$merge": {"into": "b", "whenMatched": [{"$group": {"_id": 1}}]}}], "no operator of an update by a pipeline"),
        ([{"$lookup": {"from": "b", "as": "c"}}], "localField and foreignField, or a pipeline"),
        ([{"$lookup": {"from": "b", "as": "c", "localField": "x"}}], "together"),
        ([{"$lookup": {"from": "b", "as": "c", "let": {"X": 1}, "pipeline": []}}], "no name of a variable"),
        ([{"$lookup": {"from": "b", "as": "c", "pipeline": [{"$match": {"$expr": "$$y"}}]}}], "no variable '$$y'"),
        ([{"$unionWith": {"coll": "$x"}}], "name of a collection"),
        ([{"$sample": 3}], "takes a document with size"),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_told_with_the_name_of_the_stage(pipeline, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        parse_pipeline(pipeline)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ([{"$replaceWith": "$kind"}], "gave a value of type string"),
        ([{"$bucket": {"groupBy": "$price", "boundaries": [0, 2]}}], "outside of the boundaries"),
        ([{"$group": {"_id": None, "m": {"$mergeObjects": "$kind"}}}], "takes documents, not a value of type string"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_documents_is_told(pipeline, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        result(pipeline)


def doubled(times):
    return [{"$set": {"a": ["$a", "$a"]}}] * times


@pytest.mark.parametrize(
    "pipeline",
    [
        doubled(60),
        [*doubled(23), {"$group": {"_id": None, "all": {"$push": "$a"}}}],
        [{"$set": {"a": {"$reduce": {"input": {"$range": [0, 3000]}, "initialValue": 1, "in": ["$$value"]}}}}],
        [{"$set": {"a": {"$reduce": {"input": {"$range": [0, 3000]}, "initialValue": 1, "in": ["$$value"]}}}},
         {"$sort": {"a": 1}}],
        [{"$set": {"a": "x" * 1000}}, {"$set": {"b": {"$map": {"input": {"$range": [0, 20_000]}, "in": "$a"}}}}],
    ],
    ids=["doubled", "doubled and grouped", "deep", "deep and sorted", "more than 16 MiB"],
)  # fmt: skip
def test_a_document_does_not_grow_without_end(pipeline):
    with pytest.raises(OperatorError, match=r"more than|too deeply"):
        result(pipeline, documents=[{"_id": 1, "a": 1}])


@pytest.mark.parametrize(
    "stage",
    [
        {"$sort": {"x": 1}},
        {"$group": {"_id": "$_id"}},
        {"$group": {"_id": None, "all": {"$push": "$$ROOT"}}},
        {"$group": {"_id": None, "all": {"$addToSet": "$_id"}}},
        {"$bucketAuto": {"groupBy": "$_id", "buckets": 2}},
        {"$facet": {"all": []}},
        {"$lookup": {"from": "teas", "pipeline": [], "as": "all"}},
        {"$sample": {"size": 500}},
        {"$out": "elsewhere"},
    ],
    ids=lambda stage: next(iter(stage)),
)
def test_a_stage_that_would_hold_too_much_says_so(stage):
    documents = [{"_id": number, "a": "x" * 100} for number in range(500)]
    pipeline = parse_pipeline([{"$set": {"b": 1}}, stage])
    space = space_of(teas=documents)
    with pytest.raises(OperatorError, match=rf"\{next(iter(stage))} would hold more than 20000 bytes"):
        list(space.read("teas", pipeline.query(max_bytes=20_000)))
    assert list(space.read("teas", pipeline.query(max_bytes=20_000_000)))


def test_the_results_share_nothing_with_each_other_or_with_what_is_kept():
    space = space_of(teas=TEAS)
    pipeline = [{"$unwind": "$sold"}, {"$set": {"both": ["$origin", "$tags"], "fix": {"$literal": {"a": []}}}}]
    first, second = space.read("teas", parse_pipeline(pipeline).query())
    first["tags"].append("x")
    first["fix"]["a"].append("x")
    assert second["tags"] == []
    assert second["fix"] == {"a": []}
    assert next(space.read("teas", parse_pipeline([{"$match": {"_id": 3}}]).query()))["tags"] == []


def test_the_stages_are_known_by_name():
    assert {"$match", "$group", "$lookup", "$facet", "$merge", "$out"} <= set(known_stages())


@given(st.lists(st.integers(-5, 5), max_size=40), st.integers(1, 6))
def test_automatic_buckets_hold_every_document_once_and_in_order(values, count):
    documents = [{"_id": at, "v": value} for at, value in enumerate(values)]
    stage = {"$bucketAuto": {"groupBy": "$v", "buckets": count, "output": {"v": {"$push": "$v"}}}}
    buckets = list(parse_pipeline([stage]).over(iter(documents), Run(no_source)))
    assert sorted(value for bucket in buckets for value in bucket["v"]) == sorted(values)
    assert len(buckets) <= count
    for one, other in itertools.pairwise(buckets):
        assert max(one["v"]) < min(other["v"])
        assert one["_id"]["max"] == other["_id"]["min"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9)), max_size=30))
def test_a_group_is_what_a_plain_loop_finds(rows):
    documents = [{"_id": at, "k": key, "v": value} for at, (key, value) in enumerate(rows)]
    stage = {"$group": {"_id": "$k", "sum": {"$sum": "$v"}, "all": {"$push": "$v"}, "top": {"$max": "$v"}}}
    wanted = {}
    for key, value in rows:
        wanted.setdefault(key, []).append(value)
    found = list(parse_pipeline([stage]).over(iter(documents), Run(no_source)))
    assert {made["_id"]: made["all"] for made in found} == wanted
    assert all(made["sum"] == sum(made["all"]) and made["top"] == max(made["all"], key=order) for made in found)
