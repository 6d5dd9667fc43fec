"""A slow query is kept and logged with its plan, and nowhere with a value."""

from __future__ import annotations

import asyncio
import logging

import pytest

from consona import SQLDatabase
from consona.errors import ConfigurationError
from consona.sql.slow_queries import plan_without_values

COUNT = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
    " SELECT COUNT(*) FROM n, pets WHERE pets.name = ? AND pets.id < 1234567"
)


@pytest.fixture
async def db(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'shop.db'}", slow=0.001) as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        await db.execute("INSERT INTO pets (name) VALUES ('kohlrabi')")
        yield db


def slow(db):
    return [query for query in db.slow_queries if "RECURSIVE" in query.statement]


async def until_planned(db, number):
    async with asyncio.timeout(20):
        while len(slow(db)) < number or not all(query.plan for query in slow(db)):
            await asyncio.sleep(0.01)


async def test_it_is_kept_with_its_plan_and_without_its_values(db, caplog):
    with caplog.at_level(logging.WARNING, logger="consona.sql"):
        assert await db.fetch_value(COUNT, "kohlrabi") == 30000
        await until_planned(db, 1)
    [query] = slow(db)
    assert query.seconds > 0.001
    assert (query.outcome, query.rows) == ("ok", 1)
    assert query.statement.endswith("FROM n, pets WHERE pets.name = ? AND pets.id < ?")
    assert "SCAN" in query.plan
    assert "slow query" in caplog.text
    assert "SEARCH pets USING" in caplog.text
    for told in (caplog.text, str(db.slow_queries), str(list(db.observer.remarks)), str(db.history), str(db.stats)):
        assert "kohlrabi" not in told
        assert "1234567" not in told


async def test_its_values_are_forgotten_when_it_ends(db):
    await db.fetch_value(COUNT, "kohlrabi")
    await until_planned(db, 1)
    assert all(operation.subject is None for _, operation, _ in db.observer._finished)


async def test_the_plan_of_one_statement_is_asked_for_once_in_a_while(db):
    for _ in range(5):
        await db.fetch_value(COUNT, "kohlrabi")
    await until_planned(db, 5)
    assert len({query.plan for query in slow(db)}) == 1


async def test_only_the_last_ones_are_kept(db):
    for _ in range(60):
        await db.fetch_value(COUNT, "x")
    await until_planned(db, 1)
    assert len(db.slow_queries) <= 50


async def test_what_fails_slowly_and_what_is_cancelled_is_told_too(db):
    asked = asyncio.create_task(db.fetch_value(COUNT.replace("30000", "300000000"), "x"))
    async with asyncio.timeout(20):
        while not db.stats.detail["reads_under_way"]:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.005)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await until_planned(db, 1)
    assert slow(db)[0].outcome == "cancelled"


async def test_a_database_that_stops_forgets_the_plan_that_is_asked_for(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'shop.db'}", slow=0.0000001) as db:
        await db.fetch_value("SELECT 1")
    assert [task.get_name() for task in asyncio.all_tasks()] == [asyncio.current_task().get_name()]


# Plans


async def test_explain_shows_the_plan(db):
    await db.execute("CREATE INDEX pets_name ON pets (name)")
    assert await db.explain("SELECT id FROM pets WHERE name = ?", "x") == (
        "SEARCH pets USING COVERING INDEX pets_name (name=?)"
    )
    with pytest.raises(ConfigurationError, match="does not measure"):
        await db.explain("SELECT 1", analyze=True)


def test_a_plan_of_postgresql_loses_its_values():
    plan = """Nested Loop  (cost=0.15..24.19 rows=1 width=40)
  ->  Index Scan using pets_pkey on pets  (cost=0.15..8.17 rows=1 width=36)
        Index Cond: (id = 4711)
        Filter: ((name)::text ~~ 'it''s a secret%'::text AND age > -1.5)
  ->  Seq Scan on t1  (cost=0.00..1.00 rows=3 width=4)
        Filter: (c2 = ANY ('{1,2,3}'::integer[]))"""
    found = plan_without_values(plan)
    assert "Index Cond: (id = ?)" in found
    assert "Filter: ((name)::text ~~ ?::text AND age > ?)" in found
    assert "Filter: (c2 = ANY (?::integer[]))" in found
    assert "(cost=0.15..8.17 rows=1 width=36)" in found


def test_a_long_plan_is_shortened():
    assert plan_without_values("\n".join(["SCAN t"] * 100)).endswith("… 70 more lines")


@pytest.mark.servers
async def test_a_slow_query_on_postgresql(postgresql_url):
    async with SQLDatabase(postgresql_url, slow=0.005) as db:
        await db.execute("CREATE TABLE pets (id INT PRIMARY KEY, name TEXT)")
        await db.fetch_all(
            "SELECT pg_sleep(0.02), id FROM (SELECT 4711) x, pets WHERE name = ? OR id = 4711", "kohlrabi"
        )
        await db.execute("INSERT INTO pets VALUES (1, ?)", "kohlrabi")
        await db.fetch_all("SELECT id, pg_sleep(0.02) FROM pets WHERE name = ? AND id < 4711", "kohlrabi")
        async with asyncio.timeout(20):
            while not any(query.plan for query in db.slow_queries):
                await asyncio.sleep(0.01)
        plans = "\n".join(query.plan for query in db.slow_queries)
        assert "pets" in plans
        assert "cost=" in plans
        for value in ("kohlrabi", "4711"):
            assert value not in str(db.slow_queries)
        assert "actual time" in await db.explain("SELECT * FROM pets", analyze=True)
