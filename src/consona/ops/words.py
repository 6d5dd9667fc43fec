"""Figures as people read them: durations, rates, shares, times of day."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["ago", "clock_time", "count", "duration", "iso_time", "plural", "rate", "share"]


def duration(seconds: float) -> str:
    """Three digits at most.

    Example:
        >>> [duration(s) for s in (0.00042, 0.0123, 0.25, 3.14159, 75)]
        ['0.42 ms', '12.3 ms', '250 ms', '3.14 s', '1 min 15 s']
    """
    if seconds < 0.0001:
        return f"{seconds * 1000:.3f} ms"
    if seconds < 0.01:
        return f"{seconds * 1000:.2f} ms"
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def count(number: float) -> str:
    """A whole number with its thousands apart.

    Example:
        >>> count(1234567)
        '1,234,567'
    """
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """Operations per second, as a bare number.

    Example:
        >>> [rate(r) for r in (0, 0.034, 0.5, 12.34, 1234.5)]
        ['0', '0.03', '0.5', '12.3', '1,234']
    """
    if per_second >= 100:
        return count(per_second)
    if per_second >= 10:
        return f"{per_second:.1f}"
    return f"{per_second:.2f}".rstrip("0").rstrip(".") or "0"


def share(part: float) -> str:
    """A share from 0.0 to 1.0 in per cent.

    Example:
        >>> [share(s) for s in (0, 0.0004, 0.013, 0.5)]
        ['0 %', '0.04 %', '1.3 %', '50 %']
    """
    percent = part * 100
    if percent >= 10 or percent == 0:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.2f} %"


def clock_time(at: float, *, milliseconds: bool = False) -> str:
    """The time of day in UTC."""
    text = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")
    return text[:-3] if milliseconds else text[:-7]


def iso_time(at: float) -> str:
    """The moment in UTC as `datetime=` of HTML wants it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(seconds: float) -> str:
    """A time span that lies behind.

    Example:
        >>> ago(3), ago(80), ago(7300)
        ('3 s ago', '1 min ago', '2 h ago')
    """
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 3600 else f"{seconds / 3600:.0f} h ago"


def plural(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    Example:
        >>> plural(1, "process", "processes"), plural(2, "part")
        ('1 process', '2 parts')
    """
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
