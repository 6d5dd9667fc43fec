"""Several processes at one file: foreign locks, two that write at once, changes seen across, forks."""

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import aclosing

import pytest

from consona.errors import DatabaseLocked
from consona.storage.sqlite_engine import SQLiteSettings, open_sqlite
from consona.storage.store import open_store
from storage_tools import child, insert, line, pets, until

PETS = "CREATE TABLE IF NOT EXISTS pets (id INTEGER PRIMARY KEY, name)"

FOREIGN = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
print("free", flush=True)
"""

BUSY_WRITER = """
import asyncio, sys
from consona.storage.sqlite_engine import open_sqlite

async def main(url):
    engine = await open_sqlite(url)
    done = 0
    async def write():
        nonlocal done
        while True:
            await engine.write(lambda db: db.execute("INSERT INTO pets (name) VALUES ('busy')"))
            done += 1
            if done == 200:
                print("busy", flush=True)
    await asyncio.gather(*(write() for _ in range(16)))

asyncio.run(main(sys.argv[1]))
"""

COUNTER = """
import asyncio, sys
from consona.storage.store import open_store

async def main(url):
    async with open_store(url) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        add = lambda old: b"%d" % (int(old or b"0") + 1)
        await asyncio.gather(*(store.update("count", add, attempts=10_000) for _ in range(200)))
    print("done", flush=True)

asyncio.run(main(sys.argv[1]))
"""

PUTTER = """
import asyncio, sys
from consona.storage.store import open_store

async def main(url):
    async with open_store(url, prefix="w/") as store:
        for text in iter(sys.stdin.readline, ""):
            verb, key = text.split()
            if verb == "put":
                await store.put(key, b"1")
            else:
                await store.delete(key)
            print("done", flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/shared.db"


async def opened(url, **settings):
    engine = await open_sqlite(url, SQLiteSettings(**settings))
    await engine.write(lambda db: db.execute(PETS))
    return engine


async def test_a_write_waits_for_a_foreign_lock_and_goes_on(url, tmp_path):
    engine = await opened(url)
    process = await child(FOREIGN, tmp_path / "shared.db")
    assert await line(process) == "locked"
    writes = [asyncio.create_task(engine.write(insert(f"pet {n}"))) for n in range(10)]
    assert await engine.read(pets) == []  # reading goes on
    process.stdin.write(b"\n")
    assert await asyncio.gather(*writes) == list(range(1, 11))
    assert await line(process) == "free"
    await process.communicate()
    await engine.close()


async def test_a_foreign_lock_that_stays_is_told(url, tmp_path):
    engine = await opened(url, busy=0.1)
    process = await child(FOREIGN, tmp_path / "shared.db")
    assert await line(process) == "locked"
    with pytest.raises(DatabaseLocked, match="locked by somebody else") as caught:
        await engine.write(insert("a"))
    assert caught.value.retryable
    process.kill()  # its lock dies with it
    await process.communicate()
    assert await engine.write(insert("a")) == 1
    await engine.close()


async def test_a_write_that_waits_for_a_foreign_lock_can_be_cancelled(url, tmp_path):
    engine = await opened(url)
    process = await child(FOREIGN, tmp_path / "shared.db")
    assert await line(process) == "locked"
    unlucky, lucky = (asyncio.create_task(engine.write(insert(name))) for name in ("unlucky", "lucky"))
    await asyncio.sleep(0.05)
    unlucky.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unlucky
    process.stdin.write(b"\n")
    await lucky
    await process.communicate()
    assert await engine.read(pets) == ["lucky"]
    await engine.close()


async def test_beside_a_process_that_never_pauses_nobody_starves(url):
    engine = await opened(url, busy=5.0)
    process = await child(BUSY_WRITER, url)
    assert await line(process) == "busy"
    before = await engine.read(lambda db: db.execute("SELECT max(id) FROM pets").get)
    for n in range(50):
        await engine.write(insert(f"patient {n}"))
    after = await engine.read(lambda db: db.execute("SELECT max(id) FROM pets").get)
    process.kill()
    await process.communicate()
    await engine.close()
    # In turns, each of its commits takes at most 16 rows; one that starves waits for thousands.
    assert after - before < 50 * (16 * 4)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP is one of POSIX")
async def test_a_frozen_process_whose_turn_it_is_holds_nobody_up_for_long(url, tmp_path):
    import fcntl

    engine = await opened(url, busy=20.0)
    locker, process = await child(FOREIGN, tmp_path / "shared.db"), None
    try:
        assert await line(locker) == "locked"
        process = await child(BUSY_WRITER, url)
        with (tmp_path / "shared.db-turn").open() as turn:

            def is_taken():
                try:
                    fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return True
                fcntl.flock(turn, fcntl.LOCK_UN)
                return False

            await until(is_taken)  # its turn, and it waits for the lock
        process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)  # all its threads
        locker.stdin.write(b"\n")
        assert await line(locker) == "free"
        async with asyncio.timeout(15):
            assert await engine.write(insert("a")) == 1
            for n in range(100):  # a second time, nobody waits for the frozen one
                await engine.write(insert(f"pet {n}"))
    finally:
        for each in (locker, process):
            if each is not None and each.returncode is None:
                each.kill()
                await each.communicate()
    await engine.close()


async def test_no_update_of_two_processes_at_once_is_lost(url):
    processes = [await child(COUNTER, url) for _ in range(2)]
    for process in processes:
        assert await line(process) == "ready"
    for process in processes:
        process.stdin.write(b"\n")
    for process in processes:
        assert await line(process, seconds=60) == "done"
        await process.communicate()
    async with open_store(url) as store:
        assert (await store.get("count")).value == b"400"


async def test_a_watch_tells_what_another_process_does(url):
    async with open_store(url) as store, aclosing(store.watch("w/")) as changes:
        process = await child(PUTTER, url)
        for verb, value in (("put", b"1"), ("delete", None), ("put", b"1")):
            process.stdin.write(f"{verb} key\n".encode())
            assert await line(process) == "done"
            async with asyncio.timeout(10):
                change = await anext(changes)
            assert (change.key, change.value) == ("w/key", value)
        process.stdin.close()
        await process.wait()


FORKING = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore")                  # Python 3.12 warns of a fork beside threads: that is the point here
from consona.errors import ConfigurationError
from consona.storage.sqlite_engine import open_sqlite

async def parent(url):
    engine = await open_sqlite(url)
    await engine.write(lambda db: db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name)"))
    await engine.write(lambda db: db.execute("INSERT INTO pets (name) VALUES ('parent')"))
    return engine

async def child(engine, url):
    for call in (engine.write, engine.read, engine.read_now):
        try:
            await call(lambda db: 1)
        except ConfigurationError as error:
            assert "fork" in str(error)
        else:
            raise AssertionError("the parent's engine was used")
    own = await open_sqlite(url)
    assert own is not engine
    await own.write(lambda db: db.execute("INSERT INTO pets (name) VALUES ('child')"))
    await own.close()

runner = asyncio.Runner()
engine = runner.run(parent(sys.argv[1]))
pid = os.fork()
if pid == 0:
    status = 1
    try:
        asyncio.set_event_loop(None)
        asyncio.run(child(engine, sys.argv[1]))
        status = 0
    finally:
        os._exit(status)
_, status = os.waitpid(pid, 0)

async def after():
    await engine.write(lambda db: db.execute("INSERT INTO pets (name) VALUES ('parent again')"))
    await engine.close()

runner.run(after())
print(status, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
async def test_a_forked_child_cannot_use_its_parents_engine_and_opens_its_own(url, tmp_path):
    process = await child(FORKING, url)
    assert await line(process, seconds=30) == "0"
    await process.communicate()
    db = sqlite3.connect(tmp_path / "shared.db")
    assert [name for (name,) in db.execute("SELECT name FROM pets")] == ["parent", "child", "parent again"]
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


async def test_releases_next_to_each_other_close_without_taking_the_file_from_the_other(url):
    engine = await opened(url)
    process = await child(PUTTER, url)
    process.stdin.write(b"put key\n")
    assert await line(process) == "done"
    process.stdin.close()
    await process.wait()
    await engine.write(insert("a"))
    await until(lambda: engine.stats()["waiting"] == 0)
    assert await engine.read(pets) == ["a"]
    await engine.close()
