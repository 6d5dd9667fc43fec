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


@asynccontextmanager
async def mariadb(folder: Path) -> AsyncIterator[str]:
    with database_servers.empty_mysql() as url:
        yield url


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[str]]] = {
    "sqlite file": sqlite_file,
    "sqlite memory": sqlite_memory,
    "postgresql": postgresql,
    "mariadb": mariadb,
}
SERVERS = {"postgresql", "mariadb"}
"""Engines that need a server."""
WAYS = {"mariadb": [Strict(60)], "sqlite memory": [60]}
"""How answers are kept, where it is not both ways."""
ALL = "SELECT id, name FROM pets ORDER BY id"


@pytest.fixture(
    params=[
        pytest.param((name, way), id=f"{name} {way}", marks=[pytest.mark.servers] * (name in SERVERS))
        for name in ENGINES
        for way in WAYS.get(name, [60, Strict(60)])
    ]
)
def engine_and_way(request):
    return request.param


@pytest.fixture
def cache(engine_and_way):
    """What stands after `cache=`."""
    return engine_and_way[1]


@pytest.fixture
async def url(engine_and_way, tmp_path):
    async with ENGINES[engine_and_way[0]](tmp_path) as url:
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


async def test_the_second_answer_comes_from_the_cache(db, cache):
    first = await db.fetch_all(ALL, cache=cache)
    assert await db.fetch_all(ALL, cache=cache) == first == [{"id": 1, "name": "Rex"}, {"id": 2, "name": "Mia"}]
    assert (counts(db)["hits"], counts(db)["misses"]) == (1, 1)


async def test_every_way_to_fetch_can_be_kept(db, cache):
    for _ in range(3):
        assert await db.fetch_one("SELECT name FROM pets WHERE id = ?", 1, cache=cache) == {"name": "Rex"}
        assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 2
        assert await db.fetch_column("SELECT name FROM pets ORDER BY id", cache=cache) == ["Rex", "Mia"]
        assert await db.fetch_all(ALL, into=tuple, cache=cache) == [(1, "Rex"), (2, "Mia")]
    assert (counts(db)["hits"], counts(db)["misses"]) == (8, 4)


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


async def test_what_is_given_out_is_the_callers_to_change(db, cache):
    first = await db.fetch_all(ALL, cache=cache)
    first[0]["name"] = "changed"
    first.clear()
    assert (await db.fetch_all(ALL, cache=cache))[0]["name"] == "Rex"
    column = await db.fetch_column("SELECT name FROM pets ORDER BY id", cache=cache)
    column.append("mine")
    assert await db.fetch_column("SELECT name FROM pets ORDER BY id", cache=cache) == ["Rex", "Mia"]
    raw = await db.fetch_all(ALL, into=tuple, cache=cache)
    raw.append((9, "mine"))
    assert len(await db.fetch_all(ALL, into=tuple, cache=cache)) == 2


async def test_values_of_different_types_are_different_questions(db, cache):
    await db.execute("UPDATE pets SET name = '1'")
    sql = "SELECT COUNT(*) FROM pets WHERE name = ? OR id = ?"
    assert await db.fetch_value(sql, "1", 9, cache=cache) == 2
    assert await db.fetch_value(sql, "2", 9, cache=cache) == 0
    assert await db.fetch_value(sql, "2", 1, cache=cache) == 1
    assert counts(db)["hits"] == 0


async def test_an_answer_is_not_older_than_who_asks_allows(db, cache):
    clock = [100.0]
    await db.fetch_all(ALL, cache=cache)
    db._cache._clock = lambda: clock[0]
    db._cache.clear()
    await db.fetch_all(ALL, cache=cache)
    clock[0] += 10
    await db.fetch_all(ALL, cache=cache)
    assert counts(db)["hits"] == 1
    await db.fetch_all(ALL, cache=Strict(5) if isinstance(cache, Strict) else 5)
    assert (counts(db)["hits"], counts(db)["expired"]) == (1, 1)


async def test_many_who_ask_for_the_same_wait_for_one_question(db, cache):
    answers = await asyncio.gather(*(db.fetch_all(ALL, cache=cache) for _ in range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert len({id(answer[0]) for answer in answers}) == 50
    assert counts(db)["misses"] + counts(db)["joined"] + counts(db)["hits"] == 50
    assert counts(db)["misses"] == 1


def counting(*, to: int, columns: int) -> str:
    """A question whose answer is `to` to the power of `columns`, which takes as long to count."""
    joined = ", ".join(f"n AS n{number}" for number in range(columns))
    return (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {to})"
        f" SELECT COUNT(*) FROM {joined}, pets WHERE pets.id = 1"
    )


async def test_who_is_cancelled_does_not_cancel_the_others(db, cache):
    await db.fetch_value(counting(to=3, columns=1), cache=cache)
    longer = counting(to=150, columns=3)  # than five tasks take to join
    waiting = [asyncio.create_task(db.fetch_value(longer, cache=cache)) for _ in range(5)]
    while counts(db)["joined"] < 4:
        await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[3].cancel()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, asyncio.CancelledError)] == [150**3] * 3
    assert counts(db)["misses"] == 2


async def test_a_question_that_nobody_waits_for_ends(db, cache):
    forever = counting(to=600, columns=4)
    waiting = [asyncio.create_task(db.fetch_value(forever, cache=cache)) for _ in range(3)]
    while not (db._cache and db._cache._flights):
        await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(20):
        while db._cache._flights:
            await asyncio.sleep(0.01)
        assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 2


async def test_an_error_is_told_to_everybody_and_not_kept(db, cache):
    answers = await asyncio.gather(
        *(db.fetch_all("SELECT colour FROM pets", cache=cache) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, QueryError) for answer in answers)
    await db.execute("ALTER TABLE pets ADD COLUMN colour INTEGER")
    assert len(await db.fetch_all("SELECT colour FROM pets", cache=cache)) == 2


async def test_a_change_of_the_schema_is_seen(db, cache):
    assert await db.fetch_all("SELECT * FROM pets WHERE id = 1", cache=cache) == [{"id": 1, "name": "Rex"}]
    await db.execute("ALTER TABLE pets ADD COLUMN age INTEGER")
    assert await db.fetch_all("SELECT * FROM pets WHERE id = 1", cache=cache) == [{"id": 1, "name": "Rex", "age": None}]


async def test_what_cannot_be_kept_is_asked_and_the_figures_say_why(db, cache):
    for _ in range(2):
        assert await db.fetch_value("SELECT COUNT(*) FROM pets WHERE CURRENT_TIMESTAMP IS NOT NULL", cache=cache) == 2
    assert counts(db)["not_cached"] == {"it calls CURRENT_TIMESTAMP, whose answer may change": 2}
    assert counts(db)["hits"] == 0


async def test_a_statement_that_writes_runs_each_time(db, cache):
    for number in (3, 4):
        sql = "INSERT INTO pets VALUES (?, 'x') RETURNING id"
        assert await db.fetch_value(sql, number, cache=cache) == number
    assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 4


async def test_the_memory_is_bounded(url, db, cache):
    async with SQLDatabase(url, cache_bytes=20_000) as small:
        for number in range(100):
            await small.fetch_all("SELECT id, name FROM pets WHERE id <> ?", number, cache=cache)
        assert counts(small)["bytes"] <= 20_000
        assert counts(small)["evicted"] > 20
        await db.execute("UPDATE pets SET name = ? WHERE id = 1", "x" * 50)
        for _ in range(2):
            wide = ", ".join(f"name AS n{number}" for number in range(100))
            await small.fetch_all(f"SELECT {wide} FROM pets", cache=cache)
        assert counts(small)["too_large"] == 2


async def test_what_is_no_time_is_refused(db):
    for wrong in (-1, "60", True, float("inf"), Strict(-1)):
        with pytest.raises(ConfigurationError, match="is no time"):
            await db.fetch_all(ALL, cache=wrong)
    await db.fetch_all(ALL, cache=0)
    assert "cache" not in db.stats.detail


async def test_the_cache_can_be_emptied(db, cache):
    await db.fetch_all(ALL, cache=cache)
    db.clear_cache()
    await db.fetch_all(ALL, cache=cache)
    assert counts(db)["misses"] == 2


async def test_a_hit_is_seen_in_the_history(db, cache):
    for _ in range(2):
        await db.fetch_all(ALL, cache=cache)
    assert [entry.attributes.get("cache") for entry in db.history if entry.operation == "SELECT"] == [None, "hit"]


async def test_a_fill_that_a_write_overtook_is_not_kept(db, cache):
    """Writers and readers of one process, side by side: nobody gets less than was committed before they asked."""
    committed = 2
    done = asyncio.Event()

    async def write():
        nonlocal committed
        for number in range(3, 70):
            await db.execute("INSERT INTO pets VALUES (?, 'x')", number)
            committed = number
        done.set()

    async def read():
        while not done.is_set():
            at_least = committed
            assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) >= at_least
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(8):
            group.create_task(read())
    assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=cache) == 69
