"""Queues in Redis: with other processes, after a kill, and after a restart of the server."""

import asyncio
import signal

import pytest

import database_servers
import servers
from consona import MessageQueue, SQLDatabase
from consona.address import Address
from consona.errors import CommitUnknown, ConfigurationError, ConnectError, ConnectionLost
from consona.messaging.engine import Entry
from consona.messaging.redis import RedisQueues
from messaging_processes import finish, said_by_killed, start_producers, start_workers
from storage_tools import child, line

pytestmark = pytest.mark.servers


@pytest.fixture
def url():
    with database_servers.empty_redis() as url:
        yield url


@pytest.fixture
async def engine(url):
    engine = RedisQueues(Address.parse(url))
    await engine.open()
    yield engine
    await engine.close()


async def bodies(engine, queue="q"):
    return [lease.body for lease in await engine.take(queue, limit=100, lease_s=30, wait_s=0)]


async def test_a_waiting_taker_is_woken_by_another_process(engine, url):
    waiting = asyncio.create_task(engine.take("q", limit=1, lease_s=30, wait_s=60))
    producer = await child(*start_producers(url, "0"))
    assert (await asyncio.wait_for(waiting, 30))[0].body == b"0-0"
    producer.kill()
    await producer.communicate()


async def test_nothing_acknowledged_is_lost_when_producers_and_workers_are_killed(engine, url):
    producers = [await child(*start_producers(url, str(n))) for n in range(2)]
    workers = [await child(*start_workers(url)) for _ in range(2)]
    for process in workers:
        assert await line(process) == "ready"
    put, handled = await said_by_killed(producers, workers, signal.SIGKILL)
    assert put - handled - await finish(engine) == set()


async def test_what_was_acknowledged_is_there_after_the_server_was_killed():
    servers.need("Redis")
    async with database_servers.RedisServer() as server:
        engine = RedisQueues(Address.parse(server.url))
        await engine.open()
        await engine.put("q", [Entry(str(n).encode()) for n in range(50)])
        [held] = await engine.take("q", limit=1, lease_s=300, wait_s=0)
        server.kill()
        with pytest.raises((ConnectError, ConnectionLost, CommitUnknown)):
            await engine.put("q", [Entry(b"lost")])
        await server.start()
        assert await engine.settle("q", [held]) == []  # its script is unknown there now, and sent again
        assert await bodies(engine) == [str(n).encode() for n in range(1, 50)]
        await engine.close()


async def test_who_waits_is_woken_also_after_the_server_was_restarted():
    servers.need("Redis")
    async with database_servers.RedisServer() as server, MessageQueue("q", server.url) as queue:
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
                except (ConnectError, ConnectionLost, CommitUnknown):
                    await asyncio.sleep(0.01)
            await handled.wait()
        working.cancel()
        await asyncio.wait([working])


async def test_two_prefixes_do_not_see_each_other(url):
    one, two = (RedisQueues(Address.parse(f"{url}?prefix={name}")) for name in ("shop", "office"))
    await one.open()
    await two.open()
    await one.put("q", [Entry(b"1")])
    assert await bodies(two) == []
    assert await two.queues() == []
    assert await bodies(one) == [b"1"]
    await one.close()
    await two.close()


async def test_no_key_is_left_of_messages_that_are_done(engine):
    await engine.put("q", [Entry(b"1", key="a"), Entry(b"2", key="a"), Entry(b"3", priority=9)])
    await finish(engine)
    keys = {key.decode() for key in await engine._opened().native.keys("*")}
    assert keys == {"consona:queues", "consona:queue:{q}:n", "consona:queue:{q}:c"}


async def test_duplicates_out_of_their_window_are_forgotten(engine):
    await engine.put("q", [Entry(b"1", dedup="a", dedup_s=1e-6)])
    await engine.put("q", [Entry(b"2")])
    assert await engine._opened().native.hlen("consona:queue:{q}:s") == 0


async def test_an_application_transaction_is_refused(url, tmp_path):
    async with (
        SQLDatabase(f"sqlite:///{tmp_path}/shop.db") as db,
        MessageQueue("q", url) as queue,
        db.transaction() as tx,
    ):
        with pytest.raises(ConfigurationError, match="transactions"):
            await queue.put("x", tx=tx)


async def test_a_power_that_it_lacks_is_refused_at_the_start(url):
    with pytest.raises(ConfigurationError, match="transactions"):
        await MessageQueue("q", url, powers=["transactions"]).start()
