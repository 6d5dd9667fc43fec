"""What every document engine must do. Each test runs over all of them."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from bson import Decimal128, ObjectId, Regex, Timestamp

from consona.documents import (
    BulkWriteError,
    ChangesLost,
    DeleteMany,
    DeleteOne,
    DocumentChanged,
    DocumentDatabase,
    DocumentRefused,
    DuplicateKey,
    InsertOne,
    OperatorError,
    ReplaceOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
)
from consona.errors import ConfigurationError, Conflict, NotFound, NotStarted, ValidationError

ENGINES = ["memory", "sqlite", "sqlite memory"]


@pytest.fixture(params=ENGINES)
async def db(request, tmp_path):
    address = {
        "memory": f"memory://{uuid.uuid4()}",
        "sqlite memory": f"sqlite://{uuid.uuid4()}",
        "sqlite": f"sqlite:///{tmp_path}/documents.db",
    }[request.param]
    async with DocumentDatabase(address) as database:
        yield database


@pytest.fixture
def things(db):
    return db["things"]


async def ids(cursor):
    return [document["_id"] for document in await cursor.to_list()]


# Keeping and finding.


async def test_what_goes_in_comes_out(things):
    document = {
        "_id": ObjectId(),
        "text": "Grüße \U0001f600 \x01",
        "int": -(2**63),
        "double": 0.1,
        "whole": 3.0,
        "nan": float("nan"),
        "infinite": float("-inf"),
        "decimal": Decimal128("24.990"),
        "yes": True,
        "no": False,
        "null": None,
        "date": datetime(2024, 5, 1, 12, 30, 15, 123000, tzinfo=UTC),
        "early": datetime(1, 1, 1, tzinfo=UTC),
        "bytes": b"\x00\xff",
        "uuid": uuid.UUID(int=7),
        "time": Timestamp(5, 6),
        "pattern": Regex("^a", "i"),
        "list": [1, [2, {"a": None}], {}],
        "inner": {"b": {"c": []}},
        "dollar$inside": "$5",
    }
    await things.insert_one(document)
    [found] = await things.find().to_list()
    assert repr(found) == repr(document)


async def test_an_empty_collection_is_empty(things, db):
    assert await things.find().to_list() == []
    assert await things.find_one() is None
    assert await things.count_documents({}) == 0
    assert await things.estimated_document_count() == 0
    assert await things.distinct("a") == []
    assert (await things.update_many({}, {"$set": {"a": 1}})).matched_count == 0
    assert (await things.delete_many({})).deleted_count == 0
    assert await db.list_collection_names() in ([], ["things"])


async def test_a_document_without_id_is_given_one_and_so_is_the_callers(things):
    document = {"a": 1}
    result = await things.insert_one(document)
    assert isinstance(result.inserted_id, ObjectId)
    assert document == {"a": 1, "_id": result.inserted_id}
    assert list(await things.find_one()) == ["_id", "a"]


@pytest.mark.parametrize(
    "identity",
    [
        1,
        1.5,
        "text",
        "",
        True,
        None,
        ObjectId("0" * 24),
        datetime(2024, 1, 1, tzinfo=UTC),
        uuid.UUID(int=1),
        {"a": 1, "b": [2]},
        b"x",
    ],
    ids=repr,
)
async def test_any_value_save_arrays_and_patterns_can_be_an_id(things, identity):
    await things.insert_one({"_id": identity, "n": 1})
    assert (await things.find_one({"_id": identity}))["n"] == 1
    assert (await things.find_one({"_id": {"$in": [identity]}}))["_id"] == identity
    with pytest.raises(DuplicateKey):
        await things.insert_one({"_id": identity})
    assert (await things.delete_one({"_id": identity})).deleted_count == 1


async def test_ids_that_are_equal_numbers_are_one(things):
    await things.insert_one({"_id": 1})
    for same in (1.0, Decimal128("1")):
        with pytest.raises(DuplicateKey):
            await things.insert_one({"_id": same})
    await things.insert_many([{"_id": True}, {"_id": "1"}])
    assert await things.count_documents({}) == 3


async def test_documents_come_in_the_order_in_which_they_were_inserted(things):
    await things.insert_many([{"_id": n} for n in (5, 3, 9)])
    assert await ids(things.find()) == [5, 3, 9]


async def test_what_a_caller_changes_later_does_not_change_what_is_kept(things):
    document = {"_id": 1, "tags": ["a"]}
    await things.insert_one(document)
    document["tags"].append("b")
    found = await things.find_one()
    found["tags"].append("c")
    assert await things.find_one() == {"_id": 1, "tags": ["a"]}


async def test_find_one_takes_an_id(things):
    await things.insert_one({"_id": 7})
    assert await things.find_one(7) == {"_id": 7}


async def test_filter_sort_skip_limit_and_projection(things):
    await things.insert_many([{"_id": n, "a": n % 3, "b": -n} for n in range(10)])
    cursor = things.find({"a": {"$lt": 2}}, {"b": 1}).sort([("a", -1), ("b", 1)]).skip(1).limit(3)
    assert await cursor.to_list() == [{"_id": 4, "b": -4}, {"_id": 1, "b": -1}, {"_id": 9, "b": -9}]
    assert await ids(things.find(sort=[("b", 1)], limit=2)) == [9, 8]
    assert await ids(things.find(limit=0, skip=8)) == [8, 9]
    assert await things.count_documents({"a": 0}, skip=1, limit=2) == 2


async def test_a_cursor_is_read_piece_by_piece(things):
    await things.insert_many([{"_id": n, "pad": "x" * 100} for n in range(5000)])
    seen = [document["_id"] async for document in things.find({"_id": {"$gte": 10}})]
    assert seen == list(range(10, 5000))
    cursor = things.find().sort("_id", -1)
    assert (await cursor.next())["_id"] == 4999
    assert [document["_id"] for document in await cursor.to_list(2)] == [4998, 4997]
    assert len(await cursor.to_list()) == 4997
    assert not cursor.alive
    with pytest.raises(StopAsyncIteration):
        await cursor.next()
    cursor.rewind()
    assert (await cursor.next())["_id"] == 4999
    with pytest.raises(OperatorError, match="clone"):
        cursor.limit(5)
    assert len(await cursor.clone().limit(3).to_list()) == 3
    await cursor.close()


async def test_a_cursor_sees_one_moment(things):
    await things.insert_many([{"_id": n} for n in range(3000)])
    seen = []
    async for document in things.find():
        seen.append(document["_id"])
        if len(seen) == 10:
            await things.delete_many({})
            await things.insert_one({"_id": 9999})
    assert seen == list(range(3000))


async def test_distinct_values_with_the_elements_of_arrays(things):
    await things.insert_many([{"a": 1}, {"a": [1, 2, "x"]}, {"a": 1.0}, {"a": None}, {}, {"a": []}, {"b": {"c": 5}}])
    assert await things.distinct("a") == [1, 2, "x", None]
    assert await things.distinct("a", {"a": {"$type": "string"}}) == [1, 2, "x"]
    assert await things.distinct("b.c") == [5]


async def test_documents_become_the_type_that_was_asked_for(things):
    class Product(msgspec.Struct):
        id: int = msgspec.field(name="_id")
        price: float = 0.0
        added: datetime | None = None
        maker: ObjectId | None = None

    maker = ObjectId()
    await things.insert_one(Product(1, 2.5, datetime(2024, 1, 1, tzinfo=UTC), maker))
    assert await things.find_one(1, into=Product) == Product(1, 2.5, datetime(2024, 1, 1, tzinfo=UTC), maker)
    await things.insert_one({"_id": 2, "price": "dear"})
    with pytest.raises(ValidationError, match="price") as caught:
        await things.find({"_id": 2}, into=Product).to_list()
    assert caught.value.fields[0].path == "price"


async def test_a_collation_ignores_case(things):
    await things.insert_many([{"_id": 1, "a": "Ada"}, {"_id": 2, "a": "ADA"}, {"_id": 3, "a": "bob"}])
    collation = {"locale": "en", "strength": 2}
    assert await ids(things.find({"a": "ada"}, collation=collation)) == [1, 2]
    assert await things.count_documents({"a": "ada"}, collation=collation) == 2
    assert await things.distinct("a", collation=collation) == ["Ada", "bob"]
    assert (await things.update_many({"a": "aDa"}, {"$set": {"b": 1}}, collation=collation)).modified_count == 2
    assert await ids(things.find().sort("a").collation(collation)) == [1, 2, 3]


# Writing.


async def test_insert_many_in_order_ends_at_the_first_that_is_refused(things):
    with pytest.raises(BulkWriteError) as caught:
        await things.insert_many([{"_id": 1}, {"_id": 2}, {"_id": 1}, {"_id": 3}])
    assert await ids(things.find()) == [1, 2]
    details = caught.value.details
    assert (details["nInserted"], [error["index"] for error in details["writeErrors"]]) == (2, [2])
    assert details["writeErrors"][0]["code"] == 11000


async def test_insert_many_out_of_order_keeps_all_that_can_be(things):
    with pytest.raises(BulkWriteError) as caught:
        await things.insert_many([{"_id": 1}, {"_id": 1}, {"_id": 2}, {"_id": 2}, {"_id": 3}], ordered=False)
    assert await ids(things.find()) == [1, 2, 3]
    assert [error["index"] for error in caught.value.details["writeErrors"]] == [1, 3]


async def test_a_document_that_cannot_be_kept_is_refused_before_anything_happens(things):
    with pytest.raises(DocumentRefused):
        await things.insert_many([{"_id": 1}, {"$a": 1}])
    assert await things.count_documents({}) == 0
    with pytest.raises(OperatorError, match="nothing to write"):
        await things.insert_many([])


async def test_update_one_changes_the_first_and_update_many_all(things):
    await things.insert_many([{"_id": n, "a": 1} for n in range(3)])
    result = await things.update_one({"a": 1}, {"$inc": {"a": 5}})
    assert (result.matched_count, result.modified_count, result.upserted_id) == (1, 1, None)
    result = await things.update_many({}, {"$set": {"a": 6}})
    assert (result.matched_count, result.modified_count) == (3, 2)
    result = await things.update_one({"a": 6}, {"$set": {"b": 1}}, sort=[("_id", -1)])
    assert await things.find_one({"b": 1}) == {"_id": 2, "a": 6, "b": 1}


async def test_updates_of_every_kind(things):
    await things.insert_one({"_id": 1, "n": 1, "tags": ["a", "b"], "grades": [{"g": 80}, {"g": 90}], "old": 5})
    await things.update_one({"_id": 1}, {"$inc": {"n": 2}, "$push": {"tags": "c"}, "$rename": {"old": "new"}})
    await things.update_one({"grades.g": 90}, {"$set": {"grades.$.ok": True}})
    await things.update_one({}, {"$inc": {"grades.$[low].g": 1}}, array_filters=[{"low.g": {"$lt": 85}}])
    await things.update_one({}, {"$currentDate": {"at": True}, "$unset": {"missing": 1}, "$set": {"x.y": 1}})
    found = await things.find_one()
    assert found.pop("at") > datetime.now(UTC) - timedelta(seconds=60)
    assert found == {
        "_id": 1,
        "n": 3,
        "tags": ["a", "b", "c"],
        "grades": [{"g": 81}, {"g": 90, "ok": True}],
        "new": 5,
        "x": {"y": 1},
    }


async def test_an_update_of_many_is_all_or_nothing(things):
    await things.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": "text"}, {"_id": 3, "a": 3}])
    with pytest.raises(OperatorError, match="needs a number"):
        await things.update_many({}, {"$inc": {"a": 1}})
    assert [document["a"] for document in await things.find().to_list()] == [1, "text", 3]


async def test_the_id_never_changes(things):
    await things.insert_one({"_id": 1})
    with pytest.raises(OperatorError, match="never changes"):
        await things.update_one({}, {"$set": {"_id": 2}})
    with pytest.raises(OperatorError, match="another _id"):
        await things.replace_one({}, {"_id": 2})


async def test_an_update_that_would_make_a_document_too_large_is_refused(things):
    await things.insert_one({"_id": 1, "a": ["x" * 9_000_000]})
    with pytest.raises(DocumentRefused, match="16777216"):
        await things.update_one({}, {"$push": {"a": "y" * 9_000_000}})
    assert len((await things.find_one())["a"]) == 1


async def test_upserts(things):
    result = await things.update_one(
        {"_id": 5, "kind": "x"}, {"$inc": {"n": 1}, "$setOnInsert": {"new": True}}, upsert=True
    )
    assert (result.matched_count, result.modified_count, result.upserted_id) == (0, 0, 5)
    assert result.did_upsert
    result = await things.update_one({"_id": 5}, {"$inc": {"n": 1}, "$setOnInsert": {"new": False}}, upsert=True)
    assert (result.matched_count, result.upserted_id) == (1, None)
    assert await things.find_one(5) == {"_id": 5, "kind": "x", "n": 2, "new": True}
    result = await things.replace_one({"name": "y"}, {"b": 1}, upsert=True)
    assert await things.find_one(result.upserted_id) == {"_id": result.upserted_id, "b": 1}


async def test_replacing_and_deleting(things):
    await things.insert_many([{"_id": n, "a": n} for n in range(4)])
    result = await things.replace_one({"a": 1}, {"b": 2})
    assert (result.matched_count, result.modified_count) == (1, 1)
    assert await things.find_one(1) == {"_id": 1, "b": 2}
    assert (await things.delete_one({"a": {"$gte": 2}})).deleted_count == 1
    assert await ids(things.find()) == [0, 1, 3]
    assert (await things.delete_many({"a": {"$exists": True}})).deleted_count == 2
    assert await ids(things.find()) == [1]


async def test_find_one_and_change(things):
    await things.insert_many([{"_id": n, "n": n} for n in range(3)])
    assert await things.find_one_and_update({"_id": 1}, {"$inc": {"n": 5}}) == {"_id": 1, "n": 1}
    after = await things.find_one_and_update(
        {}, {"$inc": {"n": 1}}, sort=[("n", -1)], return_document=ReturnDocument.AFTER, projection={"_id": 0}
    )
    assert after == {"n": 7}
    assert await things.find_one_and_update({"_id": 9}, {"$set": {"n": 1}}) is None
    assert await things.find_one_and_update({"_id": 9}, {"$set": {"n": 1}}, upsert=True) is None
    assert await things.find_one_and_replace({"_id": 9}, {"x": 1}, return_document=True) == {"_id": 9, "x": 1}
    assert await things.find_one_and_delete({}, sort=[("_id", -1)]) == {"_id": 9, "x": 1}
    assert await things.find_one_and_delete({"_id": 9}) is None


async def test_bulk_write(things):
    result = await things.bulk_write(
        [
            InsertOne({"_id": 1, "a": 1}),
            InsertOne({"_id": 2, "a": 1}),
            UpdateMany({"a": 1}, {"$set": {"b": 1}}),
            UpdateOne({"_id": 3}, {"$set": {"a": 3}}, upsert=True),
            ReplaceOne({"_id": 1}, {"c": 1}),
            DeleteOne({"_id": 2}),
            DeleteMany({"a": 99}),
        ]
    )
    assert (result.inserted_count, result.matched_count, result.modified_count, result.deleted_count) == (2, 3, 3, 1)
    assert result.upserted_ids == {3: 3}
    assert await things.find().to_list() == [{"_id": 1, "c": 1}, {"_id": 3, "a": 3}]


async def test_a_failed_bulk_write_says_what_failed_and_what_happened(things):
    requests = [InsertOne({"_id": 1}), InsertOne({"_id": 1}), UpdateOne({"_id": 1}, {"$set": {"a": 1}})]
    with pytest.raises(BulkWriteError) as caught:
        await things.bulk_write(requests)
    assert (caught.value.details["nInserted"], caught.value.details["nModified"]) == (1, 0)
    await things.delete_many({})
    with pytest.raises(BulkWriteError) as caught:
        await things.bulk_write(requests, ordered=False)
    assert (caught.value.details["nInserted"], caught.value.details["nModified"]) == (1, 1)
    assert isinstance(caught.value.__cause__, DuplicateKey)


# Versions.


async def test_a_change_for_an_old_version_is_refused(things):
    await things.insert_one({"_id": 1, "n": 0})
    read = await things.find_one(1, with_version=True)
    version = read.pop("_version")
    assert read == {"_id": 1, "n": 0}
    await things.update_one({"_id": 1}, {"$inc": {"n": 1}}, if_match=version)
    for change in (
        things.update_one({"_id": 1}, {"$inc": {"n": 1}}, if_match=version),
        things.replace_one({"_id": 1}, {"n": 9}, if_match=version),
        things.delete_one({"_id": 1}, if_match=version),
        things.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}, if_match=version),
    ):
        with pytest.raises(DocumentChanged):
            await change
    assert (await things.find_one(1))["n"] == 1


async def test_a_document_that_was_read_with_its_version_can_be_put_back(things):
    await things.insert_one({"_id": 1, "n": 0})
    [read] = await things.find({}, with_version=True).to_list()
    read["n"] = 5
    await things.replace_one({"_id": 1}, read, if_match=read["_version"])
    assert await things.find_one(1) == {"_id": 1, "n": 5}
    after = await things.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}, return_document=True, with_version=True)
    assert after["_version"] > read["_version"]


async def test_a_document_that_was_deleted_and_made_anew_has_another_version(things):
    await things.insert_one({"_id": 1})
    old = (await things.find_one(1, with_version=True))["_version"]
    await things.delete_one({"_id": 1})
    await things.insert_one({"_id": 1})
    assert (await things.find_one(1, with_version=True))["_version"] != old


async def test_many_tasks_that_count_lose_nothing(things):
    await things.insert_one({"_id": 1, "n": 0})

    async def count():
        for _ in range(10):
            await things.update_one({"_id": 1}, {"$inc": {"n": 1}})

    await asyncio.gather(*(count() for _ in range(8)))
    assert (await things.find_one(1))["n"] == 80


# Indexes.


async def test_a_unique_index_refuses_a_second_document_with_the_key(things):
    assert await things.create_index("email", unique=True) == "email_1"
    await things.insert_many([{"_id": 1, "email": "a"}, {"_id": 2, "email": "b"}])
    with pytest.raises(DuplicateKey, match="email_1"):
        await things.insert_one({"email": "a"})
    with pytest.raises(DuplicateKey):
        await things.update_one({"_id": 2}, {"$set": {"email": "a"}})
    with pytest.raises(DuplicateKey):
        await things.update_many({}, {"$set": {"email": "same"}})
    assert await things.count_documents({"email": "a"}) == 1
    await things.delete_one({"_id": 1})
    await things.insert_one({"email": "a"})


async def test_null_and_missing_are_one_key_of_a_unique_index(things):
    await things.create_index("email", unique=True)
    await things.insert_one({"_id": 1})
    with pytest.raises(DuplicateKey):
        await things.insert_one({"_id": 2, "email": None})
    await things.insert_one({"_id": 3, "email": 1})
    with pytest.raises(DuplicateKey):
        await things.insert_one({"email": 1.0})
    await things.insert_one({"email": True})
    await things.insert_one({"email": "1"})


async def test_a_sparse_or_partial_unique_index_leaves_documents_out(things):
    await things.create_index("a", unique=True, sparse=True)
    await things.insert_many([{"_id": 1}, {"_id": 2}, {"_id": 3, "a": None}])
    with pytest.raises(DuplicateKey):
        await things.insert_one({"a": None})
    await things.create_index("b", unique=True, partialFilterExpression={"c": {"$gt": 5}})
    await things.insert_many([{"b": 1, "c": 1, "a": 1}, {"b": 1, "c": 2, "a": 2}, {"b": 1, "c": 9, "a": 3}])
    with pytest.raises(DuplicateKey):
        await things.insert_one({"b": 1, "c": 7, "a": 4})


async def test_a_unique_index_over_an_array_is_over_its_elements(things):
    await things.create_index("tags", unique=True)
    await things.insert_one({"_id": 1, "tags": ["a", "b", "a"]})
    for taken in (["c", "b"], "a"):
        with pytest.raises(DuplicateKey):
            await things.insert_one({"tags": taken})
    await things.insert_one({"_id": 2, "tags": ["c"]})
    with pytest.raises(DuplicateKey):
        await things.update_one({"_id": 2}, {"$push": {"tags": "a"}})
    await things.update_one({"_id": 1}, {"$pull": {"tags": "a"}})
    await things.update_one({"_id": 2}, {"$push": {"tags": "a"}})


async def test_a_compound_unique_index(things):
    await things.create_index([("a", 1), ("b.c", -1)], unique=True, name="both")
    await things.insert_many([{"a": 1, "b": {"c": 1}}, {"a": 1, "b": {"c": 2}}, {"a": 1}, {"b": {"c": 1}}])
    for taken in ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {}}, {"a": None, "b": {"c": 1}}):
        with pytest.raises(DuplicateKey, match="both"):
            await things.insert_one(taken)


async def test_a_unique_index_cannot_be_made_over_what_is_not_unique(things):
    await things.insert_many([{"a": 1}, {"a": 1}])
    with pytest.raises(DuplicateKey):
        await things.create_index("a", unique=True)
    assert len(await things.list_indexes()) <= 1


async def test_indexes_are_listed_and_dropped(things):
    await things.create_index("a")
    await things.create_index("a")  # the same again
    await things.create_index([("b", -1), ("c", 1)], sparse=True)
    assert await things.list_indexes() == [
        {"v": 2, "key": {"_id": 1}, "name": "_id_"},
        {"v": 2, "key": {"a": 1}, "name": "a_1"},
        {"v": 2, "key": {"b": -1, "c": 1}, "name": "b_-1_c_1", "sparse": True},
    ]
    assert (await things.index_information())["b_-1_c_1"]["key"] == [("b", -1), ("c", 1)]
    with pytest.raises(Conflict):
        await things.create_index("a", unique=True)
    await things.drop_index("a_1")
    with pytest.raises(OperatorError, match="no index"):
        await things.drop_index("a_1")
    await things.drop_indexes()
    assert len(await things.list_indexes()) == 1


async def test_documents_whose_time_is_over_are_removed(things):
    now = datetime.now(UTC)
    await things.create_index("at", expireAfterSeconds=60)
    await things.insert_many(
        [
            {"_id": 1, "at": now - timedelta(seconds=120)},
            {"_id": 2, "at": now},
            {"_id": 3, "at": "no date"},
            {"_id": 4},
            {"_id": 5, "at": [now, now - timedelta(seconds=90)]},
        ]
    )
    for _ in range(100):
        if await things.count_documents({}) == 3:
            break
        await asyncio.sleep(0.1)
    assert await ids(things.find()) == [2, 3, 4]


@pytest.mark.parametrize(
    "query",
    [
        {"a": 5},
        {"a": {"$lt": 3}},
        {"a": {"$gte": 2, "$lt": 4}},
        {"a": {"$in": [1, 4, "x"]}},
        {"a": None},
        {"a": {"$exists": False}},
        {"a": {"$ne": 5}},
        {"a": True},
        {"a": "x"},
        {"a": [1, 5]},
        {"a": {"b": 1}},
        {"a": {"$type": "array"}},
        {"a": {"$gt": datetime(2023, 1, 1, tzinfo=UTC)}},
        {"a": {"$regex": "^x"}},
        {"a.b": 1},
    ],
)
async def test_an_index_changes_no_answer(things, query):
    values = [0, 1, 2.5, 5, 5.0, -1, "x", "xy", "5", None, True, False, [1, 5], [], [[5]], {"b": 1}, {"b": [1, 2]}]
    values += [[{"b": 1}, {}], datetime(2024, 1, 1, tzinfo=UTC), Decimal128("5"), float("nan"), ObjectId()]
    await things.insert_many([{"_id": n, "a": value} for n, value in enumerate(values)] + [{"_id": 99}])
    before = sorted(await ids(things.find(query)))
    await things.create_index("a")
    await things.create_index("a.b")
    assert sorted(await ids(things.find(query))) == before
    assert await things.count_documents(query) == len(before)


# Collections.


async def test_collections_are_made_listed_renamed_and_dropped(db):
    await db.create_collection("a")
    with pytest.raises(Conflict):
        await db.create_collection("a")
    await db["b"].insert_one({"x": 1})
    await db["b"].create_index("x", unique=True)
    assert await db.list_collection_names() == ["a", "b"]
    with pytest.raises(Conflict):
        await db["b"].rename("a")
    await db["b"].rename("a", drop_target=True)
    with pytest.raises(NotFound):
        await db["b"].rename("c")
    assert await db.list_collection_names() == ["a"]
    with pytest.raises(DuplicateKey):
        await db["a"].insert_one({"x": 1})
    await db["a"].drop()
    await db.drop_collection("a")
    assert await db["a"].count_documents({}) == 0


@pytest.mark.parametrize("name", ["", "a$b", "system.users", "a\0b", "x" * 121])
async def test_a_name_that_no_collection_can_have_is_refused(db, name):
    with pytest.raises(ConfigurationError):
        db[name]


async def test_odd_names_are_kept_apart(db):
    names = ["a b", 'a"b', "a'b", "a.b", "A.B", "a;--", "ünïcode", "a_b"]
    for name in names:
        await db[name].insert_one({"_id": name})
        await db[name].create_index("x.y z\"'")
    assert await db.list_collection_names() == sorted(names)
    for name in names:
        assert await db[name].find().to_list() == [{"_id": name}]


async def test_the_rules_of_a_collection_hold_for_every_write(db):
    things = await db.create_collection("things", validator={"price": {"$gt": 0}})
    await things.insert_one({"_id": 1, "price": 5})
    for wrong in (
        things.insert_one({"price": -1}),
        things.update_one({"_id": 1}, {"$set": {"price": 0}}),
        things.replace_one({"_id": 1}, {}),
        things.update_one({"_id": 2}, {"$set": {"price": 0}}, upsert=True),
    ):
        with pytest.raises(ValidationError, match="rule of its collection"):
            await wrong
    assert await things.options() == {"validator": {"price": {"$gt": 0}}}
    await things.set_validator(None)
    await things.insert_one({"price": -1})


async def test_documents_fit_the_schema_of_their_collection(db):
    class Product(msgspec.Struct):
        name: str
        price: float

    things = db.collection("things", schema=Product)
    await things.insert_one({"_id": 1, "name": "Tea", "price": 1.5})
    for wrong in (things.insert_one({"name": "Cup"}), things.update_one({"_id": 1}, {"$set": {"price": "dear"}})):
        with pytest.raises(ValidationError, match="price"):
            await wrong
    assert await things.find().to_list() == [{"_id": 1, "name": "Tea", "price": 1.5}]


# Watching.


async def told(stream, count):
    async with asyncio.timeout(20):
        return [await stream.next() for _ in range(count)]


async def test_a_watch_tells_every_change_in_order(db, things):
    async with things.watch() as stream:
        assert await stream.try_next() is None
        await things.insert_one({"_id": 1, "a": {"b": 1, "c": 2}, "d": 1})
        await things.update_one({"_id": 1}, {"$set": {"a.b": 5}, "$unset": {"d": ""}})
        await things.replace_one({"_id": 1}, {"x": 1})
        await db["others"].insert_one({"_id": 9})
        await things.delete_one({"_id": 1})
        await things.drop()
        changes = await told(stream, 5)
    assert [change["operationType"] for change in changes] == ["insert", "update", "replace", "delete", "drop"]
    insert, update, replace, delete, drop = changes
    assert insert["fullDocument"] == {"_id": 1, "a": {"b": 1, "c": 2}, "d": 1}
    assert update["updateDescription"] == {"updatedFields": {"a.b": 5}, "removedFields": ["d"], "truncatedArrays": []}
    assert "fullDocument" not in update
    assert replace["fullDocument"] == {"_id": 1, "x": 1}
    assert delete["documentKey"] == {"_id": 1}
    assert drop["ns"] == {"db": db.name, "coll": "things"}
    assert abs((insert["wallTime"] - datetime.now(UTC)).total_seconds()) < 60


async def test_an_update_that_changes_nothing_is_not_told(things):
    await things.insert_one({"_id": 1, "a": 1})
    async with things.watch() as stream:
        await things.update_one({"_id": 1}, {"$set": {"a": 1}})
        await things.update_many({"_id": 5}, {"$set": {"a": 1}})
        await things.delete_one({"_id": 1})
        [change] = await told(stream, 1)
        assert change["operationType"] == "delete"


async def test_a_watch_can_give_the_document_before_and_after(things):
    await things.insert_one({"_id": 1, "a": 1})
    async with things.watch(full_document="updateLookup", full_document_before_change=True) as stream:
        await things.update_one({"_id": 1}, {"$inc": {"a": 1}})
        await things.update_one({"_id": 1}, {"$inc": {"a": 1}})
        changes = await told(stream, 2)
    assert [change["fullDocumentBeforeChange"]["a"] for change in changes] == [1, 2]
    assert [change["fullDocument"]["a"] for change in changes] == [2, 3]


async def test_a_watch_goes_on_where_another_stopped(things):
    async with things.watch() as stream:
        await things.insert_many([{"_id": n} for n in range(3)])
        await told(stream, 1)
        token = stream.resume_token
    await things.insert_one({"_id": 3})
    async with things.watch(resume_after=token) as stream:
        await things.insert_one({"_id": 4})
        assert [change["fullDocument"]["_id"] for change in await told(stream, 4)] == [1, 2, 3, 4]


async def test_a_watch_of_the_database_tells_of_all_collections(db):
    async with db.watch() as stream:
        await db["a"].insert_one({"_id": 1})
        await db["b"].insert_one({"_id": 2})
        await db["b"].rename("c")
        await db["c"].insert_one({"_id": 3})
        changes = await told(stream, 4)
    assert [(change["operationType"], change["ns"]["coll"]) for change in changes] == [
        ("insert", "a"),
        ("insert", "b"),
        ("rename", "b"),
        ("insert", "c"),
    ]
    assert changes[2]["to"]["coll"] == "c"


@pytest.mark.parametrize("token", ["no token", {"_data": 5}, {"_data": "x"}, {"_data": "999999"}, {"_data": "-1"}])
async def test_a_token_that_is_not_known_is_refused(things, token):
    await things.insert_one({"_id": 1})
    with pytest.raises(ChangesLost):
        await things.watch(resume_after=token)


async def test_a_watch_ends_when_the_database_is_stopped(tmp_path):
    for address in (f"memory://{uuid.uuid4()}", f"sqlite:///{tmp_path}/ends.db"):
        database = DocumentDatabase(address)
        await database.start()
        stream = await database["a"].watch()
        waiting = asyncio.create_task(stream.next())
        await asyncio.sleep(0)
        await database.stop()
        with pytest.raises((StopAsyncIteration, NotStarted, RuntimeError)):
            async with asyncio.timeout(20):
                await waiting


# Being asked wrongly.


async def test_nothing_works_before_start_and_after_stop():
    database = DocumentDatabase(f"memory://{uuid.uuid4()}")
    with pytest.raises(NotStarted):
        await database["a"].find_one()
    with pytest.raises(NotStarted):
        await database["a"].insert_one({})


async def test_an_unknown_operator_is_an_error_at_the_call(things):
    await things.insert_one({"a": 1})
    for wrong in (
        things.find({"a": {"$lessThan": 1}}).to_list(),
        things.find_one({"$where": "1"}),
        things.update_one({}, {"$sett": {"a": 1}}),
        things.count_documents({"a": {"$foo": 1}}),
        things.delete_many({"a": {"$foo": 1}}),
    ):
        with pytest.raises(OperatorError, match=r"\$"):
            await wrong
    with pytest.raises(OperatorError, match="says which documents"):
        await things.delete_many(None)


async def test_history_and_figures_hold_no_values(db, things):
    await things.insert_one({"_id": 1, "secret": "s3cret"})
    await things.find({"secret": "s3cret"}).to_list()
    with pytest.raises(DuplicateKey) as caught:
        await things.insert_one({"_id": 1, "secret": "s3cret"})
    assert "s3cret" not in repr(db.history) + str(caught.value) + repr(db.stats)
    assert [entry.operation for entry in db.history] == ["insert_one", "find", "insert_one"]
    assert db.history[1].attributes == {"documents": 1}
    assert db.stats.failed == 1


async def test_its_health_can_be_asked(db):
    assert (await db.check()).ok


async def test_explain_says_how_a_query_is_answered(things):
    await things.insert_many([{"_id": n, "a": n} for n in range(20)])
    plan = await things.find({"_id": 7}).explain()
    assert (plan.stage, plan.returned) == ("IDHACK", 1)
    plan = await things.find({"a": {"$lt": 5}}).explain()
    assert (plan.stage, plan.examined, plan.returned) == ("COLLSCAN", 20, 5)
    assert re.fullmatch(r"[A-Z]+", plan.stage)
