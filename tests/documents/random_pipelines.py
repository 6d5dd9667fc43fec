"""Random pipelines whose answer does not hang on the order in which an engine reads, from one number."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from bson import Decimal128, ObjectId

VALUES = [0, 1, -1, 2.5, 2**40, True, None, "", "x", "X", [], [1, "x"], {"b": 1}, Decimal128("2.5"), ObjectId("f" * 24)]
VALUES += [datetime(2024, 5, 1, tzinfo=UTC), float("nan"), float("inf")]
LEAVES = ["$a", "$b", "$c", "$a.b", "$a.b.c", "$b.a", "$_id", "$$ROOT", "$$ROOT.a", "$$REMOVE"]
COMPARISONS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]
PATHS = ["a", "b", "a.b", "a.c", "b.a", "a.b.c", "a.0"]
ACCUMULATORS = ["$sum", "$avg", "$min", "$max", "$first", "$last", "$push", "$addToSet", "$stdDevPop"]
BY_ID = {"$sort": {"_id": 1}}


class Maker:
    """Makes parts of pipelines. Its expressions fit every value, so that no engine meets an error alone."""

    def __init__(self, number):
        self.random = random.Random(number)
        self.pick = self.random.choice

    def array(self, depth):
        found = self.expression(depth)
        return {"$cond": [{"$isArray": [found]}, found, [found]]}

    def expression(self, depth=2):
        if not depth or self.random.random() < 0.3:
            return self.pick([*LEAVES, {"$literal": self.pick(VALUES)}])
        inner = lambda: self.expression(depth - 1)
        array = lambda: self.array(depth - 1)
        return self.pick([
            lambda: {self.pick([*COMPARISONS, "$cmp"]): [inner(), inner()]},
            lambda: {"$cond": [inner(), inner(), inner()]},
            lambda: {"$ifNull": [inner(), inner()]},
            lambda: {self.pick(["$and", "$or"]): [inner(), inner()]},
            lambda: {"$not": [inner()]},
            lambda: {"$type": [inner()]},
            lambda: [inner(), inner()],
            lambda: {"k": inner(), "b": inner()},
            lambda: {"$map": {"input": array(), "in": {"$ifNull": ["$$this", inner()]}}},
            lambda: {"$filter": {"input": array(), "cond": {"$gt": ["$$this", inner()]}}},
            lambda: {"$reduce": {"input": array(), "initialValue": [], "in": {"$setUnion": ["$$value", ["$$this"]]}}},
            lambda: {"$size": array()},
            lambda: {"$in": [inner(), array()]},
            lambda: {"$arrayElemAt": [array(), self.pick([0, -1, 1])]},
            lambda: {"$concatArrays": [array(), array()]},
            lambda: {self.pick(["$max", "$min", "$sum", "$avg"]): [inner()]},
            lambda: {"$let": {"vars": {"x": inner()}, "in": ["$$x", "$$x.b", inner()]}},
            lambda: {"$convert": {"input": inner(), "to": self.pick(["string", "double", "bool"]), "onError": inner()}},
            lambda: {"$sortArray": {"input": array(), "sortBy": self.pick([1, -1, {"b": 1}])}},
        ])()  # fmt: skip

    def stage(self):
        return self.pick([
            lambda: {"$match": {self.pick(PATHS): self.pick(VALUES)}},
            lambda: {"$match": {"$expr": self.expression()}},
            lambda: {"$set": {self.pick(["a", "b", "c", "a.b", "c.b"]): self.expression()}},
            lambda: {"$project": {"b": 1, self.pick(["a", "c", "c.b"]): self.expression()}},
            lambda: self.pick([{"$project": {"a.b": 1}}, {"$project": {"a": 0}}, {"$unset": ["a.b", "c"]}]),
            lambda: {"$unwind": self.pick(["$a", "$b", "$a.b"])},
            lambda: {"$unwind": {"path": "$a", "preserveNullAndEmptyArrays": True, "includeArrayIndex": "c"}},
            lambda: {"$group": {
                "_id": self.expression(),
                "x": {self.pick(ACCUMULATORS): self.expression()},
                "a": {self.pick(ACCUMULATORS): self.expression()},
                "b": {"$topN": {"n": 2, "sortBy": {"b": self.pick([1, -1])}, "output": self.expression()}},
            }},
            lambda: {"$sortByCount": self.expression()},
            lambda: {"$bucketAuto": {"groupBy": self.expression(), "buckets": self.random.randint(1, 3)}},
            lambda: {"$sort": {self.pick(["a", "b", "a.b"]): self.pick([1, -1])}},
            lambda: {"$limit": self.random.randint(1, 4)},
            lambda: {"$skip": self.random.randint(0, 2)},
            lambda: {"$replaceWith": {"k": self.expression()}},
            lambda: {"$count": "n"},
        ])()  # fmt: skip

    def stages(self):
        return [self.stage() for _ in range(self.random.randint(0, 3))]

    def middle(self):
        order = {"$set": {"c": {"$sortArray": {"input": "$c", "sortBy": {"_id": 1}}}}}
        match = {"$match": {"$expr": {self.pick(COMPARISONS): [self.pick(["$a", "$b", "$a.b"]), "$$x"]}}}
        by_fields = {"from": "others", "localField": self.pick(PATHS), "foreignField": self.pick([*PATHS, "_id"])}
        by_pipeline = {"from": "others", "let": {"x": self.expression()}, "pipeline": [match, BY_ID], "as": "c"}
        return self.pick([
            self.stages,
            lambda: [{"$lookup": {**by_fields, "as": "c"}}, order],
            lambda: [{"$lookup": {**by_fields, "pipeline": [BY_ID, *self.stages()], "as": "c"}}],
            lambda: [{"$lookup": by_pipeline}],
            lambda: [{"$facet": {"one": self.stages(), "two": self.stages()}}],
            lambda: [{"$unionWith": {"coll": "others", "pipeline": [BY_ID, *self.stages()]}}],
        ])()  # fmt: skip

    def pipeline(self, query):
        sort = {"$sort": {self.pick(["a", "b", "a.b"]): self.pick([1, -1]), "_id": 1}}
        head = self.pick([[BY_ID], [BY_ID, {"$limit": 3}], [sort], [sort, {"$skip": 1}, {"$limit": 2}]])
        return [{"$match": self.pick([query, {}, {"a": {"$exists": True}}])}, *head, *self.middle(), *self.stages()]
