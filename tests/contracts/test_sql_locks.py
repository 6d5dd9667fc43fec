"""Locks by name, on every SQL engine: one at a time, however many tasks and programs there are."""

import asyncio
import signal
import sys

import pytest

import sql_engines
from consona import ConfigurationError, LockLost, LockTimeout, QueryError
from consona.sql.database import SQLDatabase
from storage_tools import child, line

HOLDER = """
import asyncio, sys
from consona import SQLDatabase

async def main(url):
    async with SQLDatabase(url) as db, db.lock("report", wait=20):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""
COUNTER = """
import asyncio, sys
from consona import SQLDatabase

async def main(url):
    async with SQLDatabase(url) as db:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(8):
            async with db.lock("counter", wait=60):
                n = await db.fetch_value("SELECT n FROM counters")
                await asyncio.sleep(0.001)
                await db.execute("UPDATE counters SET n = ?", n + 1)
    print("done", flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def url(engine, tmp_path):
    async with engine.new(tmp_path) as url:
        yield url


@pytest.fixture
async def db(url):
    async with SQLDatabase(url) as db:
        yield db


@pytest.fixture
def between_programs(url):
    if url.startswith("sqlite://") and not url.startswith("sqlite:///"):
        pytest.skip("the memory of one program is nobody else's")


async def take(db, name="report", wait=0.0):
    async with db.lock(name, wait=wait):
        pass


async def test_one_task_at_a_time(db):
    inside = 0
    most = 0

    async def work():
        nonlocal inside, most
        async with db.lock("report", wait=30):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(15)))
    assert most == 1
    assert db._locks._places == {}


async def test_who_waits_in_vain_is_told_who_has_it(db):
    async def beside():
        with pytest.raises(
            LockTimeout, match=r"'report' of .* was not free within 0 s: .*test_sql_locks\.py"
        ) as caught:
            await take(db)
        assert caught.value.retryable

    async with db.lock("report"):
        await asyncio.create_task(beside())
    await take(db)


async def test_another_database_object_waits_too(url, db):
    async with SQLDatabase(url) as other:
        async with db.lock("report"):
            with pytest.raises(LockTimeout, match=r"'report' of .* was not free within 0\.05 s: .*has it"):
                await take(other, wait=0.05)
            await take(other, "another report")
        await take(other)


async def test_it_is_given_on_as_soon_as_it_is_free(url, db):
    async with SQLDatabase(url) as other:
        async with db.lock("report"):
            waiting = asyncio.create_task(take(other, wait=30))
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting


async def test_an_error_and_a_cancellation_free_it(db):
    with pytest.raises(LookupError):
        async with db.lock("report"):
            raise LookupError
    held = asyncio.Event()

    async def hold():
        async with db.lock("report"):
            held.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await held.wait()
    waiter = asyncio.create_task(take(db, wait=60))
    patient = asyncio.create_task(take(db, wait=60))
    await asyncio.sleep(0)
    waiter.cancel()
    holder.cancel()
    results = await asyncio.gather(holder, waiter, patient, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, asyncio.CancelledError, type(None)]
    await take(db)


async def test_a_task_that_has_it_does_not_wait_for_itself(db):
    async with db.lock("report"):
        with pytest.raises(QueryError, match="already"):
            await take(db, wait=60)
        await take(db, "another")


async def test_what_it_is_for_can_use_the_database_however_many_wait(url, engine):
    separator = "&" if "?" in url else "?"
    async with SQLDatabase(url + f"{separator}max_size=3" * engine.servers) as db:
        await db.execute("CREATE TABLE numbers (n INTEGER)")

        async def work(n):
            async with db.lock("report", wait=60), db.transaction() as tx:
                await tx.execute("INSERT INTO numbers VALUES (?)", n)

        await asyncio.gather(*(work(n) for n in range(12)))
        assert await db.fetch_column("SELECT n FROM numbers ORDER BY n") == list(range(12))


@pytest.mark.usefixtures("between_programs")
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is one of POSIX")
async def test_a_killed_program_frees_it(url, db):
    process = await child(HOLDER, url)
    assert await line(process) == "held"
    with pytest.raises(LockTimeout, match="has it"):
        await take(db)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    await take(db, wait=20)


@pytest.mark.usefixtures("between_programs")
async def test_programs_that_count_under_it_lose_no_count(url, db):
    await db.execute("CREATE TABLE counters (n INTEGER)")
    await db.execute("INSERT INTO counters VALUES (0)")
    processes = [await child(COUNTER, url) for _ in range(3)]
    for process in processes:
        assert await line(process) == "ready"
        process.stdin.write(b"\n")
    for process in processes:
        assert await line(process, seconds=60) == "done"
        await process.communicate()
    assert await db.fetch_value("SELECT n FROM counters") == 24


async def test_a_lock_whose_connection_broke_is_told(engine, url, db):
    if not engine.servers:
        pytest.skip("a file's lock is on no connection")
    kill = {
        "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        "mysql": "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    }[db.dialect.name]
    async with SQLDatabase(url) as other:
        with pytest.raises(LockLost, match="ended before the work"):
            async with db.lock("report"):
                found = await other.fetch_column(kill)
                if db.dialect.name == "mysql":
                    for session in found:
                        await other.execute(f"KILL {session}")
        await take(db, wait=20)


@pytest.mark.parametrize("name", ["", None, 7])
async def test_a_lock_has_a_name(db, name):
    with pytest.raises(ConfigurationError, match="has a name"):
        await take(db, name)


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), "1", None])
async def test_the_wait_is_a_time(db, wait):
    with pytest.raises(ConfigurationError, match="number of seconds"):
        await take(db, wait=wait)


@pytest.mark.parametrize("name", ["x" * 5000, "'; DROP TABLE pets; --", "a/../b", "Grüße \N{BLACK HEART SUIT}"])
async def test_any_name_will_do(db, name):
    async with db.lock(name):
        await take(db, name + " ")


async def test_no_file_stays_beside_a_sqlite_file(engine, url, db, tmp_path):
    if engine.servers:
        pytest.skip("servers have no file here")
    before = sorted(tmp_path.iterdir())
    await take(db)
    assert sorted(tmp_path.iterdir()) == before
