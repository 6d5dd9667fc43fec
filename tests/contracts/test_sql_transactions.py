"""Transactions of every SQL engine: what is asked for at the beginning holds, and what is in the way is tried again."""

import asyncio

import pytest

import sql_engines
from consona import Retry
from consona.errors import ConfigurationError, ConstraintFailed, DatabaseReadOnly, QueryError, TransactionConflict
from consona.sql.database import SQLDatabase

LEVELS = ["read committed", "repeatable read", "serializable"]


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def db(engine, tmp_path):
    async with engine.new(tmp_path) as url, SQLDatabase(url) as db:
        await db.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, money INTEGER NOT NULL)")
        await db.execute_many("INSERT INTO accounts VALUES (?, ?)", [(1, 100), (2, 100)])
        yield db


async def total(db):
    return sum(await db.fetch_column("SELECT money FROM accounts"))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO accounts VALUES (3, 1)",
        "UPDATE accounts SET money = 0",
        "DELETE FROM accounts",
    ],
)
async def test_a_transaction_that_only_reads_refuses_what_writes(db, statement):
    with pytest.raises(DatabaseReadOnly):
        async with db.transaction(read_only=True) as tx:
            assert await total(tx) == 200
            await tx.execute(statement)
    assert await total(db) == 200
    await db.execute("UPDATE accounts SET money = 1")  # the next one writes as before
    assert await total(db) == 2


async def test_a_transaction_that_only_reads_can_do_all_that_reads(db):
    async with db.transaction(read_only=True) as tx:
        assert await tx.fetch_column("SELECT id FROM accounts ORDER BY id") == [1, 2]
        assert [row async for row in tx.stream("SELECT id FROM accounts ORDER BY id", into=int, batch=1)] == [1, 2]
        async with tx.transaction() as part:
            assert await part.fetch_all("SELECT money FROM accounts", into=int) == [100, 100]
            async with part.transaction() as smaller:
                assert await total(smaller) == 200
        with pytest.raises(LookupError):
            async with tx.transaction():
                raise LookupError
        assert await total(tx) == 200


async def test_what_is_nested_in_one_that_only_reads_only_reads_too(db):
    async def write():
        async with db.transaction(read_only=True) as tx, tx.transaction() as part:
            await part.execute("DELETE FROM accounts")

    with pytest.raises(DatabaseReadOnly):
        await write()
    assert await total(db) == 200


@pytest.mark.parametrize("level", LEVELS[1:])
async def test_at_a_higher_level_a_transaction_sees_one_moment(engine, db, level):
    changes = []

    async def change():
        changes.append((await db.execute("UPDATE accounts SET money = money + 1")).rows)

    # MariaDB's way to be serializable is that who writes waits for who reads; so it is in one connection's memory.
    waits = not engine.isolates_readers or (db.dialect.name == "mysql" and level == "serializable")
    async with db.transaction(isolation=level, read_only=True) as tx:
        assert await total(tx) == 200
        changing = asyncio.create_task(change())
        if not waits:
            await changing
            assert changes == [2]
        assert await total(tx) == 200
    await changing
    assert await total(db) == 202


async def withdraw(db, account):
    """Take 150 where both accounts together have it: right alone, wrong beside another that did not see it."""

    async def work(tx):
        if await total(tx) >= 150:
            await asyncio.sleep(0)
            await tx.execute("UPDATE accounts SET money = money - 150 WHERE id = ?", account)

    await db.run_in_transaction(work, isolation="serializable", retry=Retry(attempts=20, backoff=0.01))


async def test_serializable_means_as_if_one_after_the_other(db):
    await asyncio.gather(withdraw(db, 1), withdraw(db, 2))
    assert await total(db) == 50


@pytest.mark.parametrize("level", LEVELS)
async def test_no_addition_is_lost_at_any_level_where_the_function_runs_again(db, level):
    async def add(tx):
        await tx.execute("UPDATE accounts SET money = money + 1 WHERE id = 1")

    retry = Retry(attempts=50, backoff=0.002, max_wait=0.05)
    await asyncio.gather(*(db.run_in_transaction(add, isolation=level, retry=retry) for _ in range(16)))
    assert await total(db) == 216


async def test_a_level_that_does_not_exist_is_refused(db):
    with pytest.raises(ConfigurationError, match="no isolation level 'chaos'"):
        db.transaction(isolation="chaos")


async def test_what_says_that_it_is_worth_it_is_tried_again_as_a_whole(db):
    tries = []
    hooks = []

    async def work(tx):
        tries.append(len(tries))
        await tx.execute("INSERT INTO accounts VALUES (?, 0)", 10 + len(tries))
        tx.on_commit(lambda: hooks.append(len(tries)))
        if len(tries) < 3:
            raise TransactionConflict("Somebody was in the way.")
        return "done"

    assert await db.run_in_transaction(work, retry=Retry(attempts=5, backoff=0.001)) == "done"
    assert tries == [0, 1, 2]
    assert hooks == [3]  # of the try that was committed
    assert await db.fetch_column("SELECT id FROM accounts ORDER BY id") == [1, 2, 13]


async def test_what_is_not_worth_it_is_told_at_once(db):
    tries = []

    async def work(tx):
        tries.append(1)
        await tx.execute("INSERT INTO accounts VALUES (1, 0)")

    with pytest.raises(ConstraintFailed):
        await db.run_in_transaction(work)
    assert tries == [1]


async def test_the_tries_end(db):
    async def work(tx):
        raise TransactionConflict("Somebody is always in the way.")

    with pytest.raises(TransactionConflict, match="always"):
        await db.run_in_transaction(work, retry=Retry(attempts=3, backoff=0.001))
    assert await total(db) == 200


async def test_a_savepoint_released_is_undone_with_what_it_is_in(db):
    async def outer():
        async with db.transaction() as tx:
            async with tx.transaction() as part:
                await part.execute("UPDATE accounts SET money = 0")
            assert await total(tx) == 0
            raise LookupError

    with pytest.raises(LookupError):
        await outer()
    assert await total(db) == 200


async def test_savepoints_nest_and_each_undoes_its_own(db):
    async def fail_inside(tx, depth):
        async with tx.transaction() as part:
            await part.execute("INSERT INTO accounts VALUES (?, 0)", 10 + depth)
            if depth < 4:
                with pytest.raises(LookupError):
                    await fail_inside(part, depth + 1)
            if depth:
                raise LookupError

    async with db.transaction() as tx:
        await fail_inside(tx, 0)
        with pytest.raises(ConstraintFailed):
            async with tx.transaction() as part:
                await part.execute("INSERT INTO accounts VALUES (10, 0)")
        await tx.execute("INSERT INTO accounts VALUES (20, 0)")
    assert await db.fetch_column("SELECT id FROM accounts ORDER BY id") == [1, 2, 10, 20]


async def test_a_hook_that_fails_is_no_failure_of_the_commit(db, caplog):
    seen = []

    async def later():
        seen.append("async")

    async with db.transaction() as tx:
        tx.on_commit(lambda: 1 / 0)
        tx.on_commit(later)
        await tx.execute("UPDATE accounts SET money = 1")
    assert seen == ["async"]
    assert "A hook after a commit failed" in caplog.text
    assert await total(db) == 2


async def test_hooks_of_what_was_not_committed_do_not_run(db):
    seen = []

    async def work():
        async with db.transaction() as tx:
            tx.on_commit(lambda: seen.append("committed"))
            await tx.execute("INSERT INTO accounts VALUES (3, 0)")
            await tx.rollback()

    await work()
    with pytest.raises(QueryError):
        async with db.transaction() as tx:
            tx.on_commit(lambda: seen.append("committed"))
            await tx.execute("INSERT INTO nowhere VALUES (1)")
    assert seen == []
