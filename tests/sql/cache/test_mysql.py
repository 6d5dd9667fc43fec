"""On MariaDB, what was committed before the question is in the answer, whoever changed it and however."""

import asyncio
from urllib.parse import urlsplit

import asyncmy
import pytest

from consona import SQLDatabase, Strict
from consona.errors import ConfigurationError, QueryError
from consona.sql.cache import mysql_watching
from consona.sql.migrations.runner import Migrations

pytestmark = pytest.mark.servers

COUNT = "SELECT COUNT(*) FROM pets"


@pytest.fixture
async def db(mysql_url):
    async with SQLDatabase(mysql_url) as db:
        await db.execute("CREATE TABLE pets (id INTEGER AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50))")
        await db.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
        await db.execute("INSERT INTO pets VALUES (1, 'Rex'), (2, 'Mia')")
        await db.watch_tables("pets", "other")
        yield db


class Foreign:
    """Somebody else's connection, without anything of ours."""

    def __init__(self, connection):
        self.connection = connection

    async def execute(self, script):
        async with self.connection.cursor() as cursor:
            for statement in script.split("; "):
                await cursor.execute(statement)


@pytest.fixture
async def foreign(mysql_url):
    at = urlsplit(mysql_url)
    connection = await asyncmy.connect(
        host=at.hostname,
        port=at.port or 3306,
        user=at.username,
        password=at.password or "",
        db=at.path[1:],
        autocommit=True,
        init_command="SET lock_wait_timeout = 10",
    )
    yield Foreign(connection)
    await connection.ensure_closed()


def figures(db):
    return db.stats.detail["cache"]


def not_kept(db):
    return "; ".join(figures(db)["not_cached"])


async def ask(db, sql=COUNT):
    return await db.fetch_value(sql, cache=Strict(60))


async def asked_twice(db, sql=COUNT):
    """Ask twice; the second answer must be a kept one."""
    await ask(db, sql)
    hits = figures(db)["hits"]
    value = await ask(db, sql)
    assert figures(db)["hits"] == hits + 1, not_kept(db)
    return value


async def test_plain_seconds_are_refused_with_what_to_write_instead(db):
    with pytest.raises(ConfigurationError, match=r"cache=Strict\(60\)"):
        await db.fetch_value(COUNT, cache=60)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("INSERT INTO pets VALUES (3, 'x')", 3),
        ("DELETE FROM pets WHERE id = 1", 1),
        ("REPLACE INTO pets VALUES (2, 'y'), (4, 'z')", 3),
        ("INSERT INTO pets VALUES (1, 'x'), (9, 'z') ON DUPLICATE KEY UPDATE name = 'y'", 3),
        ("INSERT INTO pets (name) SELECT name FROM pets", 4),
        ("TRUNCATE pets", 0),
        ("TRUNCATE pets; INSERT INTO pets VALUES (7, 'a'), (8, 'b'), (9, 'c')", 3),
        ("BEGIN; INSERT INTO pets VALUES (3, 'x'); SAVEPOINT s; DELETE FROM pets; ROLLBACK TO s; COMMIT", 3),
        ("DROP TABLE pets; CREATE TABLE pets (id INT)", 0),
        ("RENAME TABLE pets TO old_pets; CREATE TABLE pets AS SELECT 1 AS id", 1),
        ("CREATE TABLE fewer LIKE pets; RENAME TABLE pets TO old_pets, fewer TO pets", 0),
        ("DROP TABLE pets; CREATE VIEW pets AS SELECT * FROM other", 0),
        ("DELETE pets, other FROM pets LEFT JOIN other ON true WHERE pets.id = 1", 1),
    ],
)
async def test_what_another_client_does_is_seen_at_once(db, foreign, change, expected):
    assert await asked_twice(db) == 2
    await foreign.execute(change)
    assert await ask(db) == expected
    assert await ask(db) == expected


async def test_two_watched_tables_that_change_their_names_are_not_mistaken(db, foreign):
    await foreign.execute("INSERT INTO other VALUES (1)")
    assert (await asked_twice(db), await asked_twice(db, "SELECT COUNT(*) FROM other")) == (2, 1)
    await foreign.execute("RENAME TABLE pets TO x, other TO pets, x TO other")
    assert (await ask(db), await ask(db, "SELECT COUNT(*) FROM other")) == (1, 2)
    assert (await asked_twice(db), await asked_twice(db, "SELECT COUNT(*) FROM other")) == (1, 2)


@pytest.mark.parametrize(
    "change",
    ["ADD COLUMN age INT", "MODIFY id BIGINT", "DROP COLUMN name", "CHANGE name called VARCHAR(50)"],
)
async def test_a_column_that_another_client_changes_is_seen_at_once(db, foreign, change):
    sql = "SELECT * FROM pets WHERE id = 1"
    before = await db.fetch_all(sql, cache=Strict(60))
    await db.fetch_all(sql, cache=Strict(60))
    assert figures(db)["hits"] == 1
    await foreign.execute(f"ALTER TABLE pets {change}")
    after = await db.fetch_all(sql, cache=Strict(60))
    assert after == await db.fetch_all(sql)
    assert after != before or change.startswith("MODIFY")
    assert figures(db)["hits"] == 1


async def test_what_is_not_committed_is_not_kept(db, foreign):
    await foreign.execute("BEGIN; INSERT INTO pets VALUES (3, 'x')")
    assert await asked_twice(db) == 2
    await foreign.execute("ROLLBACK")
    hits = figures(db)["hits"]
    assert await ask(db) == 2
    assert figures(db)["hits"] == hits + 1


async def test_a_change_of_another_table_leaves_an_answer(db, foreign):
    await asked_twice(db)
    hits = figures(db)["hits"]
    await foreign.execute("INSERT INTO other VALUES (1)")
    await ask(db)
    assert figures(db)["hits"] == hits + 1


async def test_names_that_differ_in_capitals_are_different_tables(db):
    if await db.fetch_value("SELECT @@lower_case_table_names"):
        pytest.skip("this server takes them for one")
    await db.execute("CREATE TABLE Pets (id INTEGER PRIMARY KEY)")
    await db.watch_tables("Pets")
    assert (await asked_twice(db), await asked_twice(db, "SELECT COUNT(*) FROM Pets")) == (2, 0)
    await db.execute("INSERT INTO Pets VALUES (1)")
    assert (await ask(db), await ask(db, "SELECT COUNT(*) FROM Pets")) == (2, 1)


async def test_what_cannot_be_watched_is_asked_each_time(db):
    await db.execute("CREATE TABLE secret (id INTEGER)")
    await db.execute("CREATE VIEW all_pets AS SELECT * FROM pets")
    await db.execute("CREATE TABLE old (id INTEGER) ENGINE=MyISAM")
    await db.execute("CREATE TABLE parts (id INTEGER) PARTITION BY HASH (id) PARTITIONS 2")
    await db.execute("CREATE TABLE toys (pet INTEGER, FOREIGN KEY (pet) REFERENCES pets (id) ON DELETE CASCADE)")
    await db.watch_tables("old", "parts", "toys")
    for table in ("secret", "all_pets", "old", "parts", "toys", "information_schema.TABLES"):
        for _ in range(2):
            await ask(db, f"SELECT COUNT(*) FROM {table}")
    assert figures(db)["hits"] == 0
    why = not_kept(db)
    assert "secret is not watched: await db.watch_tables('secret')" in why
    assert "all_pets is a view" in why
    assert "old is kept by MyISAM" in why
    assert "parts is partitioned" in why
    assert "toys has a key that lets other tables change it" in why
    assert "information_schema.TABLES is in another database" in why


async def test_a_view_of_the_servers_sessions_and_variables_is_not_kept(db):
    for _ in range(2):
        await ask(db, "SELECT COUNT(*) + @@in_transaction FROM pets")
        await ask(db, "SELECT COUNT(*) + coalesce(@n, 0) FROM pets")
    assert figures(db)["hits"] == 0


async def test_watching_ends_with_a_trigger_that_is_dropped_and_begins_again(db, foreign):
    await asked_twice(db)
    [name] = await db.fetch_column("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = database()"
        " AND EVENT_OBJECT_TABLE = 'pets' AND EVENT_MANIPULATION = 'UPDATE'")  # fmt: skip
    await foreign.execute(f"DROP TRIGGER {name}; UPDATE pets SET name = 'Bo'")
    assert await ask(db, "SELECT name FROM pets WHERE id = 1") == "Bo"
    await foreign.execute("UPDATE pets SET name = 'Al'")
    assert await ask(db, "SELECT name FROM pets WHERE id = 1") == "Al"
    assert "pets is not watched" in not_kept(db)
    await db.watch_tables("pets")
    assert await asked_twice(db, "SELECT name FROM pets WHERE id = 1") == "Al"


async def test_writes_give_the_same_keys_and_counts_as_without(db):
    assert tuple(await db.execute("INSERT INTO pets (name) VALUES ('a'), ('b'), ('c')")) == (3, 5)
    assert tuple(await db.execute("UPDATE pets SET name = 'x' WHERE id > 3")) == (2, None)
    assert await db.insert_many("pets", [{"name": "y"}] * 60) == 60


async def test_writers_do_not_wait_for_each_other(db, foreign):
    """The counts are one row for each session."""
    await foreign.execute("BEGIN; INSERT INTO pets VALUES (10, 'x'); INSERT INTO other VALUES (10)")
    async with asyncio.timeout(10), db.transaction() as tx:
        await tx.execute("INSERT INTO other VALUES (11)")
        await tx.execute("INSERT INTO pets VALUES (11, 'y')")
    await foreign.execute("COMMIT")
    assert await ask(db) == 4


async def test_watching_is_done_once_and_is_no_difference_to_the_migrations(db, tmp_path):
    (tmp_path / "0001_cats.sql").write_text("CREATE TABLE cats (id INTEGER PRIMARY KEY);")
    await db.execute("DROP TABLE pets")
    await db.execute("DROP TABLE other")
    await db.migrate(tmp_path)
    triggers = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = database() ORDER BY 1"
    await asyncio.gather(*(db.watch_tables("cats") for _ in range(5)))
    first = await db.fetch_column(triggers)
    assert len(first) == 3
    await db.watch_tables("cats")
    assert await db.fetch_column(triggers) == first
    assert await Migrations(db, tmp_path).check() == []
    with pytest.raises(QueryError):
        await db.watch_tables("nothing")


async def test_what_many_sessions_counted_becomes_one_row_without_a_stale_answer(db, foreign, monkeypatch):
    monkeypatch.setattr(mysql_watching, "MANY_SESSIONS", 20)
    rows = "SELECT COUNT(*) FROM consona_changes WHERE session <> 0"
    await db.execute_many(
        "INSERT INTO consona_changes SELECT token, ?, 5 FROM consona_changes WHERE session = (SELECT min(session)"
        " FROM consona_changes) AND token = (SELECT min(token) FROM consona_changes)",
        [(10_000_000 + number,) for number in range(30)],
    )
    total = await db.fetch_value("SELECT sum(version) FROM consona_changes")
    await foreign.execute("BEGIN; INSERT INTO pets VALUES (3, 'x')")
    assert await asked_twice(db) == 2
    await db.watch_tables("pets")
    assert await db.fetch_value(rows) <= 1
    assert await db.fetch_value("SELECT sum(version) FROM consona_changes") == total
    assert await ask(db) == 2
    await foreign.execute("COMMIT")
    assert await ask(db) == 3
