"""What is special about documents in a SQLite file: transactions with SQL, other processes, plain SQL, plans."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys

import pytest
from bson import ObjectId

from consona import DocumentDatabase, SQLDatabase, open_store
from consona.documents.errors import ChangesLost, DuplicateKey
from consona.documents.sqlite import changes
from consona.errors import TransactionOpen


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
async def db(address):
    async with DocumentDatabase(address) as database:
        yield database


async def test_a_transaction_spans_collections_and_is_undone_as_a_whole(db):
    async with db.transaction() as tx:
        await db["a"].insert_one({"_id": 1}, tx=tx)
        await db["b"].insert_one({"_id": 2}, tx=tx)
        assert await db["a"].count_documents({}, tx=tx) == 1
        assert await db["a"].count_documents({}) == 0  # others do not see it yet
    assert await db["b"].find_one() == {"_id": 2}
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await db["a"].delete_many({}, tx=tx)
            await db["c"].create_index("x", tx=tx)
            await db["b"].drop(tx=tx)
            1 / 0  # noqa: B018
    assert await db.list_collection_names() == ["a", "b"]
    assert await db["a"].find().to_list() == [{"_id": 1}]


async def test_a_refused_document_leaves_the_rest_of_the_transaction(db):
    async with db.transaction() as tx:
        await db["a"].insert_one({"_id": 1}, tx=tx)
        with pytest.raises(DuplicateKey):
            await db["a"].insert_one({"_id": 1}, tx=tx)
        await db["a"].insert_one({"_id": 2}, tx=tx)
    assert await db["a"].count_documents({}) == 2


async def test_a_transaction_spans_documents_sql_and_stores_of_one_file(db, address):
    async with SQLDatabase(address) as sql, open_store(address) as store:
        await sql.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL)")
        async with sql.transaction() as tx:
            await tx.execute("INSERT INTO orders VALUES (1, 9.9)")
            await db["events"].insert_one({"_id": 1, "order": 1}, tx=tx)
            await store.put("last", b"1", tx=tx)
        with pytest.raises(ZeroDivisionError):
            async with sql.transaction() as tx:
                await tx.execute("INSERT INTO orders VALUES (2, 9.9)")
                await db["events"].insert_one({"_id": 2}, tx=tx)
                await store.put("last", b"2", tx=tx)
                1 / 0  # noqa: B018
        assert await sql.fetch_all("SELECT id FROM orders", into=int) == [1]
        assert await db["events"].find().to_list() == [{"_id": 1, "order": 1}]
        assert (await store.get("last")).value == b"1"


async def test_a_write_beside_the_tasks_own_transaction_is_told_instead_of_waiting_for_ever(db):
    async with db.transaction():
        with pytest.raises(TransactionOpen):
            await db["a"].insert_one({})


async def test_documents_can_be_read_by_plain_sql(db, address):
    await db["products"].insert_one({"_id": "tea", "name": "Tea", "price": 4.5, "maker": ObjectId("0" * 24)})
    async with SQLDatabase(address) as sql:
        row = await sql.fetch_one("SELECT id, json(data) FROM documents_products", into=tuple)
        assert row == ("tea", '{"name":"Tea","price":4.5,"maker":{"$oid":"000000000000000000000000"}}')
        assert await sql.fetch_value("SELECT data->>'$.price' FROM documents_products") == 4.5


async def test_what_another_process_writes_is_seen_and_told(db, address):
    async with db["things"].watch() as stream:
        program = (
            "import asyncio\nfrom consona import DocumentDatabase\n"
            "async def main():\n"
            f"    async with DocumentDatabase({address!r}) as db:\n"
            "        await db['things'].insert_one({'_id': 1, 'tags': ['a']})\n"
            "        await db['things'].create_index('tags')\n"
            "asyncio.run(main())\n"
        )
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=True)
        async with asyncio.timeout(20):
            assert (await stream.next())["fullDocument"] == {"_id": 1, "tags": ["a"]}
    assert [index["name"] for index in await db["things"].list_indexes()] == ["_id_", "tags_1"]
    await db["things"].insert_one({"_id": 2, "tags": ["b"]})
    assert await db["things"].find({"tags": "b"}).to_list() == [{"_id": 2, "tags": ["b"]}]


async def test_a_watch_goes_on_after_a_restart(address):
    async with DocumentDatabase(address) as db:
        stream = await db["things"].watch()
        await db["things"].insert_one({"_id": 1})
        await stream.next()
        token = stream.resume_token
        await stream.close()
        await db["things"].insert_one({"_id": 2})
    async with DocumentDatabase(address) as db:
        await db["things"].insert_one({"_id": 3})
        async with db["things"].watch(resume_after=token) as stream:
            assert [(await stream.next())["fullDocument"]["_id"] for _ in range(2)] == [2, 3]


async def test_old_changes_are_forgotten_and_a_watch_behind_them_is_told(db):
    things = db["things"]
    async with things.watch() as stream:
        await things.insert_many([{"_id": 1}, {"_id": 2}])
        await stream.next()
        token = stream.resume_token
    engine = db.engine
    real = engine._clock
    engine._clock = lambda: real() + changes.KEPT_S + 60
    await engine.sweep()
    engine._clock = real
    with pytest.raises(ChangesLost):
        await things.watch(resume_after=token)


async def test_nobody_pays_for_a_watch_that_is_over_for_long(db):
    things = db["things"]
    async with things.watch():
        await things.insert_one({"_id": 1})
    engine = db.engine
    real = engine._clock
    engine._clock = lambda: real() + changes.KEPT_S + 60
    await engine.sweep()
    engine._clock = real
    triggers = await db.native.read(lambda db: db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"))
    assert triggers == []


async def test_the_changes_of_plain_sql_are_told_too(db, address):
    await db["things"].insert_one({"_id": 1, "a": 1})
    async with db["things"].watch() as stream, SQLDatabase(address) as sql:
        await sql.execute("UPDATE documents_things SET data = jsonb_set(data, '$.a', 2), version = version + 1")
        async with asyncio.timeout(20):
            assert (await stream.next())["updateDescription"]["updatedFields"] == {"a": 2}


async def test_a_foreign_copy_of_sqlite_reads_the_file(db, address):
    await db["things"].insert_one({"_id": 1, "a": 1})
    path = address.removeprefix("sqlite:///")
    program = f"import sqlite3; print(sqlite3.connect({path!r}).execute('SELECT id FROM documents_things').fetchall())"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[(1,)]" or sqlite3.sqlite_version_info < (3, 37)
