"""For each operator that can use an index, SQLite uses it; and explain says so."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from consona import DocumentDatabase

DAY = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
async def things(tmp_path):
    async with DocumentDatabase(f"sqlite:///{tmp_path}/plans.db") as db:
        things = db["things"]
        await things.insert_many(
            [
                {"_id": n, "n": n, "s": f"text{n:04}", "d": DAY, "o": ObjectId(), "b": n % 2 == 0, "tags": [n, f"t{n}"]}
                | {"in": {"ner": n}, "list": [{"x": n}, {"x": -n}], "g": n % 10, "rest": "x"}
                for n in range(1000)
            ]
        )
        for keys in ("n", "s", "d", "o", "tags", "in.ner", "list.x", [("g", 1), ("n", -1)]):
            await things.create_index(keys)
        yield things


@pytest.mark.parametrize(
    ("query", "index", "examined"),
    [
        ({"n": 5}, "n_1", 1),
        ({"n": {"$eq": 5.0}}, "n_1", 1),
        ({"n": {"$lt": 10}}, "n_1", 10),
        ({"n": {"$lte": 10}}, "n_1", 11),
        ({"n": {"$gt": 990}}, "n_1", 9),
        ({"n": {"$gte": 990}}, "n_1", 10),
        ({"n": {"$gte": 10, "$lt": 20}}, "n_1", 10),
        ({"n": {"$in": [1, 2, 3]}}, "n_1", 3),
        ({"n": None}, "n_1", 0),
        ({"n": {"$mod": [2, 0]}, "s": "text0004"}, "s_1", 1),
        ({"s": "text0005"}, "s_1", 1),
        ({"s": {"$gt": "text0990"}}, "s_1", 9),
        ({"s": {"$regex": "^text000"}}, "s_1", 10),
        ({"s": re.compile("^text0005$")}, "s_1", 1),
        ({"s": {"$in": ["text0001", "text0002"]}}, "s_1", 2),
        ({"d": {"$gt": DAY}}, "d_1", 0),
        ({"o": ObjectId("6b060f6cc52ccecee7d14d95")}, "o_1", 0),
        ({"tags": 5}, "tags_1", 1),
        ({"tags": "t7"}, "tags_1", 1),
        ({"tags": {"$in": [5, "t7"]}}, "tags_1", 2),
        ({"tags": {"$all": [5, "t5"]}}, "tags_1", 1),
        ({"tags": {"$lt": 3}}, "tags_1", 3),
        ({"in.ner": {"$lt": 5}}, "in.ner_1", 5),
        ({"list.x": 7}, "list.x_1", 1),
        ({"list": {"$elemMatch": {"x": 7}}}, "list.x_1", 1),
        ({"g": 5, "n": {"$lt": 100}}, None, 10),
        ({"$and": [{"n": 5}, {"rest": "x"}]}, "n_1", 1),
        ({"$or": [{"n": 5}, {"s": "text0007"}]}, None, 2),
    ],
    ids=str,
)
async def test_an_operator_uses_the_index(things, query, index, examined):
    plan = await things.find(query).explain()
    assert plan.stage == "IXSCAN", plan
    assert index in {None, plan.index}, plan
    assert plan.examined == examined, plan
    assert plan.returned == await things.count_documents(query) == len(await things.find(query).to_list())


@pytest.mark.parametrize(
    "query",
    [{"rest": "x"}, {"n": {"$ne": 5}}, {"n": {"$nin": [5]}}, {"n": {"$exists": True}}, {"s": {"$regex": "5"}}],
    ids=str,
)
async def test_what_no_index_can_answer_is_a_scan(things, query):
    plan = await things.find(query).explain()
    assert plan.returned == len(await things.find(query).to_list())
    assert plan.examined == 1000


async def test_a_look_up_by_id_is_one_row(things):
    plan = await things.find({"_id": 5}).explain()
    assert (plan.stage, plan.index, plan.examined, plan.returned) == ("IDHACK", "_id_", 1, 1)
    plan = await things.find({"_id": {"$lt": 5}}).explain()
    assert (plan.stage, plan.index, plan.examined) == ("IXSCAN", "_id_", 5)


@pytest.mark.parametrize(
    "sort", [[("n", 1)], [("n", -1)], [("in.ner", 1)], [("_id", -1)], [("g", 1), ("n", -1)]], ids=str
)
async def test_an_index_gives_the_order(things, sort):
    plan = await things.find({}, sort=sort, limit=5).explain()
    assert plan.sorted_by_index, plan
    assert not (await things.find({}, sort=[("rest", 1)]).explain()).sorted_by_index
    assert not (await things.find({}, sort=[("tags", 1)]).explain()).sorted_by_index


async def test_arrays_and_decimals_make_an_index_no_less_right(things):
    plan = await things.find({"n": 5}).explain()
    assert plan.exact
    await things.insert_one({"_id": "array", "n": [5, 6]})
    plan = await things.find({"n": 5}).explain()
    assert (plan.stage, plan.returned) == ("IXSCAN", 2)
