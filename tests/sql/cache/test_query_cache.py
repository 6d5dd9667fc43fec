"""What a file of SQLite makes possible to see: readers beside a writer, other processes, special tables."""

import asyncio
import sys

import pytest

from consona import SQLDatabase

SLOW = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)"
    " SELECT COUNT(*) FROM pets WHERE (SELECT COUNT(*) FROM n) > 0"
)


@pytest.fixture
async def db(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'shop.db'}") as db:
        await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        await db.execute("INSERT INTO pets (name) VALUES ('Rex'), ('Mia')")
        yield db


def figures(db):
    return db.stats.detail["cache"]


async def test_who_asks_after_a_write_does_not_get_the_answer_of_a_question_from_before(db):
    await db.fetch_value(SLOW.replace("400000", "4"), cache=60)
    early = asyncio.create_task(db.fetch_value(SLOW, cache=60))
    async with asyncio.timeout(20):
        while not db.stats.detail["reads_under_way"]:
            await asyncio.sleep(0)
    await db.execute("INSERT INTO pets (name) VALUES ('Bo')")
    late = asyncio.create_task(db.fetch_value(SLOW, cache=60))
    assert await late == 3
    assert await early in {2, 3}
    assert figures(db)["joined"] == 0
    assert await db.fetch_value(SLOW, cache=60) == 3


async def test_another_process_is_seen_at_once(db, tmp_path):
    program = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()"
    for number in range(3, 6):
        assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=60) == number - 1
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, tmp_path / "shop.db", "INSERT INTO pets (name) VALUES ('foreign')"
        )
        assert await process.wait() == 0
        assert await db.fetch_value("SELECT COUNT(*) FROM pets", cache=60) == number


async def test_a_view_is_kept_unless_its_answer_may_change(db):
    await db.execute("CREATE VIEW names AS SELECT name FROM pets")
    await db.execute("CREATE VIEW chances AS SELECT random() AS r")
    for _ in range(2):
        assert await db.fetch_column("SELECT name FROM names", cache=60) == ["Rex", "Mia"]
        await db.fetch_value("SELECT r FROM chances", cache=60)
    assert figures(db)["hits"] == 1
    assert figures(db)["not_cached"] == {"the view chances calls random, whose answer may change": 2}
    await db.execute("DROP VIEW names")
    await db.execute("CREATE VIEW names AS SELECT name, random() FROM pets")
    await db.fetch_column("SELECT name FROM names", cache=60)
    assert "the view names calls random, whose answer may change" in figures(db)["not_cached"]


async def test_a_full_text_table_is_kept_and_other_virtual_ones_are_not(db):
    await db.execute("CREATE VIRTUAL TABLE notes USING fts5(text)")
    await db.execute("INSERT INTO notes VALUES ('a red house')")
    for _ in range(2):
        assert await db.fetch_value("SELECT COUNT(*) FROM notes WHERE notes MATCH ?", "red", cache=60) == 1
    assert figures(db)["hits"] == 1
    await db.execute("INSERT INTO notes VALUES ('a red car')")
    assert await db.fetch_value("SELECT COUNT(*) FROM notes WHERE notes MATCH ?", "red", cache=60) == 2
