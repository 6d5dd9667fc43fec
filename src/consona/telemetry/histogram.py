"""Durations in a histogram of bounded size whose percentiles are right within 1.6 %.

Values are whole nanoseconds. Each power of two is cut into 32 equal buckets (the log-linear layout
of HdrHistogram), so a bucket is at most 1/32 of its value wide and its middle is at most 1/64
(1.6 %) off. There are at most 1,472 buckets (values up to 2**50 ns, 13 days), and only those that
were hit take memory. Histograms add and subtract, so processes can be merged and a minute can be
cut out of a total.

Source: G. Tene, HdrHistogram, http://hdrhistogram.org; the error bound is that of its layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["Histogram", "bucket_middle", "bucket_of"]

SUB_BITS = 5
MAX_NS = (1 << 50) - 1


def bucket_of(nanoseconds: int) -> int:
    """The index of the bucket that counts this duration."""
    if nanoseconds < 64:
        return max(0, nanoseconds)
    nanoseconds = min(nanoseconds, MAX_NS)
    shift = nanoseconds.bit_length() - 6
    return (shift << 5) + (nanoseconds >> shift)


def bucket_middle(index: int) -> float:
    """The value, in nanoseconds, that stands for every duration in the bucket."""
    if index < 64:
        return float(index)
    shift = (index >> 5) - 1
    low = (index - (shift << 5)) << shift
    return low + ((1 << shift) - 1) / 2


class Histogram:
    """Counts of durations by bucket.

    Example:
        >>> histogram = Histogram()
        >>> for milliseconds in range(1, 101):
        ...     histogram.record(milliseconds * 1_000_000)
        >>> round(histogram.percentile(50), 3)
        0.05
    """

    __slots__ = ("counts", "sum_ns", "total")

    def __init__(self, counts: Mapping[int, int] | None = None, sum_ns: int = 0) -> None:
        self.counts: dict[int, int] = dict(counts or {})
        self.total = sum(self.counts.values())
        self.sum_ns = sum_ns

    def record(self, nanoseconds: int) -> None:
        """Count one duration."""
        index = bucket_of(nanoseconds)
        counts = self.counts
        counts[index] = counts.get(index, 0) + 1
        self.total += 1
        self.sum_ns += nanoseconds

    def percentile(self, percent: float) -> float:
        """The duration in seconds that `percent` (0 to 100) of all did not exceed; 0.0 where there are none."""
        if not self.total:
            return 0.0
        rank = max(1.0, percent / 100 * self.total)
        seen = 0
        index = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                break
        return bucket_middle(index) / 1e9

    @property
    def mean(self) -> float:
        """The mean in seconds (exact); 0.0 where there are none."""
        return self.sum_ns / self.total / 1e9 if self.total else 0.0

    def __add__(self, other: Histogram) -> Histogram:
        counts = dict(self.counts)
        for index, count in other.counts.items():
            counts[index] = counts.get(index, 0) + count
        return Histogram(counts, self.sum_ns + other.sum_ns)

    def __sub__(self, earlier: Histogram) -> Histogram:
        """What was recorded since `earlier`, a copy of this histogram of some time ago."""
        counts = {i: n - earlier.counts.get(i, 0) for i, n in self.counts.items()}
        return Histogram({i: n for i, n in counts.items() if n > 0}, max(0, self.sum_ns - earlier.sum_ns))

    def copy(self) -> Histogram:
        return Histogram(self.counts, self.sum_ns)

    def cumulative(self, bounds_s: tuple[float, ...]) -> Iterator[tuple[float, int]]:
        """For each upper bound in seconds, how many durations did not exceed it (Prometheus' `le`)."""
        items = sorted(self.counts.items())
        seen = position = 0
        for bound in bounds_s:
            while position < len(items) and bucket_middle(items[position][0]) <= bound * 1e9:
                seen += items[position][1]
                position += 1
            yield bound, seen
