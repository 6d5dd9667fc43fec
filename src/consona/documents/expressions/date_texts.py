"""Dates as texts, and back: `$dateToString`, `$dateFromString`.

Without a format, a text is read as ISO 8601 writes dates: `2024-05-01`, `2024-05-01T12:30`, `…:15.123Z`, `…+02:00`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/dateToString/, .../dateFromString/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import NULL, Builder, Compiler, Expression, Scope, is_null, wrong
from consona.documents.expressions.zones import date_of, local, utc, zone_of

__all__ = ["OPERATORS", "NoDate", "parsed_iso"]

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ISO: Final = "%Y-%m-%dT%H:%M:%S.%L"


def _offset_minutes(value: datetime) -> int:
    return int((value.utcoffset() or timedelta()) / timedelta(minutes=1))


def _offset(value: datetime) -> str:
    minutes = _offset_minutes(value)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


_WRITERS: Final[dict[str, Callable[[datetime], str]]] = {
    "%": lambda _: "%",
    "B": lambda value: _MONTHS[value.month - 1],
    "G": lambda value: f"{value.isocalendar().year:04d}",
    "H": lambda value: f"{value.hour:02d}",
    "L": lambda value: f"{value.microsecond // 1000:03d}",
    "M": lambda value: f"{value.minute:02d}",
    "S": lambda value: f"{value.second:02d}",
    "U": lambda value: f"{(value.timetuple().tm_yday + 6 - value.isoweekday() % 7) // 7:02d}",
    "V": lambda value: f"{value.isocalendar().week:02d}",
    "Y": lambda value: f"{value.year:04d}",
    "Z": lambda value: str(_offset_minutes(value)),
    "b": lambda value: _MONTHS[value.month - 1][:3],
    "d": lambda value: f"{value.day:02d}",
    "j": lambda value: f"{value.timetuple().tm_yday:03d}",
    "m": lambda value: f"{value.month:02d}",
    "u": lambda value: str(value.isoweekday()),
    "w": lambda value: str(value.isoweekday() % 7 + 1),
    "z": _offset,
}
_READERS: Final = {
    "B": "|".join(_MONTHS),
    "G": r"\d{4}",
    "H": r"\d{1,2}",
    "L": r"\d{1,3}",
    "M": r"\d{1,2}",
    "S": r"\d{1,2}",
    "V": r"\d{1,2}",
    "Y": r"\d{4}",
    "Z": r"[+-]?\d{1,4}",
    "b": "|".join(month[:3] for month in _MONTHS),
    "d": r"\d{1,2}",
    "j": r"\d{1,3}",
    "m": r"\d{1,2}",
    "u": r"\d",
    "z": r"Z|[+-]\d{2}:?\d{2}",
}


class NoDate(Exception):
    """A text is no date; the message says why."""


def _pieces(name: str, pattern: str, letters: Any) -> Iterator[tuple[str, str]]:
    """The plain texts of a format, each with the letter that follows it (the last one without)."""
    at = 0
    while (found := pattern.find("%", at)) >= 0:
        letter = pattern[found + 1 : found + 2]
        if not letter or letter not in letters:
            raise OperatorError(
                f"{name} has no format %{letter}.", hint=f"There are %{', %'.join(sorted(letters))}.", operator=name
            )
        yield pattern[at:found], letter
        at = found + 2
    yield pattern[at:], ""


@lru_cache(maxsize=256)
def _writer(name: str, pattern: str) -> Callable[[datetime], str]:
    *pieces, (end, _) = _pieces(name, pattern, _WRITERS)
    writers = [(text, _WRITERS[letter]) for text, letter in pieces]
    return lambda value: "".join([text + write(value) for text, write in writers]) + end


def _to_string(name: str, raw: Any, compiler: Compiler) -> Expression:
    parts = compiler.named(name, raw, ["date"], ["format", "timezone", "onNull"])
    of, pattern, zone = parts["date"], parts.get("format"), parts.get("timezone")
    on_null = parts.get("onNull", NULL)

    def evaluate(scope: Scope) -> Any:
        value, where = of(scope), zone_of(name, zone, scope)
        if is_null(value) or where is None:
            return on_null(scope)
        wanted = pattern(scope) if pattern is not None else _ISO + "Z" if where is UTC else _ISO
        if is_null(wanted):
            return on_null(scope)
        if type(wanted) is not str:
            raise wrong(name, "a format as text", wanted)
        return _writer(name, wanted)(local(name, date_of(name, value), where))

    return evaluate


@lru_cache(maxsize=256)
def _reader(name: str, pattern: str) -> re.Pattern[str]:
    source, seen = "", set()
    for text, letter in _pieces(name, pattern, {*_READERS, "%"}):
        source += re.escape(text)
        if letter == "%":
            source += "%"
        elif letter:
            if letter in seen:
                raise OperatorError(f"{name}: the format has %{letter} twice.", operator=name)
            seen.add(letter)
            source += f"(?P<{letter}>{_READERS[letter]})"
    return re.compile(source, re.IGNORECASE | re.ASCII)


def _from_string(name: str, raw: Any, compiler: Compiler) -> Expression:
    parts = compiler.named(name, raw, ["dateString"], ["format", "timezone", "onError", "onNull"])
    of, pattern, zone = parts["dateString"], parts.get("format"), parts.get("timezone")
    on_null, on_error = parts.get("onNull", NULL), parts.get("onError")

    def evaluate(scope: Scope) -> Any:
        value, where = of(scope), zone_of(name, zone, scope)
        wanted = None if pattern is None else pattern(scope)
        if is_null(value):
            return on_null(scope)
        if where is None or (pattern is not None and is_null(wanted)):
            return None
        try:
            if type(value) is not str:
                raise NoDate("it is no text")
            if wanted is None:
                return utc(name, parsed_iso(value, None if zone is None else where))
            if type(wanted) is not str:
                raise wrong(name, "a format as text", wanted)
            return utc(name, _read(_reader(name, wanted), value, None if zone is None else where))
        except NoDate as error:
            if on_error is not None:
                return on_error(scope)
            raise OperatorError(
                f"{name} cannot read the text as a date: {error}.",
                hint="onError says what to give then.",
                operator=name,
            ) from error

    return evaluate


_ISO_TEXT: Final = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)(?:[T ](\d\d?):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


def parsed_iso(text: str, zone: tzinfo | None = None) -> datetime:
    """Read a date as ISO 8601 writes it; one without an offset is of the zone, or of UTC.

    Raises:
        NoDate: It is none, or it has an offset and a zone was given too.
    """
    found = _ISO_TEXT.fullmatch(text.strip())
    if found is None:
        raise NoDate("it is not written as ISO 8601 does")
    year, month, day, hour, minute, second = (int(found[place] or 0) for place in range(1, 7))
    milliseconds = int((found[7] or "0").ljust(3, "0")[:3])
    return _date(lambda: date(year, month, day), (hour, minute, second, milliseconds), _offset_of(found[8] or "", zone))


def _offset_of(text: str, zone: tzinfo | None) -> tzinfo:
    if not text:
        return zone or UTC
    if zone is not None:
        raise NoDate("it has an offset, and a time zone is given too")
    if text in {"Z", "z"}:
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    if minutes >= 24 * 60:
        raise NoDate("its offset is more than a day")
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _date(day: Callable[[], date], clock: tuple[int, int, int, int], zone: tzinfo) -> datetime:
    hour, minute, second, milliseconds = clock
    try:
        found = day()
        return datetime(found.year, found.month, found.day, hour, minute, second, milliseconds * 1000, zone)
    except (ValueError, OverflowError) as error:
        raise NoDate("there is no such day or time") from error


def _read(pattern: re.Pattern[str], text: str, zone: tzinfo | None) -> datetime:
    found = pattern.fullmatch(text)
    if found is None:
        raise NoDate("it does not have the format")
    parts = found.groupdict()
    number = {letter: int(part) for letter, part in parts.items() if part.lstrip("+-").isdigit()}
    if "Z" in parts:
        minutes = number["Z"]
        offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
    else:
        offset = parts.get("z", "")
    clock = (number.get("H", 0), number.get("M", 0), number.get("S", 0), int(parts.get("L", "0").ljust(3, "0")))
    return _date(lambda: _day(parts, number), clock, _offset_of(offset, zone))


def _day(parts: dict[str, str], number: dict[str, int]) -> date:
    if "G" in number:
        return date.fromisocalendar(number["G"], number.get("V", 1), number.get("u", 1))
    if "Y" not in number:
        raise NoDate("the format has no year")
    if "j" in number:
        day = date(number["Y"], 1, 1) + timedelta(days=number["j"] - 1)
        if day.year != number["Y"]:
            raise NoDate("the year has not so many days")
        return day
    month = number.get("m", 1)
    name = parts.get("B") or parts.get("b")
    if name:
        month = next(at for at, known in enumerate(_MONTHS, 1) if known[:3].lower() == name[:3].lower())
    return date(number["Y"], month, number.get("d", 1))


OPERATORS: Final[dict[str, Builder]] = {
    "$dateFromString": _from_string,
    "$dateToString": _to_string,
}
