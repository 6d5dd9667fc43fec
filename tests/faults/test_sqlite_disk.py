"""Disks that are full, fail, are damaged, or may only be read: clear errors, and nothing half."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from consona.errors import CommitUnknown, DatabaseCorrupt, DatabaseReadOnly, DiskFull, QueryError
from consona.storage.sqlite_engine import SQLiteSettings, open_sqlite
from consona.storage.store import open_store
from storage_tools import Gate, child, insert, line, pets, until

PETS = "CREATE TABLE IF NOT EXISTS pets (id INTEGER PRIMARY KEY, name)"
TMPFS = sys.platform.startswith("linux") and hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB, where this user may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        TMPFS
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False, capture_output=True
        ).returncode
    )
    yield disk if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", disk], check=True)


def blob(size):
    def insert_blob(db):
        db.execute("INSERT INTO pets (name) VALUES (randomblob(?))", (size,))
        return db.last_insert_rowid()

    return insert_blob


async def test_a_full_disk_is_told_and_what_was_committed_stays(small_disk, tmp_path):
    folder = small_disk or tmp_path
    engine = await open_sqlite(f"sqlite:///{folder}/full.db")
    await engine.write(lambda db: db.execute(PETS))
    if small_disk is None:
        await engine.write(lambda db: db.execute("PRAGMA max_page_count = 100"))
    kept = []
    with pytest.raises(DiskFull, match="Free some space") as caught:
        for _ in range(100):
            kept.append(await engine.write(blob(50_000)))
    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, apsw.FullError)
    assert kept
    with pytest.raises(DiskFull):
        async with engine.transaction() as tx:
            for _ in range(100):
                await tx.run(blob(50_000))
    assert [n for (n,) in await engine.read(lambda db: db.execute("SELECT id FROM pets"))] == kept
    assert await engine.read_now(lambda db: db.execute("SELECT count(*) FROM pets").get) == len(kept)
    await engine.close()


async def test_in_a_batch_that_fills_the_disk_the_small_writes_still_succeed(small_disk, tmp_path):
    folder = small_disk or tmp_path
    engine = await open_sqlite(f"sqlite:///{folder}/full.db")
    await engine.write(lambda db: db.execute(PETS))
    if small_disk is None:
        await engine.write(lambda db: db.execute("PRAGMA max_page_count = 100"))
    gate = Gate()
    first = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    writes = [asyncio.create_task(engine.write(fn)) for fn in (insert("a"), blob(5_000_000), insert("b"))]
    await until(lambda: engine.stats()["waiting"] == 3)
    gate.open.set()
    results = await asyncio.gather(first, *writes, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), int, DiskFull, int]
    assert await engine.read(pets) == ["a", "b"]
    await engine.close()


@pytest.mark.skipif(not TMPFS, reason="a disk can be made smaller and larger by root on Linux only")
async def test_when_there_is_room_again_writing_goes_on(small_disk):
    if small_disk is None:
        pytest.skip("this system does not let root mount a tmpfs")
    (small_disk / "ballast").write_bytes(bytes(500_000))
    async with open_store(f"sqlite:///{small_disk}/full.db") as store:
        with pytest.raises(DiskFull):
            for n in range(100):
                await store.put(f"key {n}", os.urandom(50_000))
        (small_disk / "ballast").unlink()
        await store.put("key", b"there is room")
        assert (await store.get("key")).value == b"there is room"


class FailingSync(apsw.VFS):
    """The system's files, whose sync to the disk fails while `broken` is set."""

    def __init__(self):
        self.broken = False
        self.below = apsw.vfs_names()[0]
        super().__init__("failing-sync", self.below, makedefault=True)

    def xOpen(self, name, flags):
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags):
        self.vfs = vfs
        super().__init__(vfs.below, name, flags)

    def xSync(self, flags):
        if self.vfs.broken:
            raise apsw.IOError("the disk does not answer")
        super().xSync(flags)


@pytest.fixture
def disk():
    vfs = FailingSync()
    yield vfs
    vfs.unregister()


@contextlib.contextmanager
def unraisable_are_expected():
    """apsw reports what its own VFS raises also to `sys.unraisablehook`, which pytest turns into warnings."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = hook


async def test_a_commit_whose_sync_failed_is_unknown_to_all_its_callers_and_never_repeated(disk, tmp_path):
    engine = await open_sqlite(f"sqlite:///{tmp_path}/sync.db")
    await engine.write(lambda db: db.execute(PETS))
    calls = []

    def counted(name):
        def call(db):
            calls.append(name)
            return insert(name)(db)

        return call

    gate = Gate()
    first = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    names = ["a", "b", "c"]
    writes = [asyncio.create_task(engine.write(counted(name))) for name in names]
    await until(lambda: engine.stats()["waiting"] == 3)
    with unraisable_are_expected():
        disk.broken = True
        gate.open.set()
        results = await asyncio.gather(first, *writes, return_exceptions=True)
        alone = await asyncio.gather(engine.write(counted("d")), return_exceptions=True)
        with pytest.raises(CommitUnknown):
            async with engine.transaction() as tx:
                await tx.run(counted("e"))
        disk.broken = False
    for error in (*results[1:], *alone):
        assert isinstance(error, CommitUnknown)
        assert not error.retryable
        assert "Read the data again" in str(error)
    assert len({id(error) for error in results}) == 4
    assert calls == ["a", "b", "c", "d", "e"]
    assert await engine.write(insert("after")) >= 1
    assert (await engine.read(pets))[-1] == "after"
    await engine.close()


async def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / "damaged.db"
    engine = await open_sqlite(f"sqlite:///{path}")
    await engine.write(lambda db: db.execute(PETS))
    await asyncio.gather(*(engine.write(insert(f"pet {n}" * 100)) for n in range(1000)))
    await engine.close()
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    engine = await open_sqlite(f"sqlite:///{path}")
    with pytest.raises(DatabaseCorrupt, match="backup"):
        await engine.read(pets)
    with pytest.raises(DatabaseCorrupt, match="backup"):
        await engine.write(insert("a"))
    await engine.close()


async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path):
    path = tmp_path / "letter.txt"
    text = b"Dear reader, this is no database. " * 200
    path.write_bytes(text)
    with pytest.raises(DatabaseCorrupt, match="no database"):
        await open_sqlite(f"sqlite:///{path}")
    assert path.read_bytes() == text


READ_ONLY = """
import asyncio, os, sys
import concurrent.futures.thread                 # while the interpreter's own files may still be read
from consona.errors import ConsonaError
from consona.storage.sqlite_engine import open_sqlite

async def main(url):
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.setuid(65534)                         # root may write everything
    try:
        engine = await open_sqlite(url)
        await engine.write(lambda db: db.execute("INSERT INTO pets (name) VALUES ('a')"))
    except ConsonaError as error:
        print(error.code, error, flush=True)
    else:
        print("it was written", flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no read-only mode there")
async def test_a_file_that_may_only_be_read_is_told(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    path = folder / "shop.db"
    engine = await open_sqlite(f"sqlite:///{path}")
    await engine.write(lambda db: db.execute(PETS))
    await engine.close()
    path.chmod(0o444)
    folder.chmod(0o555)
    for parent in Path(path).parents:
        if parent.stat().st_uid == os.geteuid() and parent != folder and "pytest" in str(parent):
            parent.chmod(0o755)
    process = await child(READ_ONLY, f"sqlite:///{path}")
    told = await line(process)
    await process.communicate()
    folder.chmod(0o755)
    assert told.startswith(DatabaseReadOnly.code), told
    assert "may only be read" in told


async def test_a_file_deleted_under_an_open_engine_fails_nothing_that_is_in_it(tmp_path):
    """SQLite keeps the file open: what the process does goes on, and is gone with it. (`is_lost` of the parts tells.)"""
    if sys.platform == "win32":
        pytest.skip("Windows does not delete open files")
    path = tmp_path / "gone.db"
    engine = await open_sqlite(f"sqlite:///{path}", SQLiteSettings(synchronous="OFF"))
    await engine.write(lambda db: db.execute(PETS))
    path.unlink()
    with contextlib.suppress(QueryError):
        await engine.write(insert("a"))
    await engine.close()
