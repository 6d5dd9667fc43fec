"""Arrays: places, parts, and new arrays of old ones. What goes through each element stands in `iterating.py`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#array-expression-operators
"""

from __future__ import annotations

from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import (
    MAX_ELEMENTS,
    Builder,
    Compiler,
    Constant,
    Expression,
    Scope,
    is_null,
    of_one,
    of_several,
    truth,
    whole_number,
    wrong,
)
from consona.documents.values import MISSING

__all__ = ["OPERATORS", "array"]


def array(name: str, value: Any) -> list[Any]:
    """The value, refused where it is no array."""
    if type(value) is not list:
        raise wrong(name, "an array", value)
    return value


def _room(name: str, count: int) -> None:
    if count > MAX_ELEMENTS:
        raise OperatorError(f"{name} would make an array of more than {MAX_ELEMENTS} elements.", operator=name)


def _array_elem_at(name: str, value: Any, place: Any) -> Any:
    items, at = array(name, value), whole_number(name, "the place", place)
    return items[at] if -len(items) <= at < len(items) else MISSING


def _first(name: str, value: Any) -> Any:
    items = array(name, value)
    return items[0] if items else MISSING


def _last(name: str, value: Any) -> Any:
    items = array(name, value)
    return items[-1] if items else MISSING


def _concat_arrays(name: str, *values: Any) -> list[Any]:
    _room(name, sum(len(array(name, value)) for value in values))
    return [item for value in values for item in value]


def _in(name: str, raw: Any, compiler: Compiler) -> Expression:
    wanted, items = compiler.many(name, raw, 2, 2)
    order = compiler.order
    if isinstance(items, Constant):
        keys = {order(item) for item in array(name, items({}))}
        return lambda scope: order(wanted(scope)) in keys

    def evaluate(scope: Scope) -> bool:
        key = order(wanted(scope))
        return any(order(item) == key for item in array(name, items(scope)))

    return evaluate


def _index_of_array(name: str, raw: Any, compiler: Compiler) -> Expression:
    arguments = compiler.many(name, raw, 2, 4)
    order = compiler.order

    def evaluate(scope: Scope) -> Any:
        values = [argument(scope) for argument in arguments]
        if is_null(values[0]):
            return None
        items, key = array(name, values[0]), order(values[1])
        limits = [whole_number(name, "a place", value) for value in values[2:]]
        if any(limit < 0 for limit in limits):
            raise OperatorError(f"{name} takes places of at least 0.", operator=name)
        start, end = [*limits, *(0, len(items))[len(limits) :]]
        places = range(start, min(end, len(items)))
        return next((at for at in places if order(items[at]) == key), -1)

    return evaluate


def _range(name: str, start: Any, end: Any, step: Any = 1) -> list[int]:
    first, last = whole_number(name, "the start", start), whole_number(name, "the end", end)
    by = whole_number(name, "the step", step)
    if by == 0:
        raise OperatorError(f"{name} takes a step other than 0.", operator=name)
    numbers = range(first, last, by)
    _room(name, len(numbers))
    return list(numbers)


def _slice(name: str, value: Any, first: Any, count: Any = None) -> list[Any]:
    items, number = array(name, value), whole_number(name, "its numbers", first)
    if count is None:
        return items[:number] if number >= 0 else items[number:]
    length = whole_number(name, "its numbers", count)
    if length <= 0:
        raise OperatorError(f"{name} gives at least one element: its last number must be above 0.", operator=name)
    start = number if number >= 0 else max(0, len(items) + number)
    return items[start : start + length]


def _zip(name: str, raw: Any, compiler: Compiler) -> Expression:
    compiler.check_names(name, raw, ["inputs"], ["useLongestLength", "defaults"])
    longest = raw.get("useLongestLength", False)
    if not isinstance(longest, bool):
        raise OperatorError(f"{name}: useLongestLength is true or false.", operator=name)
    if "defaults" in raw and not longest:
        raise OperatorError(f"{name} takes defaults only with useLongestLength: true.", operator=name)
    inputs, defaults = compiler.compile(raw["inputs"]), compiler.compile(raw.get("defaults"))

    def evaluate(scope: Scope) -> Any:
        arrays = inputs(scope)
        if is_null(arrays) or any(is_null(item) for item in array(name, arrays)):
            return None
        columns = [array(name, item) for item in arrays]
        if not columns:
            raise OperatorError(f"{name} takes at least one array.", operator=name)
        fill = defaults(scope)
        fill = [None] * len(columns) if is_null(fill) or fill == [] else array(name, fill)
        if len(fill) != len(columns):
            raise OperatorError(f"{name} takes as many defaults as arrays.", operator=name)
        length = (max if longest else min)(len(column) for column in columns)
        _room(name, length * len(columns))
        pairs = list(zip(columns, fill, strict=True))
        return [[column[at] if at < len(column) else default for column, default in pairs] for at in range(length)]

    return evaluate


def _some(last: bool) -> Builder:  # noqa: FBT001
    """`$firstN` and `$lastN`."""

    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        parts = compiler.named(name, raw, ["input", "n"])
        items, count = parts["input"], parts["n"]

        def evaluate(scope: Scope) -> list[Any]:
            number, found = whole_number(name, "n", count(scope)), array(name, items(scope))
            if number < 1:
                raise OperatorError(f"{name} takes an n of at least 1.", operator=name)
            return found[-number:] if last else found[:number]

        return evaluate

    return build


def _extremes(largest: bool) -> Builder:  # noqa: FBT001
    """`$maxN` and `$minN`; null and missing values do not count."""

    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        parts = compiler.named(name, raw, ["input", "n"])
        items, count, order = parts["input"], parts["n"], compiler.order

        def evaluate(scope: Scope) -> list[Any]:
            number, found = whole_number(name, "n", count(scope)), array(name, items(scope))
            if number < 1:
                raise OperatorError(f"{name} takes an n of at least 1.", operator=name)
            return sorted((item for item in found if not is_null(item)), key=order, reverse=largest)[:number]

        return evaluate

    return build


OPERATORS: Final[dict[str, Builder]] = {
    "$allElementsTrue": of_one(lambda name, value: all(truth(item) for item in array(name, value)), nulls=False),
    "$anyElementTrue": of_one(lambda name, value: any(truth(item) for item in array(name, value)), nulls=False),
    "$arrayElemAt": of_several(_array_elem_at, 2, exactly=True),
    "$concatArrays": of_several(_concat_arrays, 0),
    "$first": of_one(_first),
    "$firstN": _some(last=False),
    "$in": _in,
    "$indexOfArray": _index_of_array,
    "$isArray": of_one(lambda _, value: type(value) is list, nulls=False),
    "$last": of_one(_last),
    "$lastN": _some(last=True),
    "$maxN": _extremes(largest=True),
    "$minN": _extremes(largest=False),
    "$range": of_several(_range, 2, 3, nulls=False),
    "$reverseArray": of_one(lambda name, value: array(name, value)[::-1]),
    "$size": of_one(lambda name, value: len(array(name, value)), nulls=False),
    "$slice": of_several(_slice, 2, 3),
    "$zip": _zip,
}
