"""The docs page of an API in a real browser."""

from __future__ import annotations

import pytest
import pytest_asyncio
from playwright.async_api import expect

from accessibility import findings
from consona.rest.server.api_server import APIServer
from served import served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def address():
    api = APIServer("shop")

    @api.get("/products/{id}")
    async def read_product(id: int, with_stock: bool = False) -> dict[str, int]:
        """One product."""
        return {"id": id}

    @api.post("/products", status=201)
    async def create_product(name: str) -> dict[str, str]:
        """A new product."""
        return {"name": name}

    async with served(api) as address:
        yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(page, address, axe, scheme):
    await page.emulate_media(color_scheme=scheme)
    await page.goto(f"{address}/docs")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    for summary in await page.locator("summary").all():
        await summary.click()
    assert await findings(page, axe) == []
