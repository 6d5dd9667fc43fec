"""The values of documents and MongoDB's order over them.

BSON's own types come from the `bson` package of PyMongo, so documents can be exchanged with it:
`ObjectId`, `Decimal128`, `Binary`, `Regex`, `Timestamp`, `MinKey`, `MaxKey`. Integers have one type,
`int` (a BSON int where it fits into 32 bits, else a long), dates are UTC-aware and have milliseconds.

Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from bson import Binary, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

__all__ = [
    "MISSING",
    "TYPE_NAMES",
    "Document",
    "Missing",
    "identical",
    "is_number",
    "order",
    "rank",
    "same",
    "type_name",
]

Document = dict[str, Any]


class Missing:
    """The value of a field that is not there; `MISSING` is the only one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()

_NOTHING, _NULL, _NUMBER, _STRING, _OBJECT, _ARRAY, _BINARY = 0, 5, 10, 15, 20, 25, 30
_OBJECT_ID, _BOOL, _DATE, _TIMESTAMP, _REGEX, _MIN, _MAX = 35, 40, 45, 47, 50, -1, 127
_NAN: Final = (_NUMBER, -math.inf, 0)
"""Before all numbers, `-inf` included."""
_NEGATIVE_INFINITY: Final = (_NUMBER, -math.inf, 1)

Key = tuple[Any, ...]


def _float(value: float) -> Key:
    if -math.inf < value < math.inf or value > 0:
        return (_NUMBER, value)
    return _NAN if value != value else _NEGATIVE_INFINITY  # noqa: PLR0124  only NaN differs from itself


def _decimal(value: Decimal128) -> Key:
    number: Decimal = value.to_decimal()
    if number.is_nan():
        return _NAN
    return (_NUMBER, number) if number != -math.inf else _NEGATIVE_INFINITY


def _object(value: Mapping[str, Any]) -> Key:
    return (_OBJECT, tuple([(rank(item), name, order(item)) for name, item in value.items()]))


def _regex(value: Regex[Any] | re.Pattern[Any]) -> Key:
    return (_REGEX, str(value.pattern), value.flags & ~re.UNICODE)


def _date(value: datetime) -> Key:
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (_DATE, value)


_KEYS: Final[dict[type, Callable[[Any], Key]]] = {
    Missing: lambda _: (_NOTHING,),
    type(None): lambda _: (_NULL,),
    int: lambda value: (_NUMBER, value),
    float: _float,
    Decimal128: _decimal,
    str: lambda value: (_STRING, value),
    dict: _object,
    list: lambda value: (_ARRAY, tuple([order(item) for item in value])),
    bytes: lambda value: (_BINARY, len(value), 0, value),
    Binary: lambda value: (_BINARY, len(value), value.subtype, bytes(value)),
    UUID: lambda value: (_BINARY, 16, 4, value.bytes),
    ObjectId: lambda value: (_OBJECT_ID, value.binary),
    bool: lambda value: (_BOOL, value),
    datetime: _date,
    Timestamp: lambda value: (_TIMESTAMP, value.time, value.inc),
    Regex: _regex,
    re.Pattern: _regex,
    MinKey: lambda _: (_MIN,),
    MaxKey: lambda _: (_MAX,),
}

_RANKS: Final[dict[type, int]] = {
    Missing: _NOTHING,
    type(None): _NULL,
    int: _NUMBER,
    float: _NUMBER,
    Decimal128: _NUMBER,
    str: _STRING,
    dict: _OBJECT,
    list: _ARRAY,
    bytes: _BINARY,
    Binary: _BINARY,
    UUID: _BINARY,
    ObjectId: _OBJECT_ID,
    bool: _BOOL,
    datetime: _DATE,
    Timestamp: _TIMESTAMP,
    Regex: _REGEX,
    re.Pattern: _REGEX,
    MinKey: _MIN,
    MaxKey: _MAX,
}


def order(value: Any) -> Key:
    """A key of the value: keys compare in Python as MongoDB compares the values, and equal ones hash alike.

    Example:
        >>> sorted([True, "a", 2.5, None, 1, [0]], key=order)
        [None, 1, 2.5, 'a', [0], True]
        >>> order(1) == order(1.0), order({"a": 1}) == order({"a": 1, "b": 2})
        (True, False)
    """
    return _KEYS[type(value)](value)


def rank(value: Any) -> int:
    """The place of the value's type in the order over types. Values of one rank compare with each other."""
    return _RANKS[type(value)]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal to MongoDB: 1 and 1.0 are, 1 and true are not, the order of fields counts."""
    if type(one) is type(other) and type(one) in _PLAIN:
        return bool(one == other)
    return _RANKS[type(one)] == _RANKS[type(other)] and order(one) == order(other)


_PLAIN: Final = frozenset({str, int, bool, ObjectId, type(None)})
"""Types whose own equality is MongoDB's."""


def copied(value: Any) -> Any:
    """A copy of its own of a checked value: of its documents and arrays; what is in them never changes."""
    kind = type(value)
    if kind is dict:
        return {name: item if type(item) in _PLAIN else copied(item) for name, item in value.items()}
    return [copied(item) for item in value] if kind is list else value


def identical(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last bit: 1 and 1.0 are not, nor are documents in another order."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is dict:
        return (
            len(one) == len(other)
            and list(one) == list(other)
            and all(identical(value, other[name]) for name, value in one.items())
        )
    if kind is list:
        return len(one) == len(other) and all(map(identical, one, other))
    if kind is float:
        return repr(one) == repr(other)  # -0.0 is not 0.0, and NaN is NaN
    return bool(one == other)


def is_number(value: Any) -> bool:
    """Whether it is an int, float or Decimal128 (a bool is none)."""
    return type(value) in _NUMBERS


_NUMBERS: Final = frozenset({int, float, Decimal128})

_NAMES: Final[dict[type, str]] = {
    Missing: "missing",
    type(None): "null",
    float: "double",
    Decimal128: "decimal",
    str: "string",
    dict: "object",
    list: "array",
    bytes: "binData",
    Binary: "binData",
    UUID: "binData",
    ObjectId: "objectId",
    bool: "bool",
    datetime: "date",
    Timestamp: "timestamp",
    Regex: "regex",
    re.Pattern: "regex",
    MinKey: "minKey",
    MaxKey: "maxKey",
}


def type_name(value: Any) -> str:
    """The name of its BSON type, as `$type` has it: `int`, `long`, `double`, `string`, …"""
    if type(value) is int:
        return "int" if -0x80000000 <= value <= 0x7FFFFFFF else "long"
    return _NAMES[type(value)]


TYPE_NAMES: Final[dict[int, str]] = {
    1: "double",
    2: "string",
    3: "object",
    4: "array",
    5: "binData",
    6: "undefined",
    7: "objectId",
    8: "bool",
    9: "date",
    10: "null",
    11: "regex",
    12: "dbPointer",
    13: "javascript",
    14: "symbol",
    15: "javascriptWithScope",
    16: "int",
    17: "timestamp",
    18: "long",
    19: "decimal",
    -1: "minKey",
    127: "maxKey",
}
"""BSON's number of a type -> its name. The types that MongoDB deprecated are never those of a value here."""
