"""What a process reports and the dashboard reads: plain records, redacted before they are kept.

`Batch` is what one process did since its last report. `entry_record` and `span_record` are the only
ways into it for what parts noted about single operations, and they mask and shorten.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from consona.ops.figures import Figures
from consona.telemetry.observer import Entry
from consona.telemetry.redaction import DEFAULT
from consona.telemetry.trace import Span

__all__ = [
    "SLOW",
    "STATEMENTS",
    "Batch",
    "EntryRecord",
    "PartRecord",
    "Point",
    "ProcessRecord",
    "SeriesRecord",
    "SpanRecord",
    "entry_record",
    "json_of",
    "span_record",
]

STATEMENTS: Final = ".statements"
"""Added to a part's kind where its figures are those of single statements."""
SLOW: Final = ".slow"
"""Added to a part's kind where an entry is a slow operation, with its reason."""
MAX_TEXT: Final = 300
"""Characters of one text (a name, a target, a value among the attributes) that are kept."""
MAX_JSON: Final = 4000
"""Characters of all attributes of one operation, or of the detail of one part."""


class ProcessRecord(msgspec.Struct):
    """One process of the system. Times in seconds since the epoch."""

    id: str
    service: str
    pid: int
    host: str
    started: float
    seen: float
    stopped: float | None = None
    """When it stopped as asked; None while it runs, and where it ended without a word."""
    dropped_spans: int = 0
    dropped_reports: int = 0


class PartRecord(msgspec.Struct):
    """How one part of one process stands."""

    process: str
    part: str
    kind: str
    at: float
    figures: Figures
    detail: str = "{}"
    """JSON."""
    status: str = "up"
    """`up`, `degraded`, `down`, or `stopped`."""
    reason: str = ""


class SeriesRecord(msgspec.Struct):
    """The figures of one operation of a part."""

    process: str
    part: str
    kind: str
    operation: str
    target: str
    figures: Figures


class Point(msgspec.Struct):
    """What a part did in the seconds from `slot` on (see `store.SLOT_S`)."""

    slot: int
    process: str
    part: str
    kind: str
    figures: Figures


class EntryRecord(msgspec.Struct):
    """One finished operation. `duration` in seconds; `attributes` as JSON."""

    at: float
    process: str
    service: str
    part: str
    kind: str
    operation: str
    target: str
    duration: float
    outcome: str
    error: str
    attributes: str
    trace_id: str
    id: int | None = None
    """The number that the store gave it."""


class SpanRecord(msgspec.Struct):
    """One operation within a trace. Ids in hexadecimal digits; `parent_id` is empty at the root."""

    trace_id: str
    span_id: str
    parent_id: str
    process: str
    service: str
    part: str
    kind: str
    name: str
    start_ns: int
    duration_ns: int
    outcome: str
    error: str
    attributes: str


@dataclass(slots=True)
class Batch:
    """What one process reports at once."""

    process: ProcessRecord
    parts: list[PartRecord] = field(default_factory=list)
    series: list[SeriesRecord] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    entries: list[EntryRecord] = field(default_factory=list)
    spans: list[SpanRecord] = field(default_factory=list)


def entry_record(entry: Entry, process: ProcessRecord, part: str, kind: str) -> EntryRecord:
    """An entry of a part's history, masked and shortened."""
    return EntryRecord(
        at=entry.at,
        process=process.id,
        service=process.service,
        part=part,
        kind=kind,
        operation=_text(entry.operation),
        target=_text(entry.target),
        duration=entry.duration,
        outcome=entry.outcome,
        error=_text(entry.error),
        attributes=json_of(entry.attributes),
        trace_id=entry.trace_id,
    )


def span_record(span: Span, process: ProcessRecord) -> SpanRecord:
    """A finished span, masked and shortened."""
    return SpanRecord(
        trace_id=f"{span.trace_id:032x}",
        span_id=f"{span.span_id:016x}",
        parent_id=f"{span.parent_id:016x}" if span.parent_id else "",
        process=process.id,
        service=process.service,
        part=span.part,
        kind=span.kind,
        name=_text(span.name),
        start_ns=span.start_ns,
        duration_ns=span.duration_ns,
        outcome=span.outcome,
        error=_text(span.error),
        attributes=json_of(span.attributes),
    )


def json_of(attributes: Mapping[str, Any]) -> str:
    """Attributes as JSON of a bounded length, secrets masked; of foreign objects only the type's name."""
    shown: dict[str, Any] = {}
    room = MAX_JSON
    for name, value in attributes.items():
        masked = _masked(DEFAULT.data({str(name): value}))
        room -= len(msgspec.json.encode(masked))
        if room < 0:
            shown["(left out)"] = f"{len(attributes) - len(shown)} more, for their length"
            break
        shown.update(masked)
    return msgspec.json.encode(shown).decode()


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(str(name)): _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value)} bytes)"
    if value is None or isinstance(value, bool | int | float):
        return value
    return f"({type(value).__name__})"  # what it holds is not ours to show


_QUERY: Final = re.compile(r"(?:^|[^=<>(,])\?[^?]*=")
"""A `?` with a `=` after it; that of a statement, `(id=?)`, has none, or comes after another sign."""


def _text(text: str) -> str:
    if "?" in text and "=" in text:  # may be a URL with a query, whose names say what is secret
        text = " ".join(DEFAULT.url(word) if _QUERY.search(word) else word for word in text.split(" "))
    text = DEFAULT.text(text)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text)} characters)"
