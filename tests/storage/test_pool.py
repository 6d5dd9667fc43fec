"""What a pool promises, on real connections to PostgreSQL, through a network that can be told to fail."""

import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from consona.address import Address
from consona.errors import ConfigurationError, ConnectError, DeadlineExceeded, NotStarted, PoolTimeout
from consona.resilience.deadline import within
from consona.storage.pool import Pool
from consona.storage.pool_settings import PoolSettings
from consona.storage.postgresql.connections import PostgreSQLDriver
from consona.storage.postgresql.settings import PostgreSQLSettings
from database_servers import PostgreSQLServer
from faulty_network import FaultyNetwork
from storage_tools import Clock, until

pytestmark = pytest.mark.servers


def pool_for(url, *, clock=None, **settings):
    address = Address.parse(url)
    driver = PostgreSQLDriver(address, PostgreSQLSettings())
    more = {} if clock is None else {"clock": clock}
    return Pool(driver, PoolSettings(**settings), name=driver.name, rng=lambda: 0.5, **more)


@pytest.fixture
async def make_pool(postgresql_url):
    pools = []

    async def make(url=postgresql_url, **settings):
        pools.append(pool_for(url, **settings))
        await pools[-1].open()
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close(patience=0.1)


@pytest.fixture
async def network(postgresql_url):
    parts = urlsplit(postgresql_url)
    async with FaultyNetwork(parts.hostname, parts.port) as network:
        network.url = parts._replace(netloc=f"postgres@127.0.0.1:{network.port}").geturl()
        yield network


async def query(pool, sql="SELECT 1"):
    connection = await pool.take()
    try:
        return await connection.fetchval(sql)
    finally:
        pool.give_back(connection)


async def interrupted_query(pool, sql="SELECT pg_sleep(30)"):
    """As the engine does it: what is cancelled is noted on the connection."""
    connection = await pool.take()
    try:
        return await connection.fetchval(sql)
    except asyncio.CancelledError:
        connection.interrupted = True
        raise
    finally:
        pool.give_back(connection)


# Bounds, and the line.


async def test_a_connection_is_used_again(make_pool):
    pool = await make_pool()
    pids = {await query(pool, "SELECT pg_backend_pid()") for _ in range(20)}
    assert len(pids) == 1
    assert pool.stats()["opened"] == 1


async def test_there_are_never_more_connections_than_allowed(make_pool):
    pool = await make_pool(max_size=3)
    seen = set()

    async def work():
        connection = await pool.take()
        seen.add(await connection.fetchval("SELECT pg_backend_pid()"))
        assert pool.size <= 3
        pool.give_back(connection)

    await asyncio.gather(*(work() for _ in range(100)))
    assert 1 <= len(seen) <= 3
    assert pool.stats()["in_use"] == 0
    assert pool.stats()["waits"] > 0


async def test_who_waits_first_is_served_first(make_pool):
    pool = await make_pool(max_size=1)
    held = await pool.take()
    order = []

    async def wait(number):
        connection = await pool.take()
        order.append(number)
        pool.give_back(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(wait(number))
            await until(lambda number=number: pool.stats()["waiting"] == number + 1)
        pool.give_back(held)
    assert order == list(range(50))


async def test_who_waits_too_long_is_told_who_holds_the_connections(make_pool):
    pool = await make_pool(max_size=1, wait=0.1)
    taken = asyncio.Event()

    async def place_order():
        connection = await pool.take()
        taken.set()
        try:
            await asyncio.get_running_loop().create_future()  # whatever it waits for
        finally:
            pool.give_back(connection)

    holder = asyncio.create_task(place_order(), name="order 7")
    await taken.wait()
    await asyncio.sleep(0)
    with pytest.raises(PoolTimeout, match=r"'order 7' for \d+\.\d s \(test_pool\.py:\d+ in .*place_order\)") as caught:
        await pool.take()
    assert caught.value.retryable
    assert pool.stats()["timeouts"] == 1
    holder.cancel()
    await asyncio.wait([holder])


async def test_who_waits_for_oneself_is_told_so(make_pool):
    pool = await make_pool(max_size=1, wait=0.05)
    connection = await pool.take("orders.py:41 in place_order")
    with pytest.raises(PoolTimeout, match=r"orders\.py:41 in place_order.*holds one itself"):
        await pool.take()
    pool.give_back(connection)


async def test_a_deadline_of_the_work_under_way_ends_the_wait(make_pool):
    pool = await make_pool(max_size=1)
    connection = await pool.take()
    with within(0.05), pytest.raises(DeadlineExceeded, match="waiting for a connection"):
        await pool.take()
    pool.give_back(connection)


async def test_a_waiter_that_is_cancelled_leaves_the_line(make_pool):
    pool = await make_pool(max_size=1)
    held = await pool.take()
    waiting = [asyncio.create_task(pool.take()) for _ in range(3)]
    await until(lambda: pool.stats()["waiting"] == 3)
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    assert pool.stats()["waiting"] == 2
    pool.give_back(held)
    connection = await waiting[1]
    assert not waiting[2].done()
    pool.give_back(connection)
    pool.give_back(await waiting[2])


async def test_a_connection_handed_to_one_who_is_cancelled_in_that_moment_is_not_lost(make_pool):
    pool = await make_pool(max_size=1)
    held = await pool.take()
    unlucky, next_one = asyncio.create_task(pool.take()), asyncio.create_task(pool.take())
    await until(lambda: pool.stats()["waiting"] == 2)
    pool.give_back(held)  # it is the unlucky one's now
    unlucky.cancel()
    pool.give_back(await next_one)
    assert unlucky.cancelled()
    assert pool.stats()["in_use"] == 0


async def test_giving_back_twice_is_an_error(make_pool):
    pool = await make_pool()
    connection = await pool.take()
    pool.give_back(connection)
    with pytest.raises(RuntimeError, match="given back before"):
        pool.give_back(connection)


# Clean connections.


async def test_a_cancelled_query_ends_on_the_server_and_leaves_a_clean_connection(make_pool):
    pool = await make_pool(max_size=1)
    pid = await query(pool, "SELECT pg_backend_pid()")
    task = asyncio.create_task(interrupted_query(pool))
    await until(lambda: pool.stats()["in_use"])
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    assert await query(pool, "SELECT pg_backend_pid()") == pid
    assert pool.stats()["cleaned"] == 1
    assert pool.stats()["closed"] == {}


async def test_an_open_transaction_is_rolled_back_before_the_next_one_gets_the_connection(make_pool):
    pool = await make_pool(max_size=1)
    connection = await pool.take()
    await connection.execute("CREATE TABLE half (n int)")
    await connection.execute("BEGIN; INSERT INTO half VALUES (1)")
    pool.give_back(connection)
    assert await query(pool, "SELECT count(*) FROM half") == 0
    await query(pool, "DROP TABLE half")


async def test_a_session_that_was_changed_is_reset(make_pool):
    pool = await make_pool(max_size=1)
    connection = await pool.take()
    await connection.execute("SET search_path = elsewhere; CREATE TEMP TABLE mine (n int); SELECT pg_advisory_lock(7)")
    connection.dirty = True
    pool.give_back(connection)
    assert await query(pool, "SHOW search_path") == '"$user", public'
    assert await query(pool, "SELECT to_regclass('mine')") is None
    assert await query(pool, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_a_storm_of_cancellations_leaves_every_connection_clean(make_pool):
    pool = await make_pool(max_size=5, wait=60)
    await query(pool, "CREATE TABLE storm (n int)")
    tasks = []
    for number in range(2000):
        sql = "SELECT pg_sleep(0.002)" if number % 3 else "INSERT INTO storm VALUES (1) RETURNING n"
        tasks.append(asyncio.create_task(interrupted_query(pool, sql)))
        if number % 20 == 0:
            await asyncio.sleep(0.001)
            for task in tasks[-60:]:
                task.cancel()
    await asyncio.wait(tasks)
    assert sum(task.cancelled() for task in tasks) > 500
    await until(lambda: not pool.stats()["cleaning"])
    connections = [await pool.take() for _ in range(5)]
    for connection in connections:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SELECT 42") == 42
        pool.give_back(connection)
    assert pool.size <= 5
    mine = "datname = current_database() AND application_name = 'consona'"
    assert await query(pool, f"SELECT count(*) FROM pg_stat_activity WHERE {mine}") <= 5
    await query(pool, "DROP TABLE storm")


async def test_one_that_cannot_be_cleaned_is_closed(make_pool, network):
    pool = await make_pool(network.url, max_size=1, clean=0.1)
    connection = await pool.take()
    await connection.execute("BEGIN")
    network.stall()
    pool.give_back(connection)
    await until(lambda: pool.stats()["closed"] == {"dirty": 1})
    network.flow()
    assert await query(pool) == 1


# Dead connections.


async def test_a_connection_that_the_server_ended_leaves_the_pool_unseen(make_pool, postgresql_url):
    pool, other = await make_pool(max_size=1), await make_pool(max_size=1)
    pid = await query(pool, "SELECT pg_backend_pid()")
    await query(other, f"SELECT pg_terminate_backend({pid})")
    await until(lambda: pool.driver.is_lost(pool._idle[0].connection))
    assert await query(pool, "SELECT pg_backend_pid()") != pid
    assert pool.stats()["closed"] == {"lost": 1}


async def test_when_one_is_lost_all_that_were_lost_go_at_once(make_pool, network):
    pool = await make_pool(network.url, max_size=5)
    connections = [await pool.take() for _ in range(5)]
    for connection in connections:
        pool.give_back(connection)
    assert network.cut() == 5
    await until(lambda: all(pool.driver.is_lost(slot.connection) for slot in pool._idle))
    assert await query(pool) == 1
    assert pool.stats()["closed"] == {"lost": 5}
    assert pool.size == 1


async def test_an_idle_connection_in_a_black_hole_is_noticed_and_replaced(make_pool, network):
    clock = Clock()
    pool = await make_pool(network.url, clock=clock, ping=0.1, ping_after=15.0, wait=5.0)
    network.stall()
    clock.advance(16)
    asked = asyncio.create_task(query(pool))
    await until(lambda: pool.stats()["closed"] == {"dead": 1})
    network.flow()
    assert await asked == 1


async def test_after_a_loss_the_others_are_asked_before_use(make_pool, network):
    pool = await make_pool(network.url, max_size=2)
    first, second = await pool.take(), await pool.take()
    pool.give_back(second)
    first.terminate()
    pool.give_back(first)
    assert await query(pool) == 1
    assert pool.stats()["pings"] == 1
    assert pool.stats()["closed"] == {"lost": 1}


async def test_a_connection_is_replaced_at_its_age_and_idle_ones_are_closed(make_pool):
    clock = Clock()
    pool = await make_pool(clock=clock, max_age=100, max_idle=50, min_size=1, max_size=3)
    connections = [await pool.take() for _ in range(3)]
    for connection in connections:
        pool.give_back(connection)
    clock.advance(51)
    pool.tend()
    await until(lambda: pool.size == 1)
    assert pool.stats()["closed"] == {"idle": 2}
    clock.advance(45)  # 96 s: by chance 0.5 of the last tenth, ages end at 95 s
    assert await query(pool) == 1
    assert pool.stats()["closed"] == {"idle": 2, "age": 1}


async def test_as_many_stay_open_as_are_to_stay_open(make_pool):
    pool = await make_pool(min_size=3, max_size=5)
    pool.tend()
    await until(lambda: pool.stats()["idle"] == 3)


async def test_one_that_is_not_given_back_is_told_with_the_place_that_took_it(make_pool, caplog):
    clock = Clock()
    pool = await make_pool(clock=clock, leak_after=60)
    connection = await pool.take("orders.py:41 in place_order")
    clock.advance(61)
    with caplog.at_level(logging.WARNING, "consona.storage"):
        pool.tend()
        pool.tend()
    assert caplog.text.count("not given back") == 1
    assert "orders.py:41 in place_order" in caplog.text
    assert pool.stats()["leaks"] == 1
    pool.give_back(connection)


# A server that is away.


async def test_a_server_that_comes_back_is_reached_again_without_an_error(make_pool, network):
    pool = await make_pool(network.url, max_size=2, patience=20.0, wait=20.0)
    network.refuse()
    network.cut()
    await until(lambda: all(pool.driver.is_lost(slot.connection) for slot in pool._idle))
    asked = [asyncio.create_task(query(pool)) for _ in range(5)]
    await until(lambda: pool.stats()["connect_failures"] >= 2)
    network.flow()
    assert await asyncio.gather(*asked) == [1] * 5


async def test_a_server_that_stays_away_is_told_in_one_clear_error(make_pool, network):
    pool = await make_pool(network.url, patience=0.2)
    network.refuse()
    network.cut()
    await until(lambda: pool.driver.is_lost(pool._idle[0].connection))
    for error in await asyncio.gather(*(query(pool) for _ in range(5)), return_exceptions=True):
        assert isinstance(error, ConnectError)
        assert error.retryable
        assert "cannot be reached" in error.message


async def test_restarting_the_server_drops_all_connections_and_goes_on():
    async with PostgreSQLServer() as server:
        pool = pool_for(server.url, max_size=4)
        await pool.open()
        connections = [await pool.take() for _ in range(4)]
        for connection in connections:
            pool.give_back(connection)
        await server.restart()
        assert await asyncio.gather(*(query(pool) for _ in range(10))) == [1] * 10
        assert pool.stats()["closed"] == {"lost": 4}
        await pool.close()


async def test_nobody_listens_there():
    pool = pool_for("postgresql://postgres@127.0.0.1:1/test", patience=0.1)
    with pytest.raises(ConnectError, match="cannot be reached") as caught:
        await pool.open()
    assert caught.value.retryable
    assert pool.size == 0


async def test_a_database_that_does_not_exist_is_told_at_once(postgresql_url):
    pool = pool_for(urlsplit(postgresql_url)._replace(path="/no_such_database").geturl())
    with pytest.raises(ConnectError, match="CREATE DATABASE no_such_database") as caught:
        await pool.open()
    assert not caught.value.retryable
    assert pool.stats()["connect_failures"] == 1


async def test_a_server_that_does_not_answer_is_given_up(network):
    network.stall()
    pool = pool_for(network.url, connect=0.1, patience=0.15)
    with pytest.raises(ConnectError, match="did not answer"):
        await pool.open()
    await pool.close()


# The end.


async def test_closing_waits_for_those_who_use_a_connection(make_pool):
    pool = await make_pool()
    connection = await pool.take()
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    assert await connection.fetchval("SELECT 1") == 1
    pool.give_back(connection)
    await closing
    assert pool.size == 0
    assert pool.stats()["closed"] == {"shutdown": 1}


async def test_closing_cuts_off_who_does_not_end(make_pool, caplog):
    pool = await make_pool()
    connection = await pool.take("orders.py:41 in place_order")
    with caplog.at_level(logging.WARNING, "consona.storage"):
        await pool.close(patience=0.05)
    assert connection.is_closed()
    assert "orders.py:41 in place_order" in caplog.text


async def test_a_closed_pool_says_so_also_to_those_who_wait(make_pool):
    pool = await make_pool(max_size=1)
    connection = await pool.take()
    waiting = asyncio.create_task(pool.take())
    await until(lambda: pool.stats()["waiting"] == 1)
    closing = asyncio.create_task(pool.close())
    with pytest.raises(NotStarted):
        await waiting
    pool.give_back(connection)
    await closing
    with pytest.raises(NotStarted):
        await pool.take()


@pytest.mark.parametrize(
    "settings", [{"max_size": 0}, {"min_size": 3, "max_size": 2}, {"wait": 0}, {"ping": True}, {"max_size": 1.5}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigurationError, match="pool"):
        PoolSettings(**settings)
