"""Reading the header fields that say whether and how long an answer may be kept.

Strict where the RFC lets a recipient choose: what cannot be read makes an answer old rather than new.

Source: RFC 9110, section 5.6.7 (dates); RFC 9111, sections 1.2.2 (delta-seconds), 5.1 (Age), 5.2 (Cache-Control).
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import Final

__all__ = [
    "Directives",
    "Pairs",
    "age_field",
    "all_values",
    "format_date",
    "names_in",
    "parse_date",
    "parse_directives",
    "seconds",
    "value",
]

Pairs = Sequence[tuple[str, str]]
Directives = dict[str, str | None]

MAX_DELTA: Final = 2**31
"""What a longer time is taken for (RFC 9111, 1.2.2): 68 years."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY: Final = r"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY: Final = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = (
    re.compile(rf"{_DAY}, (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} gmt", re.ASCII),
    re.compile(rf"{_LONG_DAY}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} gmt", re.ASCII),
    re.compile(rf"{_DAY} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})", re.ASCII),
)
_DIRECTIVE: Final = re.compile(
    r"""[\s,]*
    (?P<name>[!\#$%&'*+.^_`|~0-9A-Za-z-]+)
    (?:=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s,"]*)))?
    (?P<rest>[^,]*)""",
    re.VERBOSE,
)


def all_values(headers: Pairs, name: str) -> list[str]:
    """Every value of a field, in order; `name` in lower case."""
    return [value for key, value in headers if key.lower() == name]


def value(headers: Pairs, name: str) -> str | None:
    """The first value of a field; `name` in lower case."""
    return next((value for key, value in headers if key.lower() == name), None)


def parse_date(text: str | None) -> float | None:
    """Seconds since the epoch, or None for what is not a date in one of HTTP's three formats.

    Example:
        >>> parse_date("Sun, 06 Nov 1994 08:49:37 GMT")
        784111777.0
        >>> parse_date("0") is None
        True
    """
    return None if text is None else _parse_date(text.strip())


@lru_cache(maxsize=256)
def _parse_date(text: str) -> float | None:
    folded = text.lower()
    for pattern in _DATES:
        found = pattern.fullmatch(folded)
        if found is None:
            continue
        if found["month"] not in _MONTHS:
            return None
        month = _MONTHS.index(found["month"]) + 1
        day, hour, minute, second = (int(found[name]) for name in ("day", "hour", "minute", "second"))
        year = int(found["year"])
        if len(found["year"]) == 2:
            # More than 50 years ahead means the past (RFC 9110, 5.6.7).
            this_year = time.gmtime().tm_year
            year += this_year // 100 * 100
            year -= 100 if year > this_year + 50 else 0
        if not 1 <= day <= calendar.monthrange(year, month)[1] or hour > 23 or minute > 59:
            return None
        return float(calendar.timegm((year, month, day, hour, minute, min(second, 59))))
    return None


def format_date(seconds: float) -> str:
    """A date as HTTP wants it.

    Example:
        >>> format_date(784111777)
        'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    return formatdate(seconds, usegmt=True)


def parse_directives(values: Iterable[str]) -> Directives:
    """The directives of `Cache-Control`: names in lower case, the first of equal ones.

    A value that is followed by what does not belong there is kept with it, so that it is no number.

    Example:
        >>> parse_directives(['private, Max-Age=60, no-cache="set-cookie, x-user"', "max-age=0"])
        {'private': None, 'max-age': '60', 'no-cache': 'set-cookie, x-user'}
    """
    found: Directives = {}
    for text in values:
        for match in _DIRECTIVE.finditer(text):
            given = match["quoted"] if match["quoted"] is not None else match["token"]
            if match["quoted"] is not None:
                given = re.sub(r"\\(.)", r"\1", given)
            rest = match["rest"].strip()
            if rest:
                given = f"{given or ''} {rest}"
            found.setdefault(match["name"].lower(), given)
    return found


def seconds(directives: Directives, name: str) -> int | None:
    """A directive's seconds; 0 for what is not a number (so it counts as over), None where it is missing."""
    if name not in directives:
        return None
    text = directives[name] or ""
    return min(int(text), MAX_DELTA) if text.isascii() and text.isdigit() else 0


def age_field(headers: Pairs) -> int:
    """How old an answer was when it came, as its `Age` says; 0 without one, or with one that cannot be read."""
    text = (value(headers, "age") or "").split(",", 1)[0].strip()
    return min(int(text), MAX_DELTA) if text.isascii() and text.isdigit() else 0


def names_in(values: Iterable[str]) -> list[str]:
    """The members of a list of names (`Vary`, `Connection`), in lower case."""
    return [name.strip().lower() for text in values for name in text.split(",") if name.strip()]
