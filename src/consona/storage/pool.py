"""The connections to one database server: bounded, shared fairly, and never given out dirty or dead.

    pool = Pool(driver, PoolSettings(max_size=10), name="postgresql://db.example/shop")
    await pool.open()
    connection = await pool.take()
    try:
        await connection.fetch("SELECT 1")
    finally:
        pool.give_back(connection)
    await pool.close()

`Driver` (`pool_driver.py`) is what it must be told about a kind of connection; `pool_opening.py` opens them. A pool belongs to one event loop.

Who waits, waits in a queue; connections are opened by tasks of the pool, so a caller that is cancelled
wastes none. One that comes back in the middle of something (a cancelled query, an open transaction) is
brought to order in the background before anybody gets it, or closed. One that the server closed is
noticed without a round trip where its end arrived, and by a ping where it was idle for a while or another
one was just lost; so the connections of a restarted server are gone at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from consona.errors import ConsonaError, DeadlineExceeded, NotStarted, PoolTimeout
from consona.resilience.deadline import remaining
from consona.storage.place import task_place
from consona.storage.pool_driver import Driver, Slot
from consona.storage.pool_opening import Opening
from consona.storage.pool_settings import PoolSettings
from consona.storage.waiting_line import Waiter, WaitingLine
from consona.telemetry.histogram import Histogram

__all__ = ["Pool"]

C = TypeVar("C")

log = logging.getLogger("consona.storage")

TEND_S: Final = 2.0
"""How often the pool looks after connections that nobody uses."""
SHOWN_HOLDERS: Final = 5
"""How many of those who hold connections an error names: the ones who hold theirs longest."""


class Pool(Generic[C]):
    """See the module.

    Args:
        driver: How to open, close and judge a connection.
        settings: How many, and for how long.
        name: What messages call the server; without a password.
        clock: Seconds; never goes back.
        rng: Chance from 0 to 1, for the pauses between tries and for ages.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        driver: Driver[C],
        settings: PoolSettings,
        *,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self.driver = driver
        self.settings = settings
        self.name = name
        self._clock = clock
        self._sleep = sleep
        self._idle: list[Slot[C]] = []  # the one that was used last at the right
        self._in_use: dict[int, Slot[C]] = {}  # by the id of the connection
        self._line: WaitingLine[Slot[C]] = WaitingLine(clock, self._too_late)
        self._opening: Opening[C] = Opening(
            driver, settings, name=name, clock=clock, rng=rng, sleep=sleep, unreachable=self._tell_unreachable
        )
        self._cleaning = self._closing = 0
        self._openers: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tender: asyncio.Task[None] | None = None
        self._free = asyncio.Event()
        self._open = False
        self._counts = {"cleaned": 0, "pings": 0, "timeouts": 0, "leaks": 0}
        self._closed: dict[str, int] = {}
        self._waits = Histogram()

    # Life.

    async def open(self) -> None:
        """Open the first connection, so that a wrong address is noticed now.

        Raises:
            ConnectError: The server cannot be reached, or refuses us.
        """
        self._open = True
        try:
            self.give_back(await self.take())
        except BaseException:
            await self.close(patience=0.0)
            raise
        self._tender = asyncio.create_task(self._tend_always(), name=f"{self.name} pool")

    async def close(self, *, patience: float = 10.0) -> None:
        """Refuse new callers, wait `patience` seconds for connections to come back, and close all of them."""
        self._open = False
        self._line.refuse_all(self._not_open)
        ending = {*self._openers, *([self._tender] if self._tender is not None else [])}
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        while self._idle:
            self._retire(self._idle.pop(), "shutdown")
        until = self._clock() + patience
        while self._in_use and (left := until - self._clock()) > 0:
            self._free.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._free.wait(), left)
        for slot in list(self._in_use.values()):
            log.warning("%s: closed a connection that was still in use: %s.", self.name, self._holder(slot))
            self._drop(slot, "cut")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(1.0, until - self._clock()))
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._line.close()

    # Taking and giving back.

    async def take(self, place: str = "") -> C:
        """A connection that nobody else has, alive and clean. Give it back with `give_back`.

        Args:
            place: Where in the user's code it was asked for, when it is held beyond one statement.

        Raises:
            PoolTimeout: None was free in time; the message says who holds them.
            ConnectError: The server cannot be reached.
            DeadlineExceeded: The deadline of the work under way came first.
        """
        idle = self._idle
        while idle:
            slot = idle.pop()
            now = self._clock()
            if self.driver.is_lost(slot.connection):
                self._lost(slot)
            elif now >= slot.retire_at:
                self._retire(slot, "age")
            else:
                doubtful = slot.suspect or now - slot.since > self.settings.ping_after
                self._lend(slot, asyncio.current_task(), place, now)
                if not doubtful or await self._answers(slot):
                    return slot.connection
        return await self._wait(place)

    def give_back(self, connection: C) -> None:
        """Return a connection that `take` gave. Never waits: what is to be cleaned is cleaned in the background."""
        slot = self._in_use.pop(id(connection), None)
        if slot is None:
            if self.driver.is_lost(connection):
                return  # the pool closed it meanwhile
            raise RuntimeError("A connection was given back that nobody has: it was given back before.")
        self._free.set()
        slot.task, slot.place, slot.warned = None, "", False
        driver = self.driver
        if driver.is_clean(connection):
            self._offer(slot)
        elif driver.is_lost(connection):
            self._lost(slot)
        else:
            self._cleaning += 1
            self._spawn(self._clean(slot))

    def discard(self, connection: C, reason: str) -> None:
        """Close a connection that `take` gave, at once, instead of giving it back."""
        self._drop(self._in_use.pop(id(connection)), reason)

    # What is open.

    @property
    def size(self) -> int:
        """How many connections there are, those that are being opened or closed included."""
        return len(self._idle) + len(self._in_use) + self._opening.running + self._cleaning + self._closing

    @property
    def _kept(self) -> int:
        return self.size - self._closing

    def holders(self) -> list[str]:
        """Who has connections now, those who have theirs longest first."""
        return [self._holder(slot) for slot in sorted(self._in_use.values(), key=lambda slot: slot.since)]

    def stats(self) -> dict[str, Any]:
        """How full the pool is, how long callers waited, and what was opened and closed and why."""
        return {
            "size": self.size,
            "max_size": self.settings.max_size,
            "idle": len(self._idle),
            "in_use": len(self._in_use),
            "connecting": self._opening.running,
            "cleaning": self._cleaning,
            "waiting": len(self._line),
            "waits": self._waits.total,
            "wait_p50": self._waits.percentile(50),
            "wait_p99": self._waits.percentile(99),
            "opened": self._opening.opened,
            "connect_failures": self._opening.failures,
            **self._counts,
            "closed": dict(self._closed),
            "holders": self.holders()[:SHOWN_HOLDERS],
        }

    # Waiting.

    async def _wait(self, place: str) -> C:
        if not self._open:
            raise self._not_open()
        now = self._clock()
        left = remaining()
        until = now + (self.settings.wait if left is None else min(left, self.settings.wait))
        waiter: Waiter[Slot[C]] = Waiter(place, now, until)
        self._line.join(waiter)
        self._grow()
        try:
            slot = await waiter.future
        except asyncio.CancelledError:
            self._line.leave(waiter)
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result().connection)  # handed over in the very moment of the cancellation
            raise
        self._waits.record(int((self._clock() - now) * 1e9))
        return slot.connection

    def _lend(self, slot: Slot[C], task: asyncio.Task[Any] | None, place: str, now: float) -> None:
        slot.task = task
        slot.place = place
        slot.since = now
        self._in_use[id(slot.connection)] = slot

    def _offer(self, slot: Slot[C]) -> None:
        """Give a clean connection to who waits longest, or keep it."""
        now = self._clock()
        if not self._open:
            self._retire(slot, "shutdown")
        elif now >= slot.retire_at:
            self._retire(slot, "age")
        else:
            waiter = self._line.first()
            if waiter is not None:
                self._lend(slot, waiter.task, waiter.place, now)
                waiter.future.set_result(slot)
                return
            slot.since = now
            self._idle.append(slot)

    # Opening.

    def _grow(self) -> None:
        """Open connections for those who wait, as many as there may be; one at a time while opening fails."""
        self._open_more(min(len(self._line) - self._opening.running, self.settings.max_size - self.size))

    def _open_more(self, wanted: int) -> None:
        for _ in range(self._opening.begin(wanted)):
            self._spawn(self._connect(), self._openers)

    async def _connect(self) -> None:
        slot = await self._opening.one(lambda: self._open and bool(self._line))
        if slot is not None:
            self._offer(slot)
            self._grow()

    def _tell_unreachable(self, error: ConsonaError) -> None:
        """Tell those who wait, unless a connection that is open can still serve them."""
        if error.retryable and (self._in_use or self._cleaning):
            return
        self._line.refuse_all(lambda: _own(error))

    # Judging, cleaning, closing.

    async def _answers(self, slot: Slot[C]) -> bool:
        """Ask a connection whether it lives. If not, it is closed, and nobody hears of it."""
        self._counts["pings"] += 1
        try:
            async with asyncio.timeout(self.settings.ping):
                await self.driver.ping(slot.connection)
        except asyncio.CancelledError:
            self.give_back(slot.connection)
            raise
        except Exception:  # noqa: BLE001  whatever it is, this connection is of no use
            self._drop(slot, "dead")
            self._suspect_all()
            return False
        slot.suspect = False
        return True

    async def _clean(self, slot: Slot[C]) -> None:
        try:
            async with asyncio.timeout(self.settings.clean):
                await self.driver.clean(slot.connection)
        except BaseException as error:
            self._cleaning -= 1
            self._drop(slot, "dirty")
            if isinstance(error, Exception):
                return
            raise
        self._cleaning -= 1
        self._counts["cleaned"] += 1
        if self.driver.is_clean(slot.connection):
            self._offer(slot)
        else:
            self._drop(slot, "dirty")

    def _lost(self, slot: Slot[C]) -> None:
        """One that the other side closed: the others are probably lost too."""
        self._drop(slot, "lost")
        self._suspect_all()

    def _suspect_all(self) -> None:
        kept = [slot for slot in self._idle if not self.driver.is_lost(slot.connection)]
        gone = [slot for slot in self._idle if self.driver.is_lost(slot.connection)]
        self._idle[:] = kept
        for slot in kept:
            slot.suspect = True
        for slot in gone:
            self._drop(slot, "lost")

    def _drop(self, slot: Slot[C], reason: str) -> None:
        """Close it at once, and open another if somebody waits."""
        self._count_closed(reason)
        self._in_use.pop(id(slot.connection), None)
        self._free.set()
        self.driver.terminate(slot.connection)
        self._grow()

    def _retire(self, slot: Slot[C], reason: str) -> None:
        """Close it politely, in the background."""
        self._count_closed(reason)
        self._closing += 1
        self._spawn(self._say_goodbye(slot))

    async def _say_goodbye(self, slot: Slot[C]) -> None:
        try:
            async with asyncio.timeout(self.settings.clean):
                await self.driver.close(slot.connection)
        except Exception:  # noqa: BLE001  it is closed either way
            self.driver.terminate(slot.connection)
        except asyncio.CancelledError:
            self.driver.terminate(slot.connection)
            raise
        finally:
            self._closing -= 1
            self._grow()

    def _count_closed(self, reason: str) -> None:
        self._closed[reason] = self._closed.get(reason, 0) + 1

    # Looking after what nobody uses.

    async def _tend_always(self) -> None:
        while True:
            await self._sleep(TEND_S)
            self.tend()

    def tend(self) -> None:
        """Close what is lost, old, or idle for too long; open what is missing to `min_size`; warn of leaks."""
        now, settings = self._clock(), self.settings
        for slot in list(self._idle):
            if self.driver.is_lost(slot.connection):
                self._idle.remove(slot)
                self._drop(slot, "lost")
            elif now >= slot.retire_at or (now - slot.since > settings.max_idle and self._kept > settings.min_size):
                self._idle.remove(slot)
                self._retire(slot, "age" if now >= slot.retire_at else "idle")
        self._open_more(settings.min_size - self._kept)
        for slot in self._in_use.values():
            if now - slot.since > settings.leak_after and not slot.warned:
                slot.warned = True
                self._counts["leaks"] += 1
                log.warning("%s: a connection was not given back: %s.", self.name, self._holder(slot))

    # Words.

    def _holder(self, slot: Slot[C]) -> str:
        name = slot.task.get_name() if slot.task is not None else "no task"
        seconds = self._clock() - slot.since
        return f"{name!r} for {seconds:.1f} s ({slot.place or task_place(slot.task)})"

    def _too_late(self, waiter: Waiter[Slot[C]]) -> ConsonaError:
        self._counts["timeouts"] += 1
        waited = self._clock() - waiter.since
        if waited < self.settings.wait - 0.001:
            return DeadlineExceeded(
                f"{self.name}: the deadline came after {waited:.2f} s of waiting for a connection.", database=self.name
            )
        if self._opening.failure is not None and not self._in_use:
            return _own(self._opening.failure)
        holders = self.holders()
        shown = "; ".join(holders[:SHOWN_HOLDERS]) or "nobody: they are being opened or cleaned"
        more = len(holders) - SHOWN_HOLDERS
        own = any(slot.task is waiter.task for slot in self._in_use.values())
        error = PoolTimeout(
            f"{self.name}: none of the {self.settings.max_size} connections was free within {waited:.1f} s."
            f" They are held by {shown}{f'; and {more} more' if more > 0 else ''}.",
            hint="The waiting task holds one itself: pass its transaction (tx=), or end it first." if own else None,
            database=self.name,
            max_size=self.settings.max_size,
            waiting=len(self._line),
            holders=holders[:SHOWN_HOLDERS],
        )
        error.__cause__ = self._opening.failure
        return error

    def _not_open(self) -> NotStarted:
        return NotStarted(f"The connections to {self.name} are closed.")

    def _spawn(self, work: Coroutine[Any, Any, None], group: set[asyncio.Task[None]] | None = None) -> None:
        tasks = self._tasks if group is None else group
        task = asyncio.get_running_loop().create_task(work, name=f"{self.name} pool")
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _own(error: ConsonaError) -> ConsonaError:
    """The same error for another caller: raised, each needs a traceback of its own."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own
