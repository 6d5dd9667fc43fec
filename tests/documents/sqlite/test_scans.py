"""A query that looks at a whole large collection is told of, once, with an index that really helps."""

import logging
import re

import pytest

from consona.documents import DocumentDatabase
from consona.documents.engine import Query
from consona.documents.filters import parse_filter
from consona.documents.sorting import parse_sort
from consona.documents.sqlite import scans
from consona.documents.sqlite.scans import helpful_index


@pytest.fixture
async def teas(tmp_path, monkeypatch):
    monkeypatch.setattr(scans, "MOST_SCANNED", 50)
    async with DocumentDatabase(f"sqlite:///{tmp_path}/teas.db") as db:
        documents = [{"kind": n % 5, "price": n, "name": f"n{n}", "in": {"city": n % 3}} for n in range(60)]
        await db["teas"].insert_many(documents)
        yield db["teas"]


def told(caplog):
    return [record.getMessage() for record in caplog.records if "looked at all" in record.getMessage()]


async def test_a_scan_is_told_once_without_values_and_the_index_ends_it(teas, caplog):
    caplog.set_level(logging.WARNING, "consona.documents")
    for price in (10, 12):
        await teas.find({"price": {"$lt": price}, "kind": 3}, sort="name").to_list()
    [line] = told(caplog)
    assert line == (
        "teas.db: a query of teas looked at all of its 60 documents;"
        " this index would help: create_index([('kind', 1), ('name', 1), ('price', 1)])"
    )
    await teas.create_index(eval(re.search(r"create_index\((.*)\)", line)[1]))
    plan = await teas.find({"price": {"$lt": 10}, "kind": 3}, sort="name").explain()
    assert plan.stage == "IXSCAN"
    await teas.find({"price": {"$lt": 10}, "kind": 3}, sort="name").to_list()
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("how", ["streamed", "aggregate", "count"])
async def test_every_way_of_reading_tells(teas, caplog, how):
    caplog.set_level(logging.WARNING, "consona.documents")
    if how == "streamed":
        assert len([found async for found in teas.find({"in.city": 1})]) == 20
    elif how == "count":
        assert await teas.count_documents({"in.city": 1}) == 20
    else:
        assert len([found async for found in teas.aggregate([{"$match": {"in.city": 1}}])]) == 20
    assert ["[('in.city', 1)]" in line for line in told(caplog)] == [True]


@pytest.mark.parametrize(
    "query",
    [
        {"filter": {}},
        {"filter": {"_id": 5}},
        {"filter": {"kind": 3}, "limit": 1},
        {"filter": {"$or": [{"kind": 1}, {"price": 2}]}},
        {"filter": {"name": {"$regex": "x"}}},
    ],
    ids=str,
)
async def test_what_no_index_would_help_or_what_is_meant_is_not_told(teas, caplog, query):
    caplog.set_level(logging.WARNING, "consona.documents")
    await teas.find(**query).to_list()
    assert told(caplog) == []


async def test_a_small_collection_may_be_scanned(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "consona.documents")
    async with DocumentDatabase(f"sqlite:///{tmp_path}/teas.db") as db:
        await db["teas"].insert_one({"a": 1})
        await db["teas"].find({"a": 1}).to_list()
    assert told(caplog) == []


@pytest.mark.parametrize(
    ("raw", "sort", "keys"),
    [
        ({"a": 1}, None, (("a", 1),)),
        ({"a": {"$in": [1, 2]}, "b": {"$gt": 1}}, None, (("a", 1), ("b", 1))),
        ({"b": {"$gt": 1}, "a": 1}, [("c", -1)], (("a", 1), ("c", -1), ("b", 1))),
        ({"b": {"$gt": 1}}, "c", (("b", 1), ("c", 1))),
        ({"b": {"$regex": "^ab"}}, None, (("b", 1),)),
        ({"a.0": 1}, None, ()),
        ({"a": {"$exists": True}}, None, ()),
    ],
    ids=str,
)
def test_an_index_has_what_is_equal_then_the_order_then_the_bounds(raw, sort, keys):
    assert helpful_index(Query(filter=parse_filter(raw), sort=parse_sort(sort))) == keys
