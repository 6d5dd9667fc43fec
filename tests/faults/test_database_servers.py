"""PostgreSQL and MariaDB, really restarted, killed, cut off and bothered, while a program works with them."""

import asyncio
import random
import signal
from collections import Counter
from urllib.parse import urlsplit

import pytest

import database_servers
from consona import SQLDatabase
from consona.errors import CommitUnknown, ConsonaError, DeadlineExceeded
from consona.resilience.deadline import within
from database_servers import MariaDBServer, PostgreSQLServer
from faulty_network import FaultyNetwork
from storage_tools import child, line, until

pytestmark = pytest.mark.servers

SERVERS = {"postgresql": PostgreSQLServer, "mariadb": MariaDBServer}
WRITERS = 8


@pytest.fixture(params=SERVERS)
async def server(request):
    async with SERVERS[request.param]() as server:
        if request.param == "mariadb":
            server.url = server.url.replace("/test", "/shop")
            await asyncio.to_thread(
                database_servers.run_mysql, server.url.replace("/shop", "/mysql"), "CREATE DATABASE shop"
            )
        yield server


@pytest.fixture(params=SERVERS)
def shared_url(request):
    """A database on a server that stays up."""
    with {"postgresql": database_servers.empty_postgresql, "mariadb": database_servers.empty_mysql}[
        request.param
    ]() as url:
        yield url


@pytest.fixture
async def network(shared_url):
    parts = urlsplit(shared_url)
    async with FaultyNetwork(parts.hostname, parts.port) as network:
        network.url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{network.port}").geturl()
        yield network


class Record:
    """What was acknowledged, and what callers were told instead."""

    def __init__(self):
        self.acknowledged, self.unknown, self.refused = set(), set(), set()
        self.errors = Counter()

    def note(self, writer, number, error):
        self.errors[writer] += 1
        (self.unknown if isinstance(error, CommitUnknown) else self.refused).add(number)
        assert isinstance(error, ConsonaError), repr(error)
        assert error.retryable or isinstance(error, CommitUnknown), repr(error)

    async def compare(self, db):
        """Each acknowledged row is there, none that was refused, and none is half."""
        orders = set(await db.fetch_column("SELECT id FROM orders", into=int))
        lines = set(await db.fetch_column("SELECT id FROM order_lines", into=int))
        assert orders == lines
        assert self.acknowledged <= orders
        assert not self.refused & orders
        assert orders <= self.acknowledged | self.unknown


async def make_tables(db):
    await db.execute("CREATE TABLE orders (id bigint PRIMARY KEY)")
    await db.execute("CREATE TABLE order_lines (id bigint PRIMARY KEY)")


async def work(db, record, writer, stop):
    """Place orders, in turn with questions, until told to stop."""
    number = writer
    while not stop.is_set():
        number += 1000
        try:
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO orders VALUES (?)", number)
                await tx.execute("INSERT INTO order_lines VALUES (?)", number)
            record.acknowledged.add(number)
        except Exception as error:
            record.note(writer, number, error)
        try:
            assert await db.fetch_value("SELECT count(*) FROM orders WHERE id = ?", -1) == 0
        except ConsonaError as error:
            record.note(writer, -number, error)


@pytest.mark.parametrize("how", ["restarted", "killed"])
async def test_a_server_that_comes_back_costs_each_caller_one_clear_error_at_most(server, how):
    record, stop = Record(), asyncio.Event()
    async with SQLDatabase(f"{server.url}?patience=30&wait=30") as db:
        await make_tables(db)
        writers = [asyncio.create_task(work(db, record, writer, stop)) for writer in range(WRITERS)]
        await until(lambda: len(record.acknowledged) > 100)
        if how == "killed":
            server.kill()
        else:
            await server.stop()
        await server.start()
        before = len(record.acknowledged)
        await until(lambda: len(record.acknowledged) > before + 100, seconds=40)
        stop.set()
        await asyncio.gather(*writers)
        assert max(record.errors.values(), default=0) <= 1, record.errors
        await record.compare(db)


async def test_a_server_that_is_restarted_under_lone_statements_says_what_became_of_each(server):
    record, stop = Record(), asyncio.Event()

    async def insert(db, writer):
        number = writer
        while not stop.is_set():
            number += 1000
            try:
                await db.execute("INSERT INTO orders VALUES (?)", number)
                record.acknowledged.add(number)
            except Exception as error:
                record.note(writer, number, error)

    async with SQLDatabase(f"{server.url}?patience=30&wait=30") as db:
        await make_tables(db)
        writers = [asyncio.create_task(insert(db, writer)) for writer in range(WRITERS)]
        await until(lambda: len(record.acknowledged) > 100)
        await server.restart()
        before = len(record.acknowledged)
        await until(lambda: len(record.acknowledged) > before + 100, seconds=40)
        stop.set()
        await asyncio.gather(*writers)
        assert max(record.errors.values(), default=0) <= 1, record.errors
        await db.execute("INSERT INTO order_lines SELECT id FROM orders")
        await record.compare(db)


async def test_readers_do_not_notice_that_the_server_is_restarted(server):
    stop, answers = asyncio.Event(), Counter()

    async def read(db, reader):
        while not stop.is_set():
            assert await db.fetch_value("SELECT count(*) FROM orders") == 0
            answers[reader] += 1

    async with SQLDatabase(f"{server.url}?patience=30&wait=30") as db:
        await make_tables(db)
        readers = [asyncio.create_task(read(db, reader)) for reader in range(WRITERS)]
        await until(lambda: sum(answers.values()) > 100)
        await server.restart()
        before = sum(answers.values())
        await until(lambda: sum(answers.values()) > before + 100, seconds=40)
        stop.set()
        await asyncio.gather(*readers)


async def test_a_server_that_stays_away_is_told_soon_and_clearly(server):
    async with SQLDatabase(f"{server.url}?patience=0.3&wait=5") as db:
        await make_tables(db)
        await server.stop()
        results = await asyncio.gather(
            *(db.execute("INSERT INTO orders VALUES (?)", number) for number in range(20)), return_exceptions=True
        )
        assert {type(error).__name__ for error in results} <= {"ConnectError", "ConnectionLost"}
        assert all(error.retryable for error in results)
        assert not (await db.check()).ok
        await server.start()
        await db.execute("INSERT INTO orders VALUES (?)", 1)
        assert (await db.check()).ok


WRITER = """
import asyncio, sys
from consona import SQLDatabase

async def main(url):
    async with SQLDatabase(url) as db:
        async def write(writer):
            number = writer
            while True:
                number += 1000
                async with db.transaction() as tx:
                    await tx.execute("INSERT INTO orders VALUES (?)", number)
                    await tx.execute("INSERT INTO order_lines VALUES (?)", number)
                print(number, flush=True)
        await asyncio.gather(*(write(writer) for writer in range(8)))

asyncio.run(main(sys.argv[1]))
"""


async def test_what_a_killed_program_was_told_is_there_and_nothing_is_half(shared_url):
    async with SQLDatabase(shared_url) as db:
        await make_tables(db)
        for _ in range(3):
            process = await child(WRITER, shared_url)
            acknowledged = {int(await line(process))}
            while len(acknowledged) < 200:
                acknowledged.add(int(await line(process)))
            process.send_signal(signal.SIGKILL)
            rest, _ = await process.communicate()
            acknowledged |= {int(text) for text in rest.split(b"\n")[:-1]}
            sessions = {
                "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'consona' AND state <> 'idle'"
                " AND pid <> pg_backend_pid() AND datname = current_database()",
                "mysql": "SELECT count(*) FROM information_schema.innodb_trx",
            }[db.dialect.name]
            async with asyncio.timeout(20):
                while await db.fetch_value(sessions):
                    await asyncio.sleep(0.01)
            orders = set(await db.fetch_column("SELECT id FROM orders", into=int))
            assert acknowledged <= orders
            assert orders == set(await db.fetch_column("SELECT id FROM order_lines", into=int))
            await db.execute("DELETE FROM orders")
            await db.execute("DELETE FROM order_lines")


async def test_a_network_that_stalls_costs_those_in_it_their_deadline_and_nobody_a_wrong_answer(shared_url, network):
    outcomes = Counter()
    stop = asyncio.Event()

    async def ask(db, asker):
        number = asker
        while not stop.is_set():
            number += 1000
            try:
                async with within(0.5):
                    found = await db.fetch_value("SELECT a.id FROM orders a WHERE a.id = ?", number % 500)
                assert found == number % 500
                outcomes["answered"] += 1
            except DeadlineExceeded:
                outcomes["late"] += 1

    async with SQLDatabase(shared_url) as beside:
        await make_tables(beside)
        await beside.execute_many("INSERT INTO orders VALUES (?)", [(number,) for number in range(500)])
        async with SQLDatabase(f"{network.url}?max_size=4&clean=0.5&ping=0.5") as db:
            askers = [asyncio.create_task(ask(db, asker)) for asker in range(WRITERS)]
            for _ in range(3):
                before = outcomes["answered"]
                await until(lambda before=before: outcomes["answered"] > before + 50, seconds=30)
                network.stall()
                late = outcomes["late"]
                await until(lambda late=late: outcomes["late"] >= late + WRITERS, seconds=30)
                network.flow()
            before = outcomes["answered"]
            await until(lambda: outcomes["answered"] > before + 50, seconds=30)
            stop.set()
            await asyncio.gather(*askers)
            await until(lambda: not db.engine.stats()["cleaning"])
            assert db.engine.stats()["in_use"] == 0


@pytest.mark.parametrize("fault", ["drip", "delay", "cuts"])
async def test_a_bad_network_gives_no_wrong_answer(shared_url, network, fault):
    rng = random.Random(7)
    answers, told = 0, []

    async def ask(db, asker):
        nonlocal answers
        for number in range(40):
            mine = asker * 1000 + number
            try:
                assert await db.fetch_value("SELECT id FROM orders WHERE id = ?", mine) == mine
                answers += 1
            except ConsonaError as error:
                told.append(error)

    async with SQLDatabase(shared_url) as beside:
        await make_tables(beside)
        numbers = [(asker * 1000 + number,) for asker in range(WRITERS) for number in range(40)]
        await beside.execute_many("INSERT INTO orders VALUES (?)", numbers)
        async with SQLDatabase(f"{network.url}?max_size=4&patience=10") as db:
            if fault == "drip":
                network.drip(7)
            elif fault == "delay":
                network.delay(0.002)
            askers = [asyncio.create_task(ask(db, asker)) for asker in range(WRITERS)]
            while not all(task.done() for task in askers):
                before = answers
                await until(lambda before=before: answers > before + 4 or all(t.done() for t in askers), seconds=60)
                await asyncio.sleep(rng.random() * 0.003)
                if fault == "cuts":
                    network.cut()
            await asyncio.gather(*askers)
            assert answers > 100
            assert all(error.retryable for error in told)
            network.flow()


async def test_a_storm_of_cancellations_leaves_every_connection_clean_and_the_server_idle(shared_url):
    rng = random.Random(3)
    async with SQLDatabase(f"{shared_url}?max_size=5&wait=60") as db:
        await make_tables(db)
        tasks = []

        async def call(number):
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO orders VALUES (?)", number)
                await asyncio.sleep(rng.random() * 0.002)
                await tx.execute("INSERT INTO order_lines VALUES (?)", number)
            return number

        async def read(number):
            return await db.fetch_value("SELECT count(*) FROM orders WHERE id = ?", number)

        for number in range(1500):
            tasks.append(asyncio.create_task(call(number) if number % 2 else read(number)))
            if number % 10 == 0:
                await asyncio.sleep(0.001)
                for task in rng.sample(tasks[-40:], min(20, len(tasks))):
                    task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled = sum(isinstance(result, asyncio.CancelledError) for result in results)
        assert cancelled > 300
        await until(lambda: not db.engine.stats()["cleaning"], seconds=30)
        done = {number for number, result in enumerate(results) if result == number and number % 2}
        orders = set(await db.fetch_column("SELECT id FROM orders", into=int))
        assert done <= orders
        assert orders == set(await db.fetch_column("SELECT id FROM order_lines", into=int))
        assert not [error for error in results if isinstance(error, Exception)]
        answers = await asyncio.gather(
            *(db.fetch_value("SELECT count(*) FROM orders WHERE id = ?", -1) for _ in range(50))
        )
        assert answers == [0] * 50
        assert db.engine.stats()["size"] <= 5
