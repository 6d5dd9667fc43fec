"""A file that was sent: read, walked, saved whole or not at all."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile

import pytest

from consona.errors import Conflict
from consona.rest.server.problems import StorageFull
from consona.rest.server.uploads import PIECE, Spool, UploadFile
from processes import until

DATA = bytes(range(256)) * 4096  # one MiB


async def spooled(data=DATA, *, memory=1000, folder=None):
    spool = Spool(memory, folder)
    try:
        for start in range(0, len(data), 60_000):
            await spool.write(data[start : start + 60_000])
        return await spool.finish("a.bin", "application/octet-stream")
    except BaseException:
        spool.close()
        raise


@pytest.mark.parametrize("memory", [1000, 10_000_000])
async def test_it_is_read_piece_by_piece_from_memory_and_from_disk(memory):
    file = await spooled(memory=memory)
    assert isinstance(file.file, io.BytesIO) == (memory > len(DATA))
    assert file.size == len(DATA)
    assert await file.read(10) == DATA[:10]
    assert await file.read() == DATA[10:]
    assert await file.read() == b""
    await file.seek(5)
    assert await file.read(3) == DATA[5:8]
    pieces = [piece async for piece in file]
    assert (b"".join(pieces), max(map(len, pieces))) == (DATA, PIECE)
    file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there, an open file has a name")
async def test_on_disk_it_has_no_name_so_nothing_outlives_the_process(tmp_path):
    file = await spooled(folder=tmp_path)
    assert not isinstance(file.file, io.BytesIO)
    assert list(tmp_path.iterdir()) == []
    file.close()


@pytest.mark.parametrize("data", [b"", b"small", DATA])
async def test_it_is_saved_whole_and_can_be_read_on(tmp_path, data):
    file = await spooled(data)
    await file.read(3)
    assert await file.save_to(tmp_path / "to.bin") == tmp_path / "to.bin"
    assert (tmp_path / "to.bin").read_bytes() == data
    assert await file.read() == data[3:]
    assert [path.name for path in tmp_path.iterdir()] == ["to.bin"]
    file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
async def test_it_gets_the_permissions_of_an_ordinary_file(tmp_path):
    before = os.umask(0o027)
    try:
        await UploadFile(b"x").save_to(tmp_path / "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


async def test_in_a_folder_it_gets_its_own_harmless_name(tmp_path):
    saved = await UploadFile(b"x", name="../../.evil\x00.txt").save_to(tmp_path)
    assert saved == tmp_path / "evil.txt"


async def test_what_is_there_already_is_kept_unless_told_otherwise(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("first")
    with pytest.raises(Conflict):
        await UploadFile(b"second").save_to(target)
    assert target.read_text() == "first"
    await UploadFile(b"second").save_to(target, overwrite=True)
    assert target.read_text() == "second"
    assert list(tmp_path.iterdir()) == [target]


async def test_of_two_that_save_to_one_name_one_is_told(tmp_path):
    files = [UploadFile(bytes([number]) * 2_000_000) for number in range(2)]
    done = await asyncio.gather(*(file.save_to(tmp_path / "a") for file in files), return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["Conflict", type(tmp_path).__name__]
    assert len(set((tmp_path / "a").read_bytes())) == 1
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_cancelled_save_leaves_nothing(tmp_path):
    class Slow(io.BytesIO):
        def read(self, size=-1):
            begun.set()
            going_on.wait(20)
            return super().read(size)

    import threading

    begun, going_on = threading.Event(), threading.Event()
    task = asyncio.create_task(UploadFile(Slow(DATA)).save_to(tmp_path / "a"))
    await asyncio.to_thread(begun.wait, 20)
    assert len(list(tmp_path.iterdir())) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    going_on.set()
    await until(lambda: not list(tmp_path.iterdir()))


async def test_one_that_is_let_go_of_while_a_thread_writes_is_closed_by_that_thread(monkeypatch):
    import threading

    begun, going_on = threading.Event(), threading.Event()
    opened = []

    def slow(**options):
        begun.set()
        going_on.wait(20)
        opened.append(real(**options))
        return opened[0]

    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", slow)
    spool = Spool(10, None)
    task = asyncio.create_task(spool.write(DATA))
    await asyncio.to_thread(begun.wait, 20)
    task.cancel()
    spool.close()
    going_on.set()
    await until(lambda: bool(opened) and opened[0].closed)


async def test_a_full_disk_is_told_and_leaves_nothing(small_disk):
    with pytest.raises(StorageFull) as caught:
        await spooled(folder=small_disk)
    assert caught.value.status == 507
    file = await spooled()
    with pytest.raises(StorageFull):
        await file.save_to(small_disk / "a.bin")
    file.close()
    assert list(small_disk.iterdir()) == []
    assert os.statvfs(small_disk).f_bavail == os.statvfs(small_disk).f_blocks
    await (await spooled(b"small")).save_to(small_disk / "a.bin")
    assert (small_disk / "a.bin").read_bytes() == b"small"
