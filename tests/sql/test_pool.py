"""`pool=10` bounds the connections of every engine."""

import asyncio

import pytest

from consona import SQLDatabase
from consona.errors import ConfigurationError
from database_servers import empty_mysql, empty_postgresql


@pytest.mark.servers
@pytest.mark.parametrize("server", [empty_postgresql, empty_mysql])
async def test_a_server_has_no_more_connections(server):
    with server() as url:
        async with SQLDatabase(url, pool=2) as db:
            await asyncio.gather(*(db.fetch_value("SELECT 1") for _ in range(20)))
            assert db.stats.detail["max_size"] == 2
            assert db.stats.detail["size"] <= 2


async def test_a_file_has_no_more_readers(tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path / 'shop.db'}", pool=2) as db:
        await asyncio.gather(*(db.fetch_value("SELECT 1") for _ in range(20)))
        assert db.native.settings.readers == 2


def test_what_is_no_pool_is_refused():
    for wrong in (0, -1, True, "10", 2.5):
        with pytest.raises(ConfigurationError, match="pool="):
            SQLDatabase("sqlite://", pool=wrong)
    with pytest.raises(ConfigurationError, match="readers=3, and pool=4"):
        SQLDatabase("sqlite:///shop.db?readers=3", pool=4)
    with pytest.raises(ConfigurationError, match="has its own"):
        SQLDatabase(SQLDatabase("sqlite://").engine, pool=4)
