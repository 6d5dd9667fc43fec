"""Parts of dates: `$year`, `$isoWeek`, `$dateToParts`, `$dateFromParts`, …

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#date-expression-operators
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date as Date  # noqa: N812  `date` is a name of the operators' arguments
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

from bson import Decimal128, Timestamp

from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import (
    Builder,
    Compiler,
    Constant,
    Expression,
    Scope,
    is_null,
    of_one,
    truth,
    wrong,
)
from consona.documents.expressions.zones import date_of, local, utc, zone_of
from consona.documents.values import is_number

__all__ = ["OPERATORS"]

_PARTS: Final[dict[str, Callable[[datetime], int]]] = {
    "$dayOfMonth": lambda date: date.day,
    "$dayOfWeek": lambda date: date.isoweekday() % 7 + 1,
    "$dayOfYear": lambda date: date.timetuple().tm_yday,
    "$hour": lambda date: date.hour,
    "$isoDayOfWeek": lambda date: date.isoweekday(),
    "$isoWeek": lambda date: date.isocalendar().week,
    "$isoWeekYear": lambda date: date.isocalendar().year,
    "$millisecond": lambda date: date.microsecond // 1000,
    "$minute": lambda date: date.minute,
    "$month": lambda date: date.month,
    "$second": lambda date: date.second,
    "$week": lambda date: (date.timetuple().tm_yday + 6 - date.isoweekday() % 7) // 7,
    "$year": lambda date: date.year,
}


def _part(name: str, raw: Any, compiler: Compiler) -> Expression:
    zone: Expression | None = None
    if isinstance(raw, Mapping) and "date" in raw:
        parts = compiler.named(name, raw, ["date"], ["timezone"])
        of, zone = parts["date"], parts.get("timezone")
    else:
        of = compiler.one(name, raw)
    give = _PARTS[name]

    def evaluate(scope: Scope) -> Any:
        value, where = of(scope), zone_of(name, zone, scope)
        if is_null(value) or where is None:
            return None
        return give(local(name, date_of(name, value), where))

    return evaluate


def _to_parts(name: str, raw: Any, compiler: Compiler) -> Expression:
    parts = compiler.named(name, raw, ["date"], ["timezone", "iso8601"])
    of, zone, iso = parts["date"], parts.get("timezone"), parts.get("iso8601", Constant(value=False))

    def evaluate(scope: Scope) -> Any:
        value, where, by_week = of(scope), zone_of(name, zone, scope), iso(scope)
        if is_null(value) or where is None or is_null(by_week):
            return None
        date = local(name, date_of(name, value), where)
        if truth(by_week):
            week = date.isocalendar()
            day = {"isoWeekYear": week.year, "isoWeek": week.week, "isoDayOfWeek": week.weekday}
        else:
            day = {"year": date.year, "month": date.month, "day": date.day}
        time = {"hour": date.hour, "minute": date.minute, "second": date.second}
        return {**day, **time, "millisecond": date.microsecond // 1000}

    return evaluate


_CLOCK: Final = ("hour", "minute", "second", "millisecond")


def _from_parts(name: str, raw: Any, compiler: Compiler) -> Expression:
    by_week = isinstance(raw, Mapping) and "isoWeekYear" in raw
    days = ("isoWeekYear", "isoWeek", "isoDayOfWeek") if by_week else ("year", "month", "day")
    parts = compiler.named(name, raw, days[:1], [*days[1:], *_CLOCK, "timezone"])
    zone = parts.pop("timezone", None)

    def evaluate(scope: Scope) -> Any:
        where = zone_of(name, zone, scope)
        numbers: dict[str, int] = {}
        for key, part in parts.items():
            value = part(scope)
            if is_null(value):
                return None
            numbers[key] = _whole(name, key, value)
        if where is None:
            return None
        first, second, third = numbers.get(days[0], 0), numbers.get(days[1], 1), numbers.get(days[2], 1)
        if not 1 <= first <= 9999:
            raise OperatorError(f"{name} takes a {days[0]} of 1 to 9999.", operator=name)
        clock = timedelta(**{f"{key}s": numbers[key] for key in _CLOCK if key in numbers})
        return _built(name, (first, second, third), clock, where, by_week=by_week)

    return evaluate


def _built(name: str, days: tuple[int, int, int], clock: timedelta, zone: tzinfo, *, by_week: bool) -> datetime:
    """The date; parts that are too large or too small carry over into the others."""
    year, second, third = days
    try:
        if by_week:
            day = Date.fromisocalendar(year, 1, 1) + timedelta(weeks=second - 1, days=third - 1)
        else:
            carried, month = divmod(second - 1, 12)
            day = Date(year + carried, month + 1, 1) + timedelta(days=third - 1)
        wall = datetime(day.year, day.month, day.day) + clock  # noqa: DTZ001  the zone comes next
        return utc(name, wall.replace(tzinfo=zone))
    except (OverflowError, ValueError):
        raise OperatorError(f"{name}: the date leaves the years 1 to 9999.", operator=name) from None


def _whole(name: str, key: str, value: Any) -> int:
    if not is_number(value):
        raise wrong(name, f"a whole number as {key}", value)
    number = value.to_decimal() if type(value) is Decimal128 else value
    if number != number // 1 or abs(number) >= 1 << 31:
        raise OperatorError(f"{name} takes a whole number as {key}.", operator=name)
    return int(number)


def _of_timestamp(name: str, value: Any, part: str) -> int:
    if type(value) is not Timestamp:
        raise wrong(name, "a timestamp", value)
    return int(getattr(value, part))


OPERATORS: Final[dict[str, Builder]] = {
    **dict.fromkeys(_PARTS, _part),
    "$dateFromParts": _from_parts,
    "$dateToParts": _to_parts,
    "$tsIncrement": of_one(lambda name, value: _of_timestamp(name, value, "inc")),
    "$tsSecond": of_one(lambda name, value: _of_timestamp(name, value, "time")),
}
