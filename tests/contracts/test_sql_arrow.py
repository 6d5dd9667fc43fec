"""Answers as Arrow tables, on every SQL engine."""

import sys
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest

import sql_engines
from consona import ConfigurationError, MissingExtra, SQLDatabase, ValidationError

ID = UUID("12345678-1234-5678-1234-567812345678")
WHEN = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def db(engine, tmp_path):
    types = engine.types
    async with engine.new(tmp_path) as url, SQLDatabase(url) as db:
        await db.execute(
            f"CREATE TABLE orders (id INTEGER PRIMARY KEY, customer {types['text']}, total {types['float']},"
            f" price {types['decimal']}, day {types['datetime']}, code {types['uuid']}, data {types['bytes']})"
        )
        await db.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", 1, "Ada", 1.5, Decimal("9.90"), WHEN, ID, b"\0x"
        )
        await db.execute("INSERT INTO orders (id) VALUES (2)")
        yield db


async def test_columns_have_the_types_of_what_is_stored(db):
    table = await db.fetch_arrow("SELECT id, customer, total, data FROM orders ORDER BY id")
    assert table.column_names == ["id", "customer", "total", "data"]
    assert table.schema.types == [pa.int64(), pa.string(), pa.float64(), pa.binary()]
    assert table.to_pydict() == {"id": [1, 2], "customer": ["Ada", None], "total": [1.5, None], "data": [b"\0x", None]}


async def test_a_schema_says_what_they_are(db):
    schema = pa.schema({"id": pa.int32(), "total": pa.float32()})
    table = await db.fetch_arrow("SELECT id, total FROM orders WHERE id = ?", 1, schema=schema)
    assert table.schema == schema
    assert table.to_pylist() == [{"id": 1, "total": 1.5}]


async def test_an_answer_without_rows_has_its_columns(db):
    table = await db.fetch_arrow("SELECT id, customer FROM orders WHERE id > :least", {"least": 9})
    assert (table.num_rows, table.column_names) == (0, ["id", "customer"])
    schema = pa.schema({"id": pa.int64()})
    assert (await db.fetch_arrow("SELECT id FROM orders WHERE id > 9", schema=schema)).schema == schema


async def test_every_stored_type_has_a_place(db):
    table = await db.fetch_arrow("SELECT price, day, code FROM orders ORDER BY id")
    stored = table.to_pylist()[0]
    assert str(stored["code"]) == str(ID)
    assert Decimal(stored["price"]) == Decimal("9.90")
    assert "2026-01-31 12:30" in str(stored["day"])


async def test_a_transaction_gives_what_it_sees(db):
    async with db.transaction() as tx:
        await tx.execute("DELETE FROM orders WHERE id = 2")
        assert (await tx.fetch_arrow("SELECT id FROM orders")).to_pydict() == {"id": [1]}


async def test_what_does_not_fit_is_told_by_its_column_and_without_its_value(db):
    with pytest.raises(ValidationError, match="'customer' holds str, which is no column of int64") as caught:
        await db.fetch_arrow("SELECT customer FROM orders", schema=pa.schema({"customer": pa.int64()}))
    assert "Ada" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="The schema has the columns x; the answer has id"):
        await db.fetch_arrow("SELECT id FROM orders", schema=pa.schema({"x": pa.int64()}))
    with pytest.raises(ConfigurationError, match=r"pyarrow\.Schema, not dict"):
        await db.fetch_arrow("SELECT id FROM orders", schema={"id": "int"})


async def test_a_column_of_several_types_is_told():
    async with SQLDatabase("sqlite://arrow-mixed") as db:
        with pytest.raises(ValidationError, match="'x' holds int, str, which is no column of one type"):
            await db.fetch_arrow("SELECT 1 AS x UNION ALL SELECT 'one'")


async def test_without_pyarrow_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "consona.sql.arrow", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with SQLDatabase("sqlite://arrow-missing") as db:
        with pytest.raises(MissingExtra, match=r"pip install 'consona\[arrow\]'"):
            await db.fetch_arrow("SELECT 1")
