"""Queues in the process' memory: the reference that explains the port. Gone when the last user closes it."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from consona.address import Address
from consona.messaging.engine import DeadLetter, Depth, Entry, Failure, Lease, Power
from consona.storage.changes import Changes

__all__ = ["MemoryQueues"]

AGING_S: Final = 60.0
MAX_FAILURES: Final = 10


class MemoryQueues:
    """`memory://`, shared by all in the process who name the same address (`memory://work` is another)."""

    powers: ClassVar[frozenset[Power]] = frozenset(Power) - {Power.TRANSACTIONS}

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.time) -> None:
        self._address = address.canonical
        self._clock = clock
        self._space: Space | None = None

    async def open(self) -> None:
        with _lock:
            self._space = _spaces.setdefault(self._address, Space())
            self._space.users += 1

    async def close(self) -> None:
        space, self._space = self._opened(), None
        with _lock:
            space.users -= 1
            if not space.users:
                _spaces.pop(self._address, None)
        space.announce()

    async def put(self, queue: str, entries: Sequence[Entry]) -> list[str]:
        space, now = self._opened(), self._clock()
        with space.lock:
            ids = [space.queue(queue).put(entry, now) for entry in entries]
        space.announce()
        return ids

    async def take(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Lease]:
        space = self._opened()
        until = time.monotonic() + wait_s
        while True:
            seen = space.version
            with space.lock:
                leases, due = space.queue(queue).take(limit, lease_s, self._clock())
            left = until - time.monotonic()
            if leases or left <= 0 or self._space is not space:
                return leases
            await space.changes.wait(seen, timeout_s=left if due is None else min(left, max(0.0, due - self._clock())))

    async def settle(self, queue: str, leases: Sequence[Lease]) -> list[Lease]:
        space = self._opened()
        with space.lock:
            lost = [lease for lease in leases if not space.queue(queue).remove(lease)]
        space.announce()
        return lost

    async def release(self, queue: str, lease: Lease, *, delay_s: float, error: str, dead: bool) -> bool:
        space, now = self._opened(), self._clock()
        with space.lock:
            held = space.queue(queue).held(lease)
            if held is None:
                return False
            if error:
                held.failures.append(Failure(held.attempt, now, error))
            else:
                held.attempt -= 1
            held.token, held.due = "", now + delay_s
            if dead:
                space.queue(queue).die(held, now, error)
        space.announce()
        return True

    async def extend(self, queue: str, lease: Lease, *, lease_s: float) -> Lease | None:
        space = self._opened()
        with space.lock:
            held = space.queue(queue).held(lease)
            if held is None:
                return None
            held.due = self._clock() + lease_s
            return replace(lease, until=held.due)

    async def depth(self, queue: str) -> Depth:
        space, now = self._opened(), self._clock()
        with space.lock:
            kept = space.queues.get(queue, Queue())
            leased = sum(1 for message in kept.messages.values() if message.token and message.due > now)
            delayed = sum(1 for message in kept.heads() if not message.token and message.due > now)
            ready = len(kept.messages) - leased - delayed
            return Depth(ready=ready, delayed=delayed, leased=leased, dead=len(kept.dead))

    async def queues(self) -> list[str]:
        space = self._opened()
        with space.lock:
            return sorted(space.queues)

    async def dead(self, queue: str, *, after: str, limit: int) -> list[DeadLetter]:
        space = self._opened()
        with space.lock:
            letters = list(space.queues.get(queue, Queue()).dead.values())
        ids = [letter.id for letter in letters]
        first = ids.index(after) + 1 if after in ids else 0
        return letters[first : first + limit]

    async def redrive(self, queue: str, ids: Sequence[str], *, replacement: Entry | None) -> int:
        space, now = self._opened(), self._clock()
        with space.lock:
            kept = space.queue(queue)
            letters = [letter for name in ids if (letter := kept.dead.pop(name, None)) is not None]
            for letter in letters:
                content = replacement or Entry(letter.body, letter.headers)
                kept.put(Entry(content.body, content.headers, priority=letter.priority, key=letter.key), now)
        space.announce()
        return len(letters)

    async def bury(self, queue: str, ids: Sequence[str]) -> int:
        space = self._opened()
        with space.lock:
            return sum(1 for name in ids if space.queue(queue).dead.pop(name, None) is not None)

    def _opened(self) -> Space:
        assert self._space is not None, "the front checks that it is started"
        return self._space


@dataclass
class Message:
    """One message that is not done."""

    id: str
    entry: Entry
    put_at: float
    due: float
    attempt: int = 0
    token: str = ""
    failures: list[Failure] = field(default_factory=list)


class Queue:
    """The messages of one queue, in the order in which they were put."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.dead: dict[str, DeadLetter] = {}
        self.seen: dict[str, tuple[str, float]] = {}

    def put(self, entry: Entry, now: float) -> str:
        if entry.dedup:
            self.seen = {dedup: first for dedup, first in self.seen.items() if first[1] > now}
            if entry.dedup in self.seen:
                return self.seen[entry.dedup][0]
        name = str(next(_ids))
        self.messages[name] = Message(name, entry, now, now + entry.delay_s)
        if entry.dedup:
            self.seen[entry.dedup] = (name, now + entry.dedup_s)
        return name

    def heads(self) -> list[Message]:
        """The messages that need not wait for another of their key."""
        keys: set[str] = set()
        found = []
        for message in self.messages.values():
            if message.entry.key not in keys:
                found.append(message)
            if message.entry.key:
                keys.add(message.entry.key)
        return found

    def take(self, limit: int, lease_s: float, now: float) -> tuple[list[Lease], float | None]:
        """The leases, and when the next message is due where there is none."""
        heads = self.heads()
        ready = [message for message in heads if message.due <= now]
        ready.sort(key=lambda message: message.due - AGING_S * message.entry.priority)
        for message in ready[:limit]:
            if message.token:  # its lease ended, so its worker is dead or too slow
                message.failures.append(Failure(message.attempt, message.due, ""))
            message.attempt += 1
            message.due = now + lease_s
            message.token = secrets.token_hex(8)
        return [_lease(message) for message in ready[:limit]], min((message.due for message in heads), default=None)

    def held(self, lease: Lease) -> Message | None:
        message = self.messages.get(lease.id)
        return message if message is not None and message.token == lease.token else None

    def remove(self, lease: Lease) -> bool:
        message = self.held(lease)
        if message is not None:
            del self.messages[message.id]
        return message is not None

    def die(self, message: Message, now: float, reason: str) -> None:
        del self.messages[message.id]
        entry = message.entry
        self.dead[message.id] = DeadLetter(
            id=message.id,
            body=entry.body,
            headers=entry.headers,
            attempts=message.attempt,
            put_at=message.put_at,
            died_at=now,
            reason=reason,
            priority=entry.priority,
            key=entry.key,
            failures=message.failures[-MAX_FAILURES:],
        )


class Space:
    """What all who name one address share."""

    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}
        self.lock = threading.Lock()
        self.version = 0
        self.changes = Changes(lambda: self.version, shared=False)
        self.users = 0

    def queue(self, name: str) -> Queue:
        return self.queues.setdefault(name, Queue())

    def announce(self) -> None:
        self.version += 1
        self.changes.announce()


def _lease(message: Message) -> Lease:
    entry = message.entry
    return Lease(
        id=message.id,
        body=entry.body,
        headers=dict(entry.headers),
        attempt=message.attempt,
        put_at=message.put_at,
        until=message.due,
        token=message.token,
        priority=entry.priority,
        key=entry.key,
        failures=message.failures[-MAX_FAILURES:],
    )


_lock = threading.Lock()
_ids = itertools.count(1)
_spaces: Final[dict[str, Space]] = {}
