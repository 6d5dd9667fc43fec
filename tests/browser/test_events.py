"""Server-sent events, read by a real browser's `EventSource`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from consona.rest.server.api_server import APIServer
from consona.rest.server.compression import Compression
from consona.rest.server.events import Event, EventStream, LastEventID
from consona.rest.server.listener import Listener
from consona.rest.server.responses import Response

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

HOSTILE = "two\nlines\r\n\r\nevent: evil\ndata: no\u2028é"

SCRIPT = """
(path, names, count) => new Promise((resolve) => {
    const source = new EventSource(path), got = [];
    for (const name of names)
        source.addEventListener(name, (event) => {
            got.push([event.type, event.data, event.lastEventId]);
            if (got.length === count) { source.close(); resolve(got); }
        });
})
"""


@pytest_asyncio.fixture(loop_scope="session")
async def shop():
    api = APIServer("shop")
    api.middleware(Compression(minimum=0))
    api.connections = []

    @api.get("/")
    async def page() -> Response:
        return Response("<!doctype html><title>Shop</title><link rel=icon href=data:,>", media_type="text/html")

    @api.get("/counted")
    async def counted(last: LastEventID = "") -> EventStream:
        """Two events, then the connection ends: the browser comes back, and says where it was."""
        api.connections.append(last)
        begin = int(last.removeprefix("№") or 0)

        async def events() -> AsyncIterator[Event[int]]:
            for number in (begin + 1, begin + 2):
                yield Event(number, id=f"№{number}")

        return EventStream(events(), retry=0.05)

    @api.get("/hostile")
    async def hostile() -> AsyncIterator[Event[str]]:
        yield Event(HOSTILE, event="price")
        yield Event(HOSTILE)
        await asyncio.sleep(3600)

    async with Listener(api, port=0) as listener:
        yield api, listener.url


async def events(page, path, names, count):
    return await page.evaluate(f"([path, names, count]) => ({SCRIPT})(path, names, count)", [path, names, count])


async def test_a_browser_that_lost_its_stream_goes_on_where_it_was(page, shop):
    api, address = shop
    await page.goto(address)
    got = await events(page, "/counted", ["message"], 5)
    assert got == [["message", str(number), f"№{number}"] for number in range(1, 6)]
    assert api.connections[:3] == ["", "№2", "№4"]


async def test_no_data_becomes_a_field(page, shop):
    _, address = shop
    await page.goto(address)
    got = await events(page, "/hostile", ["price", "message", "evil"], 2)
    text = HOSTILE.replace("\r\n", "\n")
    assert got == [["price", text, ""], ["message", text, ""]]
