"""A database on the dashboard: its statements and its slow queries, from a real one, without a value."""

from __future__ import annotations

import asyncio

from consona import SQLDatabase
from consona.ops.dashboard import Dashboard
from consona.ops.reporter import Reporter
from consona.telemetry.prometheus import metrics_text
from ops_tools import ask

SLOW = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
    " SELECT COUNT(*) FROM n, pets WHERE pets.name = ?"
)


async def test_the_page_shows_statements_and_slow_queries(tmp_path):
    url = f"sqlite:///{tmp_path / 'ops.db'}"
    reporter = Reporter("shop", url, interval=3600, check_interval=3600)
    async with SQLDatabase(f"sqlite:///{tmp_path / 'pets.db'}", slow=0.001) as db, Dashboard(url) as dashboard:
        await reporter.start()
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        for _ in range(3):
            await db.execute("INSERT INTO pets (name) VALUES (?)", "kohlrabi")
        await db.fetch_value(SLOW, "kohlrabi")
        async with asyncio.timeout(20):
            while not any(query.plan and "RECURSIVE" in query.statement for query in db.slow_queries):
                await asyncio.sleep(0.01)
        for _ in range(2):  # a second report repeats nothing
            assert await reporter.report()
        page = await ask(dashboard, "/ops/parts/shop/pets")
        assert page.status == 200
        assert "INSERT INTO pets (name) VALUES (?) 3 " in page.words
        assert "SELECT COUNT(*) FROM n, pets WHERE pets.name = ?" in page.words
        assert page.words.count("CO-ROUTINE n") == 1
        assert "SCAN" in page.words
        assert "kohlrabi" not in page.text
        overview = await ask(dashboard)
        assert "CO-ROUTINE" not in overview.text
        assert "sql.statements" not in overview.text
        assert "VALUES" not in metrics_text().decode()  # the exporter tells tables apart, not statements
        await reporter.stop()


async def test_the_page_of_another_part_has_no_statements(tmp_path):
    url = f"sqlite:///{tmp_path / 'ops.db'}"
    reporter = Reporter("shop", url, interval=3600, check_interval=3600)
    async with Dashboard(url) as dashboard:
        await reporter.start()
        await reporter.report()
        page = await ask(dashboard, "/ops/parts/shop/dashboard")
        assert page.status == 200
        assert "Slow queries" not in page.text
        await reporter.stop()
