"""What a statement reads and writes is found by parsing; what cannot be known is never guessed."""

from __future__ import annotations

import pytest

from consona.sql.cache.analysis import analyse
from consona.sql.dialect import MYSQL, POSTGRESQL, SQLITE

ENGINES = [SQLITE, POSTGRESQL, MYSQL]


def test_capitals_in_names_count_on_mysql_only():
    sql = "SELECT * FROM Users"
    assert [sorted(analyse(sql, dialect).reads) for dialect in (SQLITE, POSTGRESQL, MYSQL)] == [
        ["users"],
        ["users"],
        ["Users"],
    ]


@pytest.mark.parametrize(
    "sql", ["SELECT @n FROM users", "SELECT @@in_transaction FROM users", "SELECT @n := id FROM users"]
)
def test_a_variable_of_the_session_may_be_another_next_time(sql):
    assert analyse(sql, MYSQL).reason == "it reads a variable of the session"


@pytest.mark.parametrize("dialect", ENGINES, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT * FROM users WHERE age > ?", "users"),
        ("SELECT u.name, COUNT(*) FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.name", "users orders"),
        ("SELECT name FROM users WHERE id IN (SELECT user_id FROM orders WHERE total > :total)", "users orders"),
        ("SELECT 1 FROM a UNION ALL SELECT 2 FROM (SELECT * FROM b) x", "a b"),
        ("SELECT (SELECT MAX(x) FROM c) FROM d", "c d"),
        ("WITH old AS (SELECT * FROM users WHERE age > 80) SELECT * FROM old JOIN orders ON 1 = 1", "users orders"),
        ("WITH users AS (SELECT * FROM users) SELECT * FROM users", "users"),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT * FROM t, x", "x"),
        ("SELECT * FROM other.users", "other.users"),
        ("SELECT CASE WHEN a IS NULL THEN 0 ELSE COALESCE(a, b) END, CAST(c AS DECIMAL(10, 2)) FROM t LIMIT 5", "t"),
        ("SELECT SUM(x) OVER (PARTITION BY y ORDER BY z ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t", "t"),
        ("SELECT * FROM orders WHERE user = 'now or never'", "orders"),
    ],
)
def test_the_tables_that_a_question_reads(sql, tables, dialect):
    facts = analyse(sql, dialect)
    assert facts.reason == ""
    assert facts.reads == frozenset(tables.split())
    assert facts.writes == frozenset()


@pytest.mark.parametrize(
    ("sql", "word", "dialect"),
    [
        ("SELECT random()", "random", SQLITE),
        ("SELECT datetime('now')", "datetime", SQLITE),
        ("SELECT date()", "date", SQLITE),
        ("SELECT * FROM t WHERE day = date(?)", "date", SQLITE),
        ("SELECT strftime('%Y', 'now') FROM t", "strftime", SQLITE),
        ("SELECT * FROM t WHERE at > CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP", SQLITE),
        ("SELECT my_function(x) FROM t", "my_function", SQLITE),
        ('SELECT "my function"(x) FROM t', '"my function"', SQLITE),
        ("SELECT last_insert_rowid()", "last_insert_rowid", SQLITE),
        ("SELECT name FROM pragma_table_info('t')", "pragma_table_info", SQLITE),
        ("SELECT now()", "now", POSTGRESQL),
        ("SELECT nextval('ids')", "nextval", POSTGRESQL),
        ("SELECT * FROM t WHERE at > 'today'::timestamp", "'today'", POSTGRESQL),
        ("SELECT * FROM t WHERE at > E'now'::timestamp", "E'now'", POSTGRESQL),
        ("SELECT current_setting('x')", "current_setting", POSTGRESQL),
        ("SELECT age(born) FROM t", "age", POSTGRESQL),
        ("SELECT * FROM t TABLESAMPLE SYSTEM (10)", "TABLESAMPLE", POSTGRESQL),
        ("SELECT found_rows()", "found_rows", MYSQL),
        ("SELECT uuid()", "uuid", MYSQL),
    ],
)
def test_a_word_whose_answer_may_change_is_named(sql, word, dialect):
    assert analyse(sql, dialect).reason == f"it calls {word}, whose answer may change"


@pytest.mark.parametrize(
    "sql", ["SELECT strftime('%Y-%m', at) FROM t", "SELECT date(t.at) FROM t", "SELECT * FROM t WHERE date(at) = ?"]
)
def test_a_time_function_of_a_column_is_known(sql):
    assert analyse(sql, SQLITE).reason == ""


@pytest.mark.parametrize(
    ("sql", "writes", "dialect"),
    [
        ("INSERT INTO a SELECT * FROM b", "a", SQLITE),
        ("INSERT INTO a (x) VALUES (?) ON CONFLICT DO NOTHING RETURNING id", "a", SQLITE),
        ("UPDATE a SET x = (SELECT MAX(y) FROM b)", "a", SQLITE),
        ("DELETE FROM a USING b WHERE a.id = b.id", "a", POSTGRESQL),
        ("DELETE FROM a WHERE x = ?", "a", POSTGRESQL),
        ("TRUNCATE a, b", "a b", POSTGRESQL),
        ("WITH gone AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM gone", "a b", POSTGRESQL),
        ("WITH gone AS (DELETE FROM a RETURNING *) SELECT * FROM gone", "a", POSTGRESQL),
        ("UPDATE a JOIN b ON a.id = b.id SET a.x = b.x", "a b", MYSQL),
        ("REPLACE INTO a VALUES (1)", "a", MYSQL),
    ],
)
def test_the_tables_that_a_statement_writes(sql, writes, dialect):
    facts = analyse(sql, dialect)
    assert facts.writes == frozenset(writes.split())
    assert facts.reason


@pytest.mark.parametrize(
    ("sql", "dialect"),
    [
        ("CREATE TABLE a (x INT)", SQLITE),
        ("SELECT do_it()", POSTGRESQL),
        ("CALL do_it()", POSTGRESQL),
        ("SELECT 1 INTO b FROM a", POSTGRESQL),
        ("INSERT INTO a VALUES (do_it())", POSTGRESQL),
        ("VACUUM", SQLITE),
        ("SELECT FROM WHERE (", SQLITE),
        ("SELECT 'never closed", SQLITE),
    ],
)
def test_where_it_cannot_be_known_what_is_written_it_is_none(sql, dialect):
    facts = analyse(sql, dialect)
    assert facts.writes is None
    assert facts.reason


@pytest.mark.parametrize("sql", ["SELECT * FROM t FOR UPDATE", "SELECT * FROM t FOR SHARE"])
def test_a_question_that_locks_rows_is_asked_each_time(sql):
    assert analyse(sql, POSTGRESQL).reason == "it locks rows"


@pytest.mark.parametrize("sql", ["PRAGMA user_version", "EXPLAIN SELECT 1"])
def test_what_is_no_select_is_not_kept(sql):
    assert analyse(sql, SQLITE).reason
