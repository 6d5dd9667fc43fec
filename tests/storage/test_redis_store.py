"""The store in Redis, beyond the contract: other processes, a watcher that is too slow."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

import database_servers
from consona.errors import QueryError
from consona.storage.redis import store as redis_store
from consona.storage.redis.engine import Script
from consona.storage.store import open_store
from storage_tools import child, line

pytestmark = pytest.mark.servers

COUNTER = """
import asyncio, sys
from consona.storage.store import open_store

async def main(url):
    async with open_store(url) as store:
        add = lambda old: b"%d" % (int(old or b"0") + 1)
        await asyncio.gather(*(store.update("count", add, attempts=10_000) for _ in range(30)))
        print("done", flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def url():
    with database_servers.empty_redis() as url:
        yield url


async def test_counting_in_several_processes_loses_nothing(url):
    counters = [await child(COUNTER, url) for _ in range(3)]
    for counter in counters:
        assert await line(counter, seconds=60) == "done"
        await counter.communicate()
    async with open_store(url) as store:
        assert (await store.get("count")).value == b"90"


async def test_a_watcher_that_is_too_slow_is_told(url, monkeypatch):
    exact = redis_store._PUT.text.replace(f"'~', {redis_store.CHANGES}", "'=', 5")
    monkeypatch.setattr(redis_store._PUT, "text", exact)
    assert isinstance(redis_store._PUT, Script)
    async with open_store(url) as store, aclosing(store.watch()) as changes:
        await store.put("key", b"0")
        assert (await anext(changes)).value == b"0"
        for n in range(20):
            await store.put(f"other{n}", b"")
        with pytest.raises(QueryError, match="behind"):
            async with asyncio.timeout(20):
                async for _ in changes:
                    pass


async def test_whoever_is_cancelled_at_whatever_moment_ends_at_once(url):
    async def use(seconds):
        async with open_store(url) as store, aclosing(store.watch()) as changes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await anext(changes)

    for n in range(30):
        await asyncio.wait_for(use(n / 3000), 20)
