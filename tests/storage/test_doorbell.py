"""Processes that share a file hear of each other's commits at once."""

import os
import socket
import threading

import pytest

from consona.storage import changes
from consona.storage.doorbell import AVAILABLE, Doorbell, folder_of
from consona.storage.sqlite_engine import open_sqlite
from storage_tools import child, line

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this system has no Unix datagram sockets: it polls")


@pytest.fixture
def folder(tmp_path):
    # Socket addresses are short, and the folders of tests are long.
    folder = folder_of(str(tmp_path))
    yield folder
    if folder.exists():
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()


def heard(folder):
    rung = threading.Event()
    bell = Doorbell(folder, on_ring=rung.set)
    bell.listen()
    return bell, rung


def test_who_listens_hears_the_others_and_not_themselves(folder):
    (one, rung_one), (two, rung_two) = heard(folder), heard(folder)
    one.ring()
    assert rung_two.wait(10)
    assert not rung_one.is_set()
    one.close()
    two.close()


def test_ringing_where_nobody_listens_does_nothing(folder):
    bell = Doorbell(folder, on_ring=lambda: None)
    bell.ring()
    bell.close()
    assert not folder.exists()


def test_the_last_to_close_takes_the_folder_along(folder):
    bells = [heard(folder)[0] for _ in range(3)]
    assert folder.stat().st_mode & 0o777 == 0o700
    for bell in bells:
        bell.close()
    assert not folder.exists()


def test_the_bell_of_a_killed_process_is_taken_away(folder):
    bell, _ = heard(folder)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(folder / "1-dead"))
    dead.close()  # without unlink, as a kill leaves it
    bell.ring()
    assert [left.name for left in folder.iterdir()] == [bell._name]
    bell.close()


def test_a_listener_that_does_not_read_holds_nobody_up(folder):
    bell, _ = heard(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(folder / "1-deaf"))
        for _ in range(2000):
            bell.ring()
    (folder / "1-deaf").unlink()
    bell.close()


def test_a_folder_of_somebody_else_is_not_used(folder):
    if os.getuid() != 0:
        pytest.skip("only root can make a folder of somebody else's")
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    bell, _ = heard(folder)
    assert list(folder.iterdir()) == []
    bell.close()


WRITER = """
import asyncio, sys
from consona.storage.sqlite_engine import open_sqlite
async def main():
    engine = await open_sqlite(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await engine.write(lambda db: db.execute("CREATE TABLE pets (name)"))
    await engine.close()
asyncio.run(main())
"""


async def test_another_process_commit_wakes_a_waiter_that_does_not_ask(tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(changes, "LONGEST_PAUSE_S", 3600.0)
    url = f"sqlite:///{tmp_path}/shared.db"
    engine = await open_sqlite(url)
    process = await child(WRITER, url)
    assert await line(process) == "ready"
    seen = engine.data_version()
    process.stdin.write(b"\n")
    assert await engine.changed(seen, timeout=30) != seen
    await process.wait()
    await engine.close()
