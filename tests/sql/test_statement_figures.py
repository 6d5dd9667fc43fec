"""Statements are told apart by what they say, never by their values; only so many of them."""

from __future__ import annotations

import pytest

from consona import SQLDatabase
from consona.sql.dialect import MYSQL, POSTGRESQL, SQLITE
from consona.sql.statement_figures import normalised


@pytest.mark.parametrize(
    ("sql", "text", "dialect"),
    [
        ("SELECT * FROM a WHERE x = 1 AND y = 'secret'", "SELECT * FROM a WHERE x = ? AND y = ?", SQLITE),
        ("SELECT  *\n FROM a -- why\n WHERE x = ?;", "SELECT * FROM a WHERE x = ?", SQLITE),
        ("SELECT * FROM a WHERE x IN (?, ?,?)", "SELECT * FROM a WHERE x IN (?)", SQLITE),
        ("INSERT INTO a (x, y) VALUES (1, 'b'), (2, 'c')", "INSERT INTO a (x, y) VALUES (?)", SQLITE),
        ("SELECT 'it''s' || \"a name\" FROM `b`", 'SELECT ? || "a name" FROM `b`', SQLITE),
        ("SELECT $$secret$$, E'x\\'y', x::int, a ?? 'k' FROM t", "SELECT ?, x::int, a ?? ? FROM t", POSTGRESQL),
        ("SELECT 0x1F, 1.5e3 /* 7 */ FROM t WHERE id = :id", "SELECT ? FROM t WHERE id = ?", MYSQL),
    ],
)
def test_a_statement_without_its_values(sql, text, dialect):
    assert normalised(sql, dialect) == text


def test_a_long_statement_is_shortened():
    text = normalised("SELECT " + ", ".join(f"column_{number}" for number in range(200)), SQLITE)
    assert len(text) == 280
    assert text.endswith("…")


async def test_calls_rows_failures_and_time_of_each_statement(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'shop.db'}") as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        for name in ("Rex", "Mia", "Bo"):
            await db.execute("INSERT INTO pets (name) VALUES (?)", name)
        with pytest.raises(Exception, match="UNIQUE"):
            await db.execute("INSERT INTO pets (name) VALUES ('Bo')")
        async with db.transaction() as tx:
            await tx.fetch_all("SELECT name FROM pets WHERE id > ?", 1)
        await db.fetch_one("SELECT name FROM pets WHERE id > 2", cache=60)
        found = {stats.text: stats for stats in db.statements()}
        insert = found["INSERT INTO pets (name) VALUES (?)"]
        assert (insert.calls, insert.failed, insert.rows) == (4, 1, 3)
        assert 0 < insert.p50 <= insert.p99 <= insert.total
        select = found["SELECT name FROM pets WHERE id > ?"]
        assert (select.calls, select.rows) == (2, 3)
        totals = [stats.total for stats in db.statements()]
        assert totals == sorted(totals, reverse=True)
        assert len(db.statements(1)) == 1


async def test_only_so_many_statements_are_told_apart():
    async with SQLDatabase("sqlite://many-statements") as db:
        for number in range(520):
            await db.fetch_value(f"SELECT ? AS name_{number}", 1)
        found = db.statements(1000)
        assert len(found) == 501
        assert next(stats.calls for stats in found if stats.text == "(others)") == 20
