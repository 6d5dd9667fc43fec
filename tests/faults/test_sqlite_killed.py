"""kill -9 of a process while eight writers commit: what was acknowledged is there, and nothing is half."""

import asyncio
import signal
import sqlite3
import sys
from contextlib import closing

import pytest

from consona.storage.sqlite_engine import open_sqlite
from storage_tools import child, line

WRITERS = """
import asyncio, os, sys
from consona.storage.sqlite_engine import open_sqlite

async def main(url):
    engine = await open_sqlite(url)
    await engine.write(lambda db: db.execute(
        "CREATE TABLE IF NOT EXISTS left_half (id TEXT PRIMARY KEY);"
        "CREATE TABLE IF NOT EXISTS right_half (id TEXT PRIMARY KEY)"))

    async def write(writer):
        n = 0
        while True:
            key = f"{os.getpid()}-{writer}-{n}"
            def both(db):
                db.execute("INSERT INTO left_half VALUES (?)", (key,))
                db.execute("INSERT INTO right_half VALUES (?)", (key,))
            if writer % 4 == 3:
                async with engine.transaction() as tx:
                    await tx.run(lambda db: db.execute("INSERT INTO left_half VALUES (?)", (key,)))
                    await tx.run(lambda db: db.execute("INSERT INTO right_half VALUES (?)", (key,)))
            else:
                await engine.write(both)
            os.write(1, f"{key}\\n".encode())       # acknowledged: nothing of it is buffered in the process
            n += 1

    await asyncio.gather(*(write(n) for n in range(8)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is one of POSIX; Windows has TerminateProcess")
@pytest.mark.parametrize("acknowledged", [1, 40, 1000])
async def test_each_acknowledged_row_is_there_and_none_is_half(tmp_path, acknowledged):
    url = f"sqlite:///{tmp_path}/killed.db"
    told = set()
    for _ in range(2):  # the second process recovers what the first left behind
        process = await child(WRITERS, url)
        for _ in range(acknowledged):
            told.add(await line(process))
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
        told.update(rest.decode().split("\n")[:-1])
    assert len(told) >= 2 * acknowledged
    engine = await open_sqlite(url)
    left = {key for (key,) in await engine.read(lambda db: db.execute("SELECT id FROM left_half"))}
    right = {key for (key,) in await engine.read(lambda db: db.execute("SELECT id FROM right_half"))}
    assert await engine.read(lambda db: db.execute("PRAGMA integrity_check").get) == "ok"
    await engine.close()
    assert told - left == set()
    assert left == right
    # Each writer had at most one row under way that it could not tell of.
    assert len(left - told) <= 16


async def test_another_process_goes_on_while_one_is_killed(tmp_path):
    url = f"sqlite:///{tmp_path}/killed.db"
    engine = await open_sqlite(url)
    process = await child(WRITERS, url)
    for _ in range(20):
        await line(process)
    writes = [
        asyncio.create_task(engine.write(lambda db, n=n: db.execute("INSERT INTO left_half VALUES (?)", (f"m{n}",))))
        for n in range(200)
    ]
    process.kill()
    await process.communicate()
    await asyncio.gather(*writes)
    await engine.close()
    with closing(sqlite3.connect(tmp_path / "killed.db")) as db, db:
        assert db.execute("SELECT count(*) FROM left_half WHERE id LIKE 'm%'").fetchone() == (200,)
    db.close()
