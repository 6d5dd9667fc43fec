"""The promises of SQL, kept by every engine: the same tests run over all of them. `sql_engines.py` has the engines."""

import asyncio

import pytest

import sql_engines
from consona.errors import ConstraintFailed, QueryError, StatementError, TransactionOpen, ValidationError
from consona.sql.database import SQLDatabase


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def db(engine, tmp_path):
    async with engine.new(tmp_path) as url, SQLDatabase(url) as db:
        await db.execute(f"CREATE TABLE pets (id {engine.key}, name VARCHAR(50) NOT NULL UNIQUE, age INTEGER)")
        yield db


async def add(db, *names):
    for name in names:
        await db.execute("INSERT INTO pets (name, age) VALUES (?, ?)", name, len(name))


async def add_and_fail(transaction, name, *hooks):
    """Add a pet in a transaction that is then rolled back by an error."""
    async with transaction as tx:
        for hook in hooks:
            tx.on_commit(hook)
        await add(tx, name)
        raise LookupError


async def names(db):
    return await db.fetch_column("SELECT name FROM pets ORDER BY id")


async def test_execute_tells_the_rows_and_the_generated_key(db):
    assert await db.execute("INSERT INTO pets (name) VALUES (?)", "Rex") == (1, 1)
    assert await db.execute("INSERT INTO pets (name) VALUES (?)", "Kim") == (1, 2)
    assert await db.execute("UPDATE pets SET age = 3") == (2, None)
    assert await db.execute("DELETE FROM pets WHERE name = ?", "nobody") == (0, None)


async def test_rows_come_as_dicts_in_the_columns_order(db):
    await add(db, "Rex")
    assert await db.fetch_all("SELECT name, age FROM pets") == [{"name": "Rex", "age": 3}]
    assert await db.fetch_one("SELECT age, name FROM pets") == {"age": 3, "name": "Rex"}
    assert await db.fetch_one("SELECT * FROM pets WHERE age > 5") is None
    assert await db.fetch_value("SELECT count(*) FROM pets") == 1
    assert await db.fetch_value("SELECT name FROM pets WHERE age > 5") is None


async def test_rows_can_come_as_they_are_with_the_names_of_their_columns(db):
    await add(db, "Rex")
    assert await db.fetch_rows("SELECT name, age FROM pets") == (("name", "age"), [("Rex", 3)])
    assert await db.fetch_rows("SELECT name, age FROM pets WHERE age > ?", 5) == (("name", "age"), [])
    async with db.transaction() as tx:
        assert (await tx.fetch_rows("SELECT age FROM pets")).columns == ("age",)


async def test_names_for_values_may_repeat_and_come_in_any_order(db):
    await db.execute("INSERT INTO pets (age, name) VALUES (:age, :name)", {"name": "Rex", "age": 4})
    found = await db.fetch_all("SELECT name FROM pets WHERE age = :age OR age = :age + 1", {"age": 3})
    assert found == [{"name": "Rex"}]


async def test_what_the_schema_forbids_is_a_constraint_that_failed(db):
    await add(db, "Rex")
    with pytest.raises(ConstraintFailed) as caught:
        await add(db, "Rex")
    assert caught.value.rule == "unique"
    with pytest.raises(ConstraintFailed) as caught:
        await db.execute("INSERT INTO pets (name) VALUES (?)", None)
    assert (caught.value.rule, caught.value.columns) == ("not null", ("name",))
    assert await names(db) == ["Rex"]


async def test_a_statement_that_the_database_does_not_understand_says_where(db):
    with pytest.raises(StatementError) as caught:
        await db.fetch_all("SELECT *\nFRM pets WHERE age = :age", {"age": 5})
    assert caught.value.place in {"line 2", "line 2, character 1", "line 2, character 5"}
    with pytest.raises(StatementError):
        await db.fetch_all("SELECT * FROM nobody")
    with pytest.raises(StatementError):
        await db.execute("UPDATE pets SET nothing = 1")


async def test_many_rows_happen_together_or_not_at_all(db):
    rows = [("Rex", 3), ("Kim", 4), ("Ada", None)]
    assert (await db.execute_many("INSERT INTO pets (name, age) VALUES (?, ?)", rows)).rows == 3
    with pytest.raises(ConstraintFailed):
        await db.execute_many("INSERT INTO pets (name, age) VALUES (?, ?)", [("Bob", 1), ("Rex", 2)])
    assert await names(db) == ["Rex", "Kim", "Ada"]


async def test_a_transaction_commits_when_its_block_ends_and_rolls_back_on_an_error(db):
    async with db.transaction() as tx:
        await add(tx, "Rex")
        assert await names(tx) == ["Rex"]
    with pytest.raises(LookupError):
        await add_and_fail(db.transaction(), "Kim")
    assert await names(db) == ["Rex"]


async def test_a_savepoint_can_fail_without_the_rest(db):
    async with db.transaction() as tx:
        await add(tx, "Rex")
        with pytest.raises(LookupError):
            await add_and_fail(db.transaction(), "Kim")
        async with tx.transaction() as inner:
            await add(inner, "Ada")
    assert await names(db) == ["Rex", "Ada"]


async def test_a_cancelled_transaction_leaves_nothing(db):
    reached = asyncio.Event()

    async def work():
        async with db.transaction() as tx:
            await add(tx, "Rex")
            reached.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await names(db) == []
    await add(db, "Kim")


async def test_a_write_beside_the_tasks_own_transaction_is_refused(db):
    async with db.transaction():
        with pytest.raises(TransactionOpen, match="beside it"):
            await add(db, "Rex")


async def test_hooks_run_after_the_commit_and_only_then(db):
    seen = []
    async with db.transaction() as tx:
        tx.on_commit(lambda: seen.append("outer"))
        async with tx.transaction() as kept:
            kept.on_commit(lambda: seen.append("kept"))
        with pytest.raises(LookupError):
            await add_and_fail(tx.transaction(), "Kim", lambda: seen.append("undone"))
        assert seen == []
    assert seen == ["outer", "kept"]


async def test_a_transaction_can_be_ended_by_hand(db):
    tx = await db.begin()
    await add(tx, "Rex")
    await tx.rollback()
    tx = await db.begin()
    await add(tx, "Kim")
    await tx.commit()
    assert await names(db) == ["Kim"]
    with pytest.raises(QueryError, match="committed"):
        await tx.execute("DELETE FROM pets")


async def test_a_stream_gives_all_rows_of_one_moment_in_batches(db):
    await db.execute_many("INSERT INTO pets (name, age) VALUES (?, ?)", [(f"pet {n}", n) for n in range(2500)])
    seen = [row["age"] async for row in db.stream("SELECT age FROM pets ORDER BY id", batch=100)]
    assert seen == list(range(2500))
    async with db.transaction() as tx:
        seen = [row async for row in tx.stream("SELECT age FROM pets ORDER BY id", into=int, batch=7)]
        assert seen == list(range(2500))
    assert [row async for row in db.stream("SELECT age FROM pets WHERE age < 0")] == []


async def test_a_second_statement_is_refused_before_the_database_sees_it(db):
    with pytest.raises(ValidationError, match="second statement"):
        await db.execute("DELETE FROM pets; DROP TABLE pets")
