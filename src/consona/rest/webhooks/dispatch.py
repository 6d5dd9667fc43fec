"""Works off pending deliveries: each when it is due, by one process at a time, a few at once.

It watches the ledger, so it sees what other processes add. Before a try it claims the delivery: a
compare-and-set that moves the next try behind the end of this one. Who dies meanwhile is thereby replaced.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from consona.errors import ConsonaError
from consona.rest.webhooks.delivery import DeliverySettings
from consona.rest.webhooks.ledger import PENDING, Ledger, Noted, read_delivery

__all__ = ["Dispatcher"]

log = logging.getLogger("consona.webhooks.sender")

IDLE_S = 3600.0
PAUSE_S = 1.0
"""After the ledger failed, before it is asked again."""


class Dispatcher:
    """The tasks that send. Started and stopped by the sender, which owns it.

    Args:
        ledger: Where deliveries are noted.
        attempt: Makes one try of a claimed delivery and notes what came of it.
        settings: How many at once, and for how long.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        ledger: Ledger,
        attempt: Callable[[Noted], Awaitable[None]],
        settings: DeliverySettings,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._attempt = attempt
        self._settings = settings
        self._clock = clock
        self._due: dict[str, float] = {}
        """Delivery id -> when it is due; the heap below may hold older entries of the same id."""
        self._heap: list[tuple[float, str]] = []
        self._busy: dict[str, int] = {}
        self._held: dict[str, float] = {}
        """Endpoint -> until when it wants to be left alone."""
        self._changed = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self.trouble = ""
        """Why the ledger cannot be read or written at the moment; empty while it can."""

    @property
    def waiting(self) -> int:
        return len(self._due)

    @property
    def in_flight(self) -> int:
        return len(self._attempts)

    def start(self) -> None:
        self._loops = [asyncio.create_task(self._watch()), asyncio.create_task(self._work())]

    async def stop(self) -> None:
        """Begin no more; wait for what is under way, then cut it. What is cut is tried again once its time is over."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._attempts:
            _, late = await asyncio.wait(self._attempts, timeout=self._settings.drain)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def hold(self, endpoint: str, until: float) -> None:
        """Leave an endpoint alone until then: it said that it has too much to do."""
        self._held[endpoint] = max(until, self._held.get(endpoint, 0.0))

    async def _watch(self) -> None:
        while True:
            try:
                async for change in self._ledger.watch():
                    self.trouble = ""
                    key = change.key[len(PENDING) :]
                    if change.value is None:
                        self._due.pop(key, None)
                        continue
                    next_try = read_delivery(change.value).next_try
                    if next_try is not None:
                        self._know(key, next_try.timestamp())
            except ConsonaError as error:
                self._note_trouble(error)
                await asyncio.sleep(PAUSE_S)

    def _know(self, key: str, due: float) -> None:
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        self._changed.set()

    async def _work(self) -> None:
        while True:
            self._changed.clear()
            wait = self._begin_what_is_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _begin_what_is_due(self) -> float:
        """Begin as much as may be; returns the seconds until there is more to do."""
        now = self._clock()
        postponed: list[tuple[float, str]] = []
        wait = IDLE_S
        while self._heap and len(self._attempts) < self._settings.concurrency:
            due, key = self._heap[0]
            if due > now:
                wait = min(wait, due - now)
                break
            heapq.heappop(self._heap)
            if self._due.get(key) != due:
                continue  # it was changed or finished since
            endpoint = key.partition("/")[2]
            held = self._held.get(endpoint, 0.0)
            if held > now:
                self._know(key, held)
            elif self._busy.get(endpoint, 0) >= self._settings.per_endpoint:
                postponed.append((due, key))  # looked at again when a try ends
            else:
                self._held.pop(endpoint, None)
                self._begin(key, endpoint)
        for entry in postponed:
            heapq.heappush(self._heap, entry)
        return wait

    def _begin(self, key: str, endpoint: str) -> None:
        del self._due[key]
        self._busy[endpoint] = self._busy.get(endpoint, 0) + 1
        task = asyncio.create_task(self._claim_and_try(key))
        self._attempts.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._attempts.discard(done)
            self._busy[endpoint] -= 1
            if not self._busy[endpoint]:
                del self._busy[endpoint]
            self._changed.set()

        task.add_done_callback(ended)

    async def _claim_and_try(self, key: str) -> None:
        try:
            noted = await self._ledger.pending(key)
            if noted is None:
                return
            delivery = noted.delivery
            now = self._clock()
            if delivery.next_try is not None and delivery.next_try.timestamp() > now:
                self._know(key, delivery.next_try.timestamp())  # another process tries it, or has tried it
                return
            if delivery.in_progress and await self._ledger.finished(key) is not None:
                await self._ledger.drop_pending(noted)  # it ended, and whoever tried it died before this line
                return
            lease = datetime.fromtimestamp(now + self._settings.lease, UTC)
            claimed = msgspec.structs.replace(delivery, in_progress=True, next_try=lease)
            mine = await self._ledger.change(noted, claimed)
            if mine is not None:
                await self._attempt(mine)
        except ConsonaError as error:  # of the ledger; those of the endpoint are noted by `attempt`
            self._note_trouble(error)
            await asyncio.sleep(PAUSE_S)
            self._know(key, self._clock())
        except Exception:  # a fault of ours: it stays noted, and is tried again once its time is over
            log.exception("A webhook delivery could not be tried.")

    def _note_trouble(self, error: ConsonaError) -> None:
        self.trouble = error.message
        log.warning("Webhook deliveries cannot be read or written: %s", error.message)
