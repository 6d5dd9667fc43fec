"""What each operator of an update does to the value at one place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson import Regex, Timestamp

from consona.documents.arithmetic import add, fits, multiply
from consona.documents.collation import Collation
from consona.documents.document import checked_value
from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.filters import parse_condition, parse_filter
from consona.documents.sorting import parse_sort
from consona.documents.values import MISSING, is_number, order, type_name

__all__ = ["OPERATORS", "Change", "constant"]

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Change:
    """A new value from the old one; `MISSING` stands for a field that is not there."""

    make: Callable[[Any], Any]
    creates: bool = True
    """Whether what is missing on the way there is made."""


def constant(value: Any) -> Change:
    """The same value, whatever was there."""
    return Change(lambda _: value)


Parse = Callable[[str, Any, Collation | None, Now], Change]


def _set(name: str, value: Any, _: Collation | None, __: Now) -> Change:
    return constant(checked_value(value, name, stored=True))


def _unset(_: str, __: Any, ___: Collation | None, ____: Now) -> Change:
    return Change(lambda _: MISSING, creates=False)


def _number(name: str, value: Any) -> Any:
    value = checked_value(value, name)
    if not is_number(value):
        raise OperatorError(f"{name} takes a number, not a {type_name(value)}.", operator=name)
    return value


def _calculation(name: str, operation: Callable[[Any, Any], Any], amount: Any, absent: Any) -> Change:
    def make(old: Any) -> Any:
        if old is MISSING:
            return absent
        if not is_number(old):
            raise OperatorError(f"{name} needs a number, and the field holds a {type_name(old)}.", operator=name)
        new = operation(old, amount)
        if not fits(new):
            raise OperatorError(f"{name} would leave the 64 bits of an integer.", operator=name)
        return new

    return Change(make)


def _inc(name: str, value: Any, _: Collation | None, __: Now) -> Change:
    amount = _number(name, value)
    return _calculation(name, add, amount, amount)


def _mul(name: str, value: Any, _: Collation | None, __: Now) -> Change:
    factor = _number(name, value)
    return _calculation(name, multiply, factor, multiply(factor, 0) if factor == factor else 0.0)  # noqa: PLR0124  NaN


def _min(name: str, value: Any, collation: Collation | None, _: Now) -> Change:
    return _extreme(checked_value(value, name, stored=True), collation, smaller=True)


def _max(name: str, value: Any, collation: Collation | None, _: Now) -> Change:
    return _extreme(checked_value(value, name, stored=True), collation, smaller=False)


def _extreme(value: Any, collation: Collation | None, *, smaller: bool) -> Change:
    make_key = order if collation is None else collation.order
    key = make_key(value)

    def make(old: Any) -> Any:
        if old is MISSING:
            return value
        before = make_key(old)
        return value if (key < before if smaller else key > before) else old

    return Change(make)


def _current_date(name: str, value: Any, _: Collation | None, now: Now) -> Change:
    kind = "date" if isinstance(value, bool) else value.get("$type") if isinstance(value, Mapping) else None
    if kind == "date":
        return Change(lambda _: checked_value(now()))
    if kind == "timestamp":
        return Change(lambda _: Timestamp(int(now().timestamp()), 1))
    raise OperatorError(f'{name} takes true, {{"$type": "date"}} or {{"$type": "timestamp"}}.', operator=name)


def _array(name: str, old: Any) -> list[Any]:
    """A copy of the array that is there."""
    if type(old) is not list:
        raise OperatorError(f"{name} needs an array, and the field holds a {type_name(old)}.", operator=name)
    return list(old)


def _modifiers(name: str, value: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    """`$each` and its companions; a value alone is `$each` of one."""
    if not isinstance(value, Mapping) or "$each" not in value:
        return {"$each": [checked_value(value, name, stored=True)]}
    for modifier in value:
        if modifier not in known:
            raise unknown_operator(modifier, known, name)
    if not isinstance(value["$each"], list | tuple):
        raise OperatorError(f"$each of {name} takes a list.", operator=name)
    return {**value, "$each": checked_value(value["$each"], name, stored=True)}


def _whole(modifier: str, value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise OperatorError(f"{modifier} takes a whole number.", operator=modifier)
    return value


def _push(name: str, value: Any, collation: Collation | None, _: Now) -> Change:
    modifiers = _modifiers(name, value, ("$each", "$slice", "$sort", "$position"))
    new = modifiers["$each"]
    position = None if "$position" not in modifiers else _whole("$position", modifiers["$position"])
    length = None if "$slice" not in modifiers else _whole("$slice", modifiers["$slice"])
    arrange = _arrangement(modifiers["$sort"], collation) if "$sort" in modifiers else None

    def make(old: Any) -> Any:
        array = [] if old is MISSING else _array(name, old)
        at = len(array) if position is None else position
        array[at:at] = new
        if arrange is not None:
            array = arrange(array)
        if length is not None:
            array = array[:length] if length >= 0 else array[length:]
        return array

    return Change(make)


def _arrangement(raw: Any, collation: Collation | None) -> Callable[[list[Any]], list[Any]]:
    if not isinstance(raw, Mapping):
        if raw not in {1, -1} or isinstance(raw, bool):
            raise OperatorError("$sort of $push takes 1, -1 or a document of fields.", operator="$sort")
        make = order if collation is None else collation.order
        return lambda array: sorted(array, key=make, reverse=raw < 0)
    sort = parse_sort({f"element.{path}": direction for path, direction in raw.items()}, collation=collation)
    return lambda array: [box["element"] for box in sort.sorted({"element": item} for item in array)]


def _add_to_set(name: str, value: Any, collation: Collation | None, _: Now) -> Change:
    new = _modifiers(name, value, ("$each",))["$each"]
    make_key = order if collation is None else collation.order

    def make(old: Any) -> Any:
        array = [] if old is MISSING else _array(name, old)
        known = {make_key(item) for item in array}
        for item in new:
            key = make_key(item)
            if key not in known:
                known.add(key)
                array.append(item)
        return array

    return Change(make)


def _pull(name: str, value: Any, collation: Collation | None, _: Now) -> Change:
    if isinstance(value, Mapping) and not _is_operators(value):
        matches = parse_filter(value, collation).matches
        test: Callable[[Any], bool] = lambda item: type(item) is dict and matches(item)  # noqa: E731
    elif isinstance(value, Mapping | Regex | re.Pattern):
        test = parse_condition(value).test(collation)
    else:
        wanted = checked_value(value, name)
        test = parse_condition({"$eq": wanted}).test(collation)
    return _without(name, test)


def _is_operators(value: Mapping[str, Any]) -> bool:
    first = next(iter(value), "")
    return str(first).startswith("$") and first not in {"$and", "$or", "$nor", "$ref", "$id", "$db"}


def _pull_all(name: str, value: Any, collation: Collation | None, _: Now) -> Change:
    if not isinstance(value, list | tuple):
        raise OperatorError(f"{name} takes a list of values.", operator=name)
    make_key = order if collation is None else collation.order
    keys = {make_key(item) for item in checked_value(value, name)}
    return _without(name, lambda item: make_key(item) in keys)


def _without(name: str, test: Callable[[Any], bool]) -> Change:
    def make(old: Any) -> Any:
        return MISSING if old is MISSING else [item for item in _array(name, old) if not test(item)]

    return Change(make, creates=False)


def _pop(name: str, value: Any, _: Collation | None, __: Now) -> Change:
    end = _whole(name, value)
    if end not in {1, -1}:
        raise OperatorError(f"{name} takes 1 (the last element) or -1 (the first).", operator=name)

    def make(old: Any) -> Any:
        if old is MISSING:
            return MISSING
        array = _array(name, old)
        return array[:-1] if end > 0 else array[1:]

    return Change(make, creates=False)


_BITWISE: Final[dict[str, Callable[[int, int], int]]] = {
    "and": lambda one, other: one & other,
    "or": lambda one, other: one | other,
    "xor": lambda one, other: one ^ other,
}


def _bit(name: str, value: Any, _: Collation | None, __: Now) -> Change:
    if not isinstance(value, Mapping) or not value or not value.keys() <= _BITWISE.keys():
        raise OperatorError(f'{name} takes a document of and, or, xor: {{"and": 5}}.', operator=name)
    steps = [(_BITWISE[operation], _integer(name, operand)) for operation, operand in value.items()]

    def make(old: Any) -> Any:
        new = 0 if old is MISSING else _integer(name, old)
        for operation, operand in steps:
            new = operation(new, operand)
        return new

    return Change(make)


def _integer(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise OperatorError(f"{name} works on integers only.", operator=name)
    return value


OPERATORS: Final[dict[str, Parse]] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$unset": _unset,
    "$inc": _inc,
    "$mul": _mul,
    "$min": _min,
    "$max": _max,
    "$currentDate": _current_date,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
    "$pullAll": _pull_all,
    "$pop": _pop,
    "$bit": _bit,
}
