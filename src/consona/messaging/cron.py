"""Times by the calendar: the five fields of cron, in any time zone.

    Cron("0 9 * * mon-fri", "Europe/Berlin").after(datetime.now(UTC))

minute (0-59), hour (0-23), day of the month (1-31), month (1-12 or jan-dec), day of the week (0-7 or
sun-sat; 0 and 7 are Sunday). Each is `*`, a number, a range `1-5`, a list `1,3`, or has a step `*/15`.
Where both days are given, either will do. `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` are there too.

When clocks are put forward, a time that does not exist is taken with the offset from before; when they are
put back, a time that comes twice counts the first time (RFC 5545, section 3.3.5). What runs in every hour
runs in each hour that really passes.

Source: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/crontab.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from consona.errors import ConfigurationError

__all__ = ["Cron"]

_NAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_MONTHS: Final = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_PART: Final = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]{1,4}))?")
DAYS_AHEAD: Final = 9 * 366
"""The 29th of February is at most eight years away."""


class Cron:
    """Raises ConfigurationError where the text is none, never comes, or the zone is unknown.

    Args:
        text: Five fields, or one of the names above.
        zone: A name of the IANA database.

    Example:
        >>> from datetime import UTC, datetime
        >>> print(Cron("30 2 * * *", "Europe/Berlin").after(datetime(2026, 3, 28, 12, tzinfo=UTC)))
        2026-03-29 01:30:00+00:00
    """

    def __init__(self, text: str, zone: str = "UTC") -> None:
        self.text = text
        try:
            self.zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"There is no time zone {zone!r}.",
                hint="Take a name as Europe/Berlin. On a system without the database: pip install tzdata.",
            ) from error
        fields = _NAMES.get(text.strip().lower(), text).lower().split()
        if len(fields) != len(_FIELDS):
            raise _refused(text, f"expected five fields, got {len(fields)}")
        parsed = [_numbers(text, field, *rule) for field, rule in zip(fields, _FIELDS, strict=True)]
        self._minutes, self._hours, self._days, self._months, week = parsed
        self._week = {number % 7 for number in week}
        self._either = not fields[2].startswith("*") and not fields[4].startswith("*")
        if next(self._dates(date(2000, 1, 1)), None) is None:
            raise _refused(text, "no such day ever comes")

    def after(self, moment: datetime) -> datetime:
        """The first time behind this moment; in UTC, as the moment must have a zone."""
        moment = moment.astimezone(UTC)
        every_hour = len(self._hours) == 24
        for day in self._dates(moment.astimezone(self.zone).date() - timedelta(days=1)):
            times = self._passing(day) if every_hour else self._fixed(day)
            later = [time for time in times if time > moment]
            if later:
                return min(later)
        raise AssertionError("the constructor has seen that a day comes")

    def _fixed(self, day: date) -> Iterator[datetime]:
        for hour in self._hours:
            for minute in self._minutes:
                yield datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone).astimezone(UTC)

    def _passing(self, day: date) -> Iterator[datetime]:
        """Every minute that passes on this day by the clocks there."""
        time = datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)
        for _ in range(26 * 60):
            local = time.astimezone(self.zone)
            if local.date() == day and local.minute in self._minutes:
                yield time
            time += timedelta(minutes=1)

    def _dates(self, first: date) -> Iterator[date]:
        for number in range(DAYS_AHEAD):
            day = first + timedelta(days=number)
            if day.month in self._months and self._is_due(day):
                yield day

    def _is_due(self, day: date) -> bool:
        in_month, in_week = day.day in self._days, day.isoweekday() % 7 in self._week
        return in_month or in_week if self._either else in_month and in_week


def _numbers(text: str, field: str, name: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _refused(text, f"the {name} {part!r} cannot be read")
        begin, end, step = match.groups()
        if begin == "*":
            first, last = low, min(high, 6) if high == 7 else high
        else:
            first = _number(text, begin, name, low, high, names)
            last = _number(text, end, name, low, high, names) if end else high if step else first
        if (begin == "*" and end) or last < first or (step and int(step) < 1):
            raise _refused(text, f"the {name} {part!r} cannot be read")
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _number(text: str, word: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    number = names.get(word, int(word) if word.isdecimal() else -1)
    if not low <= number <= high:
        raise _refused(text, f"the {name} goes from {low} to {high}, not {word!r}")
    return number


def _refused(text: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r} is no schedule: {problem}.",
        hint="minute, hour, day of the month, month, day of the week: '0 9 * * mon-fri'.",
    )
