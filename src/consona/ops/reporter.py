"""Reports what this process does to `ops.db`, once a second, and never gets in its way.

    reporter = Reporter("shop", "sqlite:///ops.db")
    await reporter.start()
    ...
    await reporter.stop()

An `App` with `ops=` does this by itself. Each report is one bounded batch; when it cannot be kept
(the disk is full, the file locked, the folder gone), it is dropped and counted, the log says so
once, and the next one is tried as usual.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

from consona.address import Address
from consona.errors import ConfigurationError
from consona.ops.records import (
    SLOW,
    STATEMENTS,
    Batch,
    PartRecord,
    Point,
    ProcessRecord,
    SeriesRecord,
    entry_record,
    span_record,
)
from consona.ops.store import SLOT_S, Limits, OpsStore
from consona.ops.watch import PartWatch
from consona.part import Health, Status
from consona.telemetry.observer import Entry, Observer, observers
from consona.telemetry.trace import Tracer, default_tracer

__all__ = ["Reporter"]

log = logging.getLogger("consona.ops")

MAX_PARTS: Final = 500
"""Parts that are told apart; the figures of further ones are summed under one name."""
MAX_SPANS: Final = 2000
"""Spans of one report; more wait in the tracer, which drops and counts what is too much for it."""
MAX_ENTRIES: Final = 1000
"""Single operations of one report."""
EVERYTHING_EVERY: Final = 60
"""Each so many reports repeat what did not change, so that a file that was replaced is whole again."""
PRUNE_EVERY: Final = 10
CHECK_TIMEOUT_S: Final = 2.0


class Reporter:
    """Reports the parts of this process, and the spans of its traces.

    Args:
        service: What the process belongs to; processes of one name are shown together.
        url: The address of the system's `ops.db`.
        interval: Seconds between two reports.
        check_interval: Seconds between two rounds of asking each part how it does.
        limits: What the file keeps.
        stop_timeout: Seconds that the last report may take.

    Raises:
        ConfigurationError: An interval is not above zero.
        AddressError: The address cannot be read. (Whether the file can be used is found out later, and logged.)

    Example:
        >>> Reporter("shop", "sqlite:///ops.db").dropped_reports
        0
    """

    def __init__(
        self,
        service: str,
        url: str | Address,
        *,
        interval: float = 1.0,
        check_interval: float = 10.0,
        limits: Limits | None = None,
        stop_timeout: float = 5.0,
        tracer: Tracer = default_tracer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if interval <= 0 or check_interval <= 0:
            raise ConfigurationError(f"The interval of the reporter of {service!r} must be above zero seconds.")
        self.service = service
        self.address = Address.parse(url)
        self.dropped_spans = 0
        self.dropped_reports = 0
        self._interval = interval
        self._check_interval = check_interval
        self._limits = limits
        self._stop_timeout = stop_timeout
        self._tracer = tracer
        self._clock = clock
        self._parts: dict[tuple[str, str], PartWatch] = {}
        self._health: dict[int, Health] = {}
        self._store: OpsStore | None = None
        self._process: ProcessRecord | None = None
        self._stopping = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._failing = False
        self._count = 0

    async def start(self) -> None:
        """Begin to collect spans and to report. Never fails for the sake of the file."""
        if self._tasks:
            return
        now = self._clock()
        self._process = ProcessRecord(uuid.uuid4().hex[:16], self.service, os.getpid(), socket.gethostname(), now, now)
        self._stopping = asyncio.Event()
        self._tracer.collect(on=True)
        self._tasks = (
            asyncio.create_task(self._each(self._interval, self.report), name=f"reports of {self.service}"),
            asyncio.create_task(self._each(self._check_interval, self._check), name=f"checks of {self.service}"),
        )

    async def stop(self) -> None:
        """Report a last time, within the deadline, and end."""
        if not self._tasks or self._process is None:
            return
        (reports, checks), self._tasks = self._tasks, ()
        self._stopping.set()  # not cancelled, so that a report under way is not lost
        checks.cancel()
        try:
            async with asyncio.timeout(self._stop_timeout):
                await asyncio.wait({reports, checks})
                self._process.stopped = self._clock()
                await self.report()
        except TimeoutError:
            log.warning("%s: the last report to %s took too long and was given up", self.service, self.address)
        finally:
            reports.cancel()
            self._tracer.collect(on=False)
            await self._close_store()

    async def report(self) -> bool:
        """Report now. Returns whether it was kept."""
        if self._process is None:
            return False
        self._count += 1
        everything = self._failing or self._count % EVERYTHING_EVERY == 1
        batch, entries = self._collect(self._process, everything=everything)
        spans = self._tracer.drain(MAX_SPANS)
        process = self._process

        def mask() -> None:
            batch.entries = [entry_record(entry, process, *part) for part, entry in entries]
            batch.spans = [span_record(span, process) for span in spans]

        try:
            await asyncio.to_thread(mask)
            await self._write(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is: observation never harms
            self._drop(len(spans), error)
            return False
        if self._failing:
            self._failing = False
            log.info("%s: reports reach %s again; %d were lost", self.service, self.address, self.dropped_reports)
        return True

    # Collecting: on the event loop, in short steps.

    def _collect(
        self, process: ProcessRecord, *, everything: bool
    ) -> tuple[Batch, list[tuple[tuple[str, str], Entry]]]:
        now = self._clock()
        process.seen = now
        process.dropped_spans = self._tracer.dropped + self.dropped_spans
        process.dropped_reports = self.dropped_reports
        batch = Batch(process)
        entries: list[tuple[tuple[str, str], Entry]] = []
        running = self._running()
        slot = int(now // SLOT_S * SLOT_S)
        for name, part in self._parts.items():
            moved, new = part.look(running.get(name, ()), slot=slot)
            entries += [(name, entry) for entry in new]
            detail, health = part.detail(), self._health_of(part)
            said = (detail, *health)
            if moved or everything or said != part.reported:
                part.reported = said
                batch.parts.append(PartRecord(process.id, *name, now, part.total, *said))
            if moved:
                batch.points.append(Point(slot, process.id, *name, part.in_slot))
            batch.series += [
                SeriesRecord(process.id, *name, *key, part.series[key])
                for key in (part.series if everything else moved)
            ]
            closer, remarks = part.look_closer()
            entries += [((name[0], f"{name[1]}{SLOW}"), remark) for remark in remarks]
            batch.series += [
                SeriesRecord(process.id, name[0], f"{name[1]}{STATEMENTS}", *key, part.finer[key])
                for key in (part.finer if everything else closer)
            ]
        entries.sort(key=lambda pair: pair[1].at)
        return batch, entries[-MAX_ENTRIES:]

    def _running(self) -> dict[tuple[str, str], list[Observer]]:
        running: dict[tuple[str, str], list[Observer]] = {}
        for observer in list(observers.values()):
            name = (observer.name, observer.kind)
            if name not in self._parts:
                if len(self._parts) >= MAX_PARTS:
                    name = ("(other)", "part")
                self._parts.setdefault(name, PartWatch(*name))
            running.setdefault(name, []).append(observer)
        return running

    def _health_of(self, part: PartWatch) -> tuple[str, str]:
        if not part.observers or (self._process and self._process.stopped):
            return "stopped", ""
        found = [self._health.get(id(observer)) for observer in part.observers]
        order = (Status.DOWN, Status.DEGRADED, Status.UP)
        worst = min((health for health in found if health), key=lambda health: order.index(health.status), default=None)
        return (worst.status.value, worst.reason) if worst else ("up", "")

    # Writing.

    async def _write(self, batch: Batch) -> None:
        if self._store is not None and await asyncio.to_thread(self._store.is_lost):
            await self._close_store()
        if self._store is None:
            self._store = await OpsStore.open(self.address, limits=self._limits, clock=self._clock)
        await self._store.save(batch)
        if self._count % PRUNE_EVERY == 0:
            await self._store.prune()

    def _drop(self, spans: int, error: Exception) -> None:
        self.dropped_reports += 1
        self.dropped_spans += spans
        if not self._failing:
            self._failing = True
            log.warning(
                "%s: reports cannot be kept in %s, and are dropped until they can: %s",
                self.service,
                self.address,
                error,
            )

    async def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            try:
                await store.close()
            except Exception:  # it is given up either way
                log.debug("%s: closing %s failed", self.service, self.address, exc_info=True)

    # The two loops.

    async def _each(self, interval: float, do: Callable[[], Awaitable[object]]) -> None:
        while not self._stopping.is_set():
            try:
                await do()
            except Exception:  # a fault of ours must not end the reports
                log.exception("%s: reporting failed", self.service)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._stopping.wait()

    async def _check(self) -> None:
        asked = [observer for observer in list(observers.values()) if observer.check is not None]
        found = await asyncio.gather(*map(_checked, asked))
        self._health = {id(observer): health for observer, health in zip(asked, found, strict=True)}


async def _checked(observer: Observer) -> Health:
    assert observer.check is not None
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            health = await observer.check()
    except TimeoutError:
        return Health(Status.DOWN, f"its check took longer than {CHECK_TIMEOUT_S:g} seconds")
    except Exception as error:  # noqa: BLE001 - a check that fails is an answer: the part is down
        return Health(Status.DOWN, f"its check failed: {type(error).__name__}")
    assert isinstance(health, Health)
    return health
