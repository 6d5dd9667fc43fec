"""Whatever stands in a pipeline, an expression, a filter, an update or a schema: an error of ours, or an answer."""

import random
from datetime import UTC, datetime

import pytest
from bson import Binary, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from consona.documents.expressions import OPERATORS, parse_expression
from consona.documents.filters import parse_filter
from consona.documents.json_schema import parse_schema
from consona.documents.pipeline.accumulators import ACCUMULATORS
from consona.documents.pipeline.parsing import known_stages, parse_pipeline
from consona.documents.pipeline.stages import Run
from consona.documents.update_operators import OPERATORS as OF_UPDATES
from consona.documents.updates import parse_update
from consona.errors import ConsonaError

DOCUMENTS = [
    {"_id": 1, "a": [1, "x", None, {"b": 2}], "b": 5},
    {"_id": 2, "a": {"b": [datetime(2024, 1, 1, tzinfo=UTC)]}, "b": "text"},
    {"_id": 3},
    {"_id": 4, "a": Decimal128("2.5"), "b": datetime(2024, 1, 1, tzinfo=UTC)},
]
LEAVES = [
    0,
    1,
    -1,
    2.5,
    -0.0,
    float("nan"),
    float("inf"),
    2**62,
    -(2**63),
    1e300,
    True,
    False,
    None,
    "",
    "a",
    "$a",
    "$a.b",
]
LEAVES += [
    "$$ROOT",
    "$$NOW",
    "$$this",
    "x",
    "year",
    "%Y",
    "Europe/Berlin",
    "+01:00",
    "mon",
    "2024-05-01",
    "int",
    "\ud800",
]
LEAVES += ["a.b", "$", ".", "$$", [], {}, object(), set(), ObjectId("f" * 24), Regex("a"), Timestamp(1, 1), MinKey()]
LEAVES += [Decimal128("1.5"), Decimal128("NaN"), Decimal128("-Infinity"), Decimal128("1E+6000"), MaxKey(), b"ab"]
LEAVES += [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), Binary(b"x", 5)]
NAMED = {
    "$map": "input in", "$filter": "input cond", "$reduce": "input initialValue in", "$sortArray": "input sortBy",
    "$zip": "inputs", "$dateToString": "date format timezone", "$dateFromString": "dateString format timezone",
    "$dateAdd": "startDate unit amount", "$dateSubtract": "startDate unit amount", "$dateDiff": "startDate endDate unit",
    "$dateTrunc": "date unit binSize", "$dateFromParts": "year month hour", "$dateToParts": "date iso8601",
    "$convert": "input to", "$regexMatch": "input regex", "$regexFindAll": "input regex",
    "$regexFind": "input regex options", "$replaceAll": "input find replacement", "$trim": "input chars",
    "$getField": "field input", "$setField": "field input value", "$unsetField": "field input", "$firstN": "input n",
    "$maxN": "input n", "$let": "vars in", "$switch": "branches default", "$cond": "if then else",
    "$lookup": "from localField foreignField as", "$bucket": "groupBy boundaries default",
    "$bucketAuto": "groupBy buckets", "$unwind": "path includeArrayIndex", "$sample": "size", "$facet": "a b",
    "$graphLookup": "from startWith connectFromField connectToField as", "$merge": "into on whenMatched",
    "$replaceRoot": "newRoot", "$unionWith": "coll pipeline", "$topN": "n sortBy output", "$top": "sortBy output",
}  # fmt: skip
KEYS = sorted({"_id", "1", "$x", *" ".join(NAMED.values()).split()})
SCHEMA = [
    "bsonType",
    "type",
    "enum",
    "items",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "dependencies",
]
SCHEMA += ["additionalProperties", "additionalItems", "anyOf", "not", "maxLength", "uniqueItems", "patternProperties"]


class Garbage:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pick = self.random.choice

    def value(self, depth=2):
        chance = self.random.random()
        if depth <= 0 or chance < 0.35:
            return self.pick(LEAVES)
        if chance < 0.55:
            return [self.value(depth - 1) for _ in range(self.random.randint(0, 4))]
        if chance < 0.7:
            return {self.pick(KEYS): self.value(depth - 1) for _ in range(self.random.randint(0, 4))}
        name = self.pick(sorted(OPERATORS))
        return {name: self.arguments(name, depth - 1)}

    def arguments(self, name, depth):
        if name in NAMED and self.random.random() < 0.8:
            return {key: self.value(depth) for key in NAMED[name].split()}
        if self.random.random() < 0.4:
            return [self.value(depth) for _ in range(self.random.randint(0, 4))]
        return self.value(depth)

    def stage(self):
        name = self.pick(known_stages())
        if name == "$group" and self.random.random() < 0.8:
            made = self.pick(sorted(ACCUMULATORS))
            return {name: {"_id": self.value(), "x": {made: self.arguments(made, 2)}}}
        if name == "$match":
            return {name: {self.pick(["a", "a.b", "$expr", "$or", "$jsonSchema", "_id"]): self.value()}}
        return {name: self.arguments(name, 2)}


def source(_, query):
    """Another collection with the same documents."""
    found = (document for document in DOCUMENTS if query.filter.matches(document))
    return found if query.finish is None else query.finish(found, source)


def expression(garbage):
    name = garbage.pick(sorted(OPERATORS))
    compiled = parse_expression({name: garbage.arguments(name, 3)})
    for document in DOCUMENTS:
        try:
            compiled(document)
        except ConsonaError:
            continue


def pipeline(garbage):
    parsed = parse_pipeline([{"$set": {"c": 1}}, *[garbage.stage() for _ in range(garbage.random.randint(1, 3))]])
    list(parsed.over(iter(DOCUMENTS), Run(source)))


def query(garbage):
    parsed = parse_filter({garbage.pick(["a", "a.b", "$expr", "$nor"]): garbage.value(3)})
    for document in DOCUMENTS:
        parsed.matches(document)


def update(garbage):
    operators = {garbage.pick(sorted(OF_UPDATES)): {garbage.pick(["a", "a.b", "a.$[]", "b.0"]): garbage.value()}}
    parse_update(garbage.pick([operators, [garbage.stage()]])).apply({"_id": 1, "a": [1, {"b": 2}], "b": "x"})


def schema(garbage):
    parsed = parse_schema({garbage.pick(SCHEMA): garbage.value(3), "minLength": 1})
    for document in DOCUMENTS:
        parsed(document)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ask", [expression, pipeline, query, update, schema])
def test_garbage_gets_an_answer_or_an_error_of_ours(ask, seed):
    garbage = Garbage(seed)
    refused = 0
    for _ in range(400):
        try:
            ask(garbage)
        except ConsonaError:
            refused += 1
    assert 0 < refused <= 400
