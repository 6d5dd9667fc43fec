"""What a reporter keeps in mind of each part, so that it reports only what is new.

Figures are copied on the event loop in short steps; masking and encoding come later, in a thread.
Observers that share a name and a kind are one part, and what they counted stays when they stop: a
client that is made anew for each request is one line on the dashboard.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from consona.ops.figures import Figures
from consona.ops.records import json_of
from consona.telemetry.observer import Entry, Observer, Series, _entry

__all__ = ["PartWatch"]

log = logging.getLogger("consona.ops")

MAX_ENTRIES: Final = 25
"""Newest operations, and as many further ones that failed, that one observer reports at once."""


class PartWatch:
    """One part of this process: its figures as of the last look, summed over its observers."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.total = Figures()
        self.series: dict[tuple[str, str], Figures] = {}
        self.finer: dict[tuple[str, str], Figures] = {}
        """The same, told apart by statement, where the part does so."""
        self.slot = 0
        self.in_slot = Figures()
        """What was done since `slot` began."""
        self.reported: tuple[str, ...] = ()
        """Detail, status and reason as they were last reported."""
        self._observers: dict[int, _Seen] = {}

    @property
    def observers(self) -> list[Observer]:
        return [seen.observer for seen in self._observers.values()]

    def look(self, running: Iterable[Observer], *, slot: int) -> tuple[set[tuple[str, str]], list[Entry]]:
        """Take in what was done since the last look: which operations moved, and the newest entries."""
        now = {id(observer): observer for observer in running}
        for key, observer in now.items():
            self._observers.setdefault(key, _Seen(observer))
        moved: dict[tuple[str, str], Figures] = {}
        entries: list[Entry] = []
        for key, seen in list(self._observers.items()):
            for name, since in seen.look():
                moved[name] = moved[name] + since if name in moved else since
            entries += seen.entries()
            if key not in now:
                del self._observers[key]
                for name, lost in seen.under_way():
                    moved[name] = moved.get(name, Figures()) + Figures(started=-lost)
        for name, since in moved.items():
            self.series[name] = self.series[name] + since if name in self.series else since
        since_last = Figures.merged(moved.values())
        self.in_slot = self.in_slot + since_last if slot == self.slot else since_last
        self.slot = slot
        if moved:
            self.total = self.total + since_last
        return set(moved), entries

    def look_closer(self) -> tuple[set[tuple[str, str]], list[Entry]]:
        """Which of its finer figures moved since the last look, and its newest remarks."""
        moved: set[tuple[str, str]] = set()
        remarks: list[Entry] = []
        for seen in self._observers.values():
            for name, since in seen.look_closer():
                self.finer[name] = self.finer[name] + since if name in self.finer else since
                moved.add(name)
            remarks += seen.remarks()
        return moved, remarks

    def detail(self) -> str:
        """What the part says of itself, as JSON. A part that fails to say it harms nobody."""
        found: dict[str, Any] = {}
        for observer in self.observers:
            try:
                found.update(observer.detail())
            except Exception as error:  # the part's fault, shown where it is looked for
                log.debug("%s: detail() failed", self.name, exc_info=True)
                found["detail"] = f"could not be read: {type(error).__name__}"
        return json_of(found)


class _Seen:
    """What is known of one observer."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self._series: dict[tuple[str, str], Figures] = {}
        self._finer: dict[tuple[str, str], Figures] = {}
        self._last: Any = None
        self._last_remark: Any = None

    def look(self) -> Iterable[tuple[tuple[str, str], Figures]]:
        return _since_last(self.observer.each(), self._series)

    def look_closer(self) -> Iterable[tuple[tuple[str, str], Figures]]:
        return _since_last(self.observer.finer(), self._finer)

    def remarks(self) -> list[Entry]:
        """The new ones, oldest first."""
        new: list[Entry] = []
        for remark in reversed(list(self.observer.remarks)):
            if remark is self._last_remark:
                break
            new.append(remark)
        if new:
            self._last_remark = new[0]
        return new[::-1]

    def under_way(self) -> Iterable[tuple[tuple[str, str], int]]:
        return [(name, figures.in_flight) for name, figures in self._series.items() if figures.in_flight]

    def entries(self) -> list[Entry]:
        """Oldest first."""
        finished = list(self.observer._finished)
        new: list[Any] = []
        for item in reversed(finished):
            if item is self._last:
                break
            new.append(item)
        if finished:
            self._last = finished[-1]
        failed = [item for item in new[MAX_ENTRIES:] if item[1].outcome == "failed"][:MAX_ENTRIES]
        return [_entry(*item) for item in reversed(new[:MAX_ENTRIES] + failed)]


def _since_last(
    all_series: Iterable[Series], known: dict[tuple[str, str], Figures]
) -> Iterable[tuple[tuple[str, str], Figures]]:
    for series in all_series:
        name = (series.name, series.target)
        before = known.get(name)
        if before is None or _moved(series, before):
            known[name] = now = Figures.of(series)
            yield name, now if before is None else now - before


def _moved(series: Series, before: Figures) -> bool:
    return (series.started, series.succeeded, series.failed, series.cancelled) != (
        before.started,
        before.succeeded,
        before.failed,
        before.cancelled,
    )
