"""Events with a transaction: both or neither, from any database to any bus, and handled once in effect."""

import asyncio
import signal

import msgspec
import pytest

from consona import SQLDatabase
from consona.errors import ConfigurationError, QueryError
from consona.events.bus import EventBus
from consona.events.records import Received
from consona.resilience.retry import Retry
from consona.sql.transaction import Transaction
from sql_engines import ENGINES
from storage_tools import child, line, until


class OrderPlaced(msgspec.Struct):
    id: int


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.servers if ENGINES[name].servers else ()) for name in ENGINES]
)
async def db(request, tmp_path):
    async with ENGINES[request.param].new(tmp_path) as url, SQLDatabase(url) as db:
        await db.execute("CREATE TABLE orders (id BIGINT PRIMARY KEY)")
        yield db


@pytest.fixture
async def bus(db, tmp_path):
    async with EventBus(f"sqlite:///{tmp_path}/bus.db?synchronous=OFF", outbox=[db]) as bus:
        yield bus


async def published(bus):
    return [each.event.json()["id"] async for each in bus.events()]


async def waiting(db):
    return await db.fetch_value("SELECT count(*) FROM consona_outbox")


async def emptied(db):
    async with asyncio.timeout(20):
        while await waiting(db):
            await asyncio.sleep(0.01)


async def arrived(bus, count):
    async def enough():
        while len(found := await published(bus)) < count:
            await asyncio.sleep(0.01)
        return found

    return await asyncio.wait_for(enough(), 20)


async def test_a_committed_event_is_published_and_leaves_the_outbox(db, bus):
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO orders VALUES (?)", 7)
        await bus.publish(OrderPlaced(7), tx=tx)
        assert await published(bus) == []
    assert await arrived(bus, 1) == [7]
    await emptied(db)


async def test_an_event_of_a_transaction_that_failed_is_never_published(db, bus):
    with pytest.raises(LookupError):
        async with db.transaction() as tx:
            await bus.publish(OrderPlaced(1), tx=tx)
            raise LookupError
    async with db.transaction() as tx:
        await bus.publish(OrderPlaced(2), tx=tx)
        with pytest.raises(LookupError):
            async with tx.transaction() as inner:
                await bus.publish(OrderPlaced(3), tx=inner)
                raise LookupError
    assert await arrived(bus, 1) == [2]
    await emptied(db)
    assert await published(bus) == [2]


async def test_many_transactions_at_once_are_published_whole_and_each_in_order(db, bus):
    async def place(number):
        async with db.transaction() as tx:
            await bus.publish_many([OrderPlaced(2 * number), OrderPlaced(2 * number + 1)], tx=tx)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(place(number))
    found = await arrived(bus, 40)
    assert sorted(found) == list(range(40))
    assert all(found.index(2 * number) < found.index(2 * number + 1) for number in range(20))


async def test_two_processes_relay_each_event_once(db, bus, tmp_path):
    async with EventBus(bus.address, outbox=[db]) as other:
        for number in range(10):
            async with db.transaction() as tx:
                await (bus, other)[number % 2].publish(OrderPlaced(number), tx=tx)
        assert await arrived(bus, 10) == list(range(10))
        await emptied(db)
        assert await published(bus) == list(range(10))


async def test_what_is_written_through_tx_happens_once_though_the_event_comes_twice(db, tmp_path):
    bus, tries = EventBus(f"sqlite:///{tmp_path}/bus.db?synchronous=OFF"), []

    @bus.on(OrderPlaced, durable="ledger", once=db, retry=Retry(attempts=3, backoff=0))
    async def book(event: OrderPlaced, tx: Transaction, received: Received):
        tries.append(received.attempt)
        await tx.execute("INSERT INTO orders VALUES (?)", event.id)
        if received.attempt == 1:
            raise LookupError("after the insert: it must be undone, else the next would be refused")

    async with bus:
        await bus.publish(OrderPlaced(7))
        await bus.work(until_empty=True)
        await bus.seek("ledger", "beginning")
        await bus.work(until_empty=True)
        assert [letter async for letter in bus.dead_letters("ledger")] == []
    assert tries == [1, 2]
    assert await db.fetch_value("SELECT count(*) FROM orders") == 1


async def test_a_transaction_of_another_database_is_refused(db, tmp_path):
    async with EventBus(f"sqlite:///{tmp_path}/bus.db") as bus, db.transaction() as tx:
        with pytest.raises(ConfigurationError, match="outbox"):
            await bus.publish(OrderPlaced(7), tx=tx)


async def test_the_outbox_waits_while_the_bus_is_away(db, tmp_path):
    """What is published stays in the database, and comes when the bus can be written again."""
    async with EventBus(f"sqlite:///{tmp_path}/bus.db?synchronous=OFF", outbox=[db]) as bus:
        engine, bus.log.engine = bus.log.engine, None

        class Away:
            async def append(self, stream, entries):
                raise QueryError("The disk is gone.", retryable=True)

            def __getattr__(self, name):
                return getattr(engine, name)

        bus.log.engine = Away()
        async with db.transaction() as tx:
            await bus.publish(OrderPlaced(7), tx=tx)
        await until(lambda: bus.log.stats.failed > 0, what="a failed try")
        assert await waiting(db) == 1
        bus.log.engine = engine
        assert await arrived(bus, 1) == [7]


@pytest.mark.parametrize("engine", ["sqlite file", pytest.param("postgresql", marks=pytest.mark.servers)])
async def test_in_the_bus_own_database_an_event_needs_no_outbox(engine, tmp_path):
    async with ENGINES[engine].new(tmp_path) as url, SQLDatabase(url) as db, EventBus(url) as bus:
        await db.execute("CREATE TABLE orders (id INTEGER)")
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO orders VALUES (7)")
            await bus.publish(OrderPlaced(7), tx=tx)
        with pytest.raises(LookupError):
            async with db.transaction() as tx:
                await bus.publish(OrderPlaced(8), tx=tx)
                raise LookupError
        assert await published(bus) == [7]
        with pytest.raises(QueryError):
            await waiting(db)  # there is no such table


WORKER = """
import asyncio, sys, msgspec
from consona import SQLDatabase
from consona.events.bus import EventBus
from consona.sql.transaction import Transaction

class OrderPlaced(msgspec.Struct):
    id: int

async def main(folder):
    db = SQLDatabase(f"sqlite:///{folder}/shop.db")
    bus = EventBus(f"sqlite:///{folder}/bus.db", outbox=[db])

    @bus.on(OrderPlaced, durable="ledger", once=db, start="beginning")
    async def book(event: OrderPlaced, tx: Transaction):
        await tx.execute("INSERT INTO ledger (id) VALUES (?)", event.id)

    async with db, bus:
        print("ready", flush=True)
        working = asyncio.create_task(bus.work())
        number = await db.fetch_value("SELECT coalesce(max(id), 0) FROM orders")
        while True:
            number += 1
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO orders VALUES (?)", number)
                await bus.publish(OrderPlaced(number), tx=tx)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.slow
async def test_killed_again_and_again_every_order_is_published_and_booked_once(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path}/shop.db") as db:
        await db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        await db.execute("CREATE TABLE ledger (number INTEGER PRIMARY KEY, id INTEGER)")
        for kill in range(6):
            process = await child(WORKER, tmp_path)
            assert await line(process) == "ready"
            before = await db.fetch_value("SELECT count(*) FROM orders")
            async with asyncio.timeout(30):
                while await db.fetch_value("SELECT count(*) FROM orders") < before + 10 + 17 * kill:
                    await asyncio.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        bus = EventBus(f"sqlite:///{tmp_path}/bus.db", outbox=[db])

        @bus.on(OrderPlaced, durable="ledger", once=db)
        async def book(event: OrderPlaced, tx: Transaction):
            await tx.execute("INSERT INTO ledger (id) VALUES (?)", event.id)

        async with bus:
            async with asyncio.timeout(40):  # the dead one's leases end
                while await waiting(db):
                    await asyncio.sleep(0.05)
                while (await bus.consumers())[0].behind:
                    await bus.work(until_empty=True)
                    await asyncio.sleep(0.05)
        orders = await db.fetch_all("SELECT id FROM orders ORDER BY id")
        assert len(orders) > 100
        assert await db.fetch_all("SELECT id FROM ledger ORDER BY id") == orders
