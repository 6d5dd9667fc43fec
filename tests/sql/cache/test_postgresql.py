"""What others change on PostgreSQL is seen within the bound, whatever happens to the connection that listens."""

import asyncio

import asyncpg
import pytest

from consona import SQLDatabase, Strict
from consona.errors import ConstraintFailed, QueryError
from consona.sql.cache.postgresql import BOUND_S
from consona.sql.migrations.runner import Migrations

pytestmark = pytest.mark.servers

COUNT = "SELECT COUNT(*) FROM pets"


@pytest.fixture
async def db(postgresql_url):
    async with SQLDatabase(postgresql_url) as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        await db.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
        await db.execute("INSERT INTO pets VALUES (1, 'Rex'), (2, 'Mia')")
        await db.watch_tables("pets", "other", strict=True)
        yield db


@pytest.fixture
async def foreign(postgresql_url):
    """Somebody else's connection, without anything of ours."""
    connection = await asyncpg.connect(postgresql_url)
    yield connection
    await connection.close()


def figures(db):
    return db.stats.detail["cache"]


async def until_kept(db, sql=COUNT):
    """Ask until the answer is kept."""
    async with asyncio.timeout(20):
        while True:
            hits = db.stats.detail.get("cache", {"hits": 0})["hits"]
            value = await db.fetch_value(sql, cache=60)
            if figures(db)["hits"] > hits:
                return value
            await asyncio.sleep(0.01)


async def until_seen(db, expected, sql=COUNT):
    """Ask until the change of another one is seen; within the bound and a moment."""
    async with asyncio.timeout(BOUND_S + 2):
        while await db.fetch_value(sql, cache=60) != expected:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("INSERT INTO pets VALUES (3, 'x')", 3),
        ("DELETE FROM pets WHERE id = 1", 1),
        ("TRUNCATE pets", 0),
        (
            "BEGIN; INSERT INTO pets VALUES (3, 'x'); SAVEPOINT s; INSERT INTO pets VALUES (4, 'y'); ROLLBACK TO s; COMMIT",
            3,
        ),
        ("SET session_replication_role = replica; INSERT INTO pets VALUES (3, 'x')", 3),
        ("DROP TABLE pets; CREATE TABLE pets (id INT, name TEXT)", 0),
        ("ALTER TABLE pets RENAME TO old_pets; CREATE TABLE pets AS SELECT 1 AS id", 1),
    ],
)
async def test_what_another_client_does_is_seen(db, foreign, change, expected):
    assert await until_kept(db) == 2
    await foreign.execute(change)
    await until_seen(db, expected)


async def test_a_copy_of_another_client_is_seen(db, foreign):
    await until_kept(db)
    await foreign.copy_records_to_table("pets", records=[(3, "x"), (4, "y")])
    await until_seen(db, 4)


async def test_a_column_that_another_client_adds_is_seen(db, foreign):
    sql = "SELECT * FROM pets WHERE id = 1"
    await until_kept(db, "SELECT id FROM pets WHERE id = 1")
    assert await db.fetch_all(sql, cache=60) == [{"id": 1, "name": "Rex"}]
    await foreign.execute("ALTER TABLE pets ADD COLUMN age INT")
    async with asyncio.timeout(BOUND_S + 2):
        while "age" not in (await db.fetch_all(sql, cache=60))[0]:
            await asyncio.sleep(0.01)


async def test_strict_sees_the_change_of_another_client_at_once(db, foreign):
    for number in range(3, 20):
        assert await db.fetch_value(COUNT, cache=Strict(60)) == number - 1
        assert await db.fetch_value(COUNT, cache=Strict(60)) == number - 1
        await foreign.execute("INSERT INTO pets VALUES ($1, 'x')", number)
    assert figures(db)["hits"] == 17
    await foreign.execute("TRUNCATE pets")
    assert await db.fetch_value(COUNT, cache=Strict(60)) == 0
    await foreign.execute("DROP TABLE pets; CREATE TABLE pets (id INT); INSERT INTO pets VALUES (1)")
    assert await db.fetch_value(COUNT, cache=Strict(60)) == 1


async def test_strict_judges_a_table_anew_that_a_view_replaced(db, foreign):
    await db.fetch_value(COUNT, cache=Strict(60))
    await foreign.execute("CREATE TABLE secret (id INT); DROP TABLE pets; CREATE VIEW pets AS SELECT * FROM secret")
    for number in range(3):
        assert await db.fetch_value(COUNT, cache=Strict(60)) == number
        await foreign.execute("INSERT INTO secret VALUES (1)")
    assert "pets is a view" in figures(db)["not_cached"]


async def test_a_change_of_another_table_leaves_an_answer(db, foreign):
    await db.fetch_value(COUNT, cache=60)
    await db.execute("INSERT INTO other VALUES (?)", 1)
    await asyncio.gather(*db._cache._learning)  # what it writes
    await until_kept(db)
    before = figures(db)["hits"]
    await db.execute("INSERT INTO other VALUES (?)", 2)
    await foreign.execute("INSERT INTO other VALUES (3)")
    await db.fetch_value("SELECT COUNT(*) FROM other", cache=60)
    hits = figures(db)["hits"]
    assert await db.fetch_value(COUNT, cache=60) == 2
    assert hits >= before
    assert figures(db)["hits"] == hits + 1


async def test_our_own_write_is_counted_once(db):
    await db.fetch_value(COUNT, cache=60)
    await db.execute("UPDATE pets SET name = 'x'")
    await asyncio.gather(*db._cache._learning)  # what it writes
    await until_kept(db)
    await db.execute("UPDATE pets SET name = 'x'")
    hits = figures(db)["hits"]
    for _ in range(30):
        await db.fetch_value(COUNT, cache=60)
        await asyncio.sleep(0.01)
    assert figures(db)["hits"] >= hits + 29


async def test_a_write_that_a_trigger_or_a_key_causes_is_seen_at_once(db):
    await db.execute("CREATE TABLE toys (id INT PRIMARY KEY, pet INT REFERENCES pets ON DELETE CASCADE)")
    await db.execute("INSERT INTO toys VALUES (1, 1), (2, 2)")
    await db.watch_tables("toys")
    toys = "SELECT COUNT(*) FROM toys"
    await until_kept(db, toys)
    await db.execute("DELETE FROM pets WHERE id = 1")
    assert await db.fetch_value(toys, cache=60) == 1
    await db.execute(
        "CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM toys; RETURN NULL; END $$"
    )
    await db.execute("CREATE TRIGGER also AFTER UPDATE ON pets FOR EACH STATEMENT EXECUTE FUNCTION also()")
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while "pets" not in (db._cache.freshness._state.spreading or ()):
            await asyncio.sleep(0.05)
    await until_kept(db, toys)
    await db.execute("UPDATE pets SET name = 'x'")
    assert await db.fetch_value(toys, cache=60) == 0


async def test_a_function_that_writes_is_seen_at_once(db):
    await db.execute("CREATE FUNCTION more() RETURNS INT LANGUAGE sql AS 'INSERT INTO pets VALUES (3) RETURNING id'")
    await until_kept(db)
    await db.fetch_value("SELECT more()")
    assert await db.fetch_value(COUNT, cache=60) == 3


async def test_a_table_that_nobody_watches_is_asked_each_time(db, foreign):
    await db.execute("CREATE TABLE secret (id INT)")
    await db.execute("CREATE VIEW all_pets AS SELECT * FROM pets")
    for table in ("secret", "all_pets", "pg_class"):
        await db.fetch_value(f"SELECT COUNT(*) FROM {table}", cache=60)
    why = figures(db)["not_cached"]
    assert "secret is not watched: await db.watch_tables('secret')" in why
    assert "all_pets is a view" in why
    assert any("pg_class is not watched" in reason for reason in why)
    await db.execute("CREATE TABLE told (id INT)")
    await db.watch_tables("told")
    await db.fetch_value("SELECT COUNT(*) FROM told", cache=Strict(60))
    assert "told is not counted: await db.watch_tables('told', strict=True)" in figures(db)["not_cached"]


async def test_a_trigger_that_is_dropped_ends_it(db, foreign):
    await until_kept(db)
    await foreign.execute("DROP TRIGGER consona_changed ON pets")
    async with asyncio.timeout(BOUND_S + 3):
        while not any("pets is not watched" in reason for reason in figures(db)["not_cached"]):
            await db.fetch_value(COUNT, cache=60)
            await asyncio.sleep(0.01)
    await foreign.execute("INSERT INTO pets VALUES (3, 'x')")
    assert await db.fetch_value(COUNT, cache=60) == 3


async def test_nothing_is_kept_while_nobody_listens(db, foreign):
    await until_kept(db)
    listening = db.native.notifications._connection
    await foreign.execute("SELECT pg_terminate_backend($1)", listening.get_server_pid())
    async with asyncio.timeout(10):
        while db.native.notifications.connected:
            await asyncio.sleep(0.001)
    await foreign.execute("INSERT INTO pets VALUES (3, 'x')")
    assert await db.fetch_value(COUNT, cache=60) == 3
    assert await until_kept(db) == 3


async def test_a_beat_that_does_not_come_ends_it(db):
    await until_kept(db)
    db._cache.freshness._state.confirmed -= BOUND_S
    assert db._cache.freshness.stamp(frozenset({"pets"})) is None


async def test_after_a_cancelled_write_nothing_is_kept_for_a_while(db, foreign):
    await until_kept(db)
    await foreign.execute("BEGIN; LOCK TABLE pets IN SHARE MODE")
    writing = asyncio.create_task(db.execute("UPDATE pets SET name = 'x'"))
    await asyncio.sleep(0.1)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await foreign.execute("COMMIT")
    await db.fetch_value(COUNT, cache=60)
    await db.fetch_value(COUNT, cache=60)
    assert "the engine cannot tell now whether something changed" in figures(db)["not_cached"]


async def test_a_write_that_fails_changes_nothing(db):
    await until_kept(db)
    with pytest.raises(ConstraintFailed):
        await db.execute("INSERT INTO pets VALUES (1, 'twice')")
    hits = figures(db)["hits"]
    await db.fetch_value(COUNT, cache=60)
    assert figures(db)["hits"] == hits + 1


async def test_arrays_are_the_callers_to_change(db):
    await db.execute("ALTER TABLE pets ADD COLUMN tags TEXT[] DEFAULT '{a,b}'")
    for _ in range(3):
        [row] = await db.fetch_all("SELECT tags FROM pets WHERE id = 1", cache=60)
        assert row["tags"] == ["a", "b"]
        row["tags"].append("mine")
    assert figures(db)["hits"] >= 1


async def test_watching_is_done_once_and_is_no_difference_to_the_migrations(db, tmp_path):
    (tmp_path / "0001_cats.sql").write_text("CREATE TABLE cats (id INT PRIMARY KEY);")
    await db.execute("DROP TABLE pets, other")
    await db.migrate(tmp_path)
    await db.watch_tables("cats")
    trigger = "SELECT oid::bigint FROM pg_trigger WHERE tgrelid = 'cats'::regclass"
    first = await db.fetch_value(trigger)
    await db.watch_tables("cats")
    assert await db.fetch_value(trigger) == first
    assert await Migrations(db, tmp_path).check() == []
    with pytest.raises(QueryError):
        await db.watch_tables("nothing")


async def test_writers_do_not_wait_for_each_other(db, postgresql_url):
    """The counts of a strict trigger are one row for each session."""
    one, two = await asyncpg.connect(postgresql_url), await asyncpg.connect(postgresql_url)
    await one.execute("BEGIN; INSERT INTO pets VALUES (10, 'x'); INSERT INTO other VALUES (10)")
    async with asyncio.timeout(5):
        await two.execute("BEGIN; INSERT INTO other VALUES (11); INSERT INTO pets VALUES (11, 'y'); COMMIT")
    await one.execute("COMMIT")
    assert await db.fetch_value(COUNT, cache=Strict(60)) == 4
    await one.close()
    await two.close()
