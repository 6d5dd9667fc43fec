import pytest

from consona.errors import ConfigurationError
from consona.storage.schema import prepare
from storage_tools import insert

ONE = "CREATE TABLE cats (name)"
TWO = "ALTER TABLE cats ADD COLUMN age; CREATE INDEX cats_age ON cats (age)"


async def test_tables_are_made_once_and_upgraded_step_by_step(engine):
    for steps in ([ONE], [ONE], [ONE, TWO], [ONE, TWO]):
        await engine.write(lambda db, steps=steps: prepare(db, "cats", steps))
    assert await engine.read(lambda db: db.execute("SELECT name, age FROM cats")) == []


async def test_a_step_that_fails_leaves_the_tables_as_they_were(engine):
    await engine.write(lambda db: prepare(db, "cats", [ONE]))
    with pytest.raises(Exception, match="no such table: dogs"):
        await engine.write(lambda db: prepare(db, "cats", [ONE, TWO, "INSERT INTO dogs VALUES (1)"]))
    await engine.write(lambda db: prepare(db, "cats", [ONE, TWO]))


async def test_tables_of_a_newer_release_are_used_where_they_allow_it_and_refused_where_not(engine):
    await engine.write(lambda db: prepare(db, "cats", [ONE, TWO]))
    await engine.write(lambda db: prepare(db, "cats", [ONE]))
    await engine.write(lambda db: prepare(db, "cats", [ONE, TWO, "SELECT 1"], oldest_reader=3))
    with pytest.raises(ConfigurationError, match=r"'cats'.*version 3.*knows 2"):
        await engine.write(lambda db: prepare(db, "cats", [ONE, TWO]))
    await engine.write(insert("others go on"))
