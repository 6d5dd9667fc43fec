"""The engine of a Redis database: what it refuses, and what it says."""

import logging

import pytest

import database_servers
import servers
from consona.errors import CommitUnknown, ConfigurationError, ConnectError, QueryError
from consona.storage.redis.engine import Script, open_redis

pytestmark = pytest.mark.servers


@pytest.fixture
async def server():
    servers.need("Redis")
    async with database_servers.RedisServer() as server:
        yield server


async def test_all_who_name_one_address_share_one_engine(server):
    one, two = await open_redis(server.url), await open_redis(server.url)
    assert one is two
    await one.close()
    assert await two.native.ping()
    await two.close()


async def test_a_server_that_throws_keys_away_is_refused(server):
    engine = await open_redis(server.url)
    await engine.native.config_set("maxmemory", "50mb")
    await engine.native.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match="allkeys-lru"):
        await open_redis(f"{server.url}?prefix=other")
    await engine.close()


async def test_a_server_without_an_append_only_file_is_told_of(caplog):
    servers.need("Redis")
    async with database_servers.RedisServer(durable=False) as server:
        with caplog.at_level(logging.WARNING, "consona.storage"):
            await (await open_redis(server.url)).close()
    assert "no append-only file" in caplog.text


async def test_a_full_server_says_so_and_writes_nothing(server):
    engine = await open_redis(server.url)
    await engine.native.config_set("maxmemory", "1")
    with pytest.raises(QueryError, match="refused") as told:
        await engine.run(Script("return redis.call('SET', KEYS[1], ARGV[1])"), ["key"], ["secret"])
    assert "maxmemory" in told.value.hint
    assert "secret" not in str(told.value)
    assert await engine.native.get("consona:key") is None
    await engine.close()


async def test_a_server_that_is_not_there_is_told_of():
    with pytest.raises(ConnectError, match="cannot be reached"):
        await open_redis(f"redis://127.0.0.1:{database_servers.free_port()}/0")


async def test_a_wrong_password_is_told_of_and_not_shown(server):
    engine = await open_redis(server.url)
    await engine.native.config_set("requirepass", "right")
    with pytest.raises(ConnectError, match="refused us") as told:
        await open_redis(f"redis://:wr0ng@127.0.0.1:{server.port}/0")
    assert "wr0ng" not in str(told.value)
    assert not told.value.retryable
    await engine.close()


async def test_a_path_that_is_no_number_is_refused():
    with pytest.raises(ConfigurationError, match="number of a database"):
        await open_redis("redis://127.0.0.1/shop")


async def test_a_write_whose_answer_is_missing_is_not_sent_twice(server):
    engine = await open_redis(server.url)
    dying = Script("redis.call('INCR', KEYS[1]) return redis.call('CLIENT', 'KILL', 'ID', ARGV[1])")
    number = await engine.native.client_id()
    with pytest.raises((CommitUnknown, QueryError)):
        await engine.run(dying, ["count"], [number])
    assert int(await engine.native.get("consona:count") or 0) <= 1
    await engine.close()
