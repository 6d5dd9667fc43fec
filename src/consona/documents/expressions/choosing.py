"""Comparing and choosing: `$eq`, `$and`, `$cond`, `$switch`, `$ifNull`, and `$let` and `$literal`.

Comparisons are of any two values, in the order over all types; a missing field is before null, and is not equal to it.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#comparison-expression-operators
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from consona.documents.document import checked_value
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
)

__all__ = ["OPERATORS"]

_PLAIN: Final = frozenset({int, float, str})


def _compare(operation: Callable[[Any, Any], bool]) -> Builder:
    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        one, other = compiler.many(name, raw, 2, 2)
        order, plain = compiler.order, compiler.collation is None

        def evaluate(scope: Scope) -> bool:
            first, second = one(scope), other(scope)
            kind = type(first)
            if plain and kind is type(second) and kind in _PLAIN and first == first and second == second:  # noqa: PLR0124  no NaN
                return operation(first, second)
            return operation(order(first), order(second))

        return evaluate

    return build


def _cmp(name: str, raw: Any, compiler: Compiler) -> Expression:
    one, other = compiler.many(name, raw, 2, 2)
    order = compiler.order

    def evaluate(scope: Scope) -> int:
        first, second = order(one(scope)), order(other(scope))
        return (first > second) - (first < second)

    return evaluate


def _and(name: str, raw: Any, compiler: Compiler) -> Expression:
    arguments = compiler.many(name, raw)
    return lambda scope: all(truth(argument(scope)) for argument in arguments)


def _or(name: str, raw: Any, compiler: Compiler) -> Expression:
    arguments = compiler.many(name, raw)
    return lambda scope: any(truth(argument(scope)) for argument in arguments)


def _cond(name: str, raw: Any, compiler: Compiler) -> Expression:
    if isinstance(raw, Mapping):
        parts = compiler.named(name, raw, ["if", "then", "else"])
        condition, then, other = parts["if"], parts["then"], parts["else"]
    else:
        condition, then, other = compiler.many(name, raw, 3, 3)
    return lambda scope: then(scope) if truth(condition(scope)) else other(scope)


def _if_null(name: str, raw: Any, compiler: Compiler) -> Expression:
    *arguments, last = compiler.many(name, raw, 2)

    def evaluate(scope: Scope) -> Any:
        for argument in arguments:
            value = argument(scope)
            if not is_null(value):
                return value
        return last(scope)

    return evaluate


def _switch(name: str, raw: Any, compiler: Compiler) -> Expression:
    compiler.check_names(name, raw, ["branches"], ["default"])
    if not isinstance(raw["branches"], list | tuple) or not raw["branches"]:
        raise OperatorError(f"{name} takes a list of branches.", hint='[{"case": …, "then": …}]', operator=name)
    branches = [compiler.named(name, branch, ["case", "then"]) for branch in raw["branches"]]
    pairs = [(branch["case"], branch["then"]) for branch in branches]
    default = compiler.compile(raw["default"]) if "default" in raw else None

    def evaluate(scope: Scope) -> Any:
        for case, then in pairs:
            if truth(case(scope)):
                return then(scope)
        if default is None:
            raise OperatorError(f"{name}: no branch fits, and there is no default.", operator=name)
        return default(scope)

    return evaluate


def _let(name: str, raw: Any, compiler: Compiler) -> Expression:
    compiler.check_names(name, raw, ["vars", "in"])
    if not isinstance(raw["vars"], Mapping):
        raise OperatorError(f"{name} takes a document of variables.", operator=name)
    values = {key: compiler.compile(value) for key, value in raw["vars"].items()}
    inner = compiler.knowing(values, name).compile(raw["in"])
    pairs = tuple(values.items())
    return lambda scope: inner({**scope, **{key: value(scope) for key, value in pairs}})


def _literal(_: str, raw: Any, __: Compiler) -> Expression:
    return Constant(checked_value(raw))


OPERATORS: Final[dict[str, Builder]] = {
    "$and": _and,
    "$cmp": _cmp,
    "$cond": _cond,
    "$eq": _compare(operator.eq),
    "$gt": _compare(operator.gt),
    "$gte": _compare(operator.ge),
    "$ifNull": _if_null,
    "$let": _let,
    "$literal": _literal,
    "$lt": _compare(operator.lt),
    "$lte": _compare(operator.le),
    "$ne": _compare(operator.ne),
    "$not": of_one(lambda _, value: not truth(value), nulls=False),
    "$or": _or,
    "$switch": _switch,
}
