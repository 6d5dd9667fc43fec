"""Transactions: together or not at all, whatever happens to the program, the connection or the time."""

import asyncio

import pytest

from consona.errors import (
    CommitUnknown,
    ConnectionLost,
    ConstraintFailed,
    DeadlineExceeded,
    QueryError,
    TransactionConflict,
)
from storage_tools import until

pytestmark = pytest.mark.servers

INSERT = "INSERT INTO pets (name, age) VALUES ($1, $2)"


async def names(asking):
    return [name for (name,) in (await asking.ask("SELECT name FROM pets ORDER BY id")).rows]


async def test_it_commits_at_the_end_of_its_block_and_not_before(engine):
    async with engine.transaction() as tx:
        await tx.ask(INSERT, ["Rex", 3])
        assert await names(tx) == ["Rex"]
        assert await names(engine) == []
    assert await names(engine) == ["Rex"]


async def test_an_error_rolls_it_back(engine):
    with pytest.raises(LookupError):
        async with engine.transaction() as tx:
            await tx.ask(INSERT, ["Rex", 3])
            raise LookupError
    assert await names(engine) == []
    assert engine.pool.stats()["in_use"] == 0


async def test_a_savepoint_can_fail_without_the_rest(engine):
    async with engine.transaction() as tx:
        await tx.ask(INSERT, ["Rex", 3])
        with pytest.raises(ConstraintFailed):
            async with tx.transaction() as inner:
                await inner.ask(INSERT, ["Kim", 3])
                async with inner.transaction() as innermost:
                    await innermost.ask(INSERT, ["Rex", 3])
        async with tx.transaction() as inner:
            await inner.ask(INSERT, ["Ada", 3])
    assert await names(engine) == ["Rex", "Ada"]


async def test_a_statement_that_failed_lets_nothing_be_committed(engine):
    with pytest.raises(QueryError, match="was rolled back: a statement in it had failed"):
        async with engine.transaction() as tx:
            await tx.ask(INSERT, ["Rex", 3])
            with pytest.raises(ConstraintFailed):
                await tx.ask(INSERT, ["Rex", 3])
    assert await names(engine) == []


async def test_after_a_failed_statement_the_next_one_says_what_to_do(engine):
    async with engine.transaction() as tx:
        with pytest.raises(QueryError):
            await tx.ask("SELECT 1 / 0")
        with pytest.raises(QueryError, match="first error in the transaction"):
            await tx.ask("SELECT 1")
        await tx.rollback()


async def test_one_that_is_over_refuses_statements(engine):
    async with engine.transaction() as tx:
        pass
    with pytest.raises(QueryError, match="over"):
        await tx.ask("SELECT 1")
    await tx.rollback()  # no error for what is gone


async def test_cancelling_it_rolls_back_and_leaves_a_clean_connection(engine):
    reached = asyncio.Event()

    async def work():
        async with engine.transaction() as tx:
            await tx.ask(INSERT, ["Rex", 3])
            reached.set()
            await tx.ask("SELECT pg_sleep(30)")

    task = asyncio.create_task(work())
    await reached.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not engine.pool.stats()["cleaning"])
    assert await names(engine) == []
    assert engine.pool.stats()["closed"] == {}


async def test_cancelling_while_it_begins_leaves_nothing_open(engine):
    for delay in range(20):
        tx = engine.transaction()
        task = asyncio.create_task(tx.begin())
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await tx.rollback()
        await until(lambda: not engine.pool.stats()["in_use"])
    await until(lambda: not engine.pool.stats()["cleaning"])


async def test_a_cancelled_commit_waits_for_its_outcome(engine):
    await engine.ask(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$"
    )
    await engine.ask(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON pets DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    tx = engine.transaction()
    await tx.begin()
    await tx.ask(INSERT, ["Rex", 3])
    committing = asyncio.create_task(tx.commit())
    await asyncio.sleep(0.1)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    assert await names(engine) == ["Rex"]


async def test_one_that_is_open_for_too_long_is_rolled_back_and_its_owner_told(engine):
    async with engine.transaction(deadline=0.1) as tx:
        await tx.ask(INSERT, ["Rex", 3])
        await until(lambda: not engine.pool.stats()["in_use"])  # others may have the connection
        with pytest.raises(DeadlineExceeded, match=r"open for more than 0\.1 s"):
            await tx.ask("SELECT 1")
        with pytest.raises(DeadlineExceeded):
            await tx.ask("SELECT 1")
        await tx.rollback()
    assert await names(engine) == []


async def test_a_statement_is_interrupted_when_the_time_of_its_transaction_is_over(engine):
    with pytest.raises(DeadlineExceeded, match=r"open for more than 0\.1 s"):
        async with engine.transaction(deadline=0.1) as tx:
            await tx.ask("SELECT pg_sleep(30)")


async def test_a_commit_after_the_time_is_over_says_so(engine):
    tx = engine.transaction(deadline=0.05)
    await tx.begin()
    await tx.ask(INSERT, ["Rex", 3])
    await until(lambda: not engine.pool.stats()["in_use"])
    with pytest.raises(DeadlineExceeded):
        await tx.commit()
    assert await names(engine) == []


async def test_transactions_that_cannot_be_put_in_an_order_are_told_to_try_again(engine):
    await engine.ask(INSERT, ["Rex", 3])
    one, other = engine.transaction(isolation="serializable"), engine.transaction(isolation="serializable")
    await one.begin()
    await other.begin()
    for tx in (one, other):
        await tx.ask("SELECT sum(age) FROM pets")
    await one.ask(INSERT, ["Kim", 1])
    await other.ask(INSERT, ["Ada", 1])
    await one.commit()
    with pytest.raises(TransactionConflict) as caught:
        await other.commit()
    assert caught.value.retryable
    assert await names(engine) == ["Rex", "Kim"]


async def test_a_deadlock_is_told_to_one_of_the_two(engine):
    await engine.ask("INSERT INTO pets (name, age) VALUES ('Rex', 1), ('Kim', 1)")

    async def change(first, second, meeting):
        async with engine.transaction() as tx:
            await tx.ask("SET LOCAL deadlock_timeout = '20ms'")
            await tx.ask("UPDATE pets SET age = age + 1 WHERE name = $1", [first])
            await meeting.wait()
            await tx.ask("UPDATE pets SET age = age + 1 WHERE name = $1", [second])

    meeting = asyncio.Barrier(2)
    results = await asyncio.gather(change("Rex", "Kim", meeting), change("Kim", "Rex", meeting), return_exceptions=True)
    [error] = [result for result in results if result is not None]
    assert isinstance(error, TransactionConflict)
    assert error.retryable
    assert [row[0] for row in (await engine.ask("SELECT age FROM pets")).rows] == [2, 2]


async def test_a_connection_that_breaks_in_it_is_lost_and_nothing_was_written(shaky, network, engine):
    with pytest.raises(ConnectionLost, match="nothing was written") as caught:
        async with shaky.transaction() as tx:
            await tx.ask(INSERT, ["Rex", 3])
            network.cut()
            await tx.ask(INSERT, ["Kim", 3])
    assert caught.value.retryable
    assert await names(engine) == []
    async with shaky.transaction() as tx:
        await tx.ask(INSERT, ["Rex", 3])
    assert await names(engine) == ["Rex"]


@pytest.mark.parametrize("answered", [False, True])
async def test_a_connection_that_breaks_during_the_commit_leaves_it_unknown(shaky, network, engine, answered):
    tx = shaky.transaction()
    await tx.begin()
    await tx.ask(INSERT, ["Rex", 3])
    if answered:
        network.cut_after(network.to_client, 0)  # the server commits, and its answer is lost
    else:
        network.cut_after(network.to_server, 0)  # the server never hears of it
    with pytest.raises(CommitUnknown) as caught:
        await tx.commit()
    assert not caught.value.retryable
    await asyncio.sleep(0.05)
    assert await names(engine) == (["Rex"] if answered else [])


async def test_streaming_in_a_transaction_sees_its_changes_and_leaves_its_tables_free(engine):
    async with engine.transaction() as tx:
        await tx.ask("INSERT INTO pets (name, age) SELECT 'pet ' || n, n FROM generate_series(1, 100) n")
        stream = tx.stream("SELECT age FROM pets ORDER BY id", [], batch=10)
        first = await anext(stream)
        assert [age for (age,) in first.rows] == list(range(1, 11))
        await stream.aclose()
        await tx.ask("ALTER TABLE pets ADD COLUMN colour text")
        assert "colour" in (await tx.ask("SELECT * FROM pets")).columns


async def test_copy_is_part_of_the_transaction(engine):
    with pytest.raises(LookupError):
        async with engine.transaction() as tx:
            assert await tx.copy("pets", [("Rex", 3)], columns=["name", "age"]) == 1
            assert await names(tx) == ["Rex"]
            raise LookupError
    assert await names(engine) == []
