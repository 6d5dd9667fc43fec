"""What a queue engine must do. The front (`queue.py`) does everything else.

The core is the same on every engine: a message is gone only when it is acknowledged; one whose lease
ends comes back; one that failed comes back after its delay, or lies among the dead letters. What goes
beyond that is a `Power`, which an engine has for real or does not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:  # SQLite is loaded where its scheme is used
    from consona.storage.transaction import SharedTransaction

__all__ = [
    "DeadLetter",
    "Depth",
    "Entry",
    "Failure",
    "Inspection",
    "Lease",
    "Power",
    "QueueEngine",
    "SupportsTransactions",
]


class Power(StrEnum):
    """What an engine may be able to do beyond the core."""

    DELAY = "delay"
    """`Entry.delay_s` and a retry's delay of days."""
    PRIORITY = "priority"
    """Higher first; one step counts as much as a minute of waiting, so that the lowest comes too."""
    ORDER = "order"
    """Messages with the same key one after another, in the order in which they were put."""
    DEDUPLICATION = "deduplication"
    """A second message with the same `Entry.dedup` within its window is not put."""
    FENCING = "fencing"
    """Who lost its lease can neither acknowledge nor release: the message is another's."""
    TRANSACTIONS = "transactions"
    """`put` and `ack` in a transaction of the same database (`SupportsTransactions`)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is put into a queue."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    """Seconds until it can be taken."""
    priority: int = 0
    """0 to 9; 9 is the most urgent."""
    key: str = ""
    """Messages with the same key keep their order, and are handled one at a time; empty: no order."""
    dedup: str = ""
    """Empty: never a duplicate."""
    dedup_s: float = 0.0
    """Seconds for which `dedup` is remembered."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt."""

    attempt: int
    at: float
    """Seconds since the epoch."""
    error: str
    """What was wrong; empty where the worker died, so nobody knows."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A message that one worker holds until `until`; after that it is anyone's."""

    id: str
    body: bytes
    headers: Mapping[str, str]
    attempt: int
    """1 on the first delivery."""
    put_at: float
    """Seconds since the epoch, by the engine's clock, as all times here."""
    until: float
    token: str
    """Fences a worker that lost its lease (`Power.FENCING`)."""
    priority: int = 0
    key: str = ""
    failures: Sequence[Failure] = ()
    """Of earlier attempts, oldest first; the last ten."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that will not be tried again by itself."""

    id: str
    body: bytes
    headers: Mapping[str, str]
    attempts: int
    put_at: float
    died_at: float
    reason: str
    priority: int = 0
    key: str = ""
    failures: Sequence[Failure] = ()


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue holds."""

    ready: int = 0
    """Can be taken now (or wait for an earlier one of their key)."""
    delayed: int = 0
    """Can be taken later: put with a delay, or waiting for a retry."""
    leased: int = 0
    """Held by workers."""
    dead: int = 0

    @property
    def unfinished(self) -> int:
        return self.ready + self.delayed + self.leased


class QueueEngine(Protocol):
    """One engine serves any number of queues. What it gets is checked before; a queue exists once it is named."""

    powers: ClassVar[frozenset[Power]]

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def put(self, queue: str, entries: Sequence[Entry]) -> list[str]:
        """Put all or none, durably. Returns their ids; for a duplicate that of the message that was first."""

    async def take(self, queue: str, *, limit: int, lease_s: float, wait_s: float) -> list[Lease]:
        """Up to `limit` messages, held for `lease_s`; waits up to `wait_s` for the first. Empty: time is over."""

    async def settle(self, queue: str, leases: Sequence[Lease]) -> list[Lease]:
        """The messages are done, and gone. Returns the leases that were lost meanwhile (`Power.FENCING`)."""

    async def release(self, queue: str, lease: Lease, *, delay_s: float, error: str, dead: bool) -> bool:
        """Give it back: to be taken again after `delay_s`, or (`dead`) to the dead letters.

        The attempt counts where `error` says what failed; given back without one, it was not tried.
        Returns False where the lease was lost.
        """

    async def extend(self, queue: str, lease: Lease, *, lease_s: float) -> Lease | None:
        """Hold it for `lease_s` from now. Returns the lease as it is then, None where it was lost."""


class Inspection(Protocol):
    """What every engine can tell of its queues, and do with its dead letters."""

    async def depth(self, queue: str) -> Depth: ...

    async def queues(self) -> list[str]:
        """The names of the queues that there are, sorted."""

    async def dead(self, queue: str, *, after: str, limit: int) -> list[DeadLetter]:
        """Dead letters in the order in which they died, behind the one with the id `after` (empty: from the first)."""

    async def redrive(self, queue: str, ids: Sequence[str], *, replacement: Entry | None) -> int:
        """Put dead letters back into the queue, attempts and failures forgotten. Returns how many there were.

        A `replacement` takes the place of the (single) letter's body and headers.
        """

    async def bury(self, queue: str, ids: Sequence[str]) -> int:
        """Remove dead letters for ever. Returns how many there were."""


@runtime_checkable
class SupportsTransactions(Protocol):
    """The engine can take part in a transaction of its database (`Power.TRANSACTIONS`)."""

    def inside(self, tx: SharedTransaction) -> QueueEngine:
        """The same engine, whose `put` and `settle` happen in the open transaction `tx`."""
