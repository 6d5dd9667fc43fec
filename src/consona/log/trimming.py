"""Which of the oldest records go: the same rule for every engine."""

from __future__ import annotations

from collections.abc import Iterable

from consona.log.log import Retention

__all__ = ["outdated"]


def outdated(
    oldest: Iterable[tuple[int, float, int]], retention: Retention, *, records: int, size: int, now: float
) -> list[tuple[int, float, int]]:
    """Those of the `oldest` records that the retention does not keep.

    Args:
        oldest: (place, time, bytes) of each, in order.
        retention: What is kept.
        records: How many the stream has.
        size: Their bytes.
        now: Seconds since the epoch.
    """
    cut = -float("inf") if retention.max_age is None else now - retention.max_age
    gone = []
    for record in oldest:
        too_many = retention.max_records is not None and records > retention.max_records
        too_large = retention.max_bytes is not None and size > retention.max_bytes
        if not (too_many or too_large or record[1] < cut):
            break
        gone.append(record)
        records -= 1
        size -= record[2]
    return gone
