"""What strangers may send to a SQL database, on every engine: as values, as names, as statements, as addresses.

A value is a value and a name is a name, whatever is in it; what cannot be kept is refused before the database
sees it, and no secret is told.
"""

import subprocess
import sys
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

import sql_engines
from consona.errors import ConfigurationError, ConsonaError, MissingExtra, ValidationError
from consona.sql.database import SQLDatabase

CORPUS = [
    "' OR '1'='1",
    "' OR 1=1 -- ",
    "' OR 1=1#",
    "'; DROP TABLE pets; -- ",
    "'); DROP TABLE pets; -- ",
    '"; DROP TABLE pets; -- ',
    "`; DROP TABLE pets; -- ",
    "]; DROP TABLE pets; -- ",
    "\\'; DROP TABLE pets; -- ",
    "\\\\'; DROP TABLE pets; -- ",
    "' UNION SELECT name, age FROM pets -- ",
    "admin'/*",
    "*/; DROP TABLE pets; /*",
    "$$; DROP TABLE pets; $$",
    "$1",
    ":name",
    "?",
    "??",
    "%s %(name)s %%",
    "{name} {0}",
    "${jndi:ldap://127.0.0.1/x}",
    "' || (SELECT name FROM pets) || '",
    "'; SELECT pg_sleep(10); -- ",
    "' AND SLEEP(10) -- ",
    "'; COPY pets TO PROGRAM 'id'; -- ",
    "'; ATTACH DATABASE '/tmp/x' AS x; -- ",
    "' INTO OUTFILE '/tmp/x' -- ",
    "\N{MODIFIER LETTER APOSTROPHE}; DROP TABLE pets; -- ",
    "\N{FULLWIDTH APOSTROPHE} OR 1=1",
    "\ubfbf\u0027 OR 1=1 -- ",
    "\x1a'\x08\t\r\n\x7f",
    "_%",
    "NULL",
    "0x27204F5220313D31",
    "1e999",
]
KEPT = ["keeper", 7]


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def db(engine, tmp_path):
    async with engine.new(tmp_path) as url, SQLDatabase(url) as db:
        await db.execute(f"CREATE TABLE pets (id {engine.key}, name VARCHAR(200) UNIQUE, age INTEGER)")
        await db.execute("INSERT INTO pets (name, age) VALUES (?, ?)", *KEPT)
        yield db


async def intact(db):
    assert await db.fetch_all("SELECT name, age FROM pets", into=tuple) == [tuple(KEPT)]


async def test_a_value_is_a_value_whatever_is_in_it(db):
    for text in CORPUS:
        assert (await db.execute("INSERT INTO pets (name, age) VALUES (?, ?)", text, 1)).rows == 1
        found = "SELECT name FROM pets WHERE name = :text"
        assert await db.fetch_all(found, {"text": text}, into=str) == [text], text
        assert (await db.execute("UPDATE pets SET age = 2 WHERE name = ?", text)).rows == 1
        assert [row async for row in db.stream(found, {"text": text}, into=str)] == [text]
        async with db.transaction() as tx:
            assert await tx.fetch_value(found, {"text": text}) == text
            assert (await tx.execute("DELETE FROM pets WHERE name = ?", text)).rows == 1
        await intact(db)


async def test_so_it_is_where_many_go_in(db):
    rows = [(text, number) for number, text in enumerate(CORPUS)]
    await db.execute_many("INSERT INTO pets (name, age) VALUES (?, ?)", rows)
    assert (await db.execute("DELETE FROM pets WHERE name <> 'keeper'")).rows == len(rows)
    await db.insert_many("pets", rows * 1, columns=["name", "age"])
    await db.upsert_many("pets", [(text, 99) for text in CORPUS], columns=["name", "age"], key="name", update=["age"])
    found = await db.fetch_all("SELECT name, age FROM pets WHERE name <> 'keeper' ORDER BY id", into=tuple[str, int])
    assert found == [(text, 99) for text in CORPUS]
    marks = ", ".join("?" * len(CORPUS))
    assert await db.fetch_value(f"SELECT count(*) FROM pets WHERE name IN ({marks})", *CORPUS) == len(CORPUS)


async def test_a_name_is_a_name_whatever_is_in_it(db):
    for text in CORPUS:
        try:
            table, column = db.identifier(text), db.identifier(f"c {text}"[:60])
        except ValidationError:
            continue  # a name that this engine cannot have
        await db.execute(f"CREATE TABLE {table} ({column} INTEGER)")
        await db.execute(f"INSERT INTO {table} ({column}) VALUES (?)", 5)
        assert await db.fetch_all(f"SELECT * FROM {table}", into=int) == [5], text
        await db.execute(f"DROP TABLE {table}")
        await intact(db)


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 1001, 7, None])
async def test_what_is_no_name_is_refused(db, name):
    with pytest.raises(ValidationError):
        db.identifier(name)


@pytest.mark.parametrize(
    "sql", ["SELECT '\ud800'", "SELECT '\0'", "", "-- nothing", 7, None, b"SELECT 1", "SELECT 1; SELECT 2"]
)
async def test_what_is_no_statement_is_refused_before_the_database_sees_it(db, sql):
    for call in (db.execute, db.fetch_all, db.fetch_value):
        with pytest.raises(ValidationError):
            await call(sql)
    await intact(db)


@pytest.mark.parametrize("value", [10**5000, -(2**64), Decimal("1E+1000000"), Decimal("-1E-1000000")], ids=type)
async def test_a_number_beyond_all_bounds_is_refused_before_a_driver_writes_it_out(db, value):
    with pytest.raises(ValidationError, match=r"The 1\. value of the statement is a .* beyond"):
        await db.execute("INSERT INTO pets (age) VALUES (?)", value)
    await intact(db)


@pytest.mark.parametrize(
    "value",
    [float("inf"), Decimal("9" * 400), Decimal("1E-300"), Decimal("1E+130000"), 1e300],
    ids=lambda v: str(v)[:9],
)
async def test_a_large_number_is_kept_as_it_is_or_refused_and_never_told(engine, db, value):
    kind = engine.types["float" if isinstance(value, float) else "decimal"]
    await db.execute(f"CREATE TABLE numbers (n {kind})")
    try:
        await db.execute("INSERT INTO numbers VALUES (?)", value)
    except ConsonaError as error:
        told = str(error)
        assert str(value)[:40] not in told or len(str(value)) < 4
        assert await db.fetch_all("SELECT * FROM numbers") == []
    else:
        found = await db.fetch_value("SELECT n FROM numbers", into=type(value))
        assert found == value or (engine.types["decimal"].startswith("DECIMAL(") and found == 0)  # which has 6 digits
    await intact(db)


async def test_a_wrong_count_or_name_of_values_is_refused(db):
    insert = "INSERT INTO pets (name, age) VALUES (?, ?)"
    for values in ((), ("a",), ("a", 1, 2), ({"name": "a"},)):
        with pytest.raises(ValidationError):
            await db.execute(insert, *values)
    for values in ((), ({},), ({"name": "a", "age": 1, "more": 1},), ("a", 1), ({"NAME": "a", "age": 1},)):
        with pytest.raises(ValidationError):
            await db.execute("INSERT INTO pets (name, age) VALUES (:name, :age)", *values)
    await intact(db)


# Addresses.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.db",
        "sqlite:shop.db",
        "oracle://localhost/x",
        "http://localhost/x",
        "postgresql://localhost:port/x",
        "mysql://localhost:99999/x",
        "sqlite:///shop.db\0",
        "sqlite:///shop.db%00",
        "sqlite:///no/such/folder/shop.db",
        "sqlite:///.",
        "sqlite:///shop.db?synchronous=MAYBE",
        "sqlite:///shop.db?readers=none",
        "sqlite:///shop.db?colour=red",
        "postgresql://127.0.0.1:1/x?colour=red",
        "mysql://127.0.0.1:1/x?colour=red",
    ],
)
async def test_a_wrong_address_is_told_with_what_to_do(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConsonaError) as caught:
        async with SQLDatabase(url):
            pass
    assert isinstance(caught.value, ConfigurationError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("driver", "scheme"), [("asyncpg", "postgresql"), ("asyncmy", "mysql")])
def test_a_missing_driver_is_told_with_what_to_install(driver, scheme):
    program = f"""
import sys
sys.modules[{driver!r}] = None
from consona import MissingExtra, SQLDatabase
try:
    SQLDatabase("{scheme}://localhost/x")
except MissingExtra as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"Run: pip install 'consona[{scheme}]'"


async def test_a_wrong_password_is_told_and_never_printed(engine, tmp_path, caplog):
    if not engine.servers:
        pytest.skip("a file has no password")
    async with engine.new(tmp_path) as url:
        parts = urlsplit(url)
        wrong = parts._replace(
            netloc=f"nobody_{tmp_path.name[-8:]}:very-secret-word@{parts.hostname}:{parts.port}"
        ).geturl()
        db = SQLDatabase(f"{wrong}?wait=2")
        with pytest.raises(ConsonaError) as caught:
            await db.start()
        error = caught.value
        told = f"{error} {error!r} {error.context} {error.hint} {db!r} {caplog.text} {[*db.history]}"
        assert "very-secret-word" not in told
        assert not isinstance(error, MissingExtra)
