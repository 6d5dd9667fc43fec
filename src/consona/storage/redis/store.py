"""The store in Redis, shared by all who name it.

Hashes hold the values, the versions and the times; a sorted set holds the keys in order. Each change has the
next number, which is the key's new version, and leaves its key in a Redis Stream at that number: a watcher
goes along it, and sees by the numbers when it fell too far behind.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from consona.address import Address
from consona.errors import QueryError
from consona.storage.redis.engine import RedisEngine, Script, now, open_redis
from consona.storage.store import Change, Item
from consona.storage.sweeping import Sweeper

__all__ = ["RedisStore"]

PLACE: Final = "store:{store}"
BELL: Final = "store"
SWEEP_LIMIT: Final = 500
PAGE_BYTES: Final = 4 << 20
WATCH_PAGE: Final = 500
CHANGES: Final = 100_000
"""How many of the newest changes a watcher can still be told."""
POLL_S: Final = 0.5

_SHARED: Final = """
    local values, versions, ends = KEYS[1] .. ':values', KEYS[1] .. ':versions', KEYS[1] .. ':ends'
    local keys, changes = KEYS[1] .. ':keys', KEYS[1] .. ':changes'
    local function live(key, now)
        local at = redis.call('ZSCORE', ends, key)
        return redis.call('HEXISTS', values, key) == 1 and (not at or tonumber(at) > now)
    end
    local function item(key)
        return {key, redis.call('HGET', values, key), redis.call('HGET', versions, key),
            redis.call('ZSCORE', ends, key) or ''}
    end
    local function changed(key, bell)
        local version = redis.call('INCR', KEYS[1] .. ':version')
        redis.call('XADD', changes, 'MAXLEN', '~', MOST, string.format('%d-0', version), 'key', key)
        if bell then redis.call('PUBLISH', bell, '') end
        return version
    end
    local function remove(key, bell)
        redis.call('HDEL', values, key)
        redis.call('HDEL', versions, key)
        redis.call('ZREM', ends, key)
        redis.call('ZREM', keys, key)
        changed(key, bell)
    end
""".replace("MOST", str(CHANGES))

# ARGV: now, key
_GET: Final = Script(_SHARED + "return live(ARGV[2], the_time(ARGV[1])) and item(ARGV[2]) or {}", reads=True)
# ARGV: now, bell, key, value, version ('' for any), seconds ('' for ever)
_PUT: Final = Script(
    _SHARED
    + """
    local now, key, wanted = the_time(ARGV[1]), ARGV[3], ARGV[5]
    if wanted ~= '' then
        local version = live(key, now) and redis.call('HGET', versions, key) or '0'
        if version ~= wanted then return 0 end
    end
    local version = changed(key, ARGV[2])
    redis.call('HSET', values, key, ARGV[4])
    redis.call('HSET', versions, key, version)
    redis.call('ZADD', keys, 0, key)
    if ARGV[6] == '' then redis.call('ZREM', ends, key) else redis.call('ZADD', ends, exact(now + ARGV[6]), key) end
    return version
"""
)
# ARGV: now, bell, key, version ('' for any)
_DELETE: Final = Script(
    _SHARED
    + """
    local key = ARGV[3]
    if not live(key, the_time(ARGV[1])) then return 0 end
    if ARGV[4] ~= '' and redis.call('HGET', versions, key) ~= ARGV[4] then return 0 end
    remove(key, ARGV[2])
    return 1
"""
)
# ARGV: now, prefix, where it begins, limit, bytes
_SCAN: Final = Script(
    _SHARED
    + """
    local now, prefix, from, bytes, found = the_time(ARGV[1]), ARGV[2], ARGV[3], 0, {}
    while true do
        local some = redis.call('ZRANGEBYLEX', keys, from, '+', 'LIMIT', 0, 100)
        for _, key in ipairs(some) do
            if string.sub(key, 1, #prefix) ~= prefix then return found end
            if live(key, now) then
                found[#found + 1] = item(key)
                bytes = bytes + #found[#found][2]
                if #found >= tonumber(ARGV[4]) or bytes >= tonumber(ARGV[5]) then return found end
            end
            from = '(' .. key
        end
        if #some == 0 then return found end
    end
""",
    reads=True,
)
_HEAD: Final = Script("return tonumber(redis.call('GET', KEYS[1] .. ':version') or 0)", reads=True)
# ARGV: now, prefix, since, limit. Gives the number of the newest change that was looked at, and each key's newest state.
_NEWER: Final = Script(
    _SHARED
    + """
    local now, prefix, since, seen, told = the_time(ARGV[1]), ARGV[2], tonumber(ARGV[3]), {}, {}
    local head = tonumber(redis.call('GET', KEYS[1] .. ':version') or 0)
    local some = redis.call('XRANGE', changes, string.format('(%d-0', since), '+', 'COUNT', ARGV[4])
    if head > since and (#some == 0 or tonumber(string.match(some[1][1], '^%d+')) > since + 1) then return {-1, {}} end
    for _, change in ipairs(some) do
        since = tonumber(string.match(change[1], '^%d+'))
        local key = change[2][2]
        if string.sub(key, 1, #prefix) == prefix and not seen[key] then
            seen[key] = true
            if live(key, now) then
                told[#told + 1] = item(key)
            elseif redis.call('HEXISTS', values, key) == 0 then
                told[#told + 1] = {key, false, since, ''}
            end
        end
    end
    return {since, told}
""",
    reads=True,
)
# ARGV: now, bell, limit
_SWEEP: Final = Script(
    _SHARED
    + """
    local over = redis.call('ZRANGE', ends, '-inf', exact(the_time(ARGV[1])), 'BYSCORE', 'LIMIT', 0, ARGV[3])
    for _, key in ipairs(over) do remove(key) end
    if #over > 0 then redis.call('PUBLISH', ARGV[2], '') end
    return #over
"""
)


class RedisStore:
    """`redis://:password@host:6379/0`, or `rediss://` for TLS."""

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address
        self._clock = clock
        self._engine: RedisEngine | None = None
        self._sweeper = Sweeper(self.sweep)

    async def open(self) -> None:
        self._engine = await open_redis(self._address)
        self._sweeper.start()

    async def close(self) -> None:
        await self._sweeper.stop()
        engine, self._engine = self._opened(), None
        engine.doorbell.wake(BELL)
        await engine.close()

    async def get(self, key: str) -> Item | None:
        row = await self._run(_GET, [key])
        return _item(row) if row else None

    async def put_if(self, key: str, value: bytes, *, version: int | None, ttl_s: float | None) -> int | None:
        wanted, seconds = "" if version is None else version, "" if ttl_s is None else repr(float(ttl_s))
        return int(await self._run(_PUT, [self._channel(), key, bytes(value), wanted, seconds])) or None

    async def delete(self, key: str, *, version: int | None) -> bool:
        return bool(await self._run(_DELETE, [self._channel(), key, "" if version is None else version]))

    async def scan(self, prefix: str, *, after: str, limit: int) -> list[Item]:
        begin = f"({after}" if after >= prefix and after else f"[{prefix}" if prefix else "-"
        return [_item(row) for row in await self._run(_SCAN, [prefix, begin, limit, PAGE_BYTES])]

    async def watch(self, prefix: str) -> AsyncIterator[list[Change]]:
        engine = self._opened()
        seen = engine.doorbell.count(BELL)
        since = int(await engine.run(_HEAD, [PLACE], []))
        last = ""
        while page := await self.scan(prefix, after=last, limit=WATCH_PAGE):
            last = page[-1].key
            yield [Change(item.key, item.value, item.version) for item in page]
        while self._engine is engine:
            head, rows = await self._run(_NEWER, [prefix, since, WATCH_PAGE])
            if head < 0:
                raise QueryError(
                    f"This watch of {engine.name} fell more than {CHANGES} changes behind, so some may have escaped it.",
                    hint="Do less between two changes, and begin the watch again.",
                )
            if rows:
                yield [Change(key.decode(), value, int(version)) for key, value, version, _ in rows]
            if head == since:
                await engine.doorbell.wait(BELL, seen, timeout_s=POLL_S)
            since, seen = head, engine.doorbell.count(BELL)

    async def sweep(self) -> int:
        """Remove expired items, at most 500. Returns how many there were."""
        return int(await self._run(_SWEEP, [self._channel(), SWEEP_LIMIT]))

    def stats(self) -> dict[str, Any]:
        return self._opened().stats()

    async def _run(self, script: Script, arguments: Sequence[Any]) -> Any:
        return await self._opened().run(script, [PLACE], [now(self._clock), *arguments])

    def _channel(self) -> str:
        return self._opened().doorbell.channel(BELL)

    def _opened(self) -> RedisEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _item(row: Any) -> Item:
    key, value, version, expires = row
    return Item(key.decode(), value, int(version), float(expires) if expires else None)
