"""What is special to SQLite: tables that are replaced, statements that stand alone, a killed process."""

import asyncio
import signal
import sys

import pytest

from consona.sql.database import SQLDatabase
from consona.sql.migrations.errors import MigrationFailed
from consona.sql.migrations.runner import Migrations

REPLACE = """-- up
-- foreign keys off
CREATE TABLE new_users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER);
INSERT INTO new_users (id, name) SELECT id, name FROM users;
DROP TABLE users;
ALTER TABLE new_users RENAME TO users;
"""
TABLES = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, user INTEGER NOT NULL REFERENCES users);
INSERT INTO users VALUES (1, 'Ada');
INSERT INTO orders VALUES (1, 1);
"""


@pytest.fixture(params=["file", "memory"])
async def db(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'shop.db'}" if request.param == "file" else f"sqlite://{tmp_path.name}"
    async with SQLDatabase(url) as db:
        yield db


async def test_a_table_that_others_refer_to_can_be_replaced(db, tmp_path):
    (tmp_path / "0001_tables.sql").write_text(TABLES)
    (tmp_path / "0002_replace.sql").write_text(REPLACE)
    await db.migrate(tmp_path)
    assert await db.fetch_all("SELECT * FROM users") == [{"id": 1, "name": "Ada", "age": None}]
    assert await db.fetch_value("PRAGMA foreign_keys") == 1


async def test_a_replaced_table_that_lost_rows_is_refused(db, tmp_path):
    (tmp_path / "0001_tables.sql").write_text(TABLES)
    (tmp_path / "0002_replace.sql").write_text(REPLACE.replace("FROM users;", "FROM users WHERE id > 1;"))
    with pytest.raises(MigrationFailed, match=r"match nothing: orders to users. Nothing of it stayed"):
        await db.migrate(tmp_path)
    assert await db.fetch_all("SELECT * FROM users") == [{"id": 1, "name": "Ada"}]
    assert await db.fetch_value("PRAGMA foreign_keys") == 1


async def test_a_failed_migration_leaves_the_schema_as_it_was(db, tmp_path):
    (tmp_path / "0001_tables.sql").write_text(TABLES + "ALTER TABLE orders ADD COLUMN total;\nSELECT nonsense;")
    with pytest.raises(MigrationFailed, match=r"0001_tables.sql, line 7: statement 6 of 6 \(SELECT nonsense\) failed"):
        await db.migrate(tmp_path)
    assert (
        await db.fetch_column("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'consona%'") == []
    )


async def test_vacuum_runs_without_a_transaction(tmp_path):
    (tmp_path / "0001_vacuum.sql").write_text("-- up\nVACUUM;")
    async with SQLDatabase(f"sqlite:///{tmp_path / 'shop.db'}") as db:
        with pytest.raises(MigrationFailed) as caught:
            await db.migrate(tmp_path)
        assert "`-- no transaction`" in caught.value.hint
        (tmp_path / "0001_vacuum.sql").write_text("-- up\n-- no transaction\nVACUUM;")
        assert len(await db.migrate(tmp_path)) == 1


async def test_nothing_is_left_beside_the_file(tmp_path):
    (tmp_path / "0001_tables.sql").write_text(TABLES)
    async with SQLDatabase(f"sqlite:///{tmp_path / 'shop.db'}") as db:
        await db.migrate(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001_tables.sql", "shop.db"]


KILLED = """
import asyncio, sys
from consona import SQLDatabase

async def main():
    async with SQLDatabase(sys.argv[1]) as db:
        await db.migrate(sys.argv[2])

asyncio.run(main())
"""
HANGS = """
async def up(tx):
    await tx.execute("CREATE TABLE half (x)")
    await tx.execute("INSERT INTO users VALUES (2, 'half')")
    print("half-way", flush=True)
    import asyncio
    await asyncio.sleep(600)
"""


async def test_a_migration_that_is_killed_half_way_leaves_the_schema_as_it_was(tmp_path):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    (tmp_path / "0001_tables.sql").write_text(TABLES)
    (tmp_path / "0002_hangs.py").write_text(HANGS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, url, tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"half-way\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with SQLDatabase(url) as db:
        migrations = Migrations(db, tmp_path, wait=5)
        assert [status.state for status in await migrations.status()] == ["done", "pending"]
        assert await db.fetch_column("SELECT name FROM users") == ["Ada"]
        assert await db.fetch_column("SELECT name FROM sqlite_schema WHERE name = 'half'") == []
        (tmp_path / "0002_hangs.py").write_text(HANGS.replace("600", "0"))
        assert [run.name for run in await migrations.up()] == ["0002_hangs"]
