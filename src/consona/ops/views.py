"""What a page shows, made of what the store holds: pure functions of the records and the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from consona.ops.figures import Figures
from consona.ops.guards import Guard, guards
from consona.ops.records import PartRecord, Point, ProcessRecord, SeriesRecord
from consona.ops.store import SLOT_S
from consona.ops.words import ago, duration, plural, share

__all__ = ["Overview", "PartView", "ProcessView", "ServiceView", "Step", "Window", "overview", "statements", "steps"]

MINUTE_S: Final = 60
SILENT_S: Final = 10.0
"""A process that has not reported for so long is no longer counted as running."""
RECENT_S: Final = 120.0
"""So long a process that ended without a word is named among the troubles, if its service runs on."""
MAX_FAULT_SHARE: Final = 0.05
"""Where so many operations fail in a minute, other than by being refused (404, 422, ...), a part is in trouble."""
MIN_OPERATIONS: Final = 20
"""Fewer operations in a minute say nothing about a share."""

WORKING: Final = "working"
DEGRADED: Final = "degraded"
DOWN: Final = "down"
STOPPED: Final = "stopped"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process: its record, its state in one word, and why."""

    record: ProcessRecord
    state: str
    """`running`, `stopped`, or `silent` where it ended or hangs without a word."""
    words: str


@dataclass(slots=True)
class PartView:
    """One part of a service, over all its processes."""

    service: str
    name: str
    kind: str
    state: str = WORKING
    troubles: list[str] = field(default_factory=list)
    whole: Figures = field(default_factory=Figures)
    """Since its processes started, those that ended within the last hour included."""
    minute: Figures = field(default_factory=Figures)
    """In the last minute."""
    window_s: float = MINUTE_S
    """The seconds that `minute` covers: fewer where the service is younger."""
    in_flight: int = 0
    guards: list[Guard] = field(default_factory=list)
    details: list[tuple[ProcessView, dict[str, Any]]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Finished operations per second in the last minute."""
        return self.minute.total / self.window_s


@dataclass(slots=True)
class ServiceView:
    """One service: its processes and its parts, by name."""

    name: str
    state: str
    troubles: list[str]
    processes: list[ProcessView]
    parts: list[PartView]

    @property
    def running(self) -> int:
        return sum(process.state == "running" for process in self.processes)


@dataclass(frozen=True, slots=True)
class Window:
    """What a chart looks back on: `number` steps of `step_s` seconds each."""

    step_s: int
    number: int = 60

    @property
    def minutes(self) -> int:
        return self.step_s * self.number // MINUTE_S

    def since(self, now: float) -> int:
        """The first slot that may be in it."""
        return int(now) - (self.number + 1) * self.step_s


SHORT: Final = Window(5)
LONG: Final = Window(15)


@dataclass(slots=True)
class Overview:
    """The whole system at one moment (`at`, seconds since the epoch)."""

    at: float
    state: str
    troubles: list[str]
    services: list[ServiceView]

    @property
    def parts(self) -> list[PartView]:
        return [part for service in self.services for part in service.parts]

    @property
    def window(self) -> Window:
        """What the charts show: a young system fills only the short one."""
        started = [process.record.started for service in self.services for process in service.processes]
        return SHORT if self.at - min(started, default=0.0) < SHORT.minutes * MINUTE_S else LONG

    @property
    def entrance(self) -> list[PartView]:
        """The parts where requests arrive; all parts in a system that has no server."""
        parts = self.parts
        return [part for part in parts if part.kind == "rest.server"] or parts

    def part(self, service: str, name: str, kind: str = "") -> PartView | None:
        found = (p for p in self.parts if (p.service, p.name) == (service, name) and kind in {"", p.kind})
        return next(found, None)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chart: what was done in the seconds from `at` on."""

    at: int
    figures: Figures


def overview(
    processes: Sequence[ProcessRecord], parts: Iterable[PartRecord], points: Iterable[Point], *, now: float
) -> Overview:
    """How the system stands. Of `points`, those of the last minute count (see `minute_start`)."""
    by_process = {record.id: _process(record, now) for record in processes}
    minute: dict[tuple[str, str, str], list[Figures]] = {}
    for point in points:
        if point.process in by_process and point.slot >= minute_start(now):
            key = (by_process[point.process].record.service, point.part, point.kind)
            minute.setdefault(key, []).append(point.figures)
    grouped: dict[tuple[str, str, str], list[PartRecord]] = {}
    for part in parts:
        if part.process in by_process:
            key = (by_process[part.process].record.service, part.part, part.kind)
            grouped.setdefault(key, []).append(part)
    views = [
        _part(key, records, by_process, minute.get(key, ()), now)
        for key, records in sorted(grouped.items(), key=_order)
    ]
    names = dict.fromkeys(record.service for record in processes)
    services = [
        _service(
            name,
            [process for process in by_process.values() if process.record.service == name],
            [view for view in views if view.service == name],
            now,
        )
        for name in names
    ]
    troubles = [f"{service.name}: {trouble}" for service in services for trouble in service.troubles]
    return Overview(now, _worst([service.state for service in services]), troubles, services)


def _order(group: tuple[tuple[str, str, str], object]) -> tuple[str, int, str, str]:
    """Within a service: where requests arrive first, the application that holds the parts last."""
    service, name, kind = group[0]
    return service, {"rest.server": 0, "app": 2}.get(kind, 1), name, kind


def minute_start(now: float) -> int:
    """The first slot of the last minute."""
    return int(now // SLOT_S * SLOT_S) - MINUTE_S


def steps(points: Iterable[Point], *, until: float, window: Window) -> list[Step]:
    """The points as steps of a window whose last step is the last one that is over."""
    step_s, number = window.step_s, window.number
    end = int(until // step_s * step_s)
    begin = end - number * step_s
    found: dict[int, list[Figures]] = {}
    for point in points:
        if begin <= point.slot < end:
            found.setdefault((point.slot - begin) // step_s, []).append(point.figures)
    return [Step(begin + i * step_s, Figures.merged(found.get(i, ()))) for i in range(number)]


def operations(series: Iterable[SeriesRecord], service_processes: set[str]) -> list[tuple[str, Figures]]:
    """The figures of each operation of a part over the given processes, the most frequent first."""
    found: dict[str, list[Figures]] = {}
    for record in series:
        if record.process in service_processes:
            label = f"{record.operation} {record.target}".strip()
            found.setdefault(label, []).append(record.figures)
    merged = [(label, Figures.merged(figures)) for label, figures in found.items()]
    return sorted(merged, key=lambda pair: (-pair[1].total, pair[0]))


def statements(series: Iterable[SeriesRecord], service_processes: set[str]) -> list[tuple[str, Figures]]:
    """The figures of each statement of a database over the given processes; those first that took most time."""
    found: dict[str, list[Figures]] = {}
    for record in series:
        if record.process in service_processes:
            found.setdefault(record.target, []).append(record.figures)
    merged = [(text, Figures.merged(figures)) for text, figures in found.items()]
    return sorted((pair for pair in merged if pair[1].total), key=lambda pair: (-pair[1].sum_ns, pair[0]))


def _process(record: ProcessRecord, now: float) -> ProcessView:
    if record.stopped is not None:
        return ProcessView(record, "stopped", f"stopped {ago(now - record.stopped)}")
    silence = now - record.seen
    if silence > SILENT_S:
        return ProcessView(record, "silent", f"no report since {duration(silence)}; it ended without a word, or hangs")
    return ProcessView(record, "running", "running")


def _part(
    key: tuple[str, str, str],
    records: list[PartRecord],
    processes: dict[str, ProcessView],
    minute: Iterable[Figures],
    now: float,
) -> PartView:
    running = [r for r in records if processes[r.process].state == "running" and r.status != "stopped"]
    view = PartView(*key)
    view.whole = Figures.merged(record.figures for record in records)
    view.minute = Figures.merged(minute)
    view.in_flight = sum(record.figures.in_flight for record in running)
    oldest = min((processes[record.process].record.started for record in records), default=now)
    view.window_s = min(now - minute_start(now), max(1.0, now - oldest))
    for record in running:
        detail = msgspec.json.decode(record.detail)
        view.details.append((processes[record.process], detail))
        view.guards += guards(detail)
        if record.status != "up":
            view.troubles.append(f"{record.status}: {record.reason}" if record.reason else record.status)
    view.troubles += [guard.words for guard in view.guards if guard.kind == "breaker" and guard.trouble]
    if view.minute.total >= MIN_OPERATIONS and view.minute.fault_share >= MAX_FAULT_SHARE:
        view.troubles.append(f"{share(view.minute.fault_share)} of its operations failed in the last minute")
    view.troubles = list(dict.fromkeys(view.troubles))
    if not running:
        view.state = STOPPED
    elif all(record.status == "down" for record in running):
        view.state = DOWN
    elif view.troubles:
        view.state = DEGRADED
    return view


def _service(name: str, processes: list[ProcessView], parts: list[PartView], now: float) -> ServiceView:
    running = [process for process in processes if process.state == "running"]
    silent = [process for process in processes if process.state == "silent"]
    troubles = [f"{part.name} is {part.state}: {trouble}" for part in parts for trouble in part.troubles]
    lately = [process for process in silent if now - process.record.seen < RECENT_S]
    if (
        silent
        and not running
        and not any(p.state == "stopped" and p.record.seen > silent[0].record.seen for p in processes)
    ):
        return ServiceView(name, DOWN, ["none of its processes reports any more", *troubles], processes, parts)
    if not running:
        return ServiceView(name, STOPPED, [], processes, parts)
    if lately:
        troubles.insert(
            0, f"{plural(len(lately), 'process', 'processes')} ended without a word in the last two minutes"
        )
    state = _worst([part.state for part in parts if part.state != STOPPED])
    return ServiceView(name, DEGRADED if state == WORKING and troubles else state, troubles, processes, parts)


def _worst(states: Sequence[str]) -> str:
    running = [state for state in states if state != STOPPED]
    if not running:
        return STOPPED if states else WORKING
    if all(state == DOWN for state in running):
        return DOWN
    return WORKING if all(state == WORKING for state in running) else DEGRADED
