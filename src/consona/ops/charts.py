"""Small charts, drawn on the server: lines in an SVG that stretches, their labels as text beside it.

The drawing itself holds no text, so that it may be stretched to any width while the labels keep
their size; what it shows is said in words (`summary`) and stands in a table next to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from consona.ops import words
from consona.ops.records import SpanRecord
from consona.ops.views import Step, Window

__all__ = ["Bar", "Chart", "Line", "bars", "latency_chart", "rate_chart"]

WIDTH, HEIGHT = 600, 120


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, its class in the style sheet, and its path. `area` is the path of what lies below it."""

    name: str
    style: str
    path: str
    area: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as the template draws it."""

    title: str
    unit: str
    lines: list[Line]
    ticks: list[str]
    """Labels of the vertical axis, from the top down."""
    summary: str
    """What it shows, in words."""
    width: int = WIDTH
    height: int = HEIGHT


def rate_chart(steps: Sequence[Step], *, window: Window, noun: str) -> Chart:
    """Finished and failed operations per second."""
    finished = [step.figures.total / window.step_s for step in steps]
    failed = [step.figures.failed / window.step_s for step in steps]
    top = nice_ceiling(max(finished, default=0.0))
    path = _path(finished, top)
    lines = [Line(f"{noun}", "all", path, f"{path}V{HEIGHT}H0Z")]
    if any(failed):
        lines.append(Line("failed", "failed", _path(failed, top)))
    now, most = (finished[-1], max(finished)) if finished else (0.0, 0.0)
    summary = f"{noun} per second: {words.rate(now)} last, {words.rate(most)} at most; failed: " + (
        f"{words.rate(max(failed))} per second at most" if any(failed) else "none"
    )
    return Chart(f"{noun} per second", "per second", lines, _ticks(top, "{:,g}".format), summary)


def latency_chart(steps: Sequence[Step]) -> Chart:
    """The durations that 50, 95 and 99 of 100 operations did not exceed."""
    lines_of = {
        percent: [step.figures.percentile(percent) if step.figures.counts else None for step in steps]
        for percent in (50, 95, 99)
    }
    top = nice_ceiling(max((value for value in lines_of[99] if value is not None), default=0.0))
    lines = [Line(f"p{percent}", f"p{percent}", _path(values, top)) for percent, values in lines_of.items()]
    known = [(p50, p99) for p50, p99 in zip(lines_of[50], lines_of[99], strict=True) if p50 is not None and p99]
    summary = (
        f"duration: p50 {words.duration(known[-1][0])} and p99 {words.duration(known[-1][1])} last, "
        f"p99 {words.duration(max(p99 for _, p99 in known))} at most"
        if known
        else "duration: nothing finished"
    )
    return Chart("Duration", "", lines, _ticks(top, _short_duration), summary)


def nice_ceiling(value: float) -> float:
    """The next round number above; 1 where there is nothing.

    Example:
        >>> [nice_ceiling(v) for v in (0, 0.9, 17, 60)]
        [1.0, 1.0, 20.0, 60.0]
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if factor * power >= value * 0.9999)


def _ticks(top: float, show: Callable[[float], str]) -> list[str]:
    return [show(top), show(top / 2), "0"]


def _short_duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _path(values: Sequence[float | None], top: float) -> str:
    """An SVG path through the values; a gap where there is none."""
    parts: list[str] = []
    pen_down = False
    for x, value in _spread(values):
        if value is None:
            pen_down = False
            continue
        y = HEIGHT - min(value / top, 1.0) * HEIGHT
        parts.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        if not pen_down:
            parts.append("h1")  # so that a value alone between two gaps is seen
        pen_down = True
    return "".join(parts)


def _spread(values: Sequence[float | None]) -> Iterator[tuple[float, float | None]]:
    last = max(1, len(values) - 1)
    for index, value in enumerate(values):
        yield index / last * WIDTH, value


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a waterfall. `left` and `width` in per mille of the whole trace."""

    span: SpanRecord
    depth: int
    start: float
    """Seconds after the trace began."""
    left: float
    width: float
    orphan: bool
    """Whether the operation that called it was not reported."""


def bars(spans: Sequence[SpanRecord]) -> list[Bar]:
    """The spans of one trace as a tree, each below the one that called it, in the order in which they began."""
    if not spans:
        return []
    begin = min(span.start_ns for span in spans)
    whole = max(1, max(span.start_ns + span.duration_ns for span in spans) - begin)
    known = {span.span_id for span in spans}
    below: dict[str, list[SpanRecord]] = {}
    for span in sorted(spans, key=lambda span: (span.start_ns, -span.duration_ns)):
        below.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    rows: list[Bar] = []
    waiting = [(span, 0) for span in reversed(below.pop("", []))]
    while waiting:
        span, depth = waiting.pop()
        left = (span.start_ns - begin) / whole * 1000
        rows.append(
            Bar(
                span,
                depth,
                (span.start_ns - begin) / 1e9,
                min(left, 996.0),
                min(max(span.duration_ns / whole * 1000, 4.0), 1000.0 - min(left, 996.0)),
                bool(span.parent_id) and span.parent_id not in known,
            )
        )
        waiting += [(child, depth + 1) for child in reversed(below.pop(span.span_id, []))]
    return rows
