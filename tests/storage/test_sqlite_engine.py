"""One engine for each file of the process: opened, shared, watched for changes, closed."""

import asyncio
import os
import threading

import apsw
import pytest

from consona.errors import AddressError, ConfigurationError, DatabaseLocked, DeadlineExceeded, NotStarted, QueryError
from consona.storage.sqlite_engine import SQLiteSettings, open_sqlite
from storage_tools import Gate, insert, pets, until

# Opening.


async def test_all_who_name_a_file_share_its_engine_until_the_last_closes(url, tmp_path, monkeypatch):
    one = await open_sqlite(url)
    monkeypatch.chdir(tmp_path)
    other = await open_sqlite("sqlite:///./test.db")
    assert one is other
    assert one.stats()["users"] == 2
    await one.close()
    assert await other.write(lambda db: 7) == 7
    await other.close()
    with pytest.raises(NotStarted, match="closed"):
        await other.write(lambda db: 7)


async def test_opened_by_many_at_once_it_is_opened_once(url):
    engines = await asyncio.gather(*(open_sqlite(url) for _ in range(20)))
    assert len(set(map(id, engines))) == 1
    for engine in engines:
        await engine.close()


async def test_it_can_be_opened_again_after_it_was_closed(url):
    for _ in range(3):
        engine = await open_sqlite(url)
        assert await engine.read(lambda db: 1) == 1
        await engine.close()


async def test_conflicting_settings_are_refused_and_named(url):
    engine = await open_sqlite(url, SQLiteSettings(readers=2))
    with pytest.raises(
        ConfigurationError, match=r"synchronous \(NORMAL here, FULL there\), readers \(4 here, 2 there\)"
    ):
        await open_sqlite(url, SQLiteSettings(synchronous="NORMAL"))
    same = await open_sqlite(f"{url}?readers=2")
    without = await open_sqlite(url)
    assert engine is same is without
    for _ in range(3):
        await engine.close()


async def test_the_default_is_to_survive_a_power_cut(url):
    engine = await open_sqlite(url)
    assert await engine.write(lambda db: db.execute("PRAGMA synchronous").get) == 2
    assert await engine.write(lambda db: db.execute("PRAGMA foreign_keys").get) == 1
    assert await engine.write(lambda db: db.execute("PRAGMA journal_mode").get) == "wal"
    await engine.close()


async def test_the_address_can_name_settings(url):
    engine = await open_sqlite(f"{url}?synchronous=normal&max_batch=9")
    assert (engine.settings.synchronous, engine.settings.max_batch) == ("NORMAL", 9)
    assert await engine.write(lambda db: db.execute("PRAGMA synchronous").get) == 1
    await engine.close()


async def test_a_folder_that_does_not_exist_is_named_and_not_made(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing.*does not exist"):
        await open_sqlite(f"sqlite:///{tmp_path}/missing/shop.db")
    assert not (tmp_path / "missing").exists()


async def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(ConfigurationError, match="is a folder"):
        await open_sqlite(f"sqlite:///{tmp_path}")


async def test_another_scheme_is_refused():
    with pytest.raises(AddressError, match=r"postgresql://.*no SQLite address"):
        await open_sqlite("postgresql://localhost/shop")


async def test_after_a_failed_opening_the_next_one_tries_again(tmp_path):
    url = f"sqlite:///{tmp_path}/later/shop.db"
    for error in await asyncio.gather(*(open_sqlite(url) for _ in range(5)), return_exceptions=True):
        assert isinstance(error, ConfigurationError)
    (tmp_path / "later").mkdir()
    engine = await open_sqlite(url)
    await engine.close()


async def test_an_opening_that_is_cancelled_leaves_nothing_open(url):
    for _ in range(20):
        task = asyncio.create_task(open_sqlite(url))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not [thread for thread in threading.enumerate() if "test.db" in thread.name])


# Memory.


async def test_a_memory_database_is_shared_by_the_process_and_gone_after_the_last(in_memory):
    url = str(in_memory.address)
    await in_memory.write(insert("a"))
    other = await open_sqlite(url)
    assert await other.read(pets) == ["a"]
    await other.close()
    fresh = await open_sqlite(f"{url}other")
    with pytest.raises(QueryError, match="no such table"):
        await fresh.read(pets)
    await fresh.close()


async def test_the_two_spellings_of_memory_are_one_place():
    one, other = await open_sqlite("sqlite://"), await open_sqlite("sqlite:///:memory:")
    assert one is other
    await one.close()
    await other.close()


# Closing.


async def test_closing_lets_the_waiting_writes_finish(url):
    engine = await open_sqlite(url)
    await engine.write(lambda db: db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name)"))
    gate = Gate()
    writes = [asyncio.create_task(engine.write(fn)) for fn in (gate, *(insert(f"pet {n}") for n in range(30)))]
    await gate.is_reached()
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    with pytest.raises(NotStarted):
        await engine.write(insert("too late"))
    gate.open.set()
    await closing
    assert [await task for task in writes] == [None, *range(1, 31)]


async def test_closing_waits_for_an_open_transaction_and_no_longer_than_its_deadline(url):
    engine = await open_sqlite(url, SQLiteSettings(transaction=0.1))
    tx = engine.transaction()
    await tx.__aenter__()
    async with asyncio.timeout(10):
        await engine.close()
        with pytest.raises(DeadlineExceeded):
            await tx.run(lambda db: 1)
    await tx.__aexit__(LookupError, LookupError(), None)


async def test_no_thread_is_left_after_closing(url):
    engine = await open_sqlite(url)
    await asyncio.gather(*(engine.read(lambda db: 1) for _ in range(10)))
    assert [thread for thread in threading.enumerate() if "test.db" in thread.name]
    await engine.close()
    await until(lambda: not [thread for thread in threading.enumerate() if "test.db" in thread.name])


async def test_a_fault_of_the_writer_itself_leaves_no_caller_waiting(url, caplog):
    engine = await open_sqlite(url)
    gate = Gate()
    writes = [asyncio.create_task(engine.write(fn)) for fn in (gate, lambda db: 1)]
    await gate.is_reached()
    writes.append(asyncio.create_task(engine.write(lambda db: 1)))
    engine._writer._log.copy_if_long = None  # to call it will fail: a fault like one of ours
    gate.open.set()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*writes, return_exceptions=True)
        with pytest.raises(QueryError, match="closed"):
            await engine.write(lambda db: 1)
    assert all(result in {None, 1} or isinstance(result, QueryError) for result in results)
    assert "the writer stopped" in caplog.text
    await engine.close()


# Changes.


async def test_the_version_differs_after_every_commit_whoever_made_it(engine, in_memory):
    for each in (engine, in_memory):
        versions = [each.data_version()]
        for n in range(3):
            await each.write(insert(f"pet {n}"))
            versions.append(each.data_version())
        assert len(set(versions)) == 4
        assert each.data_version() == versions[-1]
        await each.read(pets)
        assert each.data_version() == versions[-1]
    foreign = apsw.Connection(engine._connector.path)
    before = engine.data_version()
    foreign.execute("INSERT INTO pets (name) VALUES ('foreign')")
    foreign.close()
    assert engine.data_version() != before


async def test_who_waits_for_a_change_is_woken_by_a_commit_of_this_process(engine, in_memory):
    for each in (engine, in_memory):
        before = each.data_version()
        waiting = [asyncio.create_task(each.changed(before)) for _ in range(5)]
        await asyncio.sleep(0)
        await each.write(insert("a"))
        async with asyncio.timeout(10):
            assert set(await asyncio.gather(*waiting)) == {each.data_version()}
        assert not each._changes._waiting


async def test_who_waits_for_a_change_sees_that_of_another_connection(engine):
    waiting = asyncio.create_task(engine.changed(engine.data_version()))
    await asyncio.sleep(0)
    foreign = apsw.Connection(engine._connector.path)
    foreign.execute("INSERT INTO pets (name) VALUES ('foreign')")
    foreign.close()
    async with asyncio.timeout(10):
        await waiting
    assert await engine.read(pets) == ["foreign"]


async def test_a_change_before_the_wait_is_not_missed(engine):
    before = engine.data_version()
    await engine.write(insert("a"))
    async with asyncio.timeout(10):
        assert await engine.changed(before) != before


async def test_waiting_for_a_change_ends_after_its_time(engine):
    before = engine.data_version()
    async with asyncio.timeout(10):
        assert await engine.changed(before, timeout=0.01) == before
    assert not engine._changes._waiting


async def test_a_lookup_on_a_locked_file_is_done_by_a_thread(engine):
    await engine.write(insert("a"))
    calls = []

    def look_up(db):
        calls.append(threading.current_thread() is threading.main_thread())
        if len(calls) == 1:
            raise apsw.BusyError("as if somebody recovered the log")
        return pets(db)

    assert await engine.read_now(look_up) == ["a"]
    assert calls == [True, False]


# Foreign locks: see also tests/faults.


async def test_who_meets_a_foreign_lock_for_too_long_may_try_again(tmp_path):
    engine = await open_sqlite(f"sqlite:///{tmp_path}/busy.db", SQLiteSettings(busy=0.05))
    await engine.write(lambda db: db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name)"))
    foreign = apsw.Connection(str(tmp_path / "busy.db"))
    foreign.execute("BEGIN IMMEDIATE")
    errors = await asyncio.gather(*(engine.write(insert("a")) for _ in range(5)), enter(engine), return_exceptions=True)
    assert {type(error) for error in errors} == {DatabaseLocked}
    assert all(error.retryable for error in errors)
    assert await engine.read(pets) == []
    foreign.execute("ROLLBACK")
    foreign.close()
    assert await engine.write(insert("a")) == 1
    await engine.close()


async def enter(engine):
    async with engine.transaction():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_it_is_known_in_which_process_it_was_opened(url):
    async def main():
        engine = await open_sqlite(url)
        engine._pid -= 1
        with pytest.raises(ConfigurationError, match="forked"):
            await engine.write(lambda db: 1)
        with pytest.raises(ConfigurationError, match="forked"):
            engine.data_version()
        engine._pid += 1
        await engine.close()

    asyncio.run(main())
