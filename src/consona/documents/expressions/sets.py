"""Arrays as sets: each value counts once, whatever its place.

The results keep the order in which the values were first seen; MongoDB promises none.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#set-expression-operators
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from consona.documents.expressions.arrays import array
from consona.documents.expressions.compiler import Builder, Compiler, Expression, Scope, is_null
from consona.documents.values import Key

__all__ = ["OPERATORS"]

Set = dict[Key, Any]
"""Key of a value -> the value."""


def _operator(join: Callable[..., Any], least: int = 0, most: int | None = None, *, nulls: bool = True) -> Builder:
    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        arguments, order = compiler.many(name, raw, least, most), compiler.order

        def evaluate(scope: Scope) -> Any:
            values = [argument(scope) for argument in arguments]
            if nulls and any(is_null(value) for value in values):
                return None
            return join(*[_set(array(name, value), order) for value in values])

        return evaluate

    return build


def _set(items: list[Any], order: Callable[[Any], Key]) -> Set:
    found: Set = {}
    for item in items:
        found.setdefault(order(item), item)
    return found


def _union(*sets: Set) -> list[Any]:
    joined: Set = {}
    for one in sets:
        for key, item in one.items():
            joined.setdefault(key, item)
    return list(joined.values())


def _intersection(*sets: Set) -> list[Any]:
    if not sets:
        return []
    first, *others = sets
    return [item for key, item in first.items() if all(key in other for other in others)]


def _difference(one: Set, other: Set) -> list[Any]:
    return [item for key, item in one.items() if key not in other]


OPERATORS: Final[dict[str, Builder]] = {
    "$setDifference": _operator(_difference, 2, 2),
    "$setEquals": _operator(lambda *sets: all(one.keys() == sets[0].keys() for one in sets), 2, nulls=False),
    "$setIntersection": _operator(_intersection),
    "$setIsSubset": _operator(lambda one, other: one.keys() <= other.keys(), 2, 2, nulls=False),
    "$setUnion": _operator(_union),
}
