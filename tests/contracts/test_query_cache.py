"""The promises of the query cache, kept on every engine that has one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import database_servers
from consona import SQLDatabase, Strict
from consona.errors import ConfigurationError, QueryError


@asynccontextmanager
async def sqlite_file(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite:///{folder / 'shop.db'}"


@asynccontextmanager
async def sqlite_memory(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite://{folder.name}"


@asynccontextmanager
async def postgresql(folder: Path) -> AsyncIterator[str]:
    with database_servers.empty_postgresql() as url:
        yield url


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[str]]] = {
    "sqlite file": sqlite_file,
    "sqlite memory": sqlite_memory,
    "postgresql": postgresql,
}
SERVERS = {"postgresql"}
"""Engines that need a server."""
ALL = "SELECT id, name FROM pets ORDER BY id"
RUNNERS = [60, Strict(60)]


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.servers] * (name in SERVERS)) for name in ENGINES])
async def url(request, tmp_path):
    async with ENGINES[request.param](tmp_path) as url:
        yield url


@pytest.fixture
async def db(url):
    async with SQLDatabase(url) as db:
        await db.execute("CREATE TABLE pets (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(50))")
        await db.execute("CREATE TABLE other (id INTEGER NOT NULL PRIMARY KEY)")
        await db.execute("INSERT INTO pets VALUES (1, 'Rex'), (2, 'Mia')")
        await db.watch_tables("pets", "other", strict=True)
        yield db


def counts(db) -> dict[str, Any]:
    found: dict[str, Any] = db.stats.detail["cache"]
    return found


@pytest.mark.parametrize("cache", RUNNERS, ids=str)
async def test_the_second_answer_comes_from_the_cache(db, cache):
    first = await db.fetch_all(ALL, cache=cache)
    assert await db.fetch_all(ALL, cache=cache) == first == [{"id": 1, "name": "Rex"}, {"id": 2, "name": "Mia"}]
    assert (counts(db)["hits"], counts(db)["misses"]) == (1, 1)


async def test_every_way_to_fetch_can_be_kept(db):
    for _ in range(3):
        assert await db.fetch_one("SELECT name FROM pets WHERE id = ?", 1, cache=60) == {"name": "Rex"}
        assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=60) == 2
        assert await db.fetch_column("SELECT name FROM pets ORDER BY id", cache=60) == ["Rex", "Mia"]
        assert await db.fetch_all(ALL, into=tuple, cache=60) == [(1, "Rex"), (2, "Mia")]
    assert (counts(db)["hits"], counts(db)["misses"]) == (8, 4)


@pytest.mark.parametrize("cache", RUNNERS, ids=str)
async def test_a_write_of_this_process_is_seen_at_once(db, cache):
    await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache)
    await db.execute("INSERT INTO pets VALUES (?, 'new')", 0)
    await db.execute("DELETE FROM pets WHERE id = 0")
    await asyncio.gather(*db._cache._learning)  # what these statements write
    for number in range(3, 30):
        await db.execute("INSERT INTO pets VALUES (?, 'new')", number)
        for _ in range(2):
            assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == number
    assert counts(db)["hits"] >= 27


@pytest.mark.parametrize("cache", RUNNERS, ids=str)
async def test_a_transaction_is_seen_once_it_is_committed_and_not_before(db, cache, url):
    assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 2
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO pets VALUES (3, 'new')")
        assert await tx.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 3
        if "memory" not in str(db.address) and db.address.path:
            other = asyncio.create_task(db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache))
            assert await other == 2
    assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 3
    tx = await db.begin()
    await tx.execute("DELETE FROM pets")
    assert await tx.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 0
    await tx.rollback()
    assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 3


async def test_what_is_given_out_is_the_callers_to_change(db):
    first = await db.fetch_all(ALL, cache=60)
    first[0]["name"] = "changed"
    first.clear()
    assert (await db.fetch_all(ALL, cache=60))[0]["name"] == "Rex"
    column = await db.fetch_column("SELECT name FROM pets ORDER BY id", cache=60)
    column.append("mine")
    assert await db.fetch_column("SELECT name FROM pets ORDER BY id", cache=60) == ["Rex", "Mia"]
    raw = await db.fetch_all(ALL, into=tuple, cache=60)
    raw.append((9, "mine"))
    assert len(await db.fetch_all(ALL, into=tuple, cache=60)) == 2


async def test_values_of_different_types_are_different_questions(db):
    await db.execute("UPDATE pets SET name = '1'")
    sql = "SELECT COUNT(*) FROM pets WHERE name = ? OR id = ?"
    assert await db.fetch_value(sql, "1", 9, cache=60) == 2
    assert await db.fetch_value(sql, "2", 9, cache=60) == 0
    assert await db.fetch_value(sql, "2", 1, cache=60) == 1
    assert counts(db)["hits"] == 0


async def test_an_answer_is_not_older_than_who_asks_allows(db):
    clock = [100.0]
    await db.fetch_all(ALL, cache=60)
    db._cache._clock = lambda: clock[0]
    db._cache.clear()
    await db.fetch_all(ALL, cache=60)
    clock[0] += 10
    await db.fetch_all(ALL, cache=60)
    assert counts(db)["hits"] == 1
    await db.fetch_all(ALL, cache=5)
    assert (counts(db)["hits"], counts(db)["expired"]) == (1, 1)


async def test_many_who_ask_for_the_same_wait_for_one_question(db):
    answers = await asyncio.gather(*(db.fetch_all(ALL, cache=60) for _ in range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert len({id(answer[0]) for answer in answers}) == 50
    assert counts(db)["misses"] + counts(db)["joined"] + counts(db)["hits"] == 50
    assert counts(db)["misses"] == 1


SLOW = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)"
    " SELECT COUNT(*) FROM n, pets WHERE pets.id = 1"
)


async def test_who_is_cancelled_does_not_cancel_the_others(db):
    await db.fetch_value(SLOW.replace("300000", "3"), cache=60)
    waiting = [asyncio.create_task(db.fetch_value(SLOW, cache=60)) for _ in range(5)]
    while counts(db)["joined"] < 4:
        await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[3].cancel()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, asyncio.CancelledError)] == [300000] * 3
    assert counts(db)["misses"] == 2


async def test_a_question_that_nobody_waits_for_ends(db):
    forever = SLOW.replace("300000", "3000000000")
    waiting = [asyncio.create_task(db.fetch_value(forever, cache=60)) for _ in range(3)]
    while not (db._cache and db._cache._flights):
        await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(20):
        while db._cache._flights:
            await asyncio.sleep(0.01)
        assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=60) == 2


async def test_an_error_is_told_to_everybody_and_not_kept(db):
    answers = await asyncio.gather(
        *(db.fetch_all("SELECT colour FROM pets", cache=60) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, QueryError) for answer in answers)
    await db.execute("ALTER TABLE pets ADD COLUMN colour INTEGER")
    assert len(await db.fetch_all("SELECT colour FROM pets", cache=60)) == 2


async def test_a_change_of_the_schema_is_seen(db):
    assert await db.fetch_all("SELECT * FROM pets WHERE id = 1", cache=60) == [{"id": 1, "name": "Rex"}]
    await db.execute("ALTER TABLE pets ADD COLUMN age INTEGER")
    assert await db.fetch_all("SELECT * FROM pets WHERE id = 1", cache=60) == [{"id": 1, "name": "Rex", "age": None}]


async def test_what_cannot_be_kept_is_asked_and_the_figures_say_why(db):
    for _ in range(2):
        assert await db.fetch_value("SELECT COUNT(*) FROM pets WHERE id > random() * 0 - 1", cache=60) == 2
    assert counts(db)["not_cached"] == {"it calls random, whose answer may change": 2}
    assert counts(db)["hits"] == 0


async def test_a_statement_that_writes_runs_each_time(db):
    for number in (3, 4):
        sql = "INSERT INTO pets VALUES (?, 'x') RETURNING id"
        assert await db.fetch_value(sql, number, cache=60) == number
    assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=60) == 4


async def test_the_memory_is_bounded(url, db):
    async with SQLDatabase(url, cache_bytes=20_000) as small:
        for number in range(200):
            await small.fetch_all("SELECT id, name FROM pets WHERE id <> ?", number, cache=60)
        assert counts(small)["bytes"] <= 20_000
        assert counts(small)["evicted"] > 100
        await db.execute("UPDATE pets SET name = ? WHERE id = 1", "x" * 50)
        for _ in range(2):
            wide = ", ".join(f"name AS n{number}" for number in range(100))
            await small.fetch_all(f"SELECT {wide} FROM pets", cache=60)
        assert counts(small)["too_large"] == 2


async def test_what_is_no_time_is_refused(db):
    for wrong in (-1, "60", True, float("inf"), Strict(-1)):
        with pytest.raises(ConfigurationError, match="is no time"):
            await db.fetch_all(ALL, cache=wrong)
    await db.fetch_all(ALL, cache=0)
    assert "cache" not in db.stats.detail


async def test_the_cache_can_be_emptied(db):
    await db.fetch_all(ALL, cache=60)
    db.clear_cache()
    await db.fetch_all(ALL, cache=60)
    assert counts(db)["misses"] == 2


async def test_a_hit_is_seen_in_the_history(db):
    for _ in range(2):
        await db.fetch_all(ALL, cache=60)
    assert [entry.attributes.get("cache") for entry in db.history if entry.operation == "SELECT"] == [None, "hit"]


async def test_a_fill_that_a_write_overtook_is_not_kept(db):
    """Writers and readers of one process, side by side: nobody gets less than was committed before they asked."""
    committed = 2
    done = asyncio.Event()

    async def write():
        nonlocal committed
        for number in range(3, 150):
            await db.execute("INSERT INTO pets VALUES (?, 'x')", number)
            committed = number
        done.set()

    async def read():
        while not done.is_set():
            at_least = committed
            assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=60) >= at_least
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(8):
            group.create_task(read())
    assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=60) == 149
