"""What goes through the elements of an array: `$map`, `$filter`, `$reduce`, `$sortArray`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#array-expression-operators
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.expressions.arrays import array
from consona.documents.expressions.compiler import (
    Builder,
    Compiler,
    Expression,
    Scope,
    is_null,
    truth,
    whole_number,
)
from consona.documents.sorting import parse_sort
from consona.documents.values import MISSING

__all__ = ["OPERATORS"]


def _map(name: str, raw: Any, compiler: Compiler) -> Expression:
    compiler.check_names(name, raw, ["input", "in"], ["as"])
    variable = raw.get("as", "this")
    items, each = compiler.compile(raw["input"]), compiler.knowing([variable], name).compile(raw["in"])

    def evaluate(scope: Scope) -> Any:
        value = items(scope)
        if is_null(value):
            return None
        inner, made = dict(scope), []
        for item in array(name, value):
            inner[variable] = item
            found = each(inner)
            made.append(None if found is MISSING else found)
        return made

    return evaluate


def _filter(name: str, raw: Any, compiler: Compiler) -> Expression:
    compiler.check_names(name, raw, ["input", "cond"], ["as", "limit"])
    variable = raw.get("as", "this")
    items, condition = compiler.compile(raw["input"]), compiler.knowing([variable], name).compile(raw["cond"])
    limit = compiler.compile(raw.get("limit"))

    def evaluate(scope: Scope) -> Any:
        value, most = items(scope), limit(scope)
        if is_null(value):
            return None
        if not is_null(most) and whole_number(name, "the limit", most) < 1:
            raise OperatorError(f"{name} takes a limit of at least 1.", operator=name)
        inner: Scope = dict(scope)
        kept: list[Any] = []
        for item in array(name, value):
            inner[variable] = item
            if truth(condition(inner)):
                kept.append(item)
                if not is_null(most) and len(kept) >= most:
                    break
        return kept

    return evaluate


def _reduce(name: str, raw: Any, compiler: Compiler) -> Expression:
    compiler.check_names(name, raw, ["input", "initialValue", "in"])
    items, start = compiler.compile(raw["input"]), compiler.compile(raw["initialValue"])
    step = compiler.knowing(["this", "value"], name).compile(raw["in"])

    def evaluate(scope: Scope) -> Any:
        found = items(scope)
        if is_null(found):
            return None
        inner, value = dict(scope), start(scope)
        for item in array(name, found):
            inner["this"], inner["value"] = item, value
            value = step(inner)
        return value

    return evaluate


def _sort_array(name: str, raw: Any, compiler: Compiler) -> Expression:
    compiler.check_names(name, raw, ["input", "sortBy"])
    items, by, order = compiler.compile(raw["input"]), raw["sortBy"], compiler.order
    if isinstance(by, Mapping):
        if not by:
            raise OperatorError(f"{name} takes at least one field in sortBy.", operator=name)
        # An element that is no document has none of the fields.
        sort = parse_sort({f"item.{path}": direction for path, direction in by.items()}, collation=compiler.collation)
    elif not isinstance(by, int | float) or isinstance(by, bool) or by not in {1, -1}:
        raise OperatorError(f"{name} sorts by 1, by -1 or by a document of fields.", operator=name)
    else:
        sort = None

    def evaluate(scope: Scope) -> Any:
        value = items(scope)
        if is_null(value):
            return None
        found = array(name, value)
        if sort is None:
            return sorted(found, key=order, reverse=by < 0)
        return [box["item"] for box in sort.sorted({"item": item} for item in found)]

    return evaluate


OPERATORS: Final[dict[str, Builder]] = {
    "$filter": _filter,
    "$map": _map,
    "$reduce": _reduce,
    "$sortArray": _sort_array,
}
