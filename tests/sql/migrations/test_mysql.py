"""MariaDB and MySQL commit at each change of the schema: the history says where a migration stands."""

import asyncio
import secrets
import sys

import pytest

from consona.sql.database import SQLDatabase
from consona.sql.migrations import check
from consona.sql.migrations.errors import MigrationConflict, MigrationFailed
from consona.sql.migrations.runner import Migrations

pytestmark = pytest.mark.servers

USERS = "CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(50));\nINSERT INTO users VALUES (1, 'Ada');\n"


@pytest.fixture
async def db(mysql_url):
    async with SQLDatabase(mysql_url) as db:
        yield db


async def tables(db):
    return await db.fetch_column(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        " AND table_name NOT LIKE 'consona%' ORDER BY 1"
    )


async def conflict(migrations):
    with pytest.raises(MigrationConflict) as caught:
        await migrations.up()
    return f"{caught.value.message} {caught.value.hint}"


async def test_a_failed_statement_is_named_and_what_stayed_and_how_to_go_on(db, tmp_path):
    text = f"{USERS}ALTER TABLE users ADD COLUMN age INT;\nCREATE TABLE users (x INT);\nINSERT INTO users VALUES (2, 'Bo', 3);"
    (tmp_path / "0001_users.sql").write_text(text)
    migrations = Migrations(db, tmp_path)
    with pytest.raises(
        MigrationFailed, match=r"line 4: statement 4 of 5 .* failed: .* Statements 1 to 3 stayed"
    ) as caught:
        await migrations.up()
    assert "--continue-at 4" in caught.value.hint
    said = await conflict(migrations)
    assert (
        "stopped at statement 4 of 5 (line 4: CREATE TABLE users (x INT)), which failed; statements 1 to 3 stayed"
        in said
    )
    assert "--continue-at 4" in said
    (tmp_path / "0001_users.sql").write_text(text.replace("CREATE TABLE users (x INT)", "CREATE TABLE more (x INT)"))
    await migrations.up(continue_at=4)
    assert await tables(db) == ["more", "users"]
    assert await db.fetch_column("SELECT name FROM users ORDER BY id") == ["Ada", "Bo"]
    assert await migrations.check() == []


async def test_what_changes_rows_only_is_one_transaction(db, tmp_path):
    (tmp_path / "0001_users.sql").write_text(USERS)
    (tmp_path / "0002_rows.sql").write_text("UPDATE users SET name = 'x';\nINSERT INTO users VALUES (1, 'twice');")
    with pytest.raises(MigrationFailed, match="Nothing of it stayed"):
        await db.migrate(tmp_path)
    assert await db.fetch_column("SELECT name FROM users") == ["Ada"]
    assert [status.state for status in await Migrations(db, tmp_path).status()] == ["done", "pending"]


async def test_undoing_is_noted_too(db, tmp_path):
    (tmp_path / "0001_users.sql").write_text(f"-- up\n{USERS}-- down\nDROP TABLE users;\nDROP TABLE nothing;\n")
    migrations = Migrations(db, tmp_path)
    await migrations.up()
    with pytest.raises(MigrationFailed, match="statement 2 of 2"):
        await migrations.down()
    said = await conflict(migrations)
    assert "`down` stopped at statement 2 of 2" in said
    [run] = (await migrations.up(continue_at=3))[:1]  # all of it is done
    assert run.direction == "down"


async def test_a_procedure_and_a_trigger_with_delimiter(db, tmp_path):
    (tmp_path / "0001_users.sql").write_text(f"""-- up
{USERS}
DELIMITER //
CREATE PROCEDURE fill(n INT)
BEGIN
  DECLARE i INT DEFAULT 10;
  WHILE i < n DO
    INSERT INTO users VALUES (i, 'semi;colon');
    SET i = i + 1;
  END WHILE;
END //
CREATE TRIGGER shout BEFORE INSERT ON users FOR EACH ROW SET new.name = UPPER(new.name) //
DELIMITER ;
CALL fill(13);
-- down
DROP PROCEDURE fill;
DROP TABLE users;
""")
    migrations = Migrations(db, tmp_path)
    await migrations.up()
    assert await db.fetch_column("SELECT name FROM users ORDER BY id") == ["Ada"] + ["SEMI;COLON"] * 3
    assert await migrations.check() == []
    await migrations.down()
    assert await tables(db) == []


OBJECTS = """
CREATE TABLE people (
  id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) NOT NULL DEFAULT 'x', boss BIGINT,
  twice INT AS (2 * 2) STORED, CONSTRAINT boss FOREIGN KEY (boss) REFERENCES people (id) ON DELETE CASCADE,
  KEY by_name (name), CONSTRAINT short CHECK (LENGTH(name) < 40)
);
CREATE VIEW names AS SELECT name FROM people;
CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2;
CREATE TRIGGER shout BEFORE INSERT ON people FOR EACH ROW SET new.name = UPPER(new.name);
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE people MODIFY name VARCHAR(60) NOT NULL DEFAULT 'x'", "table people, column name: varchar(60)"),
        ("ALTER TABLE people DROP KEY by_name", "table people, key by_name: missing in the database"),
        ("ALTER TABLE people DROP FOREIGN KEY boss", "table people, constraint boss: missing in the database"),
        ("ALTER TABLE people DROP CONSTRAINT short", "table people, constraint short: missing in the database"),
        ("ALTER TABLE people COMMENT = 'by hand'", "table people, options"),
        ("CREATE OR REPLACE VIEW names AS SELECT id FROM people", "view names, definition"),
        ("DROP TRIGGER shout", "trigger shout: missing in the database"),
        ("DROP FUNCTION twice", "routine twice: missing in the database"),
        ("CREATE TABLE extra (x INT)", "table extra: in the database (with x)"),
    ],
)
async def test_each_kind_of_change_by_hand_is_named(db, tmp_path, change, told, monkeypatch):
    name = secrets.token_hex(8)
    monkeypatch.setattr(check.secrets, "token_hex", lambda _: name)
    (tmp_path / "0001_objects.sql").write_text(OBJECTS)
    migrations = Migrations(db, tmp_path)
    await migrations.up()
    await db.execute("INSERT INTO people (name) VALUES ('counts up')")
    assert await migrations.check() == []
    await db.execute(change)
    findings = await migrations.check()
    assert any(told in finding.text for finding in findings), findings
    assert await db.fetch_column(f"SHOW DATABASES LIKE 'consona_scratch_{name}'") == []


KILLED = """
import asyncio, sys
from consona import SQLDatabase

async def main():
    async with SQLDatabase(sys.argv[1]) as db:
        await db.migrate(sys.argv[2])

asyncio.run(main())
"""


async def killed_during(words, db, url, folder):
    """Start a process that migrates; kill it once the server runs a statement that begins with these words."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, url, folder)
    running = (
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE ? AND id <> CONNECTION_ID()"
    )
    async with asyncio.timeout(30):
        while (session := await db.fetch_value(running, f"{words}%")) is None:
            assert process.returncode is None
            await asyncio.sleep(0.02)
    process.kill()
    await process.wait()
    return session


async def test_killed_while_rows_are_changed_it_is_known_that_they_were_not(db, tmp_path, mysql_url):
    (tmp_path / "0001_users.sql").write_text(f"{USERS}UPDATE users SET name = SLEEP(600);\nCREATE TABLE b (x INT);")
    session = await killed_during("UPDATE users", db, mysql_url, tmp_path)
    await db.execute(f"KILL {session}")
    migrations = Migrations(db, tmp_path, wait=30)
    said = await conflict(migrations)
    assert "stopped at statement 3 of 4 (line 3: UPDATE users SET name = SLEEP(600)), which did not happen" in said
    (tmp_path / "0001_users.sql").write_text(f"{USERS}UPDATE users SET name = 'x';\nCREATE TABLE b (x INT);")
    await migrations.up(continue_at=3)
    assert await db.fetch_column("SELECT name FROM users") == ["x"]
    assert await tables(db) == ["b", "users"]


async def test_killed_while_a_table_is_changed_it_is_known_whether_it_was(db, tmp_path, mysql_url):
    async with SQLDatabase(mysql_url) as other:
        await other.execute("CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(50))")
        (tmp_path / "0001_users.sql").write_text("ALTER TABLE users ADD COLUMN age INT;\nCREATE TABLE b (x INT);")
        async with other.transaction() as tx:
            await tx.fetch_all("SELECT * FROM users")  # holds the table as it is: ALTER waits
            await killed_during("ALTER TABLE users", db, mysql_url, tmp_path)
    # Nobody holds it any more. The server does not know yet that its client is gone, and changes the table.
    migrations = Migrations(db, tmp_path, wait=30)
    said = await conflict(migrations)
    assert "stopped at statement 1 of 2 (line 1: ALTER TABLE users ADD COLUMN age INT), which has happened" in said
    assert "--continue-at 2" in said
    await migrations.up(continue_at=2)
    assert await tables(db) == ["b", "users"]


async def test_killed_before_a_table_is_changed_it_is_known_that_it_was_not(db, tmp_path, mysql_url):
    async with SQLDatabase(mysql_url) as other:
        await other.execute("CREATE TABLE users (id INT PRIMARY KEY, name VARCHAR(50))")
        (tmp_path / "0001_users.sql").write_text("ALTER TABLE users ADD COLUMN age INT;\nCREATE TABLE b (x INT);")
        async with other.transaction() as tx:
            await tx.fetch_all("SELECT * FROM users")
            session = await killed_during("ALTER TABLE users", db, mysql_url, tmp_path)
            await db.execute(f"KILL {session}")
            migrations = Migrations(db, tmp_path, wait=30)
            said = await conflict(migrations)
    assert "stopped at statement 1 of 2 (line 1: ALTER TABLE users ADD COLUMN age INT), which did not happen" in said
    await migrations.up(continue_at=1)
    assert await tables(db) == ["b", "users"]


async def test_a_python_step_changes_the_schema_outside_of_a_transaction(db, tmp_path):
    text = "async def up(tx):\n    await tx.execute('CREATE TABLE a (x INT)')\n"
    (tmp_path / "0001_step.py").write_text(text)
    with pytest.raises(MigrationFailed, match=r"CREATE would commit the transaction .* Nothing of it stayed"):
        await db.migrate(tmp_path)
    (tmp_path / "0001_step.py").write_text(f"transaction = False\n\n{text}    1 / 0\n")
    with pytest.raises(MigrationFailed, match="may have stayed"):
        await db.migrate(tmp_path)
    assert "0001_step: `up` stopped" in await conflict(Migrations(db, tmp_path))
    await Migrations(db, tmp_path).up(continue_at=2)
    assert await tables(db) == ["a"]


async def test_a_python_step_that_changed_rows_and_failed_left_nothing(db, tmp_path):
    (tmp_path / "0001_users.sql").write_text(USERS)
    (tmp_path / "0002_step.py").write_text("async def up(tx):\n    await tx.execute('DELETE FROM users')\n    1 / 0\n")
    with pytest.raises(MigrationFailed, match="Nothing of it stayed"):
        await db.migrate(tmp_path)
    assert await db.fetch_column("SELECT name FROM users") == ["Ada"]
    assert [status.state for status in await Migrations(db, tmp_path).status()] == ["done", "pending"]
