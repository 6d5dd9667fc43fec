"""The log in Redis, shared by all who name it: one Redis Stream for each stream, with its own positions as ids.

A script appends, so positions have no gaps and times never fall. Beside the stream lies a hash with its
newest position and time, what was trimmed, and how many bytes are kept.

Source: https://redis.io/docs/latest/develop/data-types/streams/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from consona.address import Address
from consona.log.log import Entry, Page, Record, Retention
from consona.log.trimming import outdated
from consona.storage.headers import packed, unpacked
from consona.storage.redis.engine import RedisEngine, Script, named, now, open_redis

__all__ = ["RedisLog"]

TRIM_LIMIT: Final = 1000
"""How many records one script removes at most, so that others need not wait."""
POLL_S: Final = 0.5
"""How often a waiting reader looks without being told."""
LARGEST: Final = (1 << 53) - 1

_SHARED: Final = """
    local s, h = KEYS[1], KEYS[1] .. ':state'
    local function state(name) return tonumber(redis.call('HGET', h, name) or 0) end
    local function size(fields) return #fields[4] + #fields[6] end
    local function place(id) return string.match(id, '^%d+') end
"""
# ARGV: now, bell, then for each: headers, body. A record's fields: at, headers, body.
_APPEND: Final = Script(
    _SHARED
    + """
    local last, bytes, first = state('last'), 0, nil
    local at = exact(math.max(the_time(ARGV[1]), state('at')))
    for i = 3, #ARGV, 2 do
        last = last + 1
        redis.call('XADD', s, string.format('%d-0', last), 'at', at, 'headers', ARGV[i], 'body', ARGV[i + 1])
        bytes = bytes + #ARGV[i] + #ARGV[i + 1]
    end
    redis.call('HSET', h, 'last', string.format('%d', last), 'at', at)
    redis.call('HINCRBY', h, 'size', bytes)
    redis.call('PUBLISH', ARGV[2], '')
    return string.format('%d', last)
"""
)
# ARGV: after, limit, bytes. In steps, so that a page of large records does not fill the memory.
_READ: Final = Script(
    _SHARED
    + """
    local from, left, bytes, found = tonumber(ARGV[1]) + 1, tonumber(ARGV[2]), 0, {}
    while left > 0 and bytes < tonumber(ARGV[3]) do
        local some = redis.call('XRANGE', s, string.format('%d-0', from), '+', 'COUNT', math.min(left, 16))
        if #some == 0 then break end
        for _, record in ipairs(some) do
            local fields = record[2]
            found[#found + 1] = {place(record[1]), fields[2], fields[4], fields[6]}
            bytes = bytes + #fields[6]
            if bytes >= tonumber(ARGV[3]) then break end
        end
        left = tonumber(ARGV[2]) - #found
        from = tonumber(found[#found][1]) + 1
    end
    return {string.format('%d', state('begin')), found}
""",
    reads=True,
)
_LAST: Final = Script(_SHARED + "return string.format('%d', state('last'))", reads=True)
_BEGIN: Final = Script(_SHARED + "return string.format('%d', state('begin'))", reads=True)
# ARGV: at. Times never fall, so halving finds the place.
_LOCATE: Final = Script(
    _SHARED
    + """
    local low, high, at = state('begin'), state('last'), tonumber(ARGV[1])
    if at > state('at') then return string.format('%d', high) end
    while low < high do
        local middle = math.floor((low + high) / 2)
        local id = string.format('%d-0', middle + 1)
        if tonumber(redis.call('XRANGE', s, id, id)[1][2][2]) < at then low = middle + 1 else high = middle end
    end
    return string.format('%d', low)
""",
    reads=True,
)
# ARGV: limit. Gives how many records there are, their bytes, and place, time and bytes of the oldest.
_OLDEST: Final = Script(
    _SHARED
    + """
    local oldest = {}
    for i, record in ipairs(redis.call('XRANGE', s, '-', '+', 'COUNT', ARGV[1])) do
        oldest[i] = {place(record[1]), record[2][2], size(record[2])}
    end
    return {redis.call('XLEN', s), string.format('%d', state('size')), oldest}
""",
    reads=True,
)
# ARGV: the last that goes, its bytes and those of all before it, the first that goes (else another one trimmed).
_TRIM: Final = Script(
    _SHARED
    + """
    local first = redis.call('XRANGE', s, '-', '+', 'COUNT', 1)[1]
    if not first or place(first[1]) ~= ARGV[3] then return 0 end
    local gone = redis.call('XTRIM', s, 'MINID', string.format('%d-0', tonumber(ARGV[1]) + 1))
    redis.call('HSET', h, 'begin', ARGV[1])
    redis.call('HSET', h, 'size', string.format('%d', state('size') - tonumber(ARGV[2])))
    return gone
"""
)


class RedisLog:
    """`redis://:password@host:6379/0`, or `rediss://` for TLS."""

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address
        self._clock = clock
        self._engine: RedisEngine | None = None
        self._awaited: set[str] = set()

    async def open(self) -> None:
        self._engine = await open_redis(self._address)

    async def close(self) -> None:
        engine, self._engine = self._opened(), None
        for stream in self._awaited:
            engine.doorbell.wake(_bell(stream))
        await engine.close()

    async def append(self, stream: str, entries: Sequence[Entry]) -> list[int]:
        arguments: list[Any] = [now(self._clock), self._opened().doorbell.channel(_bell(stream))]
        for entry in entries:
            arguments += [packed(entry.headers) or b"", entry.body]
        last = int(await self._run(_APPEND, stream, arguments))
        return list(range(last - len(entries) + 1, last + 1))

    async def read(self, stream: str, *, after: int, limit: int, max_bytes: int) -> Page:
        begin, rows = await self._run(_READ, stream, [min(after, LARGEST), limit, max_bytes])
        records = [Record(int(place), float(at), body, unpacked(headers or None)) for place, at, headers, body in rows]
        return Page(records, int(begin))

    async def wait(self, stream: str, *, after: int, timeout_s: float) -> None:
        engine = self._opened()
        self._awaited.add(stream)
        until = time.monotonic() + timeout_s
        while True:
            seen = engine.doorbell.count(_bell(stream))
            last = int(await self._run(_LAST, stream, []))
            left = until - time.monotonic()
            if last > after or left <= 0:
                return
            await engine.doorbell.wait(_bell(stream), seen, timeout_s=min(left, POLL_S))
            if self._engine is not engine:
                return

    async def trim(self, stream: str, retention: Retention) -> int:
        total = 0
        while trimmed := await self._trim_some(stream, retention):
            total += trimmed
            if trimmed < TRIM_LIMIT:
                break
        return total

    async def locate(self, stream: str, at: float) -> int:
        if at == float("inf"):
            return int(await self._run(_LAST, stream, []))
        if at == -float("inf"):
            return int(await self._run(_BEGIN, stream, []))
        return int(await self._run(_LOCATE, stream, [repr(at)]))

    async def _trim_some(self, stream: str, retention: Retention) -> int:
        records, size, rows = await self._run(_OLDEST, stream, [TRIM_LIMIT])
        oldest = [(int(place), float(at), int(length)) for place, at, length in rows]
        at = float(now(self._clock) or time.time())
        gone = outdated(oldest, retention, records=records, size=int(size), now=at)
        if not gone:
            return 0
        freed = sum(length for _, _, length in gone)
        return int(await self._run(_TRIM, stream, [gone[-1][0], freed, gone[0][0]]))

    async def _run(self, script: Script, stream: str, arguments: Sequence[Any]) -> Any:
        return await self._opened().run(script, [f"log:{{{named(stream)}}}"], arguments)

    def _opened(self) -> RedisEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


def _bell(stream: str) -> str:
    return f"log {stream}"
