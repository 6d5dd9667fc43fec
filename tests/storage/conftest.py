import pytest

from consona.storage.sqlite_engine import SQLiteSettings, open_sqlite

TABLES = """
CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE toys (id INTEGER PRIMARY KEY, pet INTEGER REFERENCES pets DEFERRABLE INITIALLY DEFERRED);
"""


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/test.db"


@pytest.fixture
async def engine(url):
    engine = await open_sqlite(url, SQLiteSettings(synchronous="OFF"))
    await engine.write(lambda db: db.execute(TABLES))
    yield engine
    await engine.close()


@pytest.fixture
async def in_memory(request):
    engine = await open_sqlite(f"sqlite://{abs(hash(request.node.nodeid))}")
    await engine.write(lambda db: db.execute(TABLES))
    yield engine
    await engine.close()
