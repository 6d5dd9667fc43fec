"""Time zones as expressions name them: `Europe/Berlin`, `+02:00`, `-0330`, `UTC`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bson import ObjectId, Timestamp

from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import Expression, Scope, is_null, wrong

__all__ = ["EPOCH", "date_of", "local", "utc", "zone_of"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET: Final = re.compile(r"([+-])(\d\d)(?::?(\d\d))?")


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo | None:
    if name in {"UTC", "GMT", "Z"}:
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        minutes = int(offset[2]) * 60 + int(offset[3] or 0)
        return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes)) if minutes < 24 * 60 else None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def zone_of(operator: str, zone: Expression | None, scope: Scope) -> tzinfo | None:
    """The zone that an argument names: UTC where there is none; None where it is null.

    Raises:
        OperatorError: There is no such zone.
    """
    if zone is None:
        return UTC
    name = zone(scope)
    if is_null(name):
        return None
    if type(name) is not str:
        raise wrong(operator, "a time zone as text", name)
    found = _zone(name)
    if found is None:
        raise OperatorError(
            f"{operator}: there is no such time zone here.",
            hint="Write Europe/Berlin or +02:00. (On Windows, install the package tzdata.)",
            operator=operator,
        )
    return found


def date_of(operator: str, value: Any) -> datetime:
    """The date, or the time at which an ObjectId or a Timestamp was made.

    Raises:
        OperatorError: It is none of them.
    """
    if type(value) is datetime:
        return value
    if type(value) is ObjectId:
        return value.generation_time
    if type(value) is Timestamp:
        return EPOCH + timedelta(seconds=value.time)
    raise wrong(operator, "a date", value)


def local(operator: str, date: datetime, zone: tzinfo) -> datetime:
    """The date as clocks in the zone show it."""
    try:
        return date.astimezone(zone)
    except OverflowError:
        raise _outside(operator) from None


def utc(operator: str, date: datetime) -> datetime:
    """A date of any zone in UTC."""
    try:
        return date.astimezone(UTC)
    except OverflowError:
        raise _outside(operator) from None


def _outside(operator: str) -> OperatorError:
    return OperatorError(f"{operator}: the date leaves the years 1 to 9999.", operator=operator)
