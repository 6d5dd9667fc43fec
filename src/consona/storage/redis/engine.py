"""One Redis database at one address, shared by all parts of an event loop that name it.

    engine = await open_redis("redis://:password@cache.example:6379/0")
    value = await engine.run(script, keys, arguments)
    await engine.close()

What changes several keys at once is a Lua script, which Redis runs to its end before anything else. Nothing
is sent twice by itself: whether a command happened whose answer is missing, nobody knows.

How much survives is the server's to say: with `appendonly yes` and `appendfsync always` all that was
acknowledged, with `everysec` all but the last second, and without `appendonly` what the last snapshot has.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from consona.address import Address
from consona.errors import CommitUnknown, ConfigurationError, ConnectError, ConnectionLost, PoolTimeout, QueryError
from consona.storage.redis.cancelling import cancellable
from consona.storage.redis.doorbell import RedisDoorbell

__all__ = ["RedisEngine", "Script", "named", "now", "open_redis"]

log = logging.getLogger("consona.storage")

CONNECTIONS: Final = 20
CONNECT_S: Final = 10.0
PATIENCE_S: Final = 10.0
"""How long is waited for a free connection."""

LUA_NOW: Final = """
    local function the_time(given)
        if given ~= '' then return tonumber(given) end
        local t = redis.call('TIME')
        return tonumber(t[1]) + tonumber(t[2]) / 1000000
    end
    local function exact(number) return string.format('%.17g', number) end
"""
"""Begins every script: the server's clock, so that processes on several machines agree; a test hands in its own."""


class Script:
    """A Lua script; the server knows it by its hash after the first time."""

    def __init__(self, body: str, *, reads: bool = False) -> None:
        self.text = LUA_NOW + body
        self.reads = reads
        """Whether it changes nothing, so that it may be run again when the connection breaks."""


class RedisEngine:
    """The one engine of a database in an event loop. Get it with `open_redis`; give it back with `close`.

    Attributes:
        name: How messages call it: without user and password.
        prefix: Before each key: `consona`, or the `prefix` of the address.
        native: The client of `redis-py`.
        doorbell: Hints for others that something changed.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = str(replace(address, username="", password="", options={}))
        self.prefix = address.options.get("prefix", "consona")
        try:
            database = int(address.path or 0)
        except ValueError:
            raise ConfigurationError(
                f"{self.name}: the path of a Redis address is the number of a database.",
                hint="Write redis://host:6379/0.",
            ) from None
        options: dict[str, Any] = {"connection_class": SSLConnection} if address.scheme == "rediss" else {}
        self.native = Redis(
            connection_pool=BlockingConnectionPool(
                host=address.host or "127.0.0.1",
                port=address.port or 6379,
                db=database,
                username=address.username or None,
                password=address.password or None,
                max_connections=CONNECTIONS,
                timeout=PATIENCE_S,
                socket_connect_timeout=CONNECT_S,
                retry=Retry(NoBackoff(), 0),
                **options,
            )
        )
        self.doorbell = RedisDoorbell(self.native, f"{self.prefix}:bell:")
        self._hashes: dict[str, str] = {}
        self._users = 0
        self._ready: asyncio.Task[None] | None = None

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script.

        Args:
            script: What to run.
            keys: Without the engine's prefix.
            arguments: Bytes, texts and numbers.

        Raises:
            QueryError: Redis refused it; nothing was written.
            CommitUnknown: The connection broke before the answer, so it may have happened or not.
            ConnectionLost: The connection broke; nothing was written.
            ConnectError: The server cannot be reached.
        """
        try:
            return await cancellable(self._run(script, keys, arguments))
        except exceptions.ConnectionError as error:
            if not script.reads or isinstance(error, exceptions.MaxConnectionsError):
                raise self._translated(error, reads=script.reads) from error
        except exceptions.RedisError as error:
            raise self._translated(error, reads=script.reads) from error
        try:
            return await cancellable(self._run(script, keys, arguments))
        except exceptions.RedisError as error:
            raise self._translated(error, reads=True) from error

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        named = [f"{self.prefix}:{key}" for key in keys]
        known = self._hashes.get(script.text)
        if known is not None:
            try:
                return await self.native.evalsha(known, len(named), *named, *arguments)
            except exceptions.NoScriptError:  # it was restarted
                pass
        self._hashes[script.text] = str(await self.native.script_load(script.text))
        return await self.native.evalsha(self._hashes[script.text], len(named), *named, *arguments)

    def _translated(self, error: exceptions.RedisError, *, reads: bool) -> Exception:
        """The error in our words. Redis' own may have values in them, so they are the cause only."""
        if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
            return ConnectError(
                f"{self.name} refused us ({type(error).__name__}).",
                hint="Check the user and the password in the address, and the server's ACL.",
                retryable=False,
                database=self.name,
            )
        if isinstance(error, exceptions.MaxConnectionsError) or "No connection available" in str(error):
            return PoolTimeout(
                f"{self.name}: none of the {CONNECTIONS} connections was free within {PATIENCE_S:g} s.",
                database=self.name,
            )
        if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
            if "onnecting to" in str(error):  # nothing was sent
                return ConnectError(f"{self.name} cannot be reached.", database=self.name)
            if reads:
                return ConnectionLost(f"The connection to {self.name} broke.", database=self.name)
            return CommitUnknown(f"The connection to {self.name} broke before the answer.", database=self.name)
        full = isinstance(error, exceptions.OutOfMemoryError)
        hint = "The server has no memory left for it: raise its maxmemory." if full else None
        return QueryError(f"{self.name} refused a command ({type(error).__name__}).", hint=hint, database=self.name)

    def stats(self) -> dict[str, Any]:
        """How many parts use it, and whether rings of others are heard."""
        return {"users": self._users, "hears": self.doorbell.connected}

    async def close(self) -> None:
        """Give it back. The last one who does closes the connections."""
        self._users -= 1
        if self._users:
            return
        _engines.pop(_key(self.address), None)
        await self.doorbell.close()
        await self.native.aclose()
        await self.native.connection_pool.disconnect()

    async def _start(self) -> None:
        try:
            memory = await self.native.info("memory")
            kept = await self.native.info("persistence")
        except exceptions.RedisError as error:
            raise self._translated(error, reads=True) from error
        policy = str(memory.get("maxmemory_policy", ""))
        if memory.get("maxmemory") and policy.startswith("allkeys"):
            raise ConfigurationError(
                f"{self.name} removes any key when its memory is full (maxmemory-policy {policy}).",
                hint="Set maxmemory-policy noeviction, or use another Redis for what is to be kept.",
            )
        if not kept.get("aof_enabled"):
            log.warning("%s has no append-only file: what is in it is lost when it stops suddenly.", self.name)


_engines: Final[dict[tuple[str, asyncio.AbstractEventLoop], RedisEngine]] = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_engines.clear)  # the connections are the parent's


async def open_redis(url: str | Address) -> RedisEngine:
    """The engine of a database, connected now or shared with those of this event loop who opened it before.

    Args:
        url: `redis://user:password@host:port/0`, or `rediss://` for TLS; `?prefix=shop` puts `shop:` before each key.

    Raises:
        ConfigurationError: The server would throw away what is to be kept.
        ConnectError: The server cannot be reached, or refuses us.
    """
    address = Address.parse(url)
    for key in [key for key in _engines if key[1].is_closed()]:
        del _engines[key]
    engine = _engines.get(_key(address))
    if engine is None:
        engine = _engines[_key(address)] = RedisEngine(address)
        engine._ready = asyncio.create_task(engine._start())
    engine._users += 1
    try:
        assert engine._ready is not None
        await asyncio.shield(engine._ready)
    except BaseException:
        await engine.close()
        raise
    return engine


def now(clock: Callable[[], float]) -> str:
    """What to give for `the_time` in a script: empty takes the server's clock."""
    return "" if clock is time.time else repr(clock())


def named(text: str) -> str:
    """A text as part of a key, where a colon separates."""
    return quote(text, safe="")


def _key(address: Address) -> tuple[str, asyncio.AbstractEventLoop]:
    return address.canonical, asyncio.get_running_loop()
