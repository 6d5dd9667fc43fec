"""The store on PostgreSQL, beyond the contract: transactions, other processes, late commits, its tables."""

import asyncio
from contextlib import aclosing

import pytest

from consona import SQLDatabase
from consona.errors import ConfigurationError, QueryError
from consona.storage.postgresql.engine import open_postgresql
from consona.storage.postgresql.schema import prepare
from consona.storage.postgresql.store import GRAVE_S
from consona.storage.store import open_store
from storage_tools import Clock, child, line, until

pytestmark = pytest.mark.servers

PUTTER = """
import asyncio, sys
from consona.storage.store import open_store

async def main(url):
    async with open_store(url, prefix="w/") as store:
        print("ready", flush=True)
        for text in iter(sys.stdin.readline, ""):
            verb, key = text.split()
            if verb == "put":
                await store.put(key, b"1")
            else:
                await store.delete(key)
            print("done", flush=True)

asyncio.run(main(sys.argv[1]))
"""

COUNTER = """
import asyncio, sys
from consona.storage.store import open_store

async def main(url):
    async with open_store(url) as store:
        add = lambda old: b"%d" % (int(old or b"0") + 1)
        await asyncio.gather(*(store.update("count", add, attempts=10_000) for _ in range(50)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
async def store(postgresql_url):
    async with open_store(postgresql_url) as store:
        yield store


async def test_a_put_in_a_transaction_happens_with_it(store, postgresql_url):
    async with SQLDatabase(postgresql_url) as db:
        with pytest.raises(LookupError):
            async with db.transaction() as tx:
                await store.put("key", b"1", tx=tx)
                assert (await store.get("key", tx=tx)).value == b"1"
                assert await store.get("key") is None
                raise LookupError
        assert await store.get("key") is None
        async with db.transaction() as tx:
            await store.put("key", b"2", tx=tx)
        assert (await store.get("key")).value == b"2"


async def test_a_transaction_of_another_database_is_refused(store, tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path}/other.db") as other, other.transaction() as tx:
        with pytest.raises(ConfigurationError, match="same database"):
            await store.get("key", tx=tx)


async def told(changes, key, value):
    """Wait until this change is told. What was there at the beginning may be told twice."""
    async with asyncio.timeout(10):
        async for change in changes:
            if (change.key, change.value) == (key, value):
                return


async def test_a_change_by_another_process_is_told_by_the_bell(store, postgresql_url):
    process = await child(PUTTER, postgresql_url)
    assert await line(process) == "ready"
    async with aclosing(store.watch("w/")) as changes:
        for number in range(5):
            process.stdin.write(f"put key{number}\n".encode())
            await told(changes, f"w/key{number}", b"1")
        process.stdin.write(b"delete key0\n")
        await told(changes, "w/key0", None)
    assert store.engine._opened().notifications.stats()["received"] >= 1
    process.stdin.close()
    await process.wait()


async def test_without_the_bell_a_watcher_finds_the_change_by_asking(store, postgresql_url):
    async with aclosing(store.watch()) as changes:
        following = asyncio.ensure_future(anext(changes))
        await until(lambda: store.engine._opened().notifications.connected)
        engine = store.engine._opened()
        await engine.ask(
            "INSERT INTO consona_store VALUES ('key', 'x', nextval('consona_store_version'), NULL, pg_current_xact_id())"
        )
        assert (await asyncio.wait_for(following, 10)).key == "key"


async def test_a_transaction_that_began_first_and_committed_last_is_told(store, postgresql_url):
    async with SQLDatabase(postgresql_url) as db, aclosing(store.watch()) as changes:
        early = await db.begin()
        await store.put("early", b"1", tx=early)
        await store.put("late", b"1")
        assert (await asyncio.wait_for(anext(changes), 10)).key == "late"
        following = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.05)
        await early.commit()
        assert (await asyncio.wait_for(following, 10)).key == "early"


async def test_no_change_is_told_twice_while_a_transaction_is_open_elsewhere(store, postgresql_url):
    async with SQLDatabase(postgresql_url) as db, aclosing(store.watch()) as changes, db.transaction() as tx:
        await tx.execute("CREATE TABLE held (n int)")  # holds the horizon of all snapshots
        for number in range(5):
            await store.put(f"key{number}", b"1")
            assert (await asyncio.wait_for(anext(changes), 10)).key == f"key{number}"


async def test_a_watcher_from_whom_deletions_may_have_escaped_is_told(postgresql_url):
    clock = Clock()
    async with open_store(postgresql_url, clock=clock) as store, aclosing(store.watch()) as changes:
        await store.put("key", b"1")
        await anext(changes)
        await store.delete("key")
        clock.advance(GRAVE_S + 1)
        assert await store.engine.sweep() == 1
        with pytest.raises(QueryError, match="fell more than 60 s behind"):
            await anext(changes)


async def test_no_update_is_lost_between_processes(store, postgresql_url):
    processes = [await child(COUNTER, postgresql_url) for _ in range(3)]
    for process in processes:
        assert await asyncio.wait_for(process.wait(), 60) == 0
    assert (await store.get("count")).value == b"150"


async def test_versions_of_a_key_grow_however_many_write_at_once(store):
    versions = []

    async def write(number):
        for _ in range(20):
            versions.append(await store.put("key", b"%d" % number))

    seen = []

    async def read():
        while len(versions) < 160:
            item = await store.get("key")
            seen.append(item.version if item else 0)

    await asyncio.gather(read(), *(write(number) for number in range(8)))
    assert seen == sorted(seen)
    assert len(set(versions)) == 160
    assert (await store.get("key")).version == max(versions)


async def test_expiry_goes_by_the_servers_clock(store):
    await store.put("key", b"1", ttl=3600)
    server = (await store.engine._opened().ask("SELECT extract(epoch FROM clock_timestamp())::float8")).rows[0][0]
    assert (await store.get("key")).expires == pytest.approx(server + 3600, abs=60)


async def test_rows_of_a_younger_server_are_not_told_for_ever(store, postgresql_url):
    await store.put("key", b"1")
    await store.engine._opened().ask("UPDATE consona_store SET xact = '999999999999'")  # as if restored from a dump
    async with open_store(postgresql_url) as restored, aclosing(restored.watch()) as changes:
        assert (await anext(changes)).key == "key"
        following = asyncio.ensure_future(anext(changes))
        await restored.put("other", b"1")
        assert (await asyncio.wait_for(following, 10)).key == "other"


async def test_many_open_a_new_database_at_the_same_time(postgresql_url):
    program = """
import asyncio, sys
from consona.storage.store import open_store

async def main(url):
    async with open_store(url) as store:
        await store.put("key", b"1")

asyncio.run(main(sys.argv[1]))
"""
    processes = [await child(program, postgresql_url) for _ in range(5)]
    for process in processes:
        assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_tables_of_a_newer_release_are_refused(postgresql_url):
    engine = await open_postgresql(postgresql_url)
    await prepare(engine, "pets", [["CREATE TABLE pets (n int)"]])
    await prepare(engine, "pets", [["CREATE TABLE pets (n int)"], ["ALTER TABLE pets ADD m int"]], oldest_reader=2)
    assert (await engine.ask("SELECT * FROM pets")).columns == ("n", "m")
    with pytest.raises(ConfigurationError, match="have version 2; this release of Consona knows 1"):
        await prepare(engine, "pets", [["CREATE TABLE pets (n int)"]])
    await engine.close()
