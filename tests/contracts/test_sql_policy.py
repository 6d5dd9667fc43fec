"""A policy over a SQL database: each statement is cut in time, tried again where that is safe, or spared."""

import asyncio

import pytest

import sql_engines
from consona import Breaker, Bulkhead, CircuitOpen, DeadlineExceeded, Policy, Retry
from consona.errors import ConstraintFailed, DatabaseLocked
from consona.sql.database import SQLDatabase
from storage_tools import child, line, until

LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
"""
INSERT = "INSERT INTO pets (id, name) VALUES (?, ?)"


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


async def make_table(db):
    await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name VARCHAR(50))")


async def test_under_a_policy_everything_works_as_without(engine, tmp_path):
    policy = Policy(timeout=30, retry=Retry(attempts=3), breaker=Breaker(), bulkhead=Bulkhead(limit=4))
    async with engine.new(tmp_path) as url, SQLDatabase(url, policy=policy) as db:
        await make_table(db)
        assert (await db.execute(INSERT, 1, "Rex")).rows == 1
        await db.execute_many(INSERT, [(2, "Kim"), (3, "Ada")])
        await db.insert_many("pets", [{"id": 100 + n, "name": "many"} for n in range(80)])
        async with db.transaction() as tx:
            await tx.execute(INSERT, 4, "Bob")
            async with tx.transaction() as part:
                await part.execute("DELETE FROM pets WHERE id >= 100")
        names = "SELECT name FROM pets ORDER BY id"
        assert await db.fetch_all(names, into=str) == ["Rex", "Kim", "Ada", "Bob"]
        assert await db.fetch_column(names, into=str) == ["Rex", "Kim", "Ada", "Bob"]
        assert [row async for row in db.stream(names, into=str)] == ["Rex", "Kim", "Ada", "Bob"]
        assert await asyncio.gather(*(db.fetch_value("SELECT count(*) FROM pets") for _ in range(4))) == [4] * 4
        with pytest.raises(ConstraintFailed):
            await db.execute(INSERT, 1, "Rex")
        assert db.detail()["policy"]["timeout"] == 30


async def test_a_rule_of_the_schema_speaks_not_against_the_database_and_is_not_tried_again(engine, tmp_path):
    policy = Policy(retry=Retry(attempts=5, backoff=60), breaker=Breaker(min_calls=2))
    async with engine.new(tmp_path) as url, SQLDatabase(url, policy=policy) as db:
        await make_table(db)
        await db.execute(INSERT, 1, "Rex")
        for _ in range(10):
            with pytest.raises(ConstraintFailed):
                await db.execute(INSERT, 1, "Rex")
        assert await db.fetch_value("SELECT count(*) FROM pets") == 1


@pytest.fixture
async def locked(tmp_path):
    """A SQLite file that another process holds locked, until a line is written to it."""
    path = tmp_path / "shop.db"
    async with SQLDatabase(f"sqlite:///{path}") as db:
        await make_table(db)
    process = await child(LOCK, path)
    assert await line(process) == "locked"
    yield path, process
    process.stdin.close()
    await process.wait()


async def test_a_locked_file_is_tried_again_until_it_is_free(locked):
    path, process = locked
    policy = Policy(retry=Retry(attempts=10_000, backoff=0.001, max_wait=0.001, budget=None))
    async with SQLDatabase(f"sqlite:///{path}?busy=0.02", policy=policy) as db:
        writing = asyncio.create_task(db.execute(INSERT, 1, "Rex"))
        await until(lambda: db.detail()["policy"]["keys"].get("", {}).get("failed", 0) >= 2)
        process.stdin.write(b"\n")
        await writing
        assert await db.fetch_value("SELECT count(*) FROM pets") == 1
        assert db.stats.operations["INSERT pets"].total == 1  # one call, however many tries


async def test_time_that_is_over_cuts_the_statement_and_nothing_happens(locked):
    path, process = locked
    async with SQLDatabase(f"sqlite:///{path}?busy=60", policy=Policy(timeout=0.15)) as db:
        with pytest.raises(DeadlineExceeded):
            await db.execute(INSERT, 1, "Rex")
        process.stdin.write(b"\n")
        await process.wait()
        assert await db.fetch_value("SELECT count(*) FROM pets") == 0


async def test_a_database_in_trouble_is_left_alone(locked):
    path, _ = locked
    async with SQLDatabase(f"sqlite:///{path}?busy=0.02", policy=Policy(breaker=Breaker(min_calls=3))) as db:
        for _ in range(3):
            with pytest.raises(DatabaseLocked):
                await db.execute(INSERT, 1, "Rex")
        with pytest.raises(CircuitOpen):
            await db.execute(INSERT, 1, "Rex")
        with pytest.raises(CircuitOpen):
            await db.begin()
