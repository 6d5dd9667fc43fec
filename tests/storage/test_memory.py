"""What only the store in memory promises; the rest is in tests/contracts."""

from consona.storage.store import open_store
from storage_tools import Clock


async def test_an_item_that_is_renewed_for_ever_needs_no_more_room():
    clock = Clock()
    async with open_store("memory://renewed", clock=clock) as store:
        for _ in range(5000):
            await store.put("lease", b"me", ttl=10)
        assert len(store.engine._space.expiries) < 2000
        clock.advance(10)
        assert await store.engine.sweep() == 1


async def test_what_is_in_it_is_gone_after_the_last_user():
    async with open_store("memory://gone") as one:
        await one.put("key", b"1")
    async with open_store("memory://gone") as again:
        assert await again.get("key") is None
