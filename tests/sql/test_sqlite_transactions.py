"""What only SQLite's transactions promise: reading beside the writer, in time, and as part of nothing that writes."""

import asyncio

import pytest

from consona import SQLDatabase
from consona.errors import ConfigurationError, DatabaseReadOnly, DeadlineExceeded
from consona.storage.store import open_store


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/shop.db"


@pytest.fixture
async def db(url):
    async with SQLDatabase(url) as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        yield db


async def test_one_that_only_reads_holds_nobody_up_and_sees_one_moment(db):
    async with db.transaction(read_only=True) as tx:

        async def others():
            async with db.transaction() as beside:
                await beside.execute("INSERT INTO pets (name) VALUES ('Rex')")

        await asyncio.create_task(others())
        assert await db.fetch_value("SELECT count(*) FROM pets") == 1
        assert await tx.fetch_value("SELECT count(*) FROM pets") == 0
        assert db.native.stats()["holder"] is None


async def test_its_moment_is_that_of_its_beginning(db):
    async with db.transaction(read_only=True) as tx:
        await asyncio.create_task(db.execute("INSERT INTO pets (name) VALUES ('Rex')"))
        assert await tx.fetch_value("SELECT count(*) FROM pets") == 0


@pytest.mark.parametrize("statement", ["CREATE TABLE more (id)", "CREATE TEMP TABLE more (id)", "DROP TABLE pets"])
@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_the_schema_is_not_changed_in_it(url, statement, kind):
    async with SQLDatabase(url if kind == "file" else "sqlite://read-only-schema") as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        with pytest.raises(DatabaseReadOnly, match="'report' only reads") as caught:
            async with db.transaction(read_only=True, name="report") as tx:
                await tx.execute(statement)
        assert caught.value.hint == "Begin it without read_only=True."
        assert await db.fetch_column("SELECT name FROM sqlite_schema") == ["pets"]


async def test_it_ends_in_time(db):
    with pytest.raises(DeadlineExceeded, match=r"more than 0\.05 s"):
        async with db.transaction(read_only=True, deadline=0.05) as tx:
            await tx.fetch_value(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
            )
    assert db.native.stats()["reads_under_way"] == 0


async def test_a_store_cannot_take_part_in_one_that_only_reads(db, url):
    async with open_store(url) as store, db.transaction(read_only=True) as tx:
        with pytest.raises(ConfigurationError, match="only reads"):
            await store.put("last", b"1", tx=tx)


async def test_a_read_only_transaction_in_memory_that_runs_out_of_time_leaves_the_writer_as_it_was():
    async with SQLDatabase("sqlite://read-only-late") as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        with pytest.raises(DeadlineExceeded):
            async with db.transaction(read_only=True, deadline=0.02) as tx:
                await asyncio.sleep(0.1)
                await tx.fetch_value("SELECT count(*) FROM pets")
        assert (await db.execute("INSERT INTO pets (name) VALUES ('Rex')")).rows == 1


async def test_cancelled_it_leaves_no_snapshot_behind(db):
    begun = asyncio.Event()

    async def work():
        async with db.transaction(read_only=True) as tx:
            begun.set()
            await tx.fetch_value(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
            )

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(snapshot._closed for snapshot in db.native._snapshots)
    await db.execute("INSERT INTO pets (name) VALUES ('Rex')")
