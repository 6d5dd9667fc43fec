"""Group commit: many callers, one transaction, and nobody pays for another's fault."""

import asyncio
import random
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consona.errors import ConstraintFailed, QueryError
from consona.storage.sqlite_engine import SQLiteSettings, open_sqlite
from storage_tools import Gate, insert, pets, until


async def together(engine, *functions):
    """Run the functions as one batch; returns their results and errors in order."""
    gate = Gate()
    before = engine.stats()["batches"]
    first = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    rest = [asyncio.create_task(engine.write(fn)) for fn in functions]
    await until(lambda: engine.stats()["waiting"] == len(functions))
    gate.open.set()
    results = await asyncio.gather(first, *rest, return_exceptions=True)
    assert engine.stats()["batches"] == before + 2
    return results[1:]


async def test_a_write_returns_what_its_function_returned_once_it_is_committed(engine):
    assert await engine.write(insert("Rex")) == 1
    assert await engine.read(pets) == ["Rex"]


async def test_waiting_writes_are_committed_together(engine):
    results = await together(engine, *(insert(f"pet {n}") for n in range(20)))
    assert results == list(range(1, 21))
    assert engine.stats()["largest_batch"] == 20


async def test_a_batch_takes_no_more_than_its_limit(url):
    engine = await open_sqlite(url, SQLiteSettings(max_batch=8, synchronous="OFF"))
    await engine.write(lambda db: db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name)"))
    await asyncio.gather(*(engine.write(insert("x")) for _ in range(100)))
    assert engine.stats()["largest_batch"] == 8
    await engine.close()


async def test_one_callers_error_undoes_its_own_changes_only(engine):
    def half(db):
        insert("half")(db)
        raise LookupError("changed my mind")

    results = await together(engine, insert("a"), half, insert("b"), insert("a"), insert("c"))
    assert [type(result) for result in results] == [int, LookupError, int, ConstraintFailed, int]
    assert await engine.read(pets) == ["a", "b", "c"]
    assert engine.stats()["rerun"] == 0


async def test_an_unmatched_deferred_key_undoes_its_own_caller_only(engine):
    def toy_of_nobody(db):
        db.execute("INSERT INTO toys (pet) VALUES (99)")

    def toy_before_its_pet(db):
        db.execute("INSERT INTO toys (pet) VALUES (7)")
        db.execute("INSERT INTO pets VALUES (7, 'late')")

    results = await together(engine, insert("a"), toy_of_nobody, toy_before_its_pet, insert("b"))
    assert isinstance(results[1], ConstraintFailed)
    assert "FOREIGN KEY" in str(results[1])
    assert await engine.read(pets) == ["a", "late", "b"]
    assert await engine.read(lambda db: db.execute("SELECT pet FROM toys")) == [(7,)]
    assert engine.stats()["rerun"] == 0


async def test_an_unmatched_deferred_key_fails_a_lone_write_too(engine):
    with pytest.raises(ConstraintFailed, match="FOREIGN KEY"):
        await engine.write(lambda db: db.execute("INSERT INTO toys (pet) VALUES (99)"))
    assert await engine.write(insert("next")) == 1


async def test_a_batch_that_loses_its_transaction_is_run_again_caller_by_caller(engine):
    await engine.write(insert("taken"))

    def lose_everything(db):
        db.execute("INSERT OR ROLLBACK INTO pets (name) VALUES ('taken')")

    results = await together(engine, insert("a"), lose_everything, insert("b"))
    assert [type(result) for result in results] == [int, ConstraintFailed, int]
    assert await engine.read(pets) == ["taken", "a", "b"]
    assert engine.stats()["rerun"] == 1


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "RELEASE consona_write"])
async def test_a_function_that_ends_the_transaction_fails_alone(engine, statement):
    def meddle(db):
        insert("meddler")(db)
        db.execute(statement)

    results = await together(engine, insert("a"), meddle, insert("b"))
    assert [type(result) for result in results] == [int, QueryError, int]
    assert await engine.read(pets) == ["a", "b"]


async def test_a_lone_function_cannot_commit_by_itself(engine):
    def meddle(db):
        insert("meddler")(db)
        db.execute("COMMIT")

    with pytest.raises(QueryError, match="Leave COMMIT"):
        await engine.write(meddle)
    assert await engine.read(pets) == []


async def test_a_statement_left_open_by_a_failing_function_does_not_hold_the_others(engine):
    def fail_in_the_middle(db):
        rows = db.execute("INSERT INTO pets (name) VALUES ('x'), ('y') RETURNING name")
        raise KeyError(next(rows))

    results = await together(engine, insert("a"), fail_in_the_middle, insert("b"))
    assert [type(result) for result in results] == [int, KeyError, int]
    assert await engine.read(pets) == ["a", "b"]
    assert engine.stats()["rerun"] == 0


async def test_a_returned_cursor_comes_back_as_a_list_of_rows(engine):
    rows = await engine.write(lambda db: db.execute("INSERT INTO pets (name) VALUES ('a'), ('b') RETURNING id, name"))
    assert rows == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("error", [StopIteration(), StopAsyncIteration(), SystemExit(3), GeneratorExit()])
async def test_any_kind_of_error_reaches_its_caller_and_the_writer_goes_on(engine, error):
    def fail(_):
        raise error

    with pytest.raises(BaseException) as caught:
        await engine.write(fail)
    assert isinstance(caught.value, RuntimeError | type(error))
    assert await engine.write(insert("next")) == 1


# Cancellation.


async def test_a_cancelled_write_that_still_waits_never_happens(engine):
    gate = Gate()
    first = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    unlucky, lucky = (asyncio.create_task(engine.write(insert(name))) for name in ("unlucky", "lucky"))
    await until(lambda: engine.stats()["waiting"] == 2)
    unlucky.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unlucky
    gate.open.set()
    await asyncio.gather(first, lucky)
    assert await engine.read(pets) == ["lucky"]


async def test_a_write_cancelled_after_it_began_is_settled_when_the_cancellation_arrives(engine):
    gate = Gate(then=insert("begun"))
    task = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await engine.read(pets) == ["begun"]


async def test_a_storm_of_cancellations_leaves_each_write_whole_or_absent(engine):
    def pair(n):
        def insert_both(db):
            db.execute("INSERT INTO pets VALUES (?, ?)", (n, f"pet {n}"))
            db.execute("INSERT INTO toys VALUES (?, ?)", (n, n))

        return insert_both

    told = set()

    async def write(n):
        await engine.write(pair(n))
        told.add(n)

    chance = random.Random(7)
    gate = Gate()
    first = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    tasks = [asyncio.create_task(write(n)) for n in range(1000)]
    await until(lambda: engine.stats()["waiting"] == 1000)
    for task in chance.sample(tasks, 200):
        task.cancel()
    gate.open.set()
    for _ in range(100):
        for task in chance.sample(tasks, 5):
            task.cancel()
        await asyncio.sleep(0)
    await first
    await asyncio.gather(*tasks, return_exceptions=True)
    kept = {n for (n,) in await engine.read(lambda db: db.execute("SELECT id FROM pets"))}
    assert told <= kept
    assert kept == {n for (n,) in await engine.read(lambda db: db.execute("SELECT id FROM toys"))}
    assert len(told) < 1000
    assert await engine.write(insert("after the storm"))


# Several event loops.


async def test_callers_of_several_event_loops_share_a_batch(engine):
    def elsewhere(n):
        return asyncio.run(engine.write(insert(f"loop {n}")))

    gate = Gate()
    first = asyncio.create_task(engine.write(gate))
    await gate.is_reached()
    others = [asyncio.create_task(asyncio.to_thread(elsewhere, n)) for n in range(3)]
    here = asyncio.create_task(engine.write(insert("here")))
    await until(lambda: engine.stats()["waiting"] == 4)
    gate.open.set()
    results = await asyncio.gather(first, here, *others)
    assert sorted(results[1:]) == [1, 2, 3, 4]
    assert engine.stats()["largest_batch"] >= 4


# The log.


async def test_the_write_ahead_log_stays_bounded(url):
    engine = await open_sqlite(url, SQLiteSettings(synchronous="OFF", checkpoint_pages=50))
    await engine.write(lambda db: db.execute("CREATE TABLE t (value)"))
    for _ in range(60):
        await engine.write(lambda db: db.execute("INSERT INTO t VALUES (randomblob(40000))"))
    log = Path(f"{engine._connector.path}-wal")
    assert engine.stats()["checkpoints"] >= 5
    assert log.stat().st_size < 100 * 4096 + 60 * 24
    await engine.close()


async def test_readers_that_never_pause_cannot_make_the_log_grow_for_ever(url):
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) SELECT max(i), (SELECT count(*) FROM t) FROM n"
    engine = await open_sqlite(url, SQLiteSettings(synchronous="OFF", checkpoint_pages=10))
    await engine.write(lambda db: db.execute("CREATE TABLE t (value)"))
    reading = True

    async def read():
        while reading:
            await engine.read(lambda db: db.execute(slow))

    readers = [asyncio.create_task(read()) for _ in range(4)]
    async with asyncio.timeout(30):
        while not engine.stats()["log_restarts"]:
            await engine.write(lambda db: db.execute("INSERT INTO t VALUES (randomblob(40000))"))
    reading = False
    await asyncio.gather(*readers)
    await engine.close()


async def test_closing_leaves_one_file(url, tmp_path):
    engine = await open_sqlite(url)
    await engine.write(lambda db: db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name)"))
    await engine.write(insert("a"))
    assert {"test.db", "test.db-wal"} <= {path.name for path in tmp_path.iterdir()}
    await engine.close()
    assert [path.name for path in tmp_path.iterdir()] == ["test.db"]
    again = await open_sqlite(url)
    assert await again.read(pets) == ["a"]
    await again.close()


# All of it, against a model.

CALL = st.tuples(
    st.sampled_from(["insert", "raise", "twice", "orphan", "rollback", "commit", "conflict rollback"]),
    st.integers(0, 9),
)


@given(batches=st.lists(st.lists(CALL, min_size=1, max_size=12), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_batch_does_what_its_callers_would_do_one_after_another(batches):
    asyncio.run(compare(batches))


def function(kind, n):
    def call(db):
        db.execute("INSERT INTO pets VALUES (?, ?)", (n, f"pet {n}"))
        if kind == "raise":
            raise LookupError
        if kind == "twice":
            db.execute("INSERT INTO pets VALUES (?, 'x')", (n,))
        if kind == "orphan":
            db.execute("INSERT INTO toys (pet) VALUES (?)", (n + 100,))
        if kind == "conflict rollback":
            db.execute("INSERT OR ROLLBACK INTO pets VALUES (?, 'x')", (n,))
        if kind in {"rollback", "commit"}:
            db.execute(kind)
        return n

    return call


async def compare(batches):
    engine = await open_sqlite("sqlite://compare")
    try:
        await engine.write(
            lambda db: db.execute(
                "CREATE TABLE pets (id INTEGER PRIMARY KEY, name);"
                "CREATE TABLE toys (pet REFERENCES pets DEFERRABLE INITIALLY DEFERRED)"
            )
        )
        model = set()
        for batch in batches:
            results = await asyncio.gather(*(engine.write(function(*call)) for call in batch), return_exceptions=True)
            for (kind, n), result in zip(batch, results, strict=True):
                fits = kind == "insert" and n not in model
                assert (result == n) if fits else isinstance(result, Exception), (kind, n, result)
                assert not isinstance(result, apsw.Error)
                if fits:
                    model.add(n)
        assert {n for (n,) in await engine.read(lambda db: db.execute("SELECT id FROM pets"))} == model
        assert await engine.read(lambda db: db.execute("SELECT * FROM toys")) == []
    finally:
        await engine.close()
