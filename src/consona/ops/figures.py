"""What a part did, as figures that add up over processes and subtract over time.

    last_minute = Figures.merged(points)
    last_minute.percentile(95)

An observer's series hold the same numbers; here they can be stored, sent and merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Self, TypeVar

import msgspec

from consona import errors
from consona.telemetry.histogram import Histogram
from consona.telemetry.observer import Series

__all__ = ["Figures"]

Key = TypeVar("Key")


class Figures(msgspec.Struct, omit_defaults=True):
    """Counts, errors by code, and durations (`counts` by histogram bucket, `sum_ns` in nanoseconds).

    Example:
        >>> busy = Figures(started=3, succeeded=2, failed=1, errors={"connect": 1})
        >>> (busy + busy).errors, (busy + busy - busy).total
        ({'connect': 2}, 3)
    """

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    errors: dict[str, int] = {}
    counts: dict[int, int] = {}
    sum_ns: int = 0

    @classmethod
    def of(cls, series: Series) -> Self:
        """A copy of what a series holds now. Each copy is one step in C, so other threads may go on counting."""
        histogram = series.histogram
        return cls(
            series.started,
            series.succeeded,
            series.failed,
            series.cancelled,
            dict(series.errors),
            dict(histogram.counts),
            histogram.sum_ns,
        )

    @classmethod
    def merged(cls, many: Iterable[Figures]) -> Self:
        """The sum of all."""
        total = cls()
        for figures in many:
            total.started += figures.started
            total.succeeded += figures.succeeded
            total.failed += figures.failed
            total.cancelled += figures.cancelled
            total.sum_ns += figures.sum_ns
            for code, count in figures.errors.items():
                total.errors[code] = total.errors.get(code, 0) + count
            for bucket, count in figures.counts.items():
                total.counts[bucket] = total.counts.get(bucket, 0) + count
        return total

    def __add__(self, other: Figures) -> Figures:
        return Figures.merged((self, other))

    def __sub__(self, earlier: Figures) -> Figures:
        """What came on top of `earlier`, a copy of some time ago."""
        return Figures(
            self.started - earlier.started,
            self.succeeded - earlier.succeeded,
            self.failed - earlier.failed,
            self.cancelled - earlier.cancelled,
            _grown(self.errors, earlier.errors),
            _grown(self.counts, earlier.counts),
            self.sum_ns - earlier.sum_ns,
        )

    @property
    def total(self) -> int:
        """Finished operations."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def in_flight(self) -> int:
        return max(0, self.started - self.total)

    @property
    def failed_share(self) -> float:
        """The share of the finished that failed, 0.0 to 1.0."""
        return self.failed / self.total if self.total else 0.0

    @property
    def refused(self) -> int:
        """Those of the failed in which the caller was wrong: what they asked for does not exist, or may not be."""
        return min(self.failed, sum(count for code, count in self.errors.items() if _is_refusal(code)))

    @property
    def refused_share(self) -> float:
        return self.refused / self.total if self.total else 0.0

    @property
    def fault_share(self) -> float:
        """The share of the finished that failed without being refused: what somebody should look at."""
        return (self.failed - self.refused) / self.total if self.total else 0.0

    @property
    def histogram(self) -> Histogram:
        return Histogram(self.counts, self.sum_ns)

    def percentile(self, percent: float) -> float:
        """The duration in seconds that `percent` (0 to 100) of all did not exceed; 0.0 where there are none."""
        return self.histogram.percentile(percent)


REFUSALS: Final = frozenset(
    kind.code for name in errors.__all__ if 400 <= getattr(kind := getattr(errors, name), "status", 0) < 500
)
_REFUSED = re.compile(r"(http|api)\.4\d\d")


def _is_refusal(code: str) -> bool:
    return code in REFUSALS or _REFUSED.fullmatch(code) is not None


def _grown(now: dict[Key, int], before: dict[Key, int]) -> dict[Key, int]:
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}
