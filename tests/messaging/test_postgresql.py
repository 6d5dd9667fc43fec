"""Queues in a PostgreSQL database: with its transactions, with other processes, and after a kill."""

import asyncio
import signal

import pytest

import database_servers
import servers
from consona import MessageQueue, SQLDatabase
from consona.address import Address
from consona.errors import CommitUnknown, ConfigurationError, ConnectError, ConnectionLost
from consona.messaging.engine import Entry
from consona.messaging.postgresql import PostgreSQLQueues
from messaging_processes import finish, said_by_killed, start_producers, start_workers
from storage_tools import child, line

pytestmark = pytest.mark.servers


@pytest.fixture
async def engine(postgresql_url):
    engine = PostgreSQLQueues(Address.parse(postgresql_url))
    await engine.open()
    yield engine
    await engine.close()


async def take(engine, limit=100, *, lease_s=30.0, wait_s=0.0):
    return await engine.take("q", limit=limit, lease_s=lease_s, wait_s=wait_s)


async def bodies(engine, **options):
    return [lease.body for lease in await take(engine, **options)]


async def test_a_message_comes_with_the_applications_transaction_or_not_at_all(postgresql_url):
    async with SQLDatabase(postgresql_url) as db, MessageQueue("q", postgresql_url) as queue:
        await db.execute("CREATE TABLE orders (id bigint)")
        with pytest.raises(LookupError):
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO orders VALUES (1)")
                await queue.put("lost", tx=tx)
                raise LookupError
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO orders VALUES (2)")
            await queue.put("kept", tx=tx)
            assert (await queue.depth()).ready == 0
        [message] = await queue.get_many(10)
        assert message.data() == "kept"


async def test_a_waiting_worker_hears_of_a_transaction_when_it_commits(engine, postgresql_url):
    waiting = asyncio.create_task(take(engine, wait_s=60))
    async with SQLDatabase(postgresql_url) as db, db.transaction() as tx:
        await engine.inside(tx).put("q", [Entry(b"1")])
    assert [lease.body for lease in await asyncio.wait_for(waiting, 20)] == [b"1"]


async def test_a_message_is_done_with_the_transaction_or_not_at_all(engine, postgresql_url):
    await engine.put("q", [Entry(b"1"), Entry(b"2")])
    one, two = await take(engine)
    async with SQLDatabase(postgresql_url) as db:
        with pytest.raises(LookupError):
            async with db.transaction() as tx:
                await engine.inside(tx).settle("q", [one])
                raise LookupError
        async with db.transaction() as tx:
            await engine.inside(tx).settle("q", [two])
    assert (await engine.depth("q")).leased == 1
    assert await engine.settle("q", [one]) == []
    assert (await engine.depth("q")).unfinished == 0


async def test_who_puts_beside_an_open_transaction_does_not_wait_for_it(engine, postgresql_url):
    async with SQLDatabase(postgresql_url) as db, db.transaction() as tx:
        await engine.inside(tx).put("q", [Entry(b"1", priority=3)])
        await asyncio.wait_for(engine.put("q", [Entry(b"2", priority=3)]), 20)
    assert await bodies(engine) == [b"1", b"2"]
    assert await engine.queues() == ["q"]


async def test_a_queue_that_a_transaction_put_into_first_is_known(engine, postgresql_url):
    async with SQLDatabase(postgresql_url) as db, db.transaction() as tx:
        await engine.inside(tx).put("new", [Entry(b"1")])
        await engine.inside(tx).put("also", [Entry(b"1")])
    assert await engine.queues() == ["also", "new"]


async def test_a_transaction_of_another_database_is_refused(engine, tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path}/other.db") as other, other.transaction() as tx:
        with pytest.raises(ConfigurationError, match="same database"):
            engine.inside(tx)


async def test_what_an_open_transaction_is_settling_is_in_nobodys_way(engine, postgresql_url):
    await engine.put("q", [Entry(b"held")])
    [held] = await take(engine, lease_s=0.001)
    async with SQLDatabase(postgresql_url) as db, db.transaction() as tx:
        await engine.inside(tx).settle("q", [held])
        assert await bodies(engine, wait_s=0.02) == []  # its lease is over, but it is locked
        await engine.put("q", [Entry(b"next")])
        assert await bodies(engine) == [b"next"]


async def test_of_two_who_put_for_one_key_at_once_the_second_waits_for_its_turn(engine, postgresql_url):
    async with SQLDatabase(postgresql_url) as db:
        async with db.transaction() as tx:
            await engine.inside(tx).put("q", [Entry(b"1", key="a")])
            second = asyncio.create_task(engine.put("q", [Entry(b"2", key="a")]))
            assert await bodies(engine) == []
        await asyncio.wait_for(second, 20)
    [first] = await take(engine)
    assert first.body == b"1"
    await engine.settle("q", [first])
    assert await bodies(engine) == [b"2"]


async def test_many_keys_put_and_settled_at_once_end_without_a_circle(engine):
    names = [f"k{n}" for n in range(12)]

    async def work(n):
        order = names[n:] + names[:n]
        await engine.put("q", [Entry(f"{n}".encode(), key=key) for key in order])
        await engine.settle("q", list(reversed(await take(engine, 20))))

    await asyncio.wait_for(asyncio.gather(*map(work, range(12))), 60)
    seen = {}
    while leases := await take(engine, 200):
        for lease in leases:
            assert lease.key not in {other.key for other in leases if other is not lease}
            seen.setdefault(lease.key, []).append(int(lease.id))
        await engine.settle("q", leases)
    assert all(ids == sorted(ids) for ids in seen.values())
    assert (await engine.depth("q")).unfinished == 0
    left = await engine._opened().ask("SELECT count(*) FROM consona_queue_keys", reads=True)
    assert left.rows[0][0] == 0


async def test_a_duplicate_of_an_open_transaction_waits_for_its_end(engine, postgresql_url):
    again = [Entry(b"1", dedup="welcome", dedup_s=60)]
    async with SQLDatabase(postgresql_url) as db:
        async with db.transaction() as tx:
            [first] = await engine.inside(tx).put("q", again)
            second = asyncio.create_task(engine.put("q", again))
        assert await asyncio.wait_for(second, 20) == [first]
    assert await bodies(engine) == [b"1"]


async def test_duplicates_out_of_their_window_are_swept(engine):
    await engine.put("q", [Entry(b"1", dedup="a", dedup_s=1e-6), Entry(b"2", dedup="b", dedup_s=60)])
    assert await engine.sweep() == 1
    assert await engine.sweep() == 0


async def test_ids_that_cannot_be_are_no_dead_letters(engine):
    assert await engine.redrive("q", ["abc", "-1", "9" * 40, "٣"], replacement=None) == 0
    assert await engine.bury("q", ["", "1.5"]) == 0


async def test_a_waiting_taker_is_woken_by_another_process(engine, postgresql_url):
    waiting = asyncio.create_task(take(engine, 1, wait_s=60))
    producer = await child(*start_producers(postgresql_url, "0"))
    assert (await asyncio.wait_for(waiting, 30))[0].body == b"0-0"
    producer.kill()
    await producer.communicate()


async def test_nothing_acknowledged_is_lost_when_producers_and_workers_are_killed(engine, postgresql_url):
    producers = [await child(*start_producers(postgresql_url, str(n))) for n in range(2)]
    workers = [await child(*start_workers(postgresql_url)) for _ in range(2)]
    for process in workers:
        assert await line(process) == "ready"
    put, handled = await said_by_killed(producers, workers, signal.SIGKILL)
    assert put - handled - await finish(engine) == set()


async def test_a_worker_goes_on_after_the_server_was_restarted():
    servers.need("PostgreSQL")
    async with database_servers.PostgreSQLServer() as server, MessageQueue("q", server.url) as queue:
        handled = asyncio.Event()

        @queue.worker()
        async def handle(text: str):
            handled.set()

        await queue.put("before")
        working = asyncio.create_task(queue.work())
        await asyncio.wait_for(handled.wait(), 20)
        handled.clear()
        await server.restart()
        async with asyncio.timeout(20):
            while True:
                try:
                    await queue.put("after")
                    break
                except (ConnectError, CommitUnknown, ConnectionLost):
                    await asyncio.sleep(0.01)
            await handled.wait()
        working.cancel()
        await asyncio.wait([working])
