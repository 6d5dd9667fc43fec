"""What may be a value in a statement, and what becomes of it before an engine sees it.

Refused, on every engine, since some engine would change it without a word: whole numbers beyond 64
bits, Decimals beyond all bounds, NaN, text with NUL or half a surrogate pair, times without a zone that have a date, and lists
(which may be meant as JSON, as an array, or for IN: say which).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import msgspec

from consona.errors import FieldProblem, ValidationError

__all__ = ["Array", "Json", "JsonText", "checked", "checked_rows"]

INT64: Final = 1 << 63
MAX_DIGITS: Final = 131_072
MAX_SCALE: Final = 16_383
"""Of a Decimal, before and behind the point: as many as PostgreSQL keeps, which is the engine that keeps most."""
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_PLAIN: Final = (int, str, float, bytes, bool, type(None))


@dataclass(frozen=True, slots=True)
class Json:
    """A value that is stored as JSON: anything that `msgspec.json.encode` takes. A dict is taken as one by itself.

    Example:
        >>> Json(["red", "blue"])
        Json(value=['red', 'blue'])
    """

    value: Any


class JsonText(str):
    """JSON as an engine gets it. Drivers that know nothing of it take it as the text that it is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Array:
    """A list that is stored as the engine's own array, on engines that have them (PostgreSQL)."""

    items: Sequence[Any]


def checked(values: Sequence[Any]) -> Sequence[Any]:
    """The values as an engine gets them.

    Raises:
        ValidationError: One of them would not come back as it is; the message has its number and type, not itself.
    """
    for value in values:
        kind = type(value)
        if kind is int:
            if -INT64 <= value < INT64:
                continue
        elif kind is str:
            if "\0" not in value:
                if value.isascii():
                    continue
                try:
                    value.encode()
                    continue
                except UnicodeEncodeError:
                    pass
        elif kind is float:
            if value == value:  # noqa: PLR0124  not NaN
                continue
        elif kind in _PLAIN:
            continue
        return [_plain(number, value) for number, value in enumerate(values, 1)]
    return values


def checked_rows(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    return [checked(row) for row in rows]


def _plain(number: int, value: Any) -> Any:
    if value is None or isinstance(value, bool | bytes | UUID):
        return value
    if isinstance(value, Enum):
        return _plain(number, value.value)
    if isinstance(value, int):
        if not -INT64 <= value < INT64:
            raise _refused(number, "is a whole number beyond 64 bits", hint="Store it as text or as a Decimal.")
        return int(value)
    if isinstance(value, str):
        return _text(number, value)
    if isinstance(value, float):
        if math.isnan(value):
            raise _refused(number, "is NaN, which databases store as NULL or not at all", hint="Store None.")
        return float(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise _refused(number, "is a Decimal without a finite value", hint="Store None.")
        if not value.as_tuple().exponent >= -MAX_SCALE or value.adjusted() >= MAX_DIGITS:  # type: ignore[operator]
            # Also since a driver may write it out: 1E+1000000 as a whole number takes a minute.
            raise _refused(number, "is a Decimal beyond what databases keep", hint="Store it as text, or round it.")
        return value
    return _other(number, value)


def _text(number: int, value: str) -> str:
    if "\0" in value:
        raise _refused(number, "is text with a NUL character", hint="Store it as bytes, or without the NUL.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(
            number, "is text with half of a surrogate pair", hint="It was decoded wrongly: look where it comes from."
        ) from None
    return str(value)


def _other(number: int, value: Any) -> Any:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise _refused(number, "is a datetime without a zone", hint="Give it one: datetime.now(UTC).")
        return value
    if isinstance(value, time):
        if value.tzinfo is not None:
            raise _refused(number, "is a time of day with a zone", hint="Store a datetime, or the time without it.")
        return value
    if isinstance(value, date):
        return value
    if isinstance(value, Json):
        return _json(number, value.value)
    if isinstance(value, Array):
        return Array(tuple(_plain(number, item) for item in value.items))
    if isinstance(value, dict | msgspec.Struct):
        return _json(number, value)
    if isinstance(value, list | tuple | set | frozenset | range):
        raise _refused(
            number,
            f"is a {type(value).__name__}",
            hint="For IN, write as many ? as there are values, and give them one by one."
            " Wrap a list that is to be stored: Json(value), or Array(value) where the engine has arrays.",
        )
    raise _refused(
        number,
        f"is of the type {type(value).__name__}, which has no place in a database",
        hint="Give text, a number, bytes, a Decimal, a date, a time, a UUID, or Json(value).",
    )


def _json(number: int, value: Any) -> JsonText:
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise _refused(number, f"cannot be written as JSON: {type(error).__name__}") from error
    if "\\u0000" in text and _NUL.search(text):
        raise _refused(number, "has a NUL character in its JSON, which not every database takes")
    return JsonText(text)


def _refused(number: int, problem: str, *, hint: str | None = None) -> ValidationError:
    return ValidationError(
        f"The {number}. value of the statement {problem}.",
        fields=[FieldProblem(f"values[{number}]", problem)],
        hint=hint,
    )
