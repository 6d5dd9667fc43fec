"""Queues in a SQLite file: with its transactions, with other processes, and after a kill."""

import asyncio
import signal

import pytest

from consona.address import Address
from consona.messaging.engine import Entry
from consona.messaging.sqlite import SQLiteQueues
from consona.storage.sqlite_engine import open_sqlite
from messaging_processes import finish, said_by_killed, start_producers, start_workers
from storage_tools import child, line


@pytest.fixture
async def url(tmp_path):
    return f"sqlite:///{tmp_path}/work.db"


@pytest.fixture
async def engine(url):
    engine = SQLiteQueues(Address.parse(url))
    await engine.open()
    yield engine
    await engine.close()


async def bodies(engine, **options):
    leases = await engine.take("q", limit=100, lease_s=30, wait_s=0, **options)
    return [lease.body for lease in leases]


async def test_a_message_of_a_transaction_comes_with_it_or_not_at_all(engine, url):
    file = await open_sqlite(url)

    async def fail():
        async with file.transaction() as tx:
            await engine.inside(tx).put("q", [Entry(b"lost")])
            raise RuntimeError

    async with file.transaction() as tx:
        await engine.inside(tx).put("q", [Entry(b"kept")])
        assert await engine.queues() == []
    with pytest.raises(RuntimeError):
        await fail()
    assert await bodies(engine) == [b"kept"]
    await file.close()


async def test_a_message_is_done_with_the_transaction_or_not_at_all(engine, url):
    file = await open_sqlite(url)
    await engine.put("q", [Entry(b"1"), Entry(b"2")])
    one, two = await engine.take("q", limit=2, lease_s=30, wait_s=0)

    async def fail():
        async with file.transaction() as tx:
            await engine.inside(tx).settle("q", [one])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with file.transaction() as tx:
        await engine.inside(tx).settle("q", [two])
    assert (await engine.depth("q")).leased == 1
    assert await engine.settle("q", [one]) == []
    assert (await engine.depth("q")).unfinished == 0
    await file.close()


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
