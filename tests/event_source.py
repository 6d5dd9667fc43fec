"""A client of server-sent events for tests: the parser of the WHATWG's section 9.2.6, over aiohttp."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp

from processes import LONG_S


class Stream:
    def __init__(self, response):
        self.response = response
        self.last_id = ""
        self.retry = None

    async def next(self):
        """The next event: (name, data as text)."""
        name, data = "", []
        async with asyncio.timeout(LONG_S):
            while True:
                line = await self.response.content.readline()
                if not line:
                    raise EOFError
                line = line.decode().rstrip("\n")
                if not line:
                    if data:
                        return name or "message", "\n".join(data)
                    name = ""
                    continue
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    self.last_id = value
                elif field == "retry":
                    self.retry = int(value)

    async def json(self):
        name, data = await self.next()
        return name, json.loads(data)


@asynccontextmanager
async def listening(url, *, last_id="", **headers):
    """A stream of events, begun: the server has let it into its channels."""
    if last_id:
        headers["Last-Event-ID"] = last_id
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
        session.get(url, headers=headers) as response,
    ):
        response.raise_for_status()
        assert response.headers["content-type"] == "text/event-stream"
        yield Stream(response)
