"""Traces: who called whom within one request, across processes.

A trace begins where an operation runs without a parent. Whether it is kept is decided there, once,
by the `Sampler`; all operations below follow that decision. Between processes it travels in the
`traceparent` and `baggage` headers. Finished spans wait in the tracer's bounded buffer for whoever
drains it (the reporter of an `App`); without one, nothing is collected.

Source: W3C Trace Context (Recommendation, 2021); W3C Baggage (2024).
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar, Token
from typing import Any, Final
from urllib.parse import quote, unquote

__all__ = ["UNSAMPLED", "Sampler", "Span", "Tracer", "current_span", "default_tracer", "extract", "inject"]

MAX_BAGGAGE_BYTES: Final = 8192
MAX_BAGGAGE_MEMBERS: Final = 64
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_BAGGAGE_KEY = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Span:
    """One operation within a trace. `start_ns` is wall time, since spans of several processes are compared."""

    __slots__ = (
        "attributes",
        "baggage",
        "duration_ns",
        "error",
        "kind",
        "name",
        "outcome",
        "parent_id",
        "part",
        "sampled",
        "span_id",
        "start_ns",
        "trace_id",
    )

    def __init__(
        self,
        trace_id: int,
        span_id: int,
        parent_id: int = 0,
        *,
        sampled: bool = True,
        baggage: Mapping[str, str] | None = None,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.sampled = sampled
        self.baggage: Mapping[str, str] = baggage or {}
        self.name = self.part = self.kind = self.outcome = self.error = ""
        self.start_ns = self.duration_ns = 0
        self.attributes: dict[str, Any] = {}


UNSAMPLED: Final = Span(0, 0, sampled=False)
"""Stands for every trace that is not kept, so that such an operation makes no object."""

_current: ContextVar[Span | None] = ContextVar("consona_span", default=None)


def current_span() -> Span | None:
    """The span that runs now; None outside of any operation, and where the trace is not kept."""
    span = _current.get()
    return span if span is not None and span.sampled else None


class Sampler:
    """Keeps the first `per_second` traces of each second, and a share (`ratio`) of the rest.

    Chance is asked once for each trace that is kept, not for each that is not: how many are left out until the next
    one is drawn (a geometric distribution, which makes the same share).
    """

    __slots__ = ("_clock", "_gap", "_left", "_next", "_random", "per_second", "ratio")

    def __init__(
        self,
        per_second: int = 10,
        ratio: float = 0.01,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.per_second = per_second
        self.ratio = ratio
        self._clock = clock
        self._random = rng
        self._next = -math.inf
        """When the next second begins."""
        self._left = 0
        self._gap = self._draw()

    def decide(self) -> bool:
        """Whether the trace that begins now is kept."""
        now = self._clock()
        if now >= self._next:
            self._next = math.floor(now) + 1
            self._left = self.per_second
        if self._left > 0:
            self._left -= 1
            return True
        if self._gap > 0:
            self._gap -= 1
            return False
        self._gap = self._draw()
        return True

    def _draw(self) -> float:
        """How many traces are left out before the next one is kept."""
        if not 0 < self.ratio < 1:
            return 0 if self.ratio >= 1 else math.inf
        return math.floor(math.log(1 - self._random()) / math.log(1 - self.ratio))


class Tracer:
    """Decides which traces are kept, and holds finished spans until they are drained.

    Args:
        sampler: Decides for traces that begin here.
        buffer: How many finished spans may wait; beyond that the oldest are dropped and counted.
    """

    def __init__(self, sampler: Sampler | None = None, *, buffer: int = 10_000) -> None:
        self.sampler = sampler or Sampler()
        self.dropped = 0
        self._collectors = 0
        self._finished: deque[Span] = deque(maxlen=buffer)
        self._tees: list[deque[Span]] = []

    def collect(self, *, on: bool) -> None:
        """Begin (or, once for each beginning, end) to keep finished spans for `drain`."""
        self._collectors += 1 if on else -1
        if self._collectors == 0:
            self._finished.clear()

    def tee(self, queue: deque[Span]) -> Callable[[], None]:
        """Put each finished span in `queue`, a bounded one, too. Returns what ends it."""
        self._tees.append(queue)
        self._collectors += 1

        def end() -> None:
            self._tees.remove(queue)
            self.collect(on=False)

        return end

    @property
    def collecting(self) -> bool:
        return self._collectors > 0

    def begin(self, parent: Span | None) -> Span:
        """The span of an operation that starts now; `UNSAMPLED` where its trace is not kept."""
        if parent is None:
            if not self._collectors or not self.sampler.decide():
                return UNSAMPLED
            return self.root()
        if not parent.sampled:
            return parent
        return Span(parent.trace_id, random.getrandbits(64) or 1, parent.span_id, baggage=parent.baggage)

    def root(self) -> Span:
        """The first span of a trace that is kept."""
        return Span(random.getrandbits(128) or 1, random.getrandbits(64) or 1)

    def finish(self, span: Span) -> None:
        if self._collectors:
            if len(self._finished) == self._finished.maxlen:
                self.dropped += 1
            self._finished.append(span)
            for queue in self._tees:
                queue.append(span)

    def drain(self, limit: int = 1000) -> list[Span]:
        """Take up to `limit` finished spans, oldest first."""
        finished = self._finished
        return [finished.popleft() for _ in range(min(limit, len(finished)))]


default_tracer: Final = Tracer()


def activate(span: Span) -> Token[Span | None]:
    return _current.set(span)


def deactivate(token: Token[Span | None]) -> None:
    _current.reset(token)


def inject(headers: MutableMapping[str, str]) -> None:
    """Add `traceparent` and `baggage` of the running operation to the headers of an outgoing call."""
    span = _current.get()
    if span is None:
        return
    if span.sampled:
        headers["traceparent"] = f"00-{span.trace_id:032x}-{span.span_id:016x}-01"
    else:  # any id will do: it tells the next hop not to begin a trace of its own
        trace_id = span.trace_id or random.getrandbits(128) or 1
        headers["traceparent"] = f"00-{trace_id:032x}-{random.getrandbits(64) or 1:016x}-00"
    if span.baggage:
        headers["baggage"] = ",".join(f"{key}={quote(value, safe='')}" for key, value in span.baggage.items())


def extract(traceparent: str | None, baggage: str | None = None, *, trusted: bool) -> Span | None:
    """The remote parent that the headers of an incoming call name, or None where they name none.

    A stranger (`trusted=False`) may neither switch sampling on or off nor bring baggage: its trace is
    begun anew here.
    """
    if not trusted or not traceparent:
        return None
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    return Span(trace_id, span_id, sampled=bool(int(found[4], 16) & 1), baggage=_read_baggage(baggage))


def _read_baggage(header: str | None) -> dict[str, str]:
    if not header or len(header) > MAX_BAGGAGE_BYTES:
        return {}
    members: dict[str, str] = {}
    for member in header.split(",")[:MAX_BAGGAGE_MEMBERS]:
        key, separator, value = member.partition(";")[0].partition("=")
        if separator and _BAGGAGE_KEY.fullmatch(key.strip()):
            members[key.strip()] = unquote(value.strip())
    return members
