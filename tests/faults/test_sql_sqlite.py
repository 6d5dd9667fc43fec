"""SQL on a SQLite file when things go wrong: killed, without power, without space, locked, cancelled.

Each order has two rows, one in each table, written together. What the program was told is there afterwards,
and nothing is half.
"""

import asyncio
import contextlib
import random
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from consona import Retry, SQLDatabase
from consona.errors import DatabaseLocked, DiskFull
from power_cuts import Disk
from storage_tools import child, line, until

WRITERS = 8
INSERT = "INSERT INTO orders (id, note) VALUES (?, ?)"
INSERT_LINE = "INSERT INTO order_lines (id) VALUES (?)"

PROGRAM = """
import asyncio, os, sys
from consona import SQLDatabase

async def main(url):
    async with SQLDatabase(url) as db:
        await db.execute_script(
            "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, note TEXT);"
            "CREATE TABLE IF NOT EXISTS order_lines (id TEXT PRIMARY KEY);"
            "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY)")

        async def write(writer):
            n = 0
            while True:
                key = f"{os.getpid()}-{writer}-{n}"
                if writer % 4 == 0:
                    await db.execute("INSERT INTO notes VALUES (?)", key)
                elif writer % 4 == 1:
                    await db.insert_many("notes", [{"id": key}, {"id": f"{key}-second"}])
                else:
                    async with db.transaction() as tx:
                        await tx.execute("INSERT INTO orders (id, note) VALUES (?, ?)", key, "x" * 300)
                        async with tx.transaction() as inner:
                            await inner.execute("INSERT INTO order_lines (id) VALUES (?)", key)
                os.write(1, f"{key}\\n".encode())       # told: nothing of it is buffered in the process
                n += 1

        await asyncio.gather(*(write(n) for n in range(8)))

asyncio.run(main(sys.argv[1]))
"""

LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
"""


async def make_tables(db):
    await db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
    await db.execute("CREATE TABLE order_lines (id INTEGER PRIMARY KEY REFERENCES orders (id))")


async def place(db, number):
    async with db.transaction() as tx:
        await tx.execute(INSERT, number, "x" * 100)
        await tx.execute(INSERT_LINE, number)


async def whole(db):
    """All orders, once it is certain that the file is sound and that each has its line."""
    assert await db.fetch_value("PRAGMA integrity_check") == "ok"
    orders = set(await db.fetch_column("SELECT id FROM orders"))
    assert orders == set(await db.fetch_column("SELECT id FROM order_lines"))
    return orders


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is one of POSIX; Windows has TerminateProcess")
@pytest.mark.parametrize("told_before", [1, 30, 600])
async def test_what_a_killed_program_was_told_is_there_and_nothing_is_half(tmp_path, told_before):
    url = f"sqlite:///{tmp_path}/shop.db"
    told = set()
    for _ in range(2):  # the second one recovers what the first left behind
        process = await child(PROGRAM, url)
        for _ in range(told_before):
            told.add(await line(process))
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
        told.update(rest.decode().split("\n")[:-1])
    async with SQLDatabase(url) as db:
        orders = await whole(db)
        notes = set(await db.fetch_column("SELECT id FROM notes"))
        assert told <= orders | notes
        seconds = {note for note in notes if note.endswith("-second")}
        firsts = {note for note in notes - seconds if note.split("-")[1] in {"1", "5"}}
        assert {f"{note}-second" for note in firsts} == seconds
        # Each writer had at most one under way of which it could not tell.
        assert len((orders | notes) - seconds - told) <= 2 * WRITERS
        await db.execute("INSERT INTO notes VALUES ('after')")


@pytest.fixture
def disk():
    disk = Disk()
    yield disk
    disk.unregister()


async def cut_often(disk, path, synchronous, cuts):
    """Cut the power at random moments of eight writers. Gives, for each cut, the orders told before it, and those left."""
    rng = random.Random(5)
    told = set()
    found = []
    numbers = iter(range(1_000_000))
    async with SQLDatabase(f"sqlite:///{path}?synchronous={synchronous}&checkpoint_pages=30") as db:
        await make_tables(db)

        async def write():
            while len(found) < cuts:
                number = next(numbers)
                await place(db, number)
                told.add(number)

        async def cut():
            while len(found) < cuts:
                await asyncio.sleep(rng.random() * 0.02)
                before = set(told)
                folder = path.parent / f"cut {len(found)}"
                folder.mkdir()
                left = await asyncio.to_thread(disk.after_a_cut, path, rng, folder)
                found.append((before, left))

        await asyncio.gather(cut(), *(write() for _ in range(WRITERS)))
        assert db.native.stats()["checkpoints"] > 3
    lefts = []
    for before, left in found:
        async with SQLDatabase(f"sqlite:///{left}") as db:
            if await db.fetch_value("SELECT count(*) FROM sqlite_schema WHERE name = 'order_lines'"):
                lefts.append((before, await whole(db)))
            else:
                lefts.append((before, set()))
    return lefts


async def test_a_power_cut_loses_nothing_that_was_told(disk, tmp_path):
    lefts = await cut_often(disk, tmp_path / "shop.db", "FULL", 40)
    assert sum(bool(left) for _, left in lefts) > 30
    for told, left in lefts:
        assert told <= left


async def test_with_normal_a_power_cut_loses_the_last_ones_and_never_half_of_one(disk, tmp_path):
    lefts = await cut_often(disk, tmp_path / "shop.db", "NORMAL", 40)
    assert sum(bool(left) for _, left in lefts) > 20
    assert any(told - left for told, left in lefts)  # so the cut is a real one
    for _, left in lefts:
        assert left == set(range(len(left)))  # each transaction is there, or neither it nor a later one


async def test_a_full_disk_is_told_and_nothing_is_half(small_disk):
    (small_disk / "ballast").write_bytes(bytes(200_000))
    async with SQLDatabase(f"sqlite:///{small_disk}/shop.db") as db:
        await make_tables(db)
        done = set()
        with pytest.raises(DiskFull, match="Free some space"):
            for number in range(1000):
                async with db.transaction() as tx:
                    await tx.execute(INSERT, number, "x" * 20_000)
                    await tx.execute(INSERT_LINE, number)
                done.add(number)
        with pytest.raises(DiskFull):
            await db.execute(INSERT, 5000, "x" * 300_000)
        with pytest.raises(DiskFull):
            await db.insert_many("orders", [{"id": 6000 + n, "note": "x" * 20_000} for n in range(20)])
        assert await whole(db) == done
        (small_disk / "ballast").unlink()
        await place(db, 7000)
        assert await whole(db) == done | {7000}


async def test_a_foreign_lock_is_told_and_a_retry_outlives_it(tmp_path):
    path = tmp_path / "shop.db"
    async with SQLDatabase(f"sqlite:///{path}?busy=0.05") as db:
        await make_tables(db)
        process = await child(LOCK, path)
        assert await line(process) == "locked"
        for call in (db.execute(INSERT, 1, ""), place(db, 2), db.insert_many("orders", [{"id": 3, "note": ""}])):
            with pytest.raises(DatabaseLocked, match="locked by somebody else") as caught:
                await call
            assert caught.value.retryable
        assert await db.fetch_all("SELECT * FROM orders") == []  # reading goes on
        tries = []

        async def insert(tx):
            tries.append(1)
            await tx.execute(INSERT, 4, "")
            await tx.execute(INSERT_LINE, 4)

        patient = Retry(attempts=1000, backoff=0.01, max_wait=0.01)
        begun = asyncio.create_task(db.run_in_transaction(insert, retry=patient))
        failed = db.observer.stats.failed
        await until(lambda: db.observer.stats.failed >= failed + 2)
        process.stdin.write(b"\n")
        await begun
        await process.communicate()
        assert tries == [1]  # it had not begun while the file was locked
        assert await whole(db) == {4}


async def test_a_storm_of_cancellations_leaves_nothing_half_and_nobody_waiting(tmp_path):
    rng = random.Random(3)
    async with SQLDatabase(f"sqlite:///{tmp_path}/shop.db") as db:
        await make_tables(db)
        numbers = range(1500)
        tasks = []

        async def read():
            async with contextlib.aclosing(db.stream("SELECT * FROM orders", batch=5)) as rows:
                return len([row async for row in rows])

        async def call(number):
            if number % 3 == 0:
                await place(db, number)
            elif number % 3 == 1:
                await db.execute_many("INSERT INTO orders VALUES (?, ?)", [(number, ""), (10_000 + number, "")])
            else:
                await read()
            return number

        for number in numbers:
            tasks.append(asyncio.create_task(call(number)))
            if number % 10 == 0:
                await asyncio.sleep(0.001)
                for task in rng.sample(tasks[-40:], min(20, len(tasks))):
                    task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) > 300
        assert not [error for error in results if isinstance(error, Exception)]
        done = {number for number, result in enumerate(results) if result == number}
        orders = set(await db.fetch_column("SELECT id FROM orders"))
        lines = set(await db.fetch_column("SELECT id FROM order_lines"))
        assert {number for number in done if number % 3 != 2} <= orders
        assert lines == {number for number in orders if number % 3 == 0 and number < 10_000}
        pairs = {number for number in orders if number < 10_000 and number % 3 == 1}
        assert {number + 10_000 for number in pairs} == {number for number in orders if number >= 10_000}
        stats = db.native.stats()
        assert (stats["holder"], stats["waiting"], stats["reads_under_way"]) == (None, 0, 0)
        assert db.stats.in_flight == 0
        assert await db.fetch_value("PRAGMA integrity_check") == "ok"
        await place(db, 20_001)
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as alone:
        assert alone.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not Path(f"{tmp_path}/shop.db-wal").exists()
