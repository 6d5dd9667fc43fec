"""Messages that are put by the calendar, once for each time, however many processes work.

    queue.every("0 9 * * mon-fri", Report("sales"), zone="Europe/Berlin")

The message of the next time always lies in the queue, delayed until then; each process puts it, and as a
duplicate it counts once. So nobody need be chosen for it, and a time for which nobody was there is not
forgotten: its message waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from consona.errors import ConfigurationError, ConsonaError
from consona.messaging.cron import Cron
from consona.messaging.engine import Entry, Lease

__all__ = ["DUE", "NAME", "Missed", "Schedule"]

log = logging.getLogger("consona.queue")

Missed = Literal["once", "skip", "all"]
NAME: Final = "schedule"
DUE: Final = "scheduled-at"
"""Headers of a message that was put by a schedule: its name, and its time in seconds since the epoch."""
REMEMBERED_S: Final = 86_400.0
"""How long after its time a duplicate is still known as one."""
LATE_S: Final = 60.0
AHEAD_S: Final = 300.0
"""A message further away than this is put again now and then: the process may have been asleep."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One rule by which messages are put."""

    name: str
    cron: Cron
    entry: Entry
    missed: Missed

    def __post_init__(self) -> None:
        if self.missed not in get_args(Missed):
            raise ConfigurationError(f"missed={self.missed!r}: expected one of {', '.join(get_args(Missed))}.")

    def next(self, now: float) -> float:
        """The first time after `now`; both in seconds since the epoch."""
        return self.cron.after(datetime.fromtimestamp(now, UTC)).timestamp()

    def message(self, due: float, now: float) -> Entry:
        """What is put for this time."""
        delay = max(0.0, due - now)
        headers = {**self.entry.headers, NAME: self.name, DUE: f"{due:.0f}"}
        dedup = f"schedule {self.name} {due:.0f}"
        return replace(self.entry, headers=headers, delay_s=delay, dedup=dedup, dedup_s=delay + REMEMBERED_S)

    async def ensure(self, put: Callable[[Entry], Awaitable[object]], now: float) -> float:
        """See that the message of the next time is in the queue. Returns that time, or that of another try."""
        due = self.next(now)
        try:
            await put(self.message(due, now))
        except ConsonaError as error:
            log.warning("The schedule %s could not put its message (it is tried again): %s", self.name, error.message)
            return now + 1.0
        return due

    async def run(self, put: Callable[[Entry], Awaitable[object]], clock: Callable[[], float], due: float) -> None:
        """Put each message when the time before it has come, until cancelled; the one for `due` is there."""
        while True:
            await asyncio.sleep(min(AHEAD_S, max(0.0, due - clock()) + 0.001))
            due = await self.ensure(put, clock())

    def to_catch_up(self, lease: Lease, now: float) -> Entry | None:
        """With `all`: the message of the time after this one, where that has passed as well."""
        due = due_of(lease.headers)
        if self.missed != "all" or due is None:
            return None
        following = self.next(due)
        return self.message(following, now) if following <= now else None

    def is_missed(self, headers: Mapping[str, str], now: float) -> bool:
        """With `skip`: whether its time is so long ago that it is left out."""
        due = due_of(headers)
        return self.missed == "skip" and due is not None and now - due > LATE_S


def due_of(headers: Mapping[str, str]) -> float | None:
    """For which time a message was put; None where no schedule put it."""
    text = headers.get(DUE, "")
    return float(text) if text.isascii() and text.isdecimal() else None


async def run_all(
    due: list[tuple[Schedule, float]], put: Callable[[Entry], Awaitable[object]], clock: Callable[[], float]
) -> None:
    """All of these, of which the messages for the next times are there, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for schedule, next_time in due:
            group.create_task(schedule.run(put, clock, next_time), name=f"schedule {schedule.name}")
