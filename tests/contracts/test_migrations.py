"""The promises of migrations, kept on every engine."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import database_servers
from consona.errors import ConstraintFailed, QueryError, TransactionOpen
from consona.sql.database import SQLDatabase
from consona.sql.migrations.errors import MigrationConflict, MigrationFailed, MigrationFileError, MigrationLocked
from consona.sql.migrations.runner import Migrations

USERS = """-- up
CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(50) NOT NULL);
INSERT INTO users VALUES (1, 'Ada; Grace');

-- down
DROP TABLE users;
"""
ORDERS = """-- up
CREATE TABLE orders (id INTEGER NOT NULL PRIMARY KEY);
CREATE INDEX orders_id ON orders (id);

-- down
DROP TABLE orders;
"""
FILL = """
async def up(tx):
    for user in await tx.fetch_all("SELECT id, name FROM users"):
        await tx.execute("UPDATE users SET name = ? WHERE id = ?", user["name"].upper(), user["id"])

async def down(tx):
    await tx.execute("UPDATE users SET name = 'Ada; Grace'")
"""


@asynccontextmanager
async def sqlite_file(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite:///{folder / 'shop.db'}"


@asynccontextmanager
async def sqlite_memory(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite://{folder.name}"


@asynccontextmanager
async def postgresql(folder: Path) -> AsyncIterator[str]:
    with database_servers.empty_postgresql() as url:
        yield url


@asynccontextmanager
async def mysql(folder: Path) -> AsyncIterator[str]:
    with database_servers.empty_mysql() as url:
        yield url


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[str]]] = {
    "sqlite file": sqlite_file,
    "sqlite memory": sqlite_memory,
    "postgresql": postgresql,
    "mariadb": mysql,
}
SERVERS = {"postgresql", "mariadb"}
"""Engines that need a server."""


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.servers] * (name in SERVERS)) for name in ENGINES])
async def url(request, tmp_path):
    async with ENGINES[request.param](tmp_path) as url:
        yield url


@pytest.fixture
async def db(url):
    async with SQLDatabase(url) as db:
        yield db


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()
    return folder


@pytest.fixture
def migrations(db, folder):
    write(folder, "0001_create_users.sql", USERS)
    write(folder, "0002_create_orders.sql", ORDERS)
    return Migrations(db, folder)


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def names(runs):
    return [run.name for run in runs]


async def states(migrations):
    return {status.version: status.state for status in await migrations.status()}


async def tables(db):
    """The users' tables that can be read now."""
    found = []
    for table in ("users", "orders"):
        with contextlib.suppress(QueryError):
            await db.fetch_all(f"SELECT * FROM {table}")
            found.append(table)
    return found


# Up and down


async def test_each_migration_runs_once_and_in_order(db, migrations, folder):
    assert names(await db.migrate(folder)) == ["0001_create_users", "0002_create_orders"]
    assert await db.fetch_value("SELECT name FROM users") == "Ada; Grace"
    assert await db.migrate(folder) == []
    write(folder, "0003_shout.py", FILL)
    assert names(await db.migrate(folder)) == ["0003_shout"]
    assert await db.fetch_value("SELECT name FROM users") == "ADA; GRACE"


async def test_the_history_says_when_how_long_and_by_whom(db, migrations):
    await migrations.up()
    for status in await migrations.status():
        assert status.state == "done"
        assert status.ran_at.startswith("20")
        assert status.ran_at.endswith("Z")
        assert status.seconds > 0
        assert "@" in status.ran_by
        assert "process" in status.ran_by


async def test_down_undoes_the_last_ones(db, migrations, folder):
    write(folder, "0003_shout.py", FILL)
    await migrations.up()
    assert names(await migrations.down()) == ["0003_shout"]
    assert await db.fetch_value("SELECT name FROM users") == "Ada; Grace"
    assert names(await migrations.down(steps=5)) == ["0002_create_orders", "0001_create_users"]
    assert await tables(db) == []
    assert await migrations.down() == []


async def test_to_a_version_goes_up_or_down(db, migrations, folder):
    write(folder, "0003_shout.py", FILL)
    assert names(await migrations.to(2)) == ["0001_create_users", "0002_create_orders"]
    assert names(await migrations.to(3)) == ["0003_shout"]
    assert names(await migrations.to(1)) == ["0003_shout", "0002_create_orders"]
    assert names(await migrations.to(0)) == ["0001_create_users"]
    assert await migrations.to(0) == []
    with pytest.raises(MigrationFileError, match="no migration 9") as caught:
        await migrations.to(9)
    assert "1, 2, 3" in caught.value.hint


async def test_up_to_a_version(db, migrations):
    assert names(await migrations.up(to=1)) == ["0001_create_users"]
    assert await states(migrations) == {1: "done", 2: "pending"}


async def test_a_dry_run_tells_the_sql_and_changes_nothing(db, migrations, folder):
    write(folder, "0003_shout.py", FILL)
    planned = await migrations.up(dry_run=True)
    assert names(planned) == ["0001_create_users", "0002_create_orders", "0003_shout"]
    assert planned[0].statements[1] == "INSERT INTO users VALUES (1, 'Ada; Grace')"
    assert planned[2].statements == ("-- Python: up() in 0003_shout.py",)
    assert await states(migrations) == {1: "pending", 2: "pending", 3: "pending"}
    assert await tables(db) == []
    await migrations.up()
    assert (await migrations.down(dry_run=True))[0].statements == ("-- Python: down() in 0003_shout.py",)
    assert names(await migrations.to(0, dry_run=True)) == ["0003_shout", "0002_create_orders", "0001_create_users"]
    assert await tables(db) == ["users", "orders"]


async def test_what_cannot_be_undone_is_found_before_anything_is(db, migrations, folder):
    write(folder, "0001_create_users.sql", USERS.partition("-- down")[0])
    await migrations.up()
    with pytest.raises(MigrationFileError, match="cannot be undone"):
        await migrations.down(steps=2)
    assert await tables(db) == ["users", "orders"]


async def test_what_the_migrations_did_is_seen_in_the_history_of_the_part(db, migrations):
    await migrations.up()
    done = [entry.target for entry in db.history if entry.operation == "MIGRATE"]
    assert done == ["0001_create_users up", "0002_create_orders up"]


# What does not fit


async def test_a_file_that_was_edited_after_it_ran_stops_the_next_run(db, migrations, folder):
    await migrations.up()
    write(folder, "0001_create_users.sql", USERS.replace("50", "60"))
    write(folder, "0003_shout.py", FILL)
    with pytest.raises(MigrationConflict, match="0001_create_users was edited after it ran") as caught:
        await migrations.up()
    assert "baseline 1" in caught.value.hint
    assert await states(migrations) == {1: "edited", 2: "done", 3: "pending"}


async def test_an_edit_can_be_tried_again_by_down_and_up(db, migrations, folder):
    await migrations.up()
    write(folder, "0002_create_orders.sql", ORDERS.replace("(id INTEGER", "(total INTEGER, id INTEGER"))
    await migrations.down()
    await migrations.up()
    assert await db.fetch_all("SELECT total FROM orders") == []


async def test_an_edit_that_changes_nothing_is_taken_as_it_is(db, migrations, folder):
    await migrations.up()
    write(folder, "0001_create_users.sql", USERS.replace("INSERT INTO", "insert into"))
    assert [status.version for status in await migrations.baseline(1, dry_run=True)] == [1]
    assert [status.version for status in await migrations.baseline(1)] == [1]
    assert await migrations.up() == []


async def test_a_database_that_was_there_before_gets_a_baseline(db, migrations):
    await db.execute("CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(50) NOT NULL)")
    assert [status.name for status in await migrations.baseline(1)] == ["0001_create_users"]
    assert names(await migrations.up()) == ["0002_create_orders"]
    assert "baseline" in (await migrations.status())[0].ran_by


async def test_a_file_that_is_gone_stops_the_next_run(db, migrations, folder):
    await migrations.up()
    (folder / "0002_create_orders.sql").unlink()
    with pytest.raises(MigrationConflict, match="2_create_orders ran on this database, and its file is not"):
        await migrations.up()
    assert await states(migrations) == {1: "done", 2: "missing"}


async def test_a_late_migration_is_refused_unless_it_is_asked_for(db, migrations, folder):
    (folder / "0001_create_users.sql").rename(folder / "0003_create_users.sql")
    await migrations.up()
    write(folder, "0001_shout.sql", "UPDATE users SET name = 'late'")
    with pytest.raises(MigrationConflict, match="0001_shout did not run, and the later 0003_create_users did"):
        await migrations.up()
    assert (await states(migrations))[1] == "out of order"
    assert names(await migrations.up(out_of_order=True)) == ["0001_shout"]
    assert await db.fetch_value("SELECT name FROM users") == "late"


async def test_a_history_of_a_newer_release_is_refused(db, migrations):
    await migrations.up()
    await db.execute("UPDATE consona_schema SET version = 9, oldest_reader = 9 WHERE part = 'migrations'")
    with pytest.raises(Exception, match="has the form 9"):
        await migrations.status()


async def test_migrating_beside_the_own_transaction_is_refused(db, migrations):
    async with db.transaction():
        with pytest.raises(TransactionOpen):
            await migrations.up()


# Whether the schema is what the migrations make


async def test_a_database_that_its_migrations_made_is_in_order(db, migrations):
    await migrations.up()
    assert await migrations.check() == []


async def test_what_differs_is_named(db, migrations, folder):
    await migrations.up()
    await db.execute("DROP TABLE orders")
    await db.execute("CREATE TABLE extra (x INTEGER)")
    await db.execute("ALTER TABLE users ADD COLUMN age INTEGER")
    write(folder, "0003_shout.py", FILL)
    findings = await migrations.check()
    assert {finding.kind for finding in findings} == {"pending", "schema"}
    texts = "\n".join(finding.text for finding in findings)
    assert "0003_shout did not run yet" in texts
    assert "table orders: missing in the database; the migrations make it (with id)." in texts
    assert "table extra: in the database (with x), and no migration makes it." in texts
    assert "table users, column age: in the database (int" in texts.replace("INT", "int")


async def test_migrations_that_fail_on_an_empty_database_are_told(db, migrations, folder):
    await migrations.up()
    await db.execute("CREATE TABLE by_hand (x INTEGER)")
    write(folder, "0003_needs.sql", "INSERT INTO by_hand VALUES (1);")
    await migrations.up()
    [finding] = await migrations.check()
    assert finding.kind == "fails"
    assert "0003_needs.sql, line 1" in finding.text


# Failures


async def test_a_failed_python_step_leaves_nothing(db, migrations, folder):
    write(folder, "0003_fail.py", FILL.replace("async def down", "    1 / 0\n\nasync def down"))
    with pytest.raises(MigrationFailed, match=r"0003_fail.py, line 6: `up` failed: ZeroDivisionError. Nothing of it"):
        await migrations.up()
    assert await states(migrations) == {1: "done", 2: "done", 3: "pending"}
    assert await db.fetch_value("SELECT name FROM users") == "Ada; Grace"


async def test_the_words_of_a_foreign_error_stay_in_its_cause(db, migrations, folder):
    write(folder, "0003_fail.py", "async def up(tx):\n    raise ValueError('user ada@example.org')\n")
    with pytest.raises(MigrationFailed) as caught:
        await migrations.up()
    assert "ada@" not in caught.value.message
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_python_step_without_a_transaction_gets_the_database(db, migrations, folder):
    text = "transaction = False\n\nasync def up(db):\n    async with db.transaction() as tx:\n"
    write(folder, "0003_own.py", text + "        await tx.execute(\"UPDATE users SET name = 'own'\")\n")
    await migrations.up()
    assert await db.fetch_value("SELECT name FROM users") == "own"


async def test_a_step_that_broke_outside_of_a_transaction_must_be_gone_on_with(db, migrations, folder):
    write(folder, "0003_own.py", "transaction = False\n\nasync def up(db):\n    raise LookupError\n")
    with pytest.raises(MigrationFailed, match="may have stayed"):
        await migrations.up()
    with pytest.raises(MigrationConflict, match="0003_own: `up` stopped at statement 1 of 1"):
        await migrations.up()
    write(folder, "0003_own.py", "transaction = False\n\nasync def up(db): ...\n")
    assert names(await migrations.up(continue_at=1)) == ["0003_own"]
    assert await states(migrations) == {1: "done", 2: "done", 3: "done"}


async def test_without_a_transaction_each_statement_stays_and_the_history_says_where_it_stopped(db, migrations, folder):
    text = "-- up\n-- no transaction\nINSERT INTO users VALUES (2, 'b');\nCREATE TABLE a (x INTEGER);\nINSERT INTO none VALUES (1);\nINSERT INTO users VALUES (3, 'c');"
    write(folder, "0003_steps.sql", text)
    with pytest.raises(MigrationFailed, match=r"line 5: statement 3 of 4 \(INSERT INTO none.*Statements 1 to 2 stayed"):
        await migrations.up()
    assert await states(migrations) == {1: "done", 2: "done", 3: "half done"}
    with pytest.raises(
        MigrationConflict, match=r"stopped at statement 3 of 4 \(line 5.*failed; statements 1 to 2 stay"
    ) as caught:
        await migrations.up()
    assert "--continue-at 3" in caught.value.hint
    with pytest.raises(MigrationConflict, match="cannot go on at 6"):
        await migrations.up(continue_at=6)
    write(folder, "0003_steps.sql", text.replace("INTO none", "INTO a"))
    [run] = await migrations.up(continue_at=3)
    assert len(run.statements) == 2
    assert await db.fetch_column("SELECT name FROM users ORDER BY id") == ["Ada; Grace", "b", "c"]
    assert await states(migrations) == {1: "done", 2: "done", 3: "done"}


async def test_what_was_finished_by_hand_is_marked_as_done(db, migrations, folder):
    write(folder, "0003_steps.sql", "-- no transaction\nINSERT INTO none VALUES (1);")
    with pytest.raises(MigrationFailed):
        await migrations.up()
    await migrations.up(continue_at=2)
    assert await states(migrations) == {1: "done", 2: "done", 3: "done"}


async def test_nothing_to_go_on_with_is_told(db, migrations):
    with pytest.raises(MigrationConflict, match="No migration is half done"):
        await migrations.up(continue_at=1)


# Together with others


async def test_many_tasks_migrate_at_once_and_each_migration_runs_once(url, migrations, folder):
    async def migrate():
        async with SQLDatabase(url) as db:
            return names(await db.migrate(folder))

    runs = await asyncio.gather(*(migrate() for _ in range(10)))
    assert sorted(runs) == [[]] * 9 + [["0001_create_users", "0002_create_orders"]]


async def test_who_waits_for_too_long_is_told_who_migrates(url, db, migrations, folder):
    write(
        folder,
        "0003_wait.py",
        "import asyncio, builtins\n\nasync def up(tx):\n    builtins.reached.set()\n    await builtins.release.wait()\n",
    )
    import builtins

    builtins.reached, builtins.release = asyncio.Event(), asyncio.Event()  # type: ignore[attr-defined]
    async with SQLDatabase(url) as other:
        first = asyncio.create_task(migrations.up())
        try:
            await asyncio.wait_for(builtins.reached.wait(), 20)  # type: ignore[attr-defined]
            with pytest.raises(MigrationLocked, match=r"is being migrated by .+, for more than 0.1 s"):
                await other.migrate(folder, wait=0.1)
        finally:
            builtins.release.set()  # type: ignore[attr-defined]
            await first
            del builtins.reached, builtins.release  # type: ignore[attr-defined]


MIGRATE = """
import asyncio, sys
from consona import SQLDatabase

async def main():
    async with SQLDatabase(sys.argv[1]) as db:
        print(",".join(run.name for run in await db.migrate(sys.argv[2])))

asyncio.run(main())
"""


async def test_twenty_processes_start_at_once_and_each_migration_runs_once(url, folder, request):
    if "memory" in request.node.name:
        pytest.skip("a memory database belongs to one process")
    write(folder, "0001_create_users.sql", USERS)
    write(folder, "0002_create_orders.sql", ORDERS)
    write(folder, "0003_more.sql", "INSERT INTO users VALUES (2, 'once')")
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, url, folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(20)
    ]
    answers = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0] * 20, answers
    ran = [name for out, _ in answers for name in out.decode().strip().split(",") if name]
    assert sorted(ran) == ["0001_create_users", "0002_create_orders", "0003_more"]
    async with SQLDatabase(url) as db:
        assert await db.fetch_column("SELECT name FROM users ORDER BY id") == ["Ada; Grace", "once"]


async def test_a_unique_value_is_told_without_the_value(db, migrations, folder):
    write(folder, "0003_twice.sql", "INSERT INTO users VALUES (1, 'again')")
    with pytest.raises(MigrationFailed) as caught:
        await migrations.up()
    assert isinstance(caught.value.__cause__, ConstraintFailed)
