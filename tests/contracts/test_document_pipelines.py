"""Aggregations and updates by pipelines. Each test runs over every document engine."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from consona.documents import DocumentDatabase, DocumentRefused, DuplicateKey, OperatorError, UpdateOne
from consona.documents.engine import SupportsTransactions
from consona.errors import ConfigurationError, ValidationError

ENGINES = ["memory", "sqlite", "sqlite memory"]


@pytest.fixture(params=ENGINES)
async def db(request, tmp_path):
    address = {
        "memory": f"memory://{uuid.uuid4()}",
        "sqlite memory": f"sqlite://{uuid.uuid4()}",
        "sqlite": f"sqlite:///{tmp_path}/documents.db",
    }[request.param]
    async with DocumentDatabase(address) as database:
        await database["teas"].insert_many(
            [
                {"_id": 1, "kind": "green", "price": 4, "sold": [3, 4]},
                {"_id": 2, "kind": "black", "price": 3, "sold": [1]},
                {"_id": 3, "kind": "green", "price": 9, "sold": []},
            ]
        )
        yield database


@pytest.fixture
def teas(db):
    return db["teas"]


BY_KIND = [{"$group": {"_id": "$kind", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]


async def test_a_pipeline_gives_a_cursor_as_pymongo_does(teas):
    expected = [{"_id": "black", "n": 1}, {"_id": "green", "n": 2}]
    assert await teas.aggregate(BY_KIND).to_list() == expected
    assert await (await teas.aggregate(BY_KIND)).to_list() == expected
    assert [found async for found in await teas.aggregate(BY_KIND)] == expected
    async with await teas.aggregate(BY_KIND) as cursor:
        assert await cursor.next() == expected[0]
    assert not cursor.alive


async def test_a_long_result_is_read_in_batches_as_of_one_moment(db):
    numbers = db["numbers"]
    await numbers.insert_many([{"_id": number} for number in range(3000)])
    cursor = await numbers.aggregate([{"$set": {"double": {"$multiply": ["$_id", 2]}}}])
    first = await cursor.next()
    await numbers.delete_many({})
    assert [first, *await cursor.to_list()] == [{"_id": number, "double": number * 2} for number in range(3000)]


async def test_what_a_pipeline_begins_with_uses_an_index(db, teas):
    await teas.create_index("price")
    pipeline = [{"$match": {"price": {"$lt": 5}}}, {"$sort": {"price": 1}}, {"$project": {"_id": 1}}]
    assert await teas.aggregate(pipeline).to_list() == [{"_id": 2}, {"_id": 1}]
    plan = await teas.aggregate(pipeline).explain()
    assert plan.stage == ("COLLSCAN" if "memory.MemoryDocuments" in str(type(db.engine)) else "IXSCAN")
    assert plan.returned == 2


async def test_the_event_loop_runs_while_a_pipeline_calculates(db):
    numbers = db["numbers"]
    await numbers.insert_many([{"_id": number} for number in range(2000)])
    heavy = [{"$set": {"x": {"$sum": {"$map": {"input": {"$range": [0, 100]}, "in": {"$add": ["$$this", "$_id"]}}}}}}]
    task = asyncio.create_task(numbers.aggregate([*heavy, {"$count": "n"}]).to_list())
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert await task == [{"n": 2000}]


async def test_what_others_write_meanwhile_is_not_seen(db, teas):
    task = asyncio.create_task(teas.aggregate([{"$group": {"_id": None, "n": {"$sum": 1}}}]).to_list())
    await teas.insert_many([{"_id": number} for number in range(10, 200)])
    [found] = await task
    assert found["n"] in {3, 193}, "a moment between two documents of one insert_many"


async def test_partners_are_found_in_another_collection(db, teas):
    shops = db["shops"]
    await shops.insert_many([{"_id": "a", "sells": ["green", "black"]}, {"_id": "b", "sells": "green"}])
    for _ in range(2):  # without an index, and with one
        found = await teas.aggregate(
            [
                {"$lookup": {"from": "shops", "localField": "kind", "foreignField": "sells", "as": "in"}},
                {"$project": {"in": {"$sortArray": {"input": "$in._id", "sortBy": 1}}}},
                {"$sort": {"_id": 1}},
            ]
        ).to_list()
        assert [tea["in"] for tea in found] == [["a", "b"], ["a"], ["a", "b"]]
        await shops.create_index("sells")


async def test_many_documents_find_their_partners(db):
    await db["left"].insert_many([{"_id": number, "to": number % 7} for number in range(1500)])
    await db["right"].insert_many([{"_id": number, "name": f"n{number}"} for number in range(7)])
    join = {"$lookup": {"from": "right", "localField": "to", "foreignField": "_id", "as": "found"}}
    found = await db["left"].aggregate([join, {"$unwind": "$found"}, {"$sortByCount": "$found.name"}]).to_list()
    assert {(each["_id"], each["count"]) for each in found} == {(f"n{n}", 215 if n < 2 else 214) for n in range(7)}


async def test_variables_and_types(teas):
    class Tea(msgspec.Struct):
        id: int = msgspec.field(name="_id")
        worth: float = 0.0

    pipeline = [
        {"$match": {"$expr": {"$gt": ["$price", "$$least"]}}},
        {"$project": {"worth": {"$divide": ["$price", 2]}}},
    ]
    assert await teas.aggregate(pipeline, let={"least": 5}, into=Tea).to_list() == [Tea(3, 4.5)]
    with pytest.raises(OperatorError, match="no variable"):
        await teas.aggregate(pipeline).to_list()


async def test_texts_compare_by_the_collation(db):
    await db["names"].insert_many([{"_id": 1, "n": "Ada"}, {"_id": 2, "n": "ada"}, {"_id": 3, "n": "Bob"}])
    pipeline = [{"$match": {"n": "ADA"}}, {"$group": {"_id": "$n", "c": {"$sum": 1}}}]
    found = await db["names"].aggregate(pipeline, collation={"locale": "en", "strength": 2}).to_list()
    assert [each["c"] for each in found] == [2]


async def test_too_much_memory_is_refused(teas):
    with pytest.raises(OperatorError, match=r"\$group would hold more than 100 bytes"):
        await teas.aggregate([{"$group": {"_id": "$$ROOT"}}], max_bytes=100).to_list()
    with pytest.raises(ConfigurationError, match="max_bytes"):
        teas.aggregate([], max_bytes=0)


async def test_mistakes_are_told_when_the_cursor_is_read(teas):
    with pytest.raises(OperatorError, match="no operator of a pipeline"):
        await teas.aggregate([{"$nope": 1}]).to_list()
    with pytest.raises(OperatorError, match=r"\$add takes numbers"):
        await teas.aggregate([{"$set": {"x": {"$add": ["$kind", 1]}}}]).to_list()


async def test_a_find_can_compare_fields(teas):
    assert [tea["_id"] for tea in await teas.find({"$expr": {"$gt": ["$price", {"$size": "$sold"}]}}).to_list()] == [
        1,
        2,
        3,
    ]
    assert await teas.count_documents({"$expr": {"$gt": ["$price", 3]}}) == 2


# Writing the result.


async def test_out_replaces_what_was_there_at_once(db, teas):
    await db["kinds"].insert_one({"_id": "old"})
    await db["kinds"].create_index("n")
    assert await teas.aggregate([*BY_KIND, {"$out": "kinds"}]).to_list() == []
    assert await db["kinds"].find(sort="_id").to_list() == [{"_id": "black", "n": 1}, {"_id": "green", "n": 2}]
    assert "n_1" in await db["kinds"].index_information()


async def test_out_leaves_all_as_it_was_where_one_document_does_not_fit(db, teas):
    await db["kinds"].insert_one({"_id": "old", "c": 1})
    await db["kinds"].create_index("c", unique=True)
    with pytest.raises(DuplicateKey):
        await teas.aggregate([{"$set": {"c": 5}}, {"$out": "kinds"}]).to_list()
    with pytest.raises(DocumentRefused):
        await teas.aggregate(
            [{"$replaceWith": {"$setField": {"field": "a.b", "input": {}, "value": 1}}}, {"$out": "kinds"}]
        ).to_list()
    assert await db["kinds"].find().to_list() == [{"_id": "old", "c": 1}]


async def test_a_failed_out_leaves_the_rest_of_its_transaction(db, teas):
    if not isinstance(db.engine, SupportsTransactions):
        with pytest.raises(ConfigurationError, match="no transactions"):
            async with db.transaction():
                pass
        return
    await db["kinds"].insert_one({"_id": "old", "c": 1})
    await db["kinds"].create_index("c", unique=True)
    async with db.transaction() as tx:
        with pytest.raises(DuplicateKey):
            await teas.aggregate([{"$set": {"c": 5}}, {"$out": "kinds"}], tx=tx)
        await db["kinds"].insert_one({"_id": "new", "c": 2}, tx=tx)
    assert await db["kinds"].find(sort="_id").to_list() == [{"_id": "new", "c": 2}, {"_id": "old", "c": 1}]
    async with db.transaction() as tx:
        await teas.aggregate([{"$set": {"c": "$_id"}}, {"$out": "kinds"}], tx=tx)
        assert len(await db["kinds"].find(tx=tx).to_list()) == 3


async def test_out_may_replace_the_collection_that_it_reads(teas):
    cursor = await teas.aggregate([{"$match": {"kind": "green"}}, {"$out": "teas"}])  # awaiting it is enough
    assert await cursor.to_list() == []
    assert await teas.count_documents({}) == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [{"_id": "black", "n": 1}, {"_id": "green", "old": True, "n": 2}]),
        ({"whenMatched": "replace"}, [{"_id": "black", "n": 1}, {"_id": "green", "n": 2}]),
        ({"whenMatched": "keepExisting"}, [{"_id": "black", "n": 1}, {"_id": "green", "old": True}]),
        ({"whenNotMatched": "discard"}, [{"_id": "green", "old": True, "n": 2}]),
        ({"whenMatched": [{"$set": {"sum": {"$add": ["$$new.n", "$$one"]}}}], "let": {"one": 1}},
         [{"_id": "black", "n": 1}, {"_id": "green", "old": True, "sum": 3}]),
    ],
    ids=str,
)  # fmt: skip
async def test_merge_changes_what_is_there_and_inserts_the_rest(db, teas, options, expected):
    await db["kinds"].insert_one({"_id": "green", "old": True})
    await teas.aggregate([*BY_KIND, {"$merge": {"into": "kinds", **options}}])
    assert await db["kinds"].find(sort="_id").to_list() == expected


async def test_merge_by_other_fields_needs_a_unique_index(db, teas):
    await db["kinds"].insert_one({"_id": 7, "kind": "green"})
    pipeline = [{"$group": {"_id": "$kind", "n": {"$sum": 1}}}, {"$project": {"_id": 0, "kind": "$_id", "n": 1}}]
    pipeline.append({"$merge": {"into": "kinds", "on": "kind"}})
    with pytest.raises(OperatorError, match="no unique index over kind"):
        await teas.aggregate(pipeline).to_list()
    await db["kinds"].create_index("kind", unique=True)
    await teas.aggregate(pipeline)
    assert await db["kinds"].find_one(7) == {"_id": 7, "kind": "green", "n": 2}
    assert await db["kinds"].count_documents({}) == 2


async def test_merge_says_where_it_must_fail(db, teas):
    with pytest.raises(OperatorError, match="no document is there"):
        await teas.aggregate([*BY_KIND, {"$merge": {"into": "kinds", "whenNotMatched": "fail"}}])
    await db["kinds"].insert_one({"_id": "green"})
    with pytest.raises(DuplicateKey):
        await teas.aggregate([*BY_KIND, {"$merge": {"into": "kinds", "whenMatched": "fail"}}])


async def test_the_rules_of_a_collection_hold_for_results_too(db, teas):
    await db.create_collection("kinds", validator={"n": {"$lt": 2}})
    with pytest.raises(ValidationError):
        await teas.aggregate([*BY_KIND, {"$out": "kinds"}])
    assert await db["kinds"].count_documents({}) == 0


# Updates by a pipeline.


async def test_an_update_may_compute_from_the_document(teas):
    await teas.update_many({}, [{"$set": {"worth": {"$multiply": ["$price", {"$sum": "$sold"}]}}}, {"$unset": "sold"}])
    assert await teas.find(sort="_id").to_list() == [
        {"_id": 1, "kind": "green", "price": 4, "worth": 28},
        {"_id": 2, "kind": "black", "price": 3, "worth": 3},
        {"_id": 3, "kind": "green", "price": 9, "worth": 0},
    ]


async def test_an_update_by_a_pipeline_counts_what_it_changed(teas):
    result = await teas.update_many({}, [{"$set": {"kind": {"$ifNull": ["$kind", "none"]}}}])
    assert (result.matched_count, result.modified_count) == (3, 0)
    found = await teas.find_one_and_update({"_id": 1}, [{"$replaceWith": {"a": "$price"}}], return_document=True)
    assert found == {"_id": 1, "a": 4}
    await teas.bulk_write([UpdateOne({"_id": 1}, [{"$set": {"a": {"$add": ["$a", 1]}}}])])
    assert await teas.find_one(1) == {"_id": 1, "a": 5}


async def test_an_upsert_by_a_pipeline_begins_with_what_the_filter_says(teas):
    await teas.update_one({"_id": 9, "kind": "mint"}, [{"$set": {"label": {"$concat": ["$kind", "!"]}}}], upsert=True)
    assert await teas.find_one(9) == {"_id": 9, "kind": "mint", "label": "mint!"}


async def test_a_change_stream_tells_what_an_update_by_a_pipeline_changed(teas):
    async with teas.watch() as stream:
        await teas.update_one({"_id": 2}, [{"$set": {"price": {"$add": ["$price", 1]}}}, {"$unset": "sold"}])
        change = await stream.next()
    assert change["updateDescription"]["updatedFields"] == {"price": 4}
    assert change["updateDescription"]["removedFields"] == ["sold"]


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ([], "at least one stage"),
        ([{"$group": {"_id": 1}}], "no operator of an update by a pipeline"),
        ([{"$set": {"_id": 5}}], "would change the _id"),
        ([{"$set": {"x": {"$divide": [1, "$zero"]}}}, {"$set": {"y": {"$divide": [1, 0]}}}], "cannot divide by 0"),
    ],
    ids=str,
)
async def test_an_update_by_a_pipeline_is_refused(teas, update, message):
    before = await teas.find().to_list()
    with pytest.raises(OperatorError, match=message):
        await teas.update_many({}, update)
    assert await teas.find().to_list() == before


async def test_what_cannot_be_kept_is_refused(teas):
    with pytest.raises(DocumentRefused):
        await teas.update_one(
            {"_id": 1}, [{"$replaceWith": {"$setField": {"field": {"$literal": "$x"}, "input": {}, "value": 1}}}]
        )


# Rules.

PRICED = {"$jsonSchema": {"required": ["price"], "properties": {"price": {"bsonType": "number", "minimum": 0}}}}


async def test_a_json_schema_is_a_rule_for_every_write(db):
    priced = await db.create_collection("priced", validator=PRICED)
    await priced.insert_one({"_id": 1, "price": 5})
    for refused in ({"_id": 2}, {"_id": 2, "price": -1}, {"_id": 2, "price": "5"}):
        with pytest.raises(ValidationError):
            await priced.insert_one(refused)
    with pytest.raises(ValidationError):
        await priced.update_one({"_id": 1}, {"$inc": {"price": -6}})
    with pytest.raises(ValidationError):
        await db["priced"].update_one({"_id": 1}, [{"$unset": "price"}])
    assert await priced.find().to_list() == [{"_id": 1, "price": 5}]
    await priced.set_validator(None)
    await priced.insert_one({"_id": 2})


async def test_a_schema_finds_what_does_not_fit(teas):
    await teas.insert_one({"_id": 4, "kind": 7})
    assert [tea["_id"] for tea in await teas.find({"$nor": [PRICED]}).to_list()] == [4]


async def test_a_rule_may_compare_fields_and_ask_the_clock(db):
    rule = {"$expr": {"$and": [{"$lte": ["$from", "$to"]}, {"$lte": ["$at", "$$NOW"]}]}}
    stays = await db.create_collection("stays", validator=rule)
    await stays.insert_one({"_id": 1, "from": 1, "to": 2})
    with pytest.raises(ValidationError):
        await stays.insert_one({"_id": 2, "from": 3, "to": 2})
    now = datetime.now(UTC)
    with pytest.raises(ValidationError):
        await stays.insert_one({"_id": 2, "at": now + timedelta(hours=1)})
    await stays.insert_one({"_id": 2, "at": now - timedelta(seconds=1)})
