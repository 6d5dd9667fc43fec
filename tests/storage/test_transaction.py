"""Interactive transactions: several awaited steps that happen together or not at all."""

import asyncio
import time

import pytest

from consona.errors import (
    ConfigurationError,
    ConstraintFailed,
    DatabaseLocked,
    DeadlineExceeded,
    QueryError,
    TransactionOpen,
)
from consona.storage.sqlite_engine import SQLiteSettings, open_sqlite
from storage_tools import Gate, insert, pets, until

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_its_steps_are_committed_together(engine):
    async with engine.transaction() as tx:
        await tx.run(insert("a"))
        await tx.run(insert("b"))
        assert await tx.run(pets) == ["a", "b"]
        assert await engine.read(pets) == []  # others do not see it yet
    assert await engine.read(pets) == ["a", "b"]


async def test_an_error_in_the_block_undoes_all_steps(engine):
    with pytest.raises(LookupError):
        async with engine.transaction() as tx:
            await tx.run(insert("a"))
            raise LookupError
    assert await engine.read(pets) == []


async def test_a_step_that_fails_leaves_nothing_of_itself_and_the_others_stay(engine):
    def half(db):
        insert("half")(db)
        insert("a")(db)

    async with engine.transaction() as tx:
        await tx.run(insert("a"))
        with pytest.raises(ConstraintFailed):
            await tx.run(half)
    assert await engine.read(pets) == ["a"]


async def test_deferred_keys_are_checked_at_the_end(engine):
    async with engine.transaction() as tx:
        await tx.run(lambda db: db.execute("INSERT INTO toys (pet) VALUES (5)"))
        await tx.run(lambda db: db.execute("INSERT INTO pets VALUES (5, 'late')"))
    with pytest.raises(ConstraintFailed, match="FOREIGN KEY"):
        async with engine.transaction() as tx:
            await tx.run(insert("undone"))
            await tx.run(lambda db: db.execute("INSERT INTO toys (pet) VALUES (99)"))
    assert await engine.read(pets) == ["late"]


async def test_cancellation_rolls_back_and_frees_the_writer(engine):
    inside = asyncio.Event()

    async def hold():
        async with engine.transaction() as tx:
            await tx.run(insert("a"))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await engine.read(pets) == []
    assert await engine.write(insert("next")) == 1


async def test_cancellation_interrupts_a_running_statement(engine):
    async def run():
        async with engine.transaction(deadline=60) as tx:
            await tx.run(insert("a"))
            await tx.run(lambda db: db.execute(ENDLESS))

    task = asyncio.create_task(run())
    await until(lambda: engine.stats()["holder"])
    await asyncio.sleep(0.05)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await engine.read(pets) == []


async def test_cancellation_between_two_statements_of_a_step_interrupts_the_next(engine):
    gate = Gate(then=lambda db: db.execute(ENDLESS).fetchall())

    async def run():
        async with engine.transaction(deadline=60) as tx:
            await tx.run(gate)

    task = asyncio.create_task(run())
    await gate.is_reached()
    task.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await engine.write(insert("next")) == 1


async def test_cancelled_while_it_waits_for_the_writer_it_never_begins(engine):
    gate = Gate()
    write = asyncio.create_task(engine.write(gate))
    await gate.is_reached()

    async def begin():
        async with engine.transaction():
            raise AssertionError("it began")

    task = asyncio.create_task(begin())
    await until(lambda: engine.stats()["waiting"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await write
    assert await engine.write(insert("next")) == 1
    assert engine.stats()["transactions"] == 0


async def test_cancellation_during_commit_waits_for_the_outcome(engine):
    gate = Gate()

    async def run():
        async with engine.transaction() as tx:
            await tx.run(insert("a"))
            late.append(asyncio.create_task(tx.run(gate)))
            await gate.is_reached()

    late = []
    task = asyncio.create_task(run())
    await gate.is_reached()
    await until(lambda: engine.stats()["waiting"])  # the commit waits behind the step
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*late)
    assert await engine.read(pets) == ["a"]


# Nested.


async def test_a_nested_one_is_a_savepoint(engine):
    async with engine.transaction() as outer:
        await outer.run(insert("a"))
        with pytest.raises(LookupError):
            async with outer.transaction() as inner:
                await inner.run(insert("b"))
                raise LookupError
        async with outer.transaction() as inner:
            await inner.run(insert("c"))
            async with inner.transaction() as innermost:
                await innermost.run(insert("d"))
    assert await engine.read(pets) == ["a", "c", "d"]
    assert engine.stats()["transactions"] == 1


async def test_a_transaction_begun_inside_another_of_the_same_task_is_nested_in_it(engine):
    async def place_order():
        async with engine.transaction() as tx:
            await tx.run(insert("b"))
            raise LookupError

    async with engine.transaction() as tx:
        await tx.run(insert("a"))
        with pytest.raises(LookupError):
            await place_order()
        async with engine.transaction() as again:
            await again.run(insert("c"))
    assert await engine.read(pets) == ["a", "c"]


async def test_the_failure_of_the_outer_undoes_the_nested(engine):
    with pytest.raises(LookupError):
        async with engine.transaction() as outer:
            async with outer.transaction() as inner:
                await inner.run(insert("a"))
            raise LookupError
    assert await engine.read(pets) == []


async def test_two_nested_ones_side_by_side_are_refused(engine):
    async with engine.transaction() as outer, outer.transaction(name="first"):
        with pytest.raises(QueryError, match="'first' nested"):
            async with outer.transaction():
                pass


# Together with write and read.


async def test_a_write_and_a_read_can_take_part(engine):
    async with engine.transaction() as tx:
        await engine.write(insert("a"), tx=tx)
        assert await engine.read(pets, tx=tx) == ["a"]
        raised = False
        try:
            await engine.write(insert("a"), tx=tx)
        except ConstraintFailed:
            raised = True
        assert raised
    assert await engine.read(pets) == ["a"]


async def test_a_write_beside_the_tasks_own_transaction_is_refused_and_told_how(engine):
    async with engine.transaction(name="checkout") as tx:
        with pytest.raises(TransactionOpen, match=r"'checkout'.*test_transaction.py.*tx=tx"):
            await engine.write(insert("a"))
        await tx.run(insert("b"))
    assert await engine.write(insert("a"))


async def test_a_read_of_memory_beside_the_tasks_own_transaction_is_refused(in_memory):
    async with in_memory.transaction() as tx:
        with pytest.raises(TransactionOpen, match="tx=tx"):
            await in_memory.read(pets)
        assert await in_memory.read(pets, tx=tx) == []


async def test_a_transaction_of_another_database_is_refused(engine, in_memory):
    async with in_memory.transaction() as tx:
        with pytest.raises(ConfigurationError, match="cannot span"):
            await engine.write(insert("a"), tx=tx)


async def test_other_tasks_writes_wait_until_it_is_over(engine):
    async with engine.transaction() as tx:
        task = asyncio.create_task(engine.write(insert("later")))
        await until(lambda: engine.stats()["waiting"] == 1)
        await tx.run(insert("first"))
    assert await task == 2
    assert await engine.read(pets) == ["first", "later"]


async def test_a_task_can_open_one_after_another(engine):
    for n in range(3):
        async with engine.transaction() as tx:
            await tx.run(insert(f"pet {n}"))
    assert len(await engine.read(pets)) == 3


# Time.


@pytest.fixture
async def hasty(tmp_path):
    engine = await open_sqlite(
        f"sqlite:///{tmp_path}/hasty.db", SQLiteSettings(wait=0.05, transaction=0.2, synchronous="OFF")
    )
    await engine.write(lambda db: db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name)"))
    yield engine
    await engine.close()


async def test_who_waits_too_long_is_told_who_holds_it(hasty):
    async with hasty.transaction(name="checkout", deadline=30) as tx:
        waiting = [asyncio.create_task(hasty.write(insert("a"))), asyncio.create_task(enter(hasty))]
        for task in waiting:
            with pytest.raises(
                DatabaseLocked, match=r"'checkout', begun .* ago at .*test_transaction.py:\d+ in "
            ) as caught:
                await task
            assert caught.value.retryable
            assert caught.value.context["holder"] == "checkout"
        await tx.run(insert("b"))
    assert await hasty.read(pets) == ["b"]


async def enter(engine):
    async with engine.transaction():
        pass


async def test_those_who_wait_are_told_even_while_others_keep_coming(hasty):
    async with hasty.transaction(deadline=30):
        first = asyncio.create_task(hasty.write(insert("a")))
        others = []
        while not first.done():
            others.append(asyncio.create_task(hasty.write(insert("b"))))
            await asyncio.sleep(0)
            if len(others) > 20_000:
                await asyncio.sleep(0.01)
        assert isinstance(first.exception(), DatabaseLocked)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def test_one_that_is_open_for_too_long_is_rolled_back_and_others_go_on(hasty):
    with pytest.raises(DeadlineExceeded, match=r"'slow'.*open for more than 0.1 s"):
        async with hasty.transaction(name="slow", deadline=0.1) as tx:
            await tx.run(insert("a"))
            await until(lambda: hasty.stats()["holder"] is None)
            assert await asyncio.create_task(hasty.write(insert("b"))) == 1
    assert await hasty.read(pets) == ["b"]


async def test_its_next_step_is_told_that_time_is_over(hasty):
    async with asyncio.timeout(10):
        with pytest.raises(DeadlineExceeded):
            async with hasty.transaction(deadline=0.05) as tx:
                await until(lambda: hasty.stats()["holder"] is None)
                await tx.run(insert("a"))


async def test_a_statement_that_runs_past_the_deadline_is_interrupted(hasty):
    async with asyncio.timeout(10):
        with pytest.raises(DeadlineExceeded):
            async with hasty.transaction(deadline=0.1) as tx:
                await tx.run(lambda db: db.execute(ENDLESS))
        assert await hasty.write(insert("next")) == 1


async def test_a_blocked_event_loop_cannot_hold_the_writer(hasty):
    def elsewhere():
        until_free = time.monotonic() + 10
        while True:
            try:
                return asyncio.run(hasty.write(insert("other loop")))
            except DatabaseLocked:
                assert time.monotonic() < until_free

    with pytest.raises(DeadlineExceeded):
        async with hasty.transaction(deadline=0.1):
            other = asyncio.get_running_loop().run_in_executor(None, elsewhere)
            time.sleep(0.5)  # what a careless handler does
    assert await other == 1


async def test_a_deadline_that_is_no_time_is_refused(engine):
    with pytest.raises(ConfigurationError, match="deadline"):
        engine.transaction(deadline=0)


# Use in the wrong order.


async def test_a_step_before_or_after_the_block_is_refused(engine):
    tx = engine.transaction(name="early")
    with pytest.raises(QueryError, match="'early' is new"):
        await tx.run(pets)
    async with tx:
        pass
    with pytest.raises(QueryError, match="'early' is over"):
        await tx.run(pets)
    with pytest.raises(QueryError, match="entered before"):
        async with tx:
            pass


async def test_what_the_database_itself_rolled_back_is_told_at_the_end(engine):
    await engine.write(insert("a"))
    with pytest.raises(QueryError, match="rolled it back"):
        async with engine.transaction() as tx:
            await tx.run(insert("b"))
            with pytest.raises(ConstraintFailed):
                await tx.run(lambda db: db.execute("INSERT OR ROLLBACK INTO pets (name) VALUES ('a')"))
    assert await engine.read(pets) == ["a"]


async def test_steps_of_several_tasks_take_turns(engine):
    async with engine.transaction() as tx:
        await asyncio.gather(*(tx.run(insert(f"pet {n}")) for n in range(50)))
    assert len(await engine.read(pets)) == 50


async def test_a_store_takes_part_in_the_transaction_of_its_database(url, engine):
    from consona.storage.store import open_store

    async with open_store(url) as store:
        with pytest.raises(LookupError):
            async with engine.transaction() as tx:
                await tx.run(insert("a"))
                await store.put("key", b"1", tx=tx)
                assert (await store.get("key", tx=tx)).value == b"1"
                raise LookupError
        assert await store.get("key") is None
        async with engine.transaction() as tx:
            await tx.run(insert("a"))
            await store.put("key", b"1", tx=tx)
        assert (await store.get("key")).value == b"1"
    assert await engine.read(pets) == ["a"]
