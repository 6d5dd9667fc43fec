"""The page of a database in a real browser: readable by everyone, and it follows what happens."""

from __future__ import annotations

import pytest
import pytest_asyncio
from playwright.async_api import expect

from accessibility import findings
from consona import SQLDatabase
from consona.ops.dashboard import Dashboard
from consona.ops.reporter import Reporter
from served import served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SLOW = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
    " SELECT COUNT(*) FROM n, pets WHERE pets.name = ?"
)


@pytest_asyncio.fixture(loop_scope="session")
async def db(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'pets.db'}", slow=0.001) as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        await db.execute("INSERT INTO pets (name) VALUES (?)", "x")  # with no row, nothing is slow
        yield db


@pytest_asyncio.fixture(loop_scope="session")
async def place(tmp_path, db):
    """The address of the database's page."""
    url = f"sqlite:///{tmp_path / 'ops.db'}"
    reporter = Reporter("shop", url, interval=0.05, check_interval=0.05)
    dashboard = Dashboard(url, interval=0.1)
    await reporter.start()
    async with served(dashboard) as address:
        await reporter.report()
        yield f"{address}/ops/parts/shop/pets"
        dashboard.begin_drain()
    await reporter.stop()


@pytest.mark.parametrize("width", [1280, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(page, place, db, axe, scheme, width):
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme=scheme)
    await db.fetch_value(SLOW, "x")
    await page.goto(place)
    await expect(page.locator("pre.plan").first).to_contain_text("SCAN", timeout=20_000)
    assert await findings(page, axe) == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_what_runs_now_appears(page, place, db):
    await page.goto(place)
    await expect(page.get_by_role("heading", name="Statements")).to_be_visible()
    await db.fetch_value("SELECT COUNT(*) FROM pets WHERE id > ?", 5)
    table = page.get_by_role("table", name="Statements of pets since the start")
    await expect(table.get_by_role("rowheader", name="SELECT COUNT(*) FROM pets WHERE id > ?")).to_be_visible(
        timeout=20_000
    )
