"""Queues in Redis, shared by all who name it. See `redis_scripts.py` for what lies where.

Source: https://redis.io/docs/latest/develop/programmability/lua-api/
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import msgspec

from consona.address import Address
from consona.messaging import redis_scripts as scripts
from consona.messaging.engine import DeadLetter, Depth, Entry, Failure, Lease, Power
from consona.messaging.taking import taken
from consona.storage.headers import packed, unpacked
from consona.storage.redis.engine import RedisEngine, Script, named, now, open_redis

__all__ = ["RedisQueues"]

AGING_S: Final = 60
"""One step of priority counts as much as this many seconds of waiting."""
POLL_S: Final = 0.5
"""How often a waiting taker looks without being told."""
NAMES: Final = "queues"


class RedisQueues:
    """`redis://:password@host:6379/0`, or `rediss://` for TLS."""

    powers: ClassVar[frozenset[Power]] = frozenset(Power) - {Power.TRANSACTIONS}

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address
        self._clock = clock
        self._engine: RedisEngine | None = None
        self._awaited: set[str] = set()

    async def open(self) -> None:
        self._engine = await open_redis(self._address)

    async def close(self) -> None:
        engine, self._engine = self._opened(), None
        for queue in self._awaited:
            engine.doorbell.wake(_bell(queue))
        await engine.close()

    async def put(self, queue: str, entries: Sequence[Entry]) -> list[str]:
        arguments: list[Any] = [now(self._clock), self._channel(queue), queue]
        for entry in entries:
            headers = packed(entry.headers) or b""
            options = entry.delay_s, entry.priority, entry.key, entry.dedup, entry.dedup_s
            arguments += [entry.body, headers, *options]
        ids = await self._opened().run(scripts.PUT, [_place(queue), NAMES], arguments)
        return [name.decode() for name in ids]

    async def take(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Lease]:
        engine = self._opened()
        self._awaited.add(queue)
        until = time.monotonic() + wait_s
        nearest = [POLL_S]
        while True:
            seen = engine.doorbell.count(_bell(queue))
            taking = self._take(queue, limit, lease_s, nearest)
            leases = await taken(taking, lambda lease: self._give_back(queue, lease))
            left = until - time.monotonic()
            if leases or left <= 0 or self._engine is not engine:
                return leases
            await engine.doorbell.wait(_bell(queue), seen, timeout_s=min(left, *nearest))
            if self._engine is not engine:
                return []

    async def _take(self, queue: str, limit: int, lease_s: float, nearest: list[float]) -> list[Lease]:
        """The leases; where there are none, `nearest` is told how long it is to the next."""
        arguments = [now(self._clock), limit, lease_s, secrets.token_hex(8), AGING_S]
        found, *due = await self._run(scripts.TAKE, queue, arguments)
        nearest[:] = [POLL_S, *(max(0.0, float(seconds)) for seconds in due if seconds)]
        return [_lease(row) for row in found]

    async def _give_back(self, queue: str, lease: Lease) -> None:
        await self.release(queue, lease, delay_s=0.0, error="", dead=False)

    async def settle(self, queue: str, leases: Sequence[Lease]) -> list[Lease]:
        pairs = [part for lease in leases for part in (lease.id, lease.token)]
        gone = {name.decode() for name in await self._run(scripts.SETTLE, queue, [self._channel(queue), *pairs])}
        return [lease for lease in leases if lease.id not in gone]

    async def release(self, queue: str, lease: Lease, *, delay_s: float, error: str, dead: bool) -> bool:
        arguments = [now(self._clock), self._channel(queue), lease.id, lease.token, delay_s, error, int(dead)]
        return bool(await self._run(scripts.RELEASE, queue, arguments))

    async def extend(self, queue: str, lease: Lease, *, lease_s: float) -> Lease | None:
        until = await self._run(scripts.EXTEND, queue, [now(self._clock), lease.id, lease.token, lease_s])
        return replace(lease, until=float(until)) if until else None

    async def depth(self, queue: str) -> Depth:
        ready, delayed, leased, dead = await self._run(scripts.DEPTH, queue, [now(self._clock)])
        return Depth(ready=ready, delayed=delayed, leased=leased, dead=dead)

    async def queues(self) -> list[str]:
        names = await self._opened().run(_NAMES, [NAMES], [])
        return sorted(name.decode() for name in names)

    async def dead(self, queue: str, *, after: str, limit: int) -> list[DeadLetter]:
        return [_letter(row) for row in await self._run(scripts.DEAD, queue, [after, limit])]

    async def redrive(self, queue: str, ids: Sequence[str], *, replacement: Entry | None) -> int:
        new: list[Any] = ["", "-"]
        if replacement is not None:
            new = [replacement.body, packed(replacement.headers) or b""]
        return int(await self._run(scripts.BURY, queue, [now(self._clock), self._channel(queue), 1, *new, *ids]))

    async def bury(self, queue: str, ids: Sequence[str]) -> int:
        return int(await self._run(scripts.BURY, queue, [now(self._clock), self._channel(queue), 0, "", "-", *ids]))

    async def _run(self, script: Script, queue: str, arguments: Sequence[Any]) -> Any:
        return await self._opened().run(script, [_place(queue)], arguments)

    def _channel(self, queue: str) -> str:
        return self._opened().doorbell.channel(_bell(queue))

    def _opened(self) -> RedisEngine:
        assert self._engine is not None, "the front checks that it is started"
        return self._engine


_NAMES: Final = Script("return redis.call('SMEMBERS', KEYS[1])", reads=True)


def _place(queue: str) -> str:
    return f"queue:{{{named(queue)}}}"


def _bell(queue: str) -> str:
    return f"queue {queue}"


def _lease(row: Any) -> Lease:
    name, body, headers, attempt, put_at, until, token, priority, key, failures = row
    return Lease(
        id=name.decode(),
        body=body,
        headers=unpacked(headers or None),
        attempt=attempt,
        put_at=float(put_at),
        until=float(until),
        token=token.decode(),
        priority=int(priority),
        key=key.decode(),
        failures=_failures(failures),
    )


def _letter(row: Any) -> DeadLetter:
    name, body, headers, attempts, put_at, died_at, reason, priority, key, failures = row
    return DeadLetter(
        id=name.decode(),
        body=body,
        headers=unpacked(headers or None),
        attempts=int(attempts),
        put_at=float(put_at),
        died_at=float(died_at),
        reason=reason.decode(),
        priority=int(priority),
        key=key.decode(),
        failures=_failures(failures),
    )


def _failures(failures: bytes) -> list[Failure]:
    return _decode_failures(failures) if failures else []


_decode_failures: Final = msgspec.msgpack.Decoder(list[Failure]).decode
