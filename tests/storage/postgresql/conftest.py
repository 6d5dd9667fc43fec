from urllib.parse import urlsplit

import pytest

from consona.storage.postgresql.engine import open_postgresql
from faulty_network import FaultyNetwork


@pytest.fixture
async def engine(postgresql_url):
    engine = await open_postgresql(postgresql_url)
    await engine.ask("CREATE TABLE pets (id serial PRIMARY KEY, name text UNIQUE NOT NULL, age int CHECK (age >= 0))")
    yield engine
    await engine.close()


@pytest.fixture
async def network(postgresql_url):
    """A network to the same server; `network.url` is the database behind it."""
    parts = urlsplit(postgresql_url)
    async with FaultyNetwork(parts.hostname, parts.port) as network:
        network.url = parts._replace(netloc=f"postgres@127.0.0.1:{network.port}").geturl()
        yield network


@pytest.fixture
async def shaky(engine, network):
    """An engine on that network; `engine` is beside it, and sees what arrived."""
    shaky = await open_postgresql(f"{network.url}?max_size=3&patience=1")
    yield shaky
    network.flow()
    await shaky.close()
