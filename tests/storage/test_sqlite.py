"""What only the store on SQLite promises; the rest is in tests/contracts."""

from contextlib import aclosing

import pytest

from consona.errors import QueryError
from consona.storage.sqlite_engine import open_sqlite
from consona.storage.store import open_store
from storage_tools import Clock


async def rows(url):
    engine = await open_sqlite(url)
    try:
        return await engine.read(lambda db: db.execute("SELECT key, value FROM consona_store ORDER BY key"))
    finally:
        await engine.close()


async def test_what_was_put_is_there_after_a_restart(url):
    async with open_store(url) as store:
        version = await store.put("key", b"1")
    async with open_store(url) as store:
        assert (await store.get("key")).version == version
        assert await store.put("key", b"2") > version


async def test_a_deleted_key_takes_no_room_after_a_minute(url):
    clock = Clock()
    async with open_store(url, clock=clock) as store:
        await store.put("a", b"1")
        await store.put("b", b"1")
        await store.delete("a")
        assert await rows(url) == [("a", None), ("b", b"1")]
        clock.advance(60)
        await store.engine.sweep()
        assert await rows(url) == [("b", b"1")]


async def test_a_watcher_from_which_deletions_may_have_escaped_is_told(url):
    clock = Clock()
    async with open_store(url, clock=clock) as store:
        await store.put("a", b"1")
        async with aclosing(store.watch()) as changes:
            assert (await anext(changes)).key == "a"
            await store.delete("a")  # the watcher does other things meanwhile
            clock.advance(60)
            await store.engine.sweep()
            with pytest.raises(QueryError, match="begin the watch again"):
                await anext(changes)


async def test_a_watcher_that_keeps_up_is_never_told_so(url):
    clock = Clock()
    async with open_store(url, clock=clock) as store:
        await store.put("a", b"1")
        async with aclosing(store.watch()) as changes:
            assert (await anext(changes)).key == "a"
            for _ in range(5):
                await store.put("b", b"1")
                assert (await anext(changes)).value == b"1"
                await store.delete("b")
                assert (await anext(changes)).value is None
                clock.advance(61)
                await store.engine.sweep()


async def test_a_page_of_large_values_is_bounded_in_bytes(url):
    async with open_store(url) as store:
        for n in range(8):
            await store.put(f"k{n}", bytes(1_000_000))
        assert len(await store.engine.scan("", after="", limit=100)) == 5
