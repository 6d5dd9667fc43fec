"""Calculating with dates: `$dateAdd`, `$dateSubtract`, `$dateDiff`, `$dateTrunc`.

Days and longer units are those of the calendar in the time zone; hours and shorter ones pass evenly. A month that is
too short gives its last day.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/dateAdd/, .../dateDiff/, .../dateTrunc/
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import (
    NULL,
    Builder,
    Compiler,
    Expression,
    Scope,
    is_null,
    whole_number,
    wrong,
)
from consona.documents.expressions.zones import date_of, local, utc, zone_of

__all__ = ["OPERATORS"]

_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_LENGTHS: Final = {
    "week": timedelta(weeks=1),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
    "millisecond": timedelta(milliseconds=1),
}
_EVEN: Final = ("hour", "minute", "second", "millisecond")
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _unit(name: str, value: Any) -> str:
    if type(value) is not str or (value not in _MONTHS and value not in _LENGTHS):
        raise OperatorError(
            f"{name} takes a unit of time.", hint=f"There are {', '.join([*_MONTHS, *_LENGTHS])}.", operator=name
        )
    return value


def _first_day(name: str, value: Any) -> int:
    """The day on which weeks begin: 0 for Monday."""
    if is_null(value):
        return 6
    wanted = value.lower() if type(value) is str else ""
    for place, day in enumerate(_DAYS):
        if wanted in {day, day[:3]}:
            return place
    raise OperatorError(f"{name} takes a day of the week as startOfWeek.", hint="For example monday.", operator=name)


def _outside(name: str) -> OperatorError:
    return OperatorError(f"{name}: the date leaves the years 1 to 9999.", operator=name)


def _later(name: str, date: datetime, unit: str, amount: int, zone: tzinfo) -> datetime:
    try:
        if unit in _EVEN:
            return date + _LENGTHS[unit] * amount
        wall = local(name, date, zone).replace(tzinfo=None)
        wall = _months_later(wall, _MONTHS[unit] * amount) if unit in _MONTHS else wall + _LENGTHS[unit] * amount
        return utc(name, wall.replace(tzinfo=zone))
    except (OverflowError, ValueError):
        raise _outside(name) from None


def _months_later(wall: datetime, months: int) -> datetime:
    years, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    if not 1 <= years <= 9999:
        raise OverflowError
    return wall.replace(year=years, month=month + 1, day=min(wall.day, calendar.monthrange(years, month + 1)[1]))


def _move(sign: int) -> Builder:
    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        parts = compiler.named(name, raw, ["startDate", "unit", "amount"], ["timezone"])
        zone = parts.get("timezone")

        def evaluate(scope: Scope) -> Any:
            values = [parts[key](scope) for key in ("startDate", "unit", "amount")]
            where = zone_of(name, zone, scope)
            if where is None or any(is_null(value) for value in values):
                return None
            start, unit, amount = values
            if type(amount) is not int and not (type(amount) is float and amount.is_integer()):
                raise wrong(name, "a whole number as its amount", amount)
            return _later(name, date_of(name, start), _unit(name, unit), sign * int(amount), where)

        return evaluate

    return build


def _diff(name: str, raw: Any, compiler: Compiler) -> Expression:
    parts = compiler.named(name, raw, ["startDate", "endDate", "unit"], ["timezone", "startOfWeek"])
    zone, first_day = parts.get("timezone"), parts.get("startOfWeek", NULL)

    def evaluate(scope: Scope) -> Any:
        values = [parts[key](scope) for key in ("startDate", "endDate", "unit")]
        where = zone_of(name, zone, scope)
        if where is None or any(is_null(value) for value in values):
            return None
        start, end, unit = values
        unit = _unit(name, unit)
        begins = _first_day(name, first_day(scope)) if unit == "week" else 0
        dates = [date_of(name, start), date_of(name, end)]
        first, last = (_count(name, date, unit, where, begins) for date in dates)
        return last - first

    return evaluate


def _count(name: str, date: datetime, unit: str, zone: tzinfo, begins: int) -> int:
    """The number of the unit's beginnings before the date, from a fixed one on."""
    wall = local(name, date, zone)
    if unit in _MONTHS:
        return (wall.year * 12 + wall.month - 1) // _MONTHS[unit]
    if unit == "week":
        return (wall.toordinal() - 1 - begins) // 7  # the first day of the year 1 was a Monday
    if unit == "day":
        return wall.toordinal()
    offset = wall.utcoffset() or timedelta()
    return (date + offset - datetime(1, 1, 3, tzinfo=UTC)) // _LENGTHS[unit]


def _trunc(name: str, raw: Any, compiler: Compiler) -> Expression:
    parts = compiler.named(name, raw, ["date", "unit"], ["binSize", "timezone", "startOfWeek"])
    zone, first_day, size = parts.get("timezone"), parts.get("startOfWeek", NULL), parts.get("binSize")

    def evaluate(scope: Scope) -> Any:
        value, unit, where = parts["date"](scope), parts["unit"](scope), zone_of(name, zone, scope)
        amount = 1 if size is None else size(scope)
        if where is None or is_null(value) or is_null(unit) or is_null(amount):
            return None
        unit, number = _unit(name, unit), whole_number(name, "binSize", amount)
        if number < 1:
            raise OperatorError(f"{name} takes a binSize of at least 1.", operator=name)
        begins = _first_day(name, first_day(scope)) if unit == "week" else 0
        return _truncated(name, date_of(name, value), unit, number, where, begins)

    return evaluate


def _truncated(name: str, date: datetime, unit: str, size: int, zone: tzinfo, begins: int) -> datetime:
    """The beginning of the date's bin; bins are counted from the year 2000 on."""
    try:
        if unit in _EVEN:
            start, step = utc(name, datetime(2000, 1, 1, tzinfo=zone)), _LENGTHS[unit] * size
            return start + (date - start) // step * step
        wall = local(name, date, zone).replace(tzinfo=None)
        start = datetime(2000, 1, 1)  # noqa: DTZ001  as clocks in the zone show it
        if unit in _MONTHS:
            months = (wall.year - 2000) * 12 + wall.month - 1
            step_months = _MONTHS[unit] * size
            return utc(name, _months_later(start, months // step_months * step_months).replace(tzinfo=zone))
        if unit == "week":
            start += timedelta(days=(begins - start.weekday()) % 7)
        step = _LENGTHS[unit] * size
        return utc(name, (start + (wall - start) // step * step).replace(tzinfo=zone))
    except (OverflowError, ValueError):
        raise _outside(name) from None


OPERATORS: Final[dict[str, Builder]] = {
    "$dateAdd": _move(1),
    "$dateDiff": _diff,
    "$dateSubtract": _move(-1),
    "$dateTrunc": _trunc,
}
