"""Reads run beside the writer, each of one moment, and stop when nobody wants them any more."""

import asyncio

import apsw
import pytest

from consona.errors import DatabaseReadOnly, QueryError
from consona.storage.connections import Interruptible
from consona.storage.sqlite_engine import SQLiteSettings, open_sqlite
from storage_tools import Gate, insert, pets, until

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_a_read_does_not_wait_for_the_writer(engine):
    gate = Gate(then=insert("b"))
    await engine.write(insert("a"))
    write = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    assert await engine.read(pets) == ["a"]
    assert await engine.read_now(pets) == ["a"]
    gate.open.set()
    await write
    assert await engine.read(pets) == ["a", "b"]
    assert await engine.read_now(pets) == ["a", "b"]


async def test_a_read_sees_one_moment(engine):
    await engine.write(insert("a"))
    gate = Gate()

    def twice(db):
        before = pets(db)
        gate(db)
        return before, pets(db)

    read = asyncio.create_task(engine.read(twice))
    await gate.is_reached()
    await engine.write(insert("b"))
    gate.open.set()
    assert await read == (["a"], ["a"])


async def test_reads_run_at_the_same_time_up_to_their_limit(url):
    engine = await open_sqlite(url, SQLiteSettings(readers=3))
    gates = [Gate() for _ in range(5)]
    reads = [asyncio.create_task(engine.read(gate)) for gate in gates]
    await until(lambda: sum(gate.reached.is_set() for gate in gates) == 3)
    assert engine.stats()["reading_threads"] == 3
    for gate in gates:
        gate.open.set()
    await asyncio.gather(*reads)
    assert engine.stats()["reading_threads"] == 3
    await engine.close()


async def test_one_read_at_a_time_needs_one_thread(engine):
    for _ in range(10):
        await engine.read(pets)
    assert engine.stats()["reading_threads"] == 1


async def test_a_cancelled_read_is_interrupted_and_the_next_one_is_not(engine):
    task = asyncio.create_task(engine.read(lambda db: db.execute(ENDLESS)))
    await until(lambda: engine.stats()["reads_under_way"] == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: engine.stats()["reads_under_way"] == 0)
    assert [await engine.read(pets) for _ in range(20)] == [[]] * 20


async def test_a_read_cancelled_between_two_statements_is_interrupted_in_the_next(engine):
    gate = Gate(then=lambda db: db.execute(ENDLESS).fetchall())
    task = asyncio.create_task(engine.read(gate))
    await gate.is_reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await until(lambda: engine.stats()["reads_under_way"] == 0)
    assert engine.stats()["reads_interrupted"] == 1


async def test_an_interrupt_that_comes_too_late_does_not_hit_what_runs_next():
    connection = apsw.Connection(":memory:")
    running = Interruptible(connection)
    late, now = object(), object()
    running.begin(now)
    count = connection.execute(ENDLESS.replace("FROM n)", "FROM n LIMIT 3000000)"))
    thread = asyncio.create_task(asyncio.to_thread(lambda: count.get))
    while not thread.done():
        running.interrupt(late)
        await asyncio.sleep(0.001)
    assert thread.result() == 3_000_000
    running.end()
    connection.close()


async def test_a_read_cancelled_before_it_began_never_runs(url):
    engine = await open_sqlite(url, SQLiteSettings(readers=1))
    gate, ran = Gate(), []
    first = asyncio.create_task(engine.read(gate))
    await gate.is_reached()
    second = asyncio.create_task(engine.read(ran.append))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    gate.open.set()
    await first
    await engine.read(lambda db: None)
    assert ran == []
    await engine.close()


async def test_a_read_that_writes_is_refused(engine, in_memory):
    for each in (engine, in_memory):
        for read in (each.read, each.read_now):
            with pytest.raises(DatabaseReadOnly, match="write"):
                await read(insert("a"))
        assert await each.read(pets) == []


async def test_a_read_that_returns_something_unfinished_is_told_so(engine):
    await engine.write(insert("a"))
    await engine.write(insert("b"))

    def unfinished(db):
        rows = iter(db.execute("SELECT name FROM pets"))
        next(rows)
        return (name for name in rows)

    with pytest.raises(QueryError, match="Return a list"):
        await engine.read(unfinished)
    assert await engine.read(pets) == ["a", "b"]


@pytest.mark.parametrize("reader", ["read", "read_now"])
async def test_an_error_of_sql_is_one_of_ours_with_its_cause(engine, in_memory, reader):
    for each in (engine, in_memory):
        with pytest.raises(QueryError, match="no such table: cats") as caught:
            await getattr(each, reader)(lambda db: db.execute("SELECT * FROM cats"))
        assert caught.value.__cause__ is not None
        assert not caught.value.retryable


async def test_closing_interrupts_what_still_reads(url):
    engine = await open_sqlite(url)
    task = asyncio.create_task(engine.read(lambda db: db.execute(ENDLESS)))
    await until(lambda: engine.stats()["reads_under_way"] == 1)
    async with asyncio.timeout(10):
        await engine.close()
    with pytest.raises(QueryError, match=r"(?i)interrupt"):
        await task


async def test_a_cancelled_read_of_memory_is_interrupted(in_memory):
    task = asyncio.create_task(in_memory.read(lambda db: db.execute(ENDLESS)))
    await asyncio.sleep(0.05)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await in_memory.read(pets) == []
