"""A script is split where the engine would split it, and what cannot be understood is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.sql.dialect import MYSQL, POSTGRESQL, SQLITE, Dialect
from consona.sql.migrations.errors import MigrationFileError
from consona.sql.migrations.script import Script, read_script

FILE = Path("migrations/0001_x.sql")
ENGINES = [SQLITE, POSTGRESQL, MYSQL]


def up(text: str, dialect: Dialect = SQLITE) -> list[str]:
    return [statement.text for statement in read_script(FILE, text, dialect)["up"].statements]


def down(text: str, dialect: Dialect = SQLITE) -> Script | None:
    return read_script(FILE, text, dialect).get("down")


def refusal(text: str, dialect: Dialect = SQLITE) -> MigrationFileError:
    with pytest.raises(MigrationFileError) as caught:
        read_script(FILE, text, dialect)
    return caught.value


# Sections


@pytest.mark.parametrize("dialect", ENGINES, ids=lambda dialect: dialect.name)
def test_a_file_without_sections_is_one_way_up(dialect):
    assert up("CREATE TABLE a (x INT);\nCREATE TABLE b (x INT)", dialect) == [
        "CREATE TABLE a (x INT)",
        "CREATE TABLE b (x INT)",
    ]
    assert down("CREATE TABLE a (x INT)", dialect) is None


@pytest.mark.parametrize(
    "text",
    [
        "-- up\nCREATE TABLE a (x);\n-- down\nDROP TABLE a;\n",
        "-- down\nDROP TABLE a;\n-- up\nCREATE TABLE a (x);",
        "-- migrate:up\nCREATE TABLE a (x);\n-- migrate:down\nDROP TABLE a;\n",
        "-- +goose Up\nCREATE TABLE a (x);\n-- +goose Down\nDROP TABLE a;\n",
        "-- What it is for.\n\n--   UP  \nCREATE TABLE a (x);\n--down\nDROP TABLE a",
    ],
)
def test_sections_in_any_order_and_in_the_words_of_other_tools(text):
    assert up(text) == ["CREATE TABLE a (x)"]
    section = down(text)
    assert section is not None
    assert [statement.text for statement in section.statements] == ["DROP TABLE a"]


def test_a_section_for_an_engine_goes_before_one_for_all():
    text = """
-- up
CREATE TABLE a (id INTEGER PRIMARY KEY);
-- up postgres, mariadb
CREATE TABLE a (id SERIAL PRIMARY KEY);
-- down
DROP TABLE a;
"""
    assert up(text, SQLITE) == ["CREATE TABLE a (id INTEGER PRIMARY KEY)"]
    assert up(text, POSTGRESQL) == up(text, MYSQL) == ["CREATE TABLE a (id SERIAL PRIMARY KEY)"]
    assert down(text, POSTGRESQL) == down(text, SQLITE)


def test_a_section_for_another_engine_need_not_be_readable_here():
    text = "-- up postgresql\nSELECT $$it's$$;\n-- up sqlite\nSELECT 1;\n"
    assert up(text) == ["SELECT 1"]


def test_an_engine_may_have_nothing_to_do():
    assert up("-- up sqlite\n-- SQLite has no such thing.\n-- up\nCREATE EXTENSION x;") == []


def test_markers_in_strings_and_sentences_are_none():
    text = "-- up\nINSERT INTO a VALUES ('\n-- down\n');\n-- up to here all is old\n-- down the road\nSELECT 1;"
    assert up(text) == ["INSERT INTO a VALUES ('\n-- down\n')", "SELECT 1"]
    function = "-- up\nCREATE FUNCTION f() RETURNS int AS $$\n-- down\nSELECT 1;\n$$ LANGUAGE sql;"
    assert len(up(function, POSTGRESQL)) == 1
    assert down(function, POSTGRESQL) is None


def test_an_empty_down_is_none():
    assert down("-- up\nCREATE TABLE a (x);\n-- down\n-- (nothing yet)\n") is None


def test_directives():
    script = read_script(FILE, "-- up\n-- no transaction\n-- foreign keys off\nVACUUM;\n-- down\nSELECT 1", SQLITE)
    assert (script["up"].transaction, script["up"].foreign_keys) == (False, False)
    assert (script["down"].transaction, script["down"].foreign_keys) == (True, True)


def test_each_statement_has_its_line():
    text = "-- up\n\nCREATE TABLE a (\n  x\n);\n-- a remark\nSELECT 1;\n\n-- down\nDROP TABLE a;"
    script = read_script(FILE, text, SQLITE)
    assert [statement.line for statement in script["up"].statements] == [3, 7]
    assert [statement.line for statement in script["down"].statements] == [10]


# Splitting

TRIGGER = """CREATE TRIGGER log AFTER INSERT ON a BEGIN
  INSERT INTO b VALUES (CASE WHEN new.x THEN 'one; two' ELSE "end" END); -- ; not here
  UPDATE c SET n = n + 1;
END"""
FUNCTION = """CREATE FUNCTION tell() RETURNS trigger AS $body$
BEGIN
  PERFORM 'a;b'; /* ; /* nested ; */ */
  RETURN new;
END $body$ LANGUAGE plpgsql"""
ATOMIC = """CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql
BEGIN ATOMIC
  SELECT n;
  SELECT n * 2;
END"""
PROCEDURE = """CREATE PROCEDURE fill(n INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  WHILE i < n DO
    IF i = 3 THEN SET i = i + 1; END IF;
    CASE i WHEN 1 THEN INSERT INTO a VALUES (';'); ELSE BEGIN END; END CASE;
    SET i = i + 1;
  END WHILE;
END"""


@pytest.mark.parametrize(
    ("dialect", "statement"),
    [(SQLITE, TRIGGER), (POSTGRESQL, FUNCTION), (POSTGRESQL, ATOMIC), (MYSQL, PROCEDURE)],
    ids=["trigger", "dollar quotes", "atomic", "procedure"],
)
def test_a_body_stays_whole(dialect, statement):
    assert up(f"SELECT 1;\n{statement};\nSELECT 2;", dialect) == ["SELECT 1", statement, "SELECT 2"]


def test_mariadbs_delimiter():
    text = f"""-- up
SELECT 1;
DELIMITER //
{PROCEDURE} //
CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET new.x = '//' //
delimiter ;
SELECT 'DELIMITER $$';
-- down
DROP PROCEDURE fill;
"""
    assert up(text, MYSQL) == [
        "SELECT 1",
        PROCEDURE,
        "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET new.x = '//'",
        "SELECT 'DELIMITER $$'",
    ]
    assert [statement.line for statement in read_script(FILE, text, MYSQL)["up"].statements] == [2, 4, 13, 15]


def test_the_engines_own_parameters_and_operators_are_text():
    assert up("SET @a := 1; SELECT @a", MYSQL) == ["SET @a := 1", "SELECT @a"]
    assert up("CREATE INDEX i ON a ((data ? 'x')); SELECT '{}'::jsonb @? '$.a'", POSTGRESQL) == [
        "CREATE INDEX i ON a ((data ? 'x'))",
        "SELECT '{}'::jsonb @? '$.a'",
    ]


@given(
    st.lists(
        st.sampled_from(
            [
                "SELECT ';'",
                'SELECT "a;b" FROM t',
                "SELECT 1 -- ; no\n + 2",
                "SELECT /* ; */ 3",
                "INSERT INTO a VALUES ('it''s; fine', 'x\n-- y;')",
            ]
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(ENGINES),
)
def test_what_is_joined_by_semicolons_is_split_there(statements, dialect):
    assert up("-- up\n" + ";\n".join(statements) + ";\n", dialect) == statements


# Refusals: what, where, and what to do


@pytest.mark.parametrize(
    ("text", "dialect", "message", "line"),
    [
        ("-- up\n\n-- down\nDROP TABLE a", SQLITE, "no statement to run", 1),
        ("-- down\nDROP TABLE a", SQLITE, "no `-- up`", 0),
        ("", SQLITE, "no statement to run", 1),
        ("SELECT 1;\n-- up\nSELECT 2", SQLITE, "before the first `-- up`", 1),
        ("-- up\nSELECT 1;\n-- up\nSELECT 2", SQLITE, "a second `-- up`", 3),
        ("-- up oracle\nSELECT 1", SQLITE, "no engine 'oracle'", 1),
        ("\n-- up postgresql\nSELECT 1", SQLITE, "no `-- up` for sqlite", 2),
        ("-- migrate:up transaction:false\nVACUUM", SQLITE, "`transaction:false`", 1),
        ("-- up\nSELECT 1;\n-- no transaction\nVACUUM", SQLITE, "after the first statement", 3),
        ("-- up\nBEGIN;\nSELECT 1;\nCOMMIT;", SQLITE, "'BEGIN' begins or ends", 2),
        ("-- up\nSELECT 1;\n/* ; */ START TRANSACTION", MYSQL, "'START TRANSACTION' begins or ends", 3),
        ("-- up\n\n/*!50001 CREATE VIEW v AS SELECT 1 */;", MYSQL, "would be executed", 3),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(text, dialect, message, line):
    error = refusal(text, dialect)
    assert message in error.message
    assert error.message.startswith(f"{FILE}, line {line}:" if line else f"{FILE}:")
    assert error.hint


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("-- up\nSELECT 'never closed;\n", SQLITE),
        ("-- up\nSELECT $x$ never closed $y$;\n", POSTGRESQL),
        ("-- up\nSELECT /* /* */ 1;\n", POSTGRESQL),
    ],
)
def test_what_has_no_end_is_told_with_its_line(text, dialect):
    assert "line 2, character 8" in refusal(text, dialect).message
