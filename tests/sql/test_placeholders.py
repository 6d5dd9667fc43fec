"""Placeholders become the driver's, and nothing else in a statement changes."""

import re

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ValidationError
from consona.sql.dialect import MYSQL, POSTGRESQL, SQLITE
from consona.sql.placeholders import compile_statement, split_statements, tokens

DIALECTS = [SQLITE, POSTGRESQL, MYSQL]
EVERY = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
MARK = {"sqlite": "?", "postgresql": "$1", "mysql": "?"}


def text(sql, dialect):
    return compile_statement(sql, dialect).text


@EVERY
@pytest.mark.parametrize(
    "sql", ["SELECT ?", "SELECT :name", "SELECT(?)", "SELECT 1+?", "SELECT a=:name", "SELECT :naïve"]
)
def test_a_placeholder_becomes_the_drivers(dialect, sql):
    assert MARK[dialect.name] in text(sql, dialect)
    assert len(compile_statement(sql, dialect).places) == 1


@EVERY
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '?'",
        "SELECT ':name'",
        "SELECT 'it''s ?'",
        'SELECT "a?"',
        'SELECT "a""b:c ?"',
        "SELECT 1 -- what?\n",
        "SELECT 1 -- :name",
        "SELECT 1 /* ? :name */",
        "SELECT '/* ' -- ? */ :x\n",
        "SELECT '--', 1 /* '? */",
        "SELECT 1 AS \u00e4\u00f6",
    ],
)
def test_what_only_looks_like_one_stays_as_it_is(dialect, sql):
    statement = compile_statement(sql, dialect)
    assert (statement.text, statement.places) == (sql, ())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1::text",
        "SELECT a[1:2], b[i:j] FROM t",
        "SELECT $$ ? :name $$",
        "SELECT $tag$ $$ ? $other$ $tag$",
        "SELECT E'it\\'s ? :name'",
        "SELECT e'\\\\' || '?'",
        "SELECT U&'\\0041 ?'",
        "SELECT /* outer /* ? */ :name */ 1",
        "SELECT a ?| b, a ?& b, a @? b FROM t",
        "SELECT foo$bar$ FROM t",
    ],
)
def test_postgresqls_own_signs_stay_as_they_are(sql):
    statement = compile_statement(sql, POSTGRESQL)
    assert (statement.text, statement.places) == (sql, ())


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a ?? ? FROM t", "SELECT a ? $1 FROM t"),
        ("SELECT a ??| ? FROM t", "SELECT a ?| $1 FROM t"),
        ("SELECT ?||?", "SELECT $1||$2"),
        ("SELECT ?::int", "SELECT $1::int"),
        ("SELECT a[?:?]", "SELECT a[$1:$2]"),
        ("SELECT :a, :b, :a", "SELECT $1, $2, $3"),
        ("SELECT a->>'k' = :a::text", "SELECT a->>'k' = $1::text"),
    ],
)
def test_operators_and_casts_of_postgresql_stand_beside_placeholders(sql, expected):
    assert text(sql, POSTGRESQL) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (r"SELECT 'a\'? ', :x", r"SELECT 'a\'? ', ?"),
        ('SELECT "a\\"?", :x', 'SELECT "a\\"?", ?'),
        ("SELECT `a:x`, :x", "SELECT `a:x`, ?"),
        ("SELECT 1 # :x\n, :x", "SELECT 1 # :x\n, ?"),
        ("SELECT 5--:x", "SELECT 5--?"),
        ("SET @a := :x", "SET @a := ?"),
    ],
)
def test_mysqls_strings_and_comments_are_understood(sql, expected):
    assert text(sql, MYSQL) == expected


@pytest.mark.parametrize("sql", ["SELECT [a?]", "SELECT `a ? b`", "SELECT 1 /* ? ", "SELECT x'3f'"])
def test_sqlites_own_quotes_and_open_comments_are_understood(sql):
    assert text(sql, SQLITE) == sql


@EVERY
@pytest.mark.parametrize("sql", ["SELECT 'a", 'SELECT "a', "SELECT 'a''", "SELECT ?1"])
def test_what_has_no_end_or_is_the_engines_own_is_refused_with_its_place(dialect, sql):
    with pytest.raises(ValidationError, match="character 8"):
        compile_statement(sql, dialect)


@pytest.mark.parametrize("sql", ["SELECT $1", "SELECT $$ a", "SELECT $t$ a $$", "SELECT /* /* */"])
def test_postgresqls_own_placeholders_and_open_quotes_are_refused(sql):
    with pytest.raises(ValidationError, match="character 8"):
        compile_statement(sql, POSTGRESQL)


@pytest.mark.parametrize("sql", ["SELECT @name", "SELECT $name"])
def test_sqlites_own_named_parameters_are_refused(sql):
    with pytest.raises(ValidationError, match="engine's own"):
        compile_statement(sql, SQLITE)


def test_places_are_told_by_line():
    with pytest.raises(ValidationError, match="line 3, character 2"):
        compile_statement("SELECT 1\n,\n 'open", SQLITE)


@pytest.mark.parametrize(
    ("sql", "values", "message"),
    [
        ("SELECT ?, ?", (1,), "2 placeholder.*1 value.*2nd placeholder has no value: it is at character 11"),
        ("SELECT ?", (1, 2), "1 placeholder.*2 value"),
        ("SELECT 1", (1,), "0 placeholder.*1 value"),
        ("SELECT ?, ?", ([1, 2],), "one by one"),
        ("SELECT ?, ?", ({"a": 1},), "write :name"),
        ("SELECT :a", (1,), "one mapping"),
        ("SELECT :a", ({"b": 1},), "do not fit"),
        ("SELECT :a, :b", ({"a": 1},), "do not fit"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_to_do(sql, values, message):
    with pytest.raises(ValidationError, match=message):
        compile_statement(sql, SQLITE).values(values)


def test_every_name_that_is_missing_or_unknown_is_told():
    with pytest.raises(ValidationError) as caught:
        compile_statement("SELECT :a, :b, :a", SQLITE).values([{"c": 1, "d": 2}])
    assert [field.path for field in caught.value.fields] == ["a", "b", "c", "d"]


def test_marks_and_names_are_not_mixed():
    with pytest.raises(ValidationError, match=r"mixes \? \(at character 8\) with :a"):
        compile_statement("SELECT ?, :a", SQLITE)


@EVERY
@pytest.mark.parametrize("sql", ["", "  ", "-- only a comment\n", ";", "/* */;"])
def test_nothing_is_no_statement(dialect, sql):
    with pytest.raises(ValidationError, match="empty"):
        compile_statement(sql, dialect)


@EVERY
@pytest.mark.parametrize("sql", [5, None, b"SELECT 1", ["SELECT 1"]])
def test_only_text_is_a_statement(dialect, sql):
    with pytest.raises(ValidationError, match="is text"):
        compile_statement(sql, dialect)


@EVERY
def test_a_nul_in_a_statement_is_refused(dialect):
    with pytest.raises(ValidationError, match="NUL"):
        compile_statement("SELECT 1\0; DROP TABLE t", dialect)


@EVERY
@pytest.mark.parametrize(
    "sql", ["SELECT 1; DROP TABLE t", "CREATE TABLE a (b INT); DROP TABLE t", "; SELECT 1; SELECT 2"]
)
def test_one_statement_at_a_time(dialect, sql):
    with pytest.raises(ValidationError, match="second statement"):
        compile_statement(sql, dialect)


@EVERY
def test_a_semicolon_at_the_end_is_no_second_statement(dialect):
    assert text("SELECT 1; -- done", dialect) == "SELECT 1; -- done"


TRIGGER = """CREATE TRIGGER t AFTER INSERT ON a BEGIN
    UPDATE b SET c = CASE WHEN d THEN 1 ELSE 2 END;
    DELETE FROM e;
END"""
ROUTINE = """CREATE PROCEDURE p(n INT) BEGIN
    IF n > 1 THEN SELECT 1; END IF;
    WHILE n > 0 DO SET n = n - 1; END WHILE;
    CASE n WHEN 1 THEN SELECT 2; ELSE BEGIN END; END CASE;
END"""
FUNCTION = "CREATE FUNCTION f() RETURNS int AS $$ BEGIN RETURN 1; END $$ LANGUAGE plpgsql"


@pytest.mark.parametrize(("body", "dialect"), [(TRIGGER, SQLITE), (ROUTINE, MYSQL), (FUNCTION, POSTGRESQL)])
def test_the_body_of_a_trigger_or_routine_is_part_of_its_statement(body, dialect):
    found = split_statements(f"SELECT 1;\n{body};\n\nSELECT ';' ;", dialect)
    assert [token.text for token in found] == ["SELECT 1", body, "SELECT ';'"]
    assert compile_statement(body, dialect).text == body


@pytest.mark.parametrize(
    ("sql", "verb", "target", "reads"),
    [
        ("select * from users", "SELECT", "users", True),
        ('INSERT INTO "my users" VALUES (1)', "INSERT", "my users", False),
        ("INSERT OR IGNORE INTO pets VALUES (1)", "INSERT", "pets", False),
        ("UPDATE ONLY pets SET a = 1", "UPDATE", "pets", False),
        ("DELETE FROM pets", "DELETE", "pets", False),
        ("CREATE TABLE IF NOT EXISTS pets (a)", "CREATE", "pets", False),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "SELECT", "a", True),
        ("WITH a AS (SELECT 1) DELETE FROM pets", "DELETE", "pets", False),
        ("WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a", "INSERT", "t", False),
        ("(SELECT 1)", "SELECT", "", True),
        ("VALUES (1)", "VALUES", "", True),
        ("SELECT a INTO b FROM c", "SELECT", "b", False),
        ("EXPLAIN ANALYZE DELETE FROM pets", "EXPLAIN", "pets", False),
        ("-- delete\nSELECT 'INSERT' FROM a", "SELECT", "a", True),
    ],
)
def test_a_statement_is_known_by_its_verb_and_table(sql, verb, target, reads):
    statement = compile_statement(sql, POSTGRESQL)
    assert (statement.verb, statement.target, statement.reads) == (verb, target, reads)


def test_an_offset_of_the_drivers_text_is_found_in_the_users():
    statement = compile_statement("SELECT :first,\n :second, nope", POSTGRESQL)
    assert statement.place(statement.text.index("nope")) == "line 2, character 11"
    statement = compile_statement("SELECT a ?? :key, nope", POSTGRESQL)
    assert statement.place(statement.text.index("nope")) == "character 19"


SIGNS = st.sampled_from(
    [
        "?",
        ":a",
        "'",
        '"',
        "`",
        "--",
        "/*",
        "*/",
        "\n",
        "\\",
        "$$",
        "$t$",
        "E",
        "[",
        "]",
        ";",
        " ",
        "::",
        "%",
        "x",
        "1",
        "#",
        "é",
    ]
)


@EVERY
@given(pieces=st.lists(SIGNS, max_size=30))
def test_the_pieces_of_any_text_are_the_whole_text(dialect, pieces):
    sql = "".join(pieces)
    try:
        found = list(tokens(sql, dialect))
    except ValidationError:
        return
    assert "".join(token.text for token in found) == sql
    assert [token.at for token in found] == [sum(len(t.text) for t in found[:n]) for n in range(len(found))]


@given(pieces=st.lists(SIGNS.filter(lambda sign: sign not in {":a", "$$", "$t$"}), max_size=20))
def test_we_count_as_many_placeholders_as_sqlite_does(pieces):
    """SQLite's own tokenizer is asked: a statement with each text in the place of one more expression."""
    sql = f"SELECT 1 {''.join(pieces)}"
    try:
        ours = len(compile_statement(sql, SQLITE).places)
    except ValidationError:
        return
    counted = []
    connection = apsw.Connection(":memory:")

    def count(cursor, _sql, _bindings):
        counted.append(cursor.bindings_count)
        return False

    cursor = connection.cursor()
    cursor.exec_trace = count
    try:
        cursor.execute(sql, _Anything())
    except apsw.ExecTraceAbort:
        assert counted[0] == ours
    except apsw.Error:
        return  # no statement to SQLite


class _Anything(dict):
    def __missing__(self, key):
        return None


@given(name=st.text(min_size=1, max_size=40).filter(lambda name: "\0" not in name))
def test_any_name_can_be_quoted(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE TABLE {SQLITE.identifier(name)} (a)")
    assert connection.execute("SELECT name FROM sqlite_schema").get == name
    assert len(compile_statement(f"SELECT * FROM {SQLITE.identifier(name)}", SQLITE).places) == 0
    quoted = MYSQL.identifier(name) if len(name.encode()) <= 64 and not name.endswith(" ") else "`a`"
    assert re.fullmatch(r"`(?:[^`]|``)+`", quoted)


@EVERY
@pytest.mark.parametrize("name", ["", "a\0b", "a\ud800", "x" * 2000, 5, None])
def test_what_no_database_takes_as_a_name_is_refused(dialect, name):
    with pytest.raises(ValidationError, match="no name"):
        dialect.identifier(name)


def test_names_are_joined_by_points_and_quoted_each():
    assert POSTGRESQL.identifier("shop", 'a"b') == '"shop"."a""b"'
    assert MYSQL.identifier("shop", "a`b") == "`shop`.`a``b`"
    with pytest.raises(ValidationError):
        SQLITE.identifier()


@pytest.mark.parametrize("sql", ["SELECT * FROM users WHERE id = %s", "SELECT 1"])
def test_values_without_placeholders_are_refused_with_what_placeholders_are(sql):
    with pytest.raises(ValidationError, match=r"Write \? where each value goes"):
        compile_statement(sql, MYSQL).values([1])
