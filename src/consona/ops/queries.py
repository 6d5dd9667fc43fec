"""What the dashboard asks of `ops.db`: functions of a connection, for `OpsStore.read`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from consona.ops.figures import Figures
from consona.ops.records import SLOW, EntryRecord, PartRecord, Point, ProcessRecord, SeriesRecord, SpanRecord

__all__ = ["entries", "parts", "points", "processes", "series", "trace"]

MAX_SPANS_OF_A_TRACE: Final = 2000

_figures = msgspec.json.Decoder(Figures).decode


def processes(connection: Any) -> list[ProcessRecord]:
    """The processes that run, and those that ended not long ago; by service, the newest first."""
    rows = connection.execute("SELECT * FROM ops_processes ORDER BY service, started DESC")
    return [ProcessRecord(*row) for row in rows]


def parts(connection: Any) -> list[PartRecord]:
    """The newest state of each part of each process."""
    rows = connection.execute("SELECT * FROM ops_parts")
    return [
        PartRecord(process, part, kind, at, _figures(figures), *rest)
        for process, part, kind, at, figures, *rest in rows
    ]


def series(connection: Any, *, part: str, kind: str) -> list[SeriesRecord]:
    """The figures of each operation of the parts with this name and kind, in every process."""
    rows = connection.execute(
        "SELECT s.* FROM ops_processes AS p CROSS JOIN ops_series AS s "  # few processes, so each is looked up
        "ON s.process = p.id AND s.part = ? AND s.kind = ?",
        (part, kind),
    )
    return [
        SeriesRecord(p, part, kind, name, target, _figures(figures)) for p, part, kind, name, target, figures in rows
    ]


def points(connection: Any, *, since: int, part: str | None = None, kind: str | None = None) -> list[Point]:
    """The time series from the slot `since` (seconds since the epoch) on."""
    rows = connection.execute(
        "SELECT * FROM ops_points WHERE slot >= ? AND (?2 IS NULL OR part = ?2) AND (?3 IS NULL OR kind = ?3)",
        (since, part, kind),
    )
    return [Point(slot, process, part, kind, _figures(figures)) for slot, process, part, kind, figures in rows]


def entries(
    connection: Any,
    *,
    service: str = "",
    part: str = "",
    kind: str = "",
    outcome: str = "",
    limit: int = 50,
) -> list[EntryRecord]:
    """The last operations, newest first; each argument that is given narrows them. Slow ones only by their kind."""
    wanted = {"service": service, "part": part, "kind": kind, "outcome": outcome}
    given = {name: value for name, value in wanted.items() if value}
    where = " AND ".join(f"{name} = :{name}" for name in given) or "1"
    if not kind:
        where += f" AND kind NOT LIKE '%{SLOW}'"
    rows = connection.execute(
        f"SELECT * FROM ops_entries WHERE {where} ORDER BY id DESC LIMIT :limit",  # noqa: S608 - names of ours
        {**given, "limit": limit},
    )
    return sorted((EntryRecord(*row) for row in rows), key=lambda entry: -entry.at)


def trace(connection: Any, trace_id: str) -> list[SpanRecord]:
    """The spans of one trace, by their start."""
    rows = connection.execute(
        "SELECT * FROM ops_spans WHERE trace_id = ? ORDER BY start_ns, id LIMIT ?", (trace_id, MAX_SPANS_OF_A_TRACE)
    )
    return [SpanRecord(*row[:-1]) for row in rows]
