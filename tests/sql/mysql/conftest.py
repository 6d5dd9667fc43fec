from urllib.parse import urlsplit

import pytest

from consona import SQLDatabase
from faulty_network import FaultyNetwork

TABLE = """CREATE TABLE pets (id int AUTO_INCREMENT PRIMARY KEY, name varchar(50) UNIQUE NOT NULL,
    age int, CONSTRAINT no_negative_age CHECK (age >= 0))"""


@pytest.fixture
async def db(mysql_url):
    async with SQLDatabase(mysql_url) as db:
        await db.execute(TABLE)
        yield db


@pytest.fixture
async def network(mysql_url):
    """A network to the same server; `network.url` is the database behind it."""
    parts = urlsplit(mysql_url)
    async with FaultyNetwork(parts.hostname, parts.port or 3306) as network:
        user = parts.netloc.rpartition("@")[0]
        network.url = parts._replace(netloc=f"{user}@127.0.0.1:{network.port}").geturl()
        yield network


@pytest.fixture
async def shaky(db, network):
    """A database on that network; `db` is beside it, and sees what arrived."""
    async with SQLDatabase(f"{network.url}?max_size=3&patience=1") as shaky:
        yield shaky
        network.flow()
