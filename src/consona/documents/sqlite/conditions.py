"""What is asked of one value, as SQL about its key (`keys.py`).

A `Question` says which keys surely pass and which may, for any expression that gives a key: the same question is put to
the key of a path, and to the keys of the elements of an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex

from consona.documents.collation import Collation
from consona.documents.conditions import Bits, Compare, Condition, In, Matches, Mod, Never
from consona.documents.sqlite.bounds import NO, Sql
from consona.documents.values import rank

__all__ = ["Question", "question"]

MOST_VALUES: Final = 10_000
"""Of `$in`, as values of one statement."""

Ask = Callable[[str], Sql]


@dataclass(frozen=True, slots=True)
class Question:
    """Which keys pass.

    Attributes:
        sure: Of an expression for a key: the condition that only keys of passing values meet.
        maybe: The condition that all keys of passing values meet, save those of `odd` and `arrays`.
        odd: Whether an odd number may pass.
        arrays: Whether an array as a whole may pass.
    """

    sure: Ask
    maybe: Ask
    odd: bool = False
    arrays: bool = False


def _nothing(_: str) -> Sql:
    return NO


def question(condition: Condition, collation: Collation | None, encode: Callable[[Any], Any]) -> Question | None:
    """The condition as SQL; None where SQL knows nothing of it.

    Args:
        condition: One that is asked of each element of an array too.
        collation: How texts are compared.
        encode: Makes keys of values: `keys.key_of`, or `keys.encoded_id` for the column `id`.
    """
    if isinstance(condition, Compare):
        return _compare(condition, collation, encode)
    if isinstance(condition, In):
        return _in(condition, collation, encode)
    if isinstance(condition, Matches):
        return _matches(condition)
    if isinstance(condition, Mod):
        return Question(_nothing, lambda key: Sql(f"{key} < ''"), odd=True)
    if isinstance(condition, Bits):
        return Question(_nothing, lambda key: Sql(f"{key} < ''") | _of_rank(key, 30), odd=True)
    if isinstance(condition, Never):
        return Question(_nothing, _nothing)
    return None


def _exactly(ask: Ask, *, odd: bool = False) -> Question:
    return Question(ask, ask, odd=odd)


def _of_rank(key: str, place: int) -> Sql:
    """Keys of the type with this place in the order."""
    return Sql(f"({key} >= ? AND {key} < ?)", (bytes([place]), bytes([place + 1])))


_OPERATIONS: Final = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_SORTED_BLOBS: Final = frozenset({bool, datetime, ObjectId})
"""Types whose keys sort as their values do; of the others, equal values have equal keys."""


def _compare(condition: Compare, collation: Collation | None, encode: Callable[[Any], Any]) -> Question | None:
    value, op = condition.value, condition.op
    kind = type(value)
    if value is None:
        return _exactly(_null_question(encode)) if op in {"$eq", "$gte", "$lte"} else Question(_nothing, _nothing)
    if kind in {MinKey, MaxKey}:
        return None
    if kind is list:
        return Question(_nothing, _nothing, arrays=True)
    if kind is dict:
        return Question(_nothing, lambda key: _of_rank(key, rank(value)), arrays=False)
    if kind is str:
        if collation is not None:
            return Question(_nothing, _any_text)
        return _exactly(_text_question(op, value))
    if kind in {int, float, Decimal128}:
        return _number(op, value)
    if op == "$eq":
        bound = encode(value)
        return _exactly(lambda key: Sql(f"{key} = ?", (bound,)))
    if kind in _SORTED_BLOBS:
        return _exactly(_blob_question(op, encode(value)))
    return Question(_nothing, lambda key: _of_rank(key, rank(value)))


def _null_question(encode: Callable[[Any], Any]) -> Ask:
    bound = encode(None)
    return lambda key: Sql(f"{key} IS ?", (bound,)) if bound is not None else Sql(f"{key} IS NULL")


def _any_text(key: str) -> Sql:
    return Sql(f"({key} >= '' AND {key} < x'')")


def _text_question(op: str, value: str) -> Ask:
    if op == "$eq":
        return lambda key: Sql(f"{key} = ?", (value,))
    if op in {"$lt", "$lte"}:
        return lambda key: Sql(f"({key} {_OPERATIONS[op]} ? AND {key} >= '')", (value,))
    return lambda key: Sql(f"({key} {_OPERATIONS[op]} ? AND {key} < x'')", (value,))


def _blob_question(op: str, bound: bytes) -> Ask:
    tag = bound[0]
    if op in {"$lt", "$lte"}:
        return lambda key: Sql(f"({key} {_OPERATIONS[op]} ? AND {key} >= ?)", (bound, bytes([tag])))
    return lambda key: Sql(f"({key} {_OPERATIONS[op]} ? AND {key} < ?)", (bound, bytes([tag + 1])))


def _number(op: str, value: Any) -> Question:
    if type(value) is Decimal128:
        number = value.to_decimal()
        if number.is_finite() and number == int(number) and abs(number) < 1 << 63:
            return _number(op, int(number))
        if not number.is_finite():
            return _number(op, float(number))
        near = float(number)
        if near == number:
            return _number(op, near)
        low, high = math.nextafter(near, -math.inf), math.nextafter(near, math.inf)
        if op == "$eq":
            return Question(_nothing, _nothing, odd=True)
        if op in {"$lt", "$lte"}:
            return Question(_number_ask(op, low), _number_ask(op, high), odd=True)
        return Question(_number_ask(op, high), _number_ask(op, low), odd=True)
    if math.isnan(value):
        return Question(_nothing, _nothing, odd=True)
    if math.isinf(value):
        passes = (value > 0) == (op in {"$lt", "$lte"}) and op != "$eq"
        return _exactly(lambda key: Sql(f"{key} < ''") if passes else NO, odd=True)
    return _exactly(_number_ask(op, value), odd=True)


def _number_ask(op: str, value: Any) -> Ask:
    if op == "$eq":
        return lambda key: Sql(f"{key} = ?", (value,))
    # A range with two ends: of one with a single end, SQLite expects so many rows that it would rather scan.
    if op in {"$gt", "$gte"}:
        return lambda key: Sql(f"({key} {_OPERATIONS[op]} ? AND {key} < '')", (value,))
    return lambda key: Sql(f"({key} {_OPERATIONS[op]} ? AND {key} > -9e999)", (value,))


def _in(condition: In, collation: Collation | None, encode: Callable[[Any], Any]) -> Question | None:
    plain: list[Any] = []
    others: list[Question] = [_matches(Matches(pattern)) for pattern in condition.patterns]
    for value in condition.values:
        if type(value) in _IN_PLAIN and (collation is None or type(value) is not str):
            plain.append(encode(value))
        else:
            asked = _compare(Compare("$eq", value), collation, encode)
            if asked is None:
                return None
            others.append(asked)
    if len(plain) + len(others) > MOST_VALUES:
        return None

    def join(sides: list[Ask]) -> Ask:
        def ask(key: str) -> Sql:
            joined = Sql(f"{key} IN ({','.join('?' * len(plain))})", tuple(plain)) if plain else NO
            for side in sides:
                joined |= side(key)
            return joined

        return ask

    return Question(
        join([asked.sure for asked in others]),
        join([asked.maybe for asked in others]),
        odd=any(asked.odd for asked in others) or any(type(value) is int for value in condition.values),
        arrays=any(asked.arrays for asked in others),
    )


_IN_PLAIN: Final = frozenset({int, str, ObjectId, bool})


def _matches(condition: Matches) -> Question:
    prefix = condition.pattern.prefix
    end = _behind(prefix)

    def maybe(key: str) -> Sql:
        texts = Sql(f"({key} >= ? AND {key} < ?)", (prefix, end)) if end else _any_text(key)
        return texts | _of_rank(key, rank(Regex("")))

    return Question(_nothing, maybe)


def _behind(prefix: str) -> str:
    """The smallest text greater than all that begin with `prefix`; empty where there is none."""
    for place in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[place])
        if code < 0x10FFFF:
            return prefix[:place] + chr(0xE000 if code == 0xD7FF else code + 1)
    return ""
