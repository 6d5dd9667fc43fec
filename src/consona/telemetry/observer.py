"""The one mechanism that sees every operation of every part.

    with self.observer.operation("GET", "/users/{id}") as op:
        ...
        op.set(status=200)

counts it, times it, enters it in the part's short history, makes it a span of the running trace
where that is kept, and logs it when it failed or was slow. `stats` and `history` of a part are
views on what is kept here. What goes in are names, sizes and counts; values (of statements, bodies,
messages) stay out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from consona.errors import ConsonaError
from consona.telemetry.histogram import MAX_NS, Histogram, bucket_of
from consona.telemetry.redaction import DEFAULT
from consona.telemetry.trace import UNSAMPLED, Span, Tracer, _current, default_tracer

__all__ = ["Entry", "Observer", "Operation", "Series", "Stats", "observers"]

OK: Final = "ok"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

observers: Final[dict[int, Observer]] = {}
"""The observers of the parts that run in this process now, by id: what a reporter or `/metrics` shows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished operation in a part's history."""

    at: float
    """When it ended, in seconds since the epoch."""
    operation: str
    target: str
    duration: float
    """Seconds."""
    outcome: str
    """`ok`, `failed` or `cancelled`."""
    error: str
    """The error's code, or its class name where it is not one of ours; empty when all went well."""
    attributes: dict[str, Any]
    trace_id: str
    """32 hexadecimal digits, or empty where the trace was not kept."""

    @property
    def success(self) -> bool:
        return self.outcome == OK


@dataclass(frozen=True, slots=True)
class Stats:
    """What a part did since it was made. Times in seconds, percentiles within 1.6 %."""

    total: int = 0
    """Finished operations: succeeded, failed and cancelled."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    in_flight: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    """Error code -> how often."""
    operations: dict[str, Stats] = field(default_factory=dict)
    """`"GET /users/{id}"` -> the same figures for it alone."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What only this part knows: breaker states, pool sizes, cache hits."""

    @property
    def success_rate(self) -> float:
        """The share that succeeded, 0.0 to 1.0; 0.0 where nothing has finished."""
        return self.succeeded / self.total if self.total else 0.0


class Series:
    """The figures of one operation on one target."""

    __slots__ = ("cancelled", "errors", "failed", "histogram", "lasting", "name", "started", "succeeded", "target")

    def __init__(self, name: str, target: str, *, lasting: bool = False) -> None:
        self.name = name
        self.target = target
        self.lasting = lasting
        """Whether they are meant to last (connections, streams): such a one is never slow."""
        self.started = self.succeeded = self.failed = self.cancelled = 0
        self.errors: dict[str, int] = {}
        self.histogram = Histogram()

    @property
    def label(self) -> str:
        return f"{self.name} {self.target}" if self.target else self.name

    def count(self, op: Operation, duration: int, bucket: int) -> None:
        """Count an operation that ended after `duration` nanoseconds, which are those of `bucket`."""
        if op.outcome is OK:
            self.succeeded += 1
        elif op.outcome is CANCELLED:
            self.cancelled += 1
        else:
            self.failed += 1
            if op.error in self.errors or len(self.errors) < MAX_ERROR_CODES:
                self.errors[op.error] = self.errors.get(op.error, 0) + 1
        histogram = self.histogram  # Histogram.record, written out as in Operation.__exit__
        counts = histogram.counts
        counts[bucket] = counts.get(bucket, 0) + 1
        histogram.total += 1
        histogram.sum_ns += duration

    def stats(self) -> Stats:
        return _stats([self])


def _stats(group: list[Series], **more: Any) -> Stats:
    histogram = Histogram()
    errors: dict[str, int] = {}
    for series in group:
        if not series.lasting or len(group) == 1:  # hours of a connection say nothing of the part's answers
            histogram += series.histogram
        for code, count in series.errors.items():
            errors[code] = errors.get(code, 0) + count
    succeeded = sum(series.succeeded for series in group)
    failed = sum(series.failed for series in group)
    cancelled = sum(series.cancelled for series in group)
    total = succeeded + failed + cancelled
    return Stats(
        total=total,
        succeeded=succeeded,
        failed=failed,
        cancelled=cancelled,
        in_flight=max(0, sum(series.started for series in group) - total),
        mean=histogram.mean,
        p50=histogram.percentile(50),
        p95=histogram.percentile(95),
        p99=histogram.percentile(99),
        errors=errors,
        **more,
    )


class Operation(msgspec.Struct, eq=False):
    """One operation under way: a context manager, made by `Observer.operation`.

    (A Struct, since those are made in a fifth of the time; it is nobody's data.)
    """

    observer: Observer
    series: Series
    parent: Span | None = None
    outcome: str = OK
    error: str = ""
    attributes: dict[str, Any] | None = None
    level: int = logging.WARNING
    """What it is worth in the log if it failed."""
    span: Span = UNSAMPLED
    finer: Series | None = None
    """Where it is counted too: the figures of one statement, where those of the operation are of a table."""
    subject: Any = None
    """What it is about, for `Observer.on_slow`; forgotten when it ends, since it may hold values."""
    _start: int = 0
    _token: Token[Span | None] | None = None

    def set(self, **attributes: Any) -> None:
        """Note names, sizes and counts for the history and the span. Never values of the user's data."""
        if self.attributes is None:
            self.attributes = attributes
        else:
            self.attributes.update(attributes)

    def fail(self, code: str, *, level: int = logging.WARNING) -> None:
        """Count it as failed although no exception leaves the block, and log it at `level`."""
        self.outcome = FAILED
        self.error = code
        self.level = level

    def __enter__(self) -> Self:
        observer = self.observer
        parent = self.parent or _current.get()
        if parent is not None:
            self.span = observer.tracer.begin(parent)
        else:  # `Tracer.begin`, written out: most operations of a busy server are the first of a trace that nobody keeps
            tracer = observer.tracer
            if tracer._collectors and tracer.sampler.decide():
                self.span = tracer.root()
        self._token = _current.set(self.span)
        self.series.started += 1
        if self.finer is not None:
            self.finer.started += 1
        self._start = observer.clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        observer = self.observer
        duration = observer.clock() - self._start
        try:
            _current.reset(self._token)  # type: ignore[arg-type]  # entered, so it is there
        except ValueError:
            self._token = None  # an async generator, closed in another context than it began in: that one is gone
        if error is not None:
            self._note(error)
        series = self.series
        if self.outcome is OK:
            series.succeeded += 1
        elif self.outcome is CANCELLED:
            series.cancelled += 1
        else:
            series.failed += 1
            if self.error in series.errors or len(series.errors) < MAX_ERROR_CODES:
                series.errors[self.error] = series.errors.get(self.error, 0) + 1
        # Histogram.record and bucket_of, written out: this line of the path is walked by every operation.
        histogram = series.histogram
        if 64 <= duration <= MAX_NS:
            shift = duration.bit_length() - 6
            index = (shift << 5) + (duration >> shift)
        else:
            index = bucket_of(duration)
        counts = histogram.counts
        counts[index] = counts.get(index, 0) + 1
        histogram.total += 1
        histogram.sum_ns += duration
        observer._finished.append((observer.wall(), self, duration))
        if self.finer is not None:
            self.finer.count(self, duration, index)
        if self.span.sampled or self.outcome is FAILED or duration > observer.slow_ns:
            observer._notable(self, duration, error)
        self.subject = None

    def _note(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.outcome = CANCELLED
        else:
            self.outcome = FAILED
        if not self.error:
            self.error = error.code if isinstance(error, ConsonaError) else type(error).__name__


MAX_ERROR_CODES: Final = 50


class Observer:
    """What one part did: figures by operation and target, and its last operations.

    Args:
        name: The part's name, as the dashboard shows it.
        kind: What it is: `rest.client`, `rest.server`, `sql`, …; also the logger's name, `consona.<kind>`.
        history: How many finished operations are kept.
        slow: Seconds beyond which an operation is logged as slow.
        max_series: How many pairs of operation and target are told apart; further targets count as `(other)`.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        *,
        history: int = 100,
        slow: float = 1.0,
        max_series: int = 500,
        tracer: Tracer = default_tracer,
        clock: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.kind = kind
        self.slow_ns = int(slow * 1e9)
        self.tracer = tracer
        self.clock = clock
        self.wall = wall
        self.log = logging.getLogger(f"consona.{kind}")
        self.detail: Callable[[], dict[str, Any]] = dict
        """What only the part knows (`Part.detail`), and `check` how it does (`Part.check`); set when it starts."""
        self.check: Callable[[], Awaitable[Any]] | None = None
        self.finer: Callable[[], Iterable[Series]] = tuple
        """The same operations, told apart more finely than is good for an exporter: shown on the part's own page."""
        self.remarks: deque[Entry] = deque(maxlen=50)
        """Operations of which there is more to say than a line of the history: slow ones, with their reason."""
        self.on_slow: Callable[[Operation, int], None] | None = None
        """Called with an operation and its nanoseconds where it took longer than `slow`."""
        self._series: dict[tuple[str, str], Series] = {}
        self._max_series = max_series
        self._finished: deque[tuple[float, Operation, int]] = deque(maxlen=history)

    def operation(self, name: str, target: str = "", *, parent: Span | None = None) -> Operation:
        """Observe a block. `target` must be one of few: a route's pattern, a table, never an id.

        `parent` is the remote span that caused it (see `trace.extract`); without one, the operation
        that runs now is the parent.
        """
        series = self._series.get((name, target))
        return Operation(self, series if series is not None else self.series(name, target), parent)

    def series(self, name: str, target: str = "", *, lasting: bool = False) -> Series:
        """The figures of one operation and target; hand them to `Operation` where each microsecond counts.

        Those of `lasting` operations (connections, streams) count, and stay out of the part's own times.
        """
        key = (name, target)
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= self._max_series:
                key = (name, "(other)") if (name, "(other)") in self._series or target else key
                if key in self._series:
                    return self._series[key]
            series = self._series[key] = Series(*key, lasting=lasting)
        return series

    @property
    def history(self) -> list[Entry]:
        """The last operations, oldest first."""
        return [_entry(*finished) for finished in self._finished]

    @property
    def stats(self) -> Stats:
        group = list(self._series.values())
        return _stats(group, operations={series.label: series.stats() for series in group})

    def each(self) -> Iterator[Series]:
        yield from list(self._series.values())

    def _notable(self, op: Operation, duration: int, error: BaseException | None) -> None:
        span = op.span
        series = op.series
        if self.on_slow is not None and duration > self.slow_ns:
            self.on_slow(op, duration)
        if span.sampled:
            span.name = series.label
            span.part = self.name
            span.kind = self.kind
            span.outcome = op.outcome
            span.error = op.error
            span.duration_ns = duration
            span.start_ns = int(self.wall() * 1e9) - duration
            if op.attributes:
                span.attributes = op.attributes
            self.tracer.finish(span)
        if op.outcome is FAILED:
            level, verb = op.level if error is None else logging.WARNING, "failed"
        elif duration > self.slow_ns and not series.lasting:
            level, verb = logging.WARNING, "was slow"
        else:
            level, verb = logging.DEBUG, "done"
        if self.log.isEnabledFor(level):
            # Only our own messages are known to hold no values; of foreign errors the class must do.
            reason = DEFAULT.text(error.message) if isinstance(error, ConsonaError) else op.error
            self.log.log(
                level,
                "%s: %s %s after %.1f ms%s",
                self.name,
                series.label,
                verb,
                duration / 1e6,
                f": {reason}" if reason else "",
                extra={"trace_id": f"{span.trace_id:032x}"} if span.sampled else None,
            )


def _entry(at: float, op: Operation, duration: int) -> Entry:
    return Entry(
        at=at,
        operation=op.series.name,
        target=op.series.target,
        duration=duration / 1e9,
        outcome=op.outcome,
        error=op.error,
        attributes=dict(op.attributes or {}),
        trace_id=f"{op.span.trace_id:032x}" if op.span.sampled else "",
    )
