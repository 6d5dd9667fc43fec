"""What is special to PostgreSQL: indexes made beside the traffic, a killed process, all kinds of objects."""

import asyncio
import secrets
import signal
import sys

import asyncpg
import pytest

from consona.sql.database import SQLDatabase
from consona.sql.migrations import check
from consona.sql.migrations.errors import MigrationConflict, MigrationFailed
from consona.sql.migrations.runner import Migrations

pytestmark = pytest.mark.servers

USERS = "CREATE TABLE users (id INT PRIMARY KEY, name TEXT);\nINSERT INTO users VALUES (1, 'Ada');\n"


@pytest.fixture
async def db(postgresql_url):
    async with SQLDatabase(postgresql_url) as db:
        yield db


async def tables(db):
    return await db.fetch_column(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " AND relname NOT LIKE 'consona%' ORDER BY 1"
    )


async def test_a_failed_migration_leaves_the_schema_as_it_was(db, tmp_path):
    (tmp_path / "0001_users.sql").write_text(f"{USERS}CREATE TYPE mood AS ENUM ('sad');\nSELECT nonsense;")
    with pytest.raises(MigrationFailed, match=r"0001_users.sql, line 4: statement 4 of 4 \(SELECT nonsense\) failed"):
        await db.migrate(tmp_path)
    assert await tables(db) == []
    assert [status.state for status in await Migrations(db, tmp_path).status()] == ["pending"]


async def test_an_index_is_made_concurrently_while_others_wait_for_their_turn(db, tmp_path, postgresql_url):
    (tmp_path / "0001_users.sql").write_text(USERS)
    (tmp_path / "0002_index.sql").write_text(
        "-- up\n-- no transaction\nCREATE INDEX CONCURRENTLY users_name ON users (name);"
    )

    async def migrate():
        async with SQLDatabase(postgresql_url) as other:
            return [run.name for run in await other.migrate(tmp_path)]

    async with asyncio.timeout(60):
        ran = await asyncio.gather(*(migrate() for _ in range(6)))
    assert sorted(ran) == [[]] * 5 + [["0001_users", "0002_index"]]
    assert await db.fetch_value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_name'::regclass")


async def test_what_cannot_run_in_a_transaction_says_what_to_write(db, tmp_path):
    (tmp_path / "0001_vacuum.sql").write_text("VACUUM;")
    with pytest.raises(MigrationFailed) as caught:
        await db.migrate(tmp_path)
    assert "`-- no transaction`" in caught.value.hint


async def test_a_function_with_semicolons_and_its_trigger(db, tmp_path):
    (tmp_path / "0001_touch.sql").write_text(f"""-- up
{USERS}
CREATE FUNCTION shout() RETURNS trigger AS $$
BEGIN
  new.name := upper(new.name); -- ; here
  RETURN new;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER shout BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION shout();
INSERT INTO users VALUES (2, 'quiet');
-- down
DROP TABLE users;
DROP FUNCTION shout();
""")
    await db.migrate(tmp_path)
    assert await db.fetch_column("SELECT name FROM users ORDER BY id") == ["Ada", "QUIET"]
    await Migrations(db, tmp_path).down()
    assert await tables(db) == []


OBJECTS = """
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN positive AS INT CHECK (VALUE > 0);
CREATE SEQUENCE numbers INCREMENT BY 5;
CREATE SCHEMA archive;
CREATE TABLE people (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mood mood DEFAULT 'glad', age positive NOT NULL,
  double INT GENERATED ALWAYS AS (1 + 1) STORED, boss BIGINT REFERENCES people ON DELETE CASCADE, CHECK (age < 200)
);
CREATE TABLE archive.people (id INT);
CREATE INDEX people_age ON people (age) WHERE age > 18;
CREATE VIEW adults AS SELECT * FROM people WHERE age > 18;
CREATE MATERIALIZED VIEW counts AS SELECT count(*) FROM people;
CREATE FUNCTION twice(n INT) RETURNS INT LANGUAGE sql AS 'SELECT n * 2';
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON people FOR SELECT USING (true);
CREATE TABLE parts (id INT, day DATE) PARTITION BY RANGE (day);
CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TYPE mood ADD VALUE 'angry'", "enum mood, definition: sad, glad, angry in the database"),
        ("ALTER DOMAIN positive SET DEFAULT 1", "domain positive, definition"),
        ("ALTER SEQUENCE numbers INCREMENT BY 7", "sequence numbers, definition"),
        ("ALTER TABLE parts ALTER COLUMN id TYPE BIGINT", "table parts, column id: bigint in the database, integer by"),
        ("ALTER TABLE people ALTER mood SET DEFAULT 'sad'", "table people, column mood: mood default 'sad'::mood in"),
        ("ALTER TABLE people DROP CONSTRAINT people_age_check", "constraint people_age_check: missing in the database"),
        ("DROP INDEX people_age", "table people, index people_age: missing in the database"),
        ("ALTER TABLE archive.people ADD COLUMN x INT", "table archive.people, column x: in the database (integer)"),
        ("CREATE OR REPLACE VIEW adults AS SELECT * FROM people WHERE age > 21", "view adults, definition"),
        (
            "CREATE OR REPLACE FUNCTION twice(n INT) RETURNS INT LANGUAGE sql AS 'SELECT n * 3'",
            "function twice(n integer)",
        ),
        ("ALTER TABLE people DISABLE ROW LEVEL SECURITY", "table people, row security: missing in the database"),
        ("DROP POLICY everybody ON people", "table people, policy everybody: missing in the database"),
        ("DROP TABLE parts_old", "table parts_old: missing in the database"),
        ("CREATE SCHEMA extra", "schema extra: in the database"),
    ],
)
async def test_each_kind_of_change_by_hand_is_named(db, tmp_path, change, told):
    (tmp_path / "0001_objects.sql").write_text(OBJECTS)
    migrations = Migrations(db, tmp_path)
    await migrations.up()
    try:
        assert await migrations.check() == []
        await db.execute(change)
        findings = await migrations.check()
        assert any(told in finding.text for finding in findings), findings
    finally:
        await db.execute("DROP SCHEMA IF EXISTS archive CASCADE")
        await db.execute("DROP SCHEMA IF EXISTS extra CASCADE")


async def test_nothing_is_left_on_the_server_by_a_check(db, tmp_path, monkeypatch):
    name = secrets.token_hex(8)
    monkeypatch.setattr(check.secrets, "token_hex", lambda _: name)
    (tmp_path / "0001_users.sql").write_text(USERS)
    await db.migrate(tmp_path)
    await Migrations(db, tmp_path).check()
    assert await db.fetch_column("SELECT 1 FROM pg_database WHERE datname = ?", f"consona_scratch_{name}") == []


KILLED = """
import asyncio, sys
from consona import SQLDatabase

async def main():
    async with SQLDatabase(sys.argv[1]) as db:
        await db.migrate(sys.argv[2])

asyncio.run(main())
"""
HANGS = """
import asyncio

async def up(tx):
    await tx.execute("CREATE TABLE half (x INT)")
    await tx.execute("INSERT INTO users VALUES (2, 'half')")
    print("half-way", flush=True)
    await asyncio.sleep(600)
"""


async def killed_half_way(url, folder):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, url, folder, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"half-way\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def test_a_migration_that_is_killed_half_way_leaves_the_schema_as_it_was(db, tmp_path, postgresql_url):
    (tmp_path / "0001_users.sql").write_text(USERS)
    (tmp_path / "0002_hangs.py").write_text(HANGS)
    await killed_half_way(postgresql_url, tmp_path)
    migrations = Migrations(db, tmp_path, wait=30)
    (tmp_path / "0002_hangs.py").write_text(HANGS.replace("600", "0"))
    assert [run.name for run in await migrations.up()] == ["0002_hangs"]
    assert await tables(db) == ["half", "users"]
    assert await db.fetch_column("SELECT name FROM users ORDER BY id") == ["Ada", "half"]


async def test_statements_that_stand_alone_are_told_one_by_one_after_a_kill(db, tmp_path, postgresql_url):
    (tmp_path / "0001_users.sql").write_text(USERS)
    (tmp_path / "0002_alone.sql").write_text(
        "-- up\n-- no transaction\nCREATE TABLE a (x INT);\nCREATE INDEX CONCURRENTLY users_name ON users (name);\n"
        "CREATE TABLE b (x INT);\n"
    )
    await Migrations(db, tmp_path).up(to=1)
    holder = await asyncpg.connect(postgresql_url)
    await holder.execute("BEGIN; INSERT INTO users VALUES (5, 'x')")  # the index waits for it
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, postgresql_url, tmp_path)
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event IS NOT NULL"
    )
    async with asyncio.timeout(30):
        while (pid := await db.fetch_value(f"{waiting} AND datname = current_database()")) is None:
            await asyncio.sleep(0.02)
    process.kill()
    await process.wait()
    await db.fetch_value("SELECT pg_terminate_backend(?)", pid)
    await holder.execute("ROLLBACK")
    await holder.close()
    migrations = Migrations(db, tmp_path, wait=30)
    with pytest.raises(
        MigrationConflict, match=r"0002_alone: `up` stopped at statement 2 of 3 \(line 4: CREATE IND"
    ) as caught:
        await migrations.up()
    assert "statement 1 stayed" in caught.value.message
    assert "has happened" in caught.value.message  # an index is there, though not a valid one
    await db.execute("DROP INDEX users_name")
    with pytest.raises(MigrationConflict, match="did not happen"):
        await migrations.up()
    assert [run.name for run in await migrations.up(continue_at=2)] == ["0002_alone"]
    assert await tables(db) == ["a", "b", "users"]
