"""Many rows go in at once, on every engine: all or nothing, from any source, and none of them twice."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec
import pytest

import sql_engines
from consona.errors import ConfigurationError, ConstraintFailed, QueryError, TransactionOpen, ValidationError
from consona.sql.database import SQLDatabase
from consona.sql.many_rows import BATCH_ROWS


class Pet(msgspec.Struct):
    name: str
    age: int | None = None


@dataclasses.dataclass
class Named:
    name: str
    age: int


class Pair(NamedTuple):
    name: str
    age: int


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def db(engine, tmp_path):
    async with engine.new(tmp_path) as url, SQLDatabase(url) as db:
        await db.execute(f"CREATE TABLE pets (id {engine.key}, name VARCHAR(50) NOT NULL UNIQUE, age INTEGER)")
        yield db


async def pets(db):
    return await db.fetch_all("SELECT name, age FROM pets ORDER BY id", into=tuple)


@pytest.mark.parametrize(
    "rows",
    [
        [{"name": "Rex", "age": 3}, {"age": 4, "name": "Kim"}],
        [Pet("Rex", 3), Pet("Kim", 4)],
        [Named("Rex", 3), Named("Kim", 4)],
        [Pair("Rex", 3), Pair("Kim", 4)],
        [Pet("Rex", 3), {"name": "Kim", "age": 4}],
    ],
    ids=["mappings", "Structs", "dataclasses", "NamedTuples", "several kinds"],
)
async def test_rows_of_any_kind_go_in(db, rows):
    assert await db.insert_many("pets", (row for row in rows)) == 2
    assert await pets(db) == [("Rex", 3), ("Kim", 4)]


async def test_sequences_go_in_with_the_names_of_their_columns(db):
    assert await db.insert_many("pets", [("Rex", 3), ["Kim", None]], columns=["name", "age"]) == 2
    assert await pets(db) == [("Rex", 3), ("Kim", None)]
    with pytest.raises(ConfigurationError, match="does not say which columns"):
        await db.insert_many("pets", [("Rex", 3)])


async def test_a_part_of_the_columns_of_a_struct_goes_in(db):
    await db.insert_many("pets", [Pet("Rex", 3)], columns=["name"])
    assert await pets(db) == [("Rex", None)]


async def test_no_rows_are_no_work(db):
    assert await db.insert_many("pets", []) == 0
    assert await db.upsert_many("pets", iter(()), key="name") == 0


async def test_many_batches_go_in_together_or_not_at_all(db):
    number = 2 * BATCH_ROWS + 10

    async def source(last):
        for n in range(number):
            yield {"name": f"pet {n}", "age": n}
        yield {"name": last, "age": 0}

    with pytest.raises(ConstraintFailed):
        await db.insert_many("pets", source("pet 5"))
    assert await db.fetch_value("SELECT count(*) FROM pets") == 0
    assert await db.insert_many("pets", source("the last")) == number + 1
    assert await db.fetch_value("SELECT count(*) FROM pets") == number + 1


async def test_in_a_transaction_a_load_that_fails_undoes_itself_alone(db):
    rows = [{"name": f"pet {n}", "age": n} for n in range(BATCH_ROWS + 5)]
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO pets (name) VALUES ('first')")
        with pytest.raises(ConstraintFailed):
            async with tx.transaction() as inner:
                await inner.insert_many("pets", [*rows, rows[0]])
        assert await tx.insert_many("pets", rows[:60]) == 60
    assert await db.fetch_value("SELECT count(*) FROM pets") == 61


async def test_a_load_beside_the_tasks_own_transaction_is_refused(db):
    rows = [{"name": f"pet {n}", "age": n} for n in range(BATCH_ROWS + 5)]
    async with db.transaction():
        for some in (rows[:1], rows):
            with pytest.raises(TransactionOpen):
                await db.insert_many("pets", some)


async def test_a_cancelled_load_leaves_nothing(db):
    reached = asyncio.Event()

    async def source():
        for n in range(3 * BATCH_ROWS):
            yield {"name": f"pet {n}", "age": n}
        reached.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(db.insert_many("pets", source()))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await db.fetch_value("SELECT count(*) FROM pets") == 0


async def test_rows_that_are_there_are_changed_and_the_others_inserted(db):
    await db.insert_many("pets", [Pet("Rex", 3), Pet("Kim", 4)])
    assert await db.upsert_many("pets", [Pet("Kim", 5), Pet("Ada", 1)], key="name") == 2
    assert await pets(db) == [("Rex", 3), ("Kim", 5), ("Ada", 1)]
    assert await db.upsert_many("pets", [Pet("Kim", 9), Pet("Bob", 2)], key=["name"], update=[]) == 2
    assert await pets(db) == [("Rex", 3), ("Kim", 5), ("Ada", 1), ("Bob", 2)]


async def test_a_key_that_is_no_column_is_refused(db):
    with pytest.raises(ConfigurationError, match="no column 'nick'"):
        await db.upsert_many("pets", [Pet("Rex", 3)], key="nick")
    with pytest.raises(ConfigurationError, match="needs a key"):
        await db.upsert_many("pets", [Pet("Rex", 3)], key=())


async def test_a_row_that_does_not_fit_is_told_by_its_number_and_nothing_goes_in(db):
    with pytest.raises(ValidationError, match=r"^Row 2 has other columns than the first one: 'age' is missing; 'nick'"):
        await db.insert_many("pets", [{"name": "Rex", "age": 1}, {"name": "Kim", "nick": "K"}])
    with pytest.raises(ValidationError, match=r"^Row 2 has 3 values for 2 columns"):
        await db.insert_many("pets", [("Rex", 1), ("Kim", 1, 2)], columns=["name", "age"])
    with pytest.raises(ValidationError, match=r"^Row 3 is of the type int"):
        await db.insert_many("pets", [{"name": "Rex"}, {"name": "Kim"}, 5])
    with pytest.raises(ValidationError, match=r"^Row 2: The 2\. value of the statement is NaN"):
        await db.insert_many("pets", [{"name": "Rex", "age": 1}, {"name": "Kim", "age": float("nan")}])
    with pytest.raises(ConfigurationError, match="iterate over; got dict"):
        await db.insert_many("pets", {"name": "Rex"})
    assert await pets(db) == []


@pytest.mark.parametrize("many", [1, 200])
async def test_names_and_values_of_any_kind_are_only_names_and_values(db, many):
    strange = 'a "table`; DROP TABLE pets; --'
    quoted = [db.identifier(name) for name in (strange, "select", "b c")]
    await db.execute(f"CREATE TABLE {quoted[0]} ({quoted[1]} VARCHAR(100), {quoted[2]} INTEGER)")
    rows = [{"select": "'); DROP TABLE pets; --", "b c": n} for n in range(many)]
    assert await db.insert_many(strange, rows) == many
    assert await db.fetch_all(f"SELECT * FROM {quoted[0]} ORDER BY {quoted[2]}") == rows
    assert await pets(db) == []
    with pytest.raises(QueryError):
        await db.insert_many("pets; DROP TABLE pets", rows)
    with pytest.raises(QueryError):
        await db.insert_many("pets", [{"name) VALUES ('x'); --": 1}])
    assert await pets(db) == []


@pytest.mark.parametrize("many", [1, 200])
async def test_every_type_comes_back_from_a_load(engine, db, many):
    kinds = engine.types
    columns = ", ".join(f"a_{name} {kinds[name]}" for name in ("decimal", "datetime", "json", "bytes", "bool"))
    await db.execute(f"CREATE TABLE kept (id INTEGER, {columns})")
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    row = {"a_decimal": Decimal("0.10"), "a_datetime": moment, "a_json": {"a": [1]}, "a_bytes": b"\0x", "a_bool": True}
    await db.insert_many("kept", [{"id": n, **row} for n in range(many)])

    class Kept(msgspec.Struct):
        a_decimal: Decimal
        a_datetime: datetime
        a_json: dict[str, list[int]]
        a_bytes: bytes
        a_bool: bool

    assert await db.fetch_all("SELECT * FROM kept", into=Kept) == [Kept(**row)] * many
