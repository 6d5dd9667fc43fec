"""The log in Redis: with other processes, after a kill, and after a restart of the server."""

import pytest

import database_servers
import servers
from consona import SQLDatabase
from consona.errors import ConfigurationError
from consona.log.log import Entry, Log, Retention
from log_processes import check_killed_appenders, check_woken_reader

pytestmark = pytest.mark.servers


@pytest.fixture
def url():
    with database_servers.empty_redis() as url:
        yield url


async def test_a_reader_sees_what_other_processes_append_and_nothing_acknowledged_dies_with_them(url):
    await check_killed_appenders(url)


async def test_a_waiting_reader_is_woken_by_another_process(url):
    await check_woken_reader(url)


async def test_what_was_acknowledged_is_there_after_the_server_was_killed():
    servers.need("Redis")
    async with database_servers.RedisServer() as server, Log(server.url) as log:
        await log.append_many("s", [Entry(str(n).encode()) for n in range(40)])
        server.kill()
        await server.start()
        assert [record.body for record in (await log.read("s")).records] == [str(n).encode() for n in range(40)]
        assert await log.append("s", b"next") == 41


async def test_an_application_transaction_is_refused(url, tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path}/shop.db") as db, Log(url) as log, db.transaction() as tx:
        with pytest.raises(ConfigurationError, match="no database"):
            await log.append("s", b"", tx=tx)


async def test_trimming_gives_the_memory_back(url):
    async with Log(url) as log:
        await log.append_many("s", [Entry(b"x" * 1000) for _ in range(2000)])
        await log.trim("s", Retention(max_records=5))
        state = await log.engine._opened().native.hgetall("consona:log:{s}:state")
        assert (state[b"size"], state[b"begin"], state[b"last"]) == (b"5000", b"1995", b"2000")
        assert await log.engine._opened().native.xlen("consona:log:{s}") == 5
