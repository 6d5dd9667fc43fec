"""What `$group` makes of the documents of a group: `$sum`, `$push`, `$top`, …

Source: https://www.mongodb.com/docs/manual/reference/mql/accumulators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.expressions.compiler import is_null, whole_number
from consona.documents.expressions.reducing import Deviation, Extreme, Mean, Total
from consona.documents.pipeline.selecting import parsed_sort
from consona.documents.pipeline.stages import Budget, Context, fields_of
from consona.documents.sorting import Sort, sort_key
from consona.documents.values import MISSING, Document, Key, type_name

__all__ = ["ACCUMULATORS", "Accumulator", "Field", "parse_accumulator"]


class Accumulator(Protocol):
    """Takes the values of a group's documents, one by one, and gives one value."""

    def add(self, value: Any) -> None: ...

    def value(self) -> Any: ...


class Field(NamedTuple):
    """One computed field of a group: what is asked of each document, and what takes the answers."""

    argument: Callable[[Document], Any]
    make: Callable[[Budget], Accumulator]


class _First:
    __slots__ = ("_found", "_value")

    def __init__(self) -> None:
        self._found = False
        self._value: Any = None

    def add(self, value: Any) -> None:
        if not self._found:
            self._found, self._value = True, value

    def value(self) -> Any:
        return None if self._value is MISSING else self._value


class _Last:
    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value: Any = None

    def add(self, value: Any) -> None:
        self._value = value

    def value(self) -> Any:
        return None if self._value is MISSING else self._value


class _Push:
    __slots__ = ("_budget", "_values")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if value is not MISSING:
            self._budget.hold(value)
            self._values.append(value)

    def value(self) -> list[Any]:
        return self._values


class _Set:
    __slots__ = ("_budget", "_order", "_values")

    def __init__(self, budget: Budget, order: Callable[[Any], Key]) -> None:
        self._budget = budget
        self._order = order
        self._values: dict[Key, Any] = {}

    def add(self, value: Any) -> None:
        if value is not MISSING and (key := self._order(value)) not in self._values:
            self._budget.hold(value)
            self._values[key] = value

    def value(self) -> list[Any]:
        return list(self._values.values())


class _Merged:
    __slots__ = ("_budget", "_document")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._document: Document = {}

    def add(self, value: Any) -> None:
        if is_null(value):
            return
        if type(value) is not dict:
            raise OperatorError(
                f"$mergeObjects takes documents, not a value of type {type_name(value)}.", operator="$mergeObjects"
            )
        self._budget.hold(value)
        self._document.update(value)

    def value(self) -> Document:
        return self._document


class _FirstN:
    __slots__ = ("_count", "_last", "_values")

    def __init__(self, count: int, *, last: bool) -> None:
        self._count = count
        self._last = last
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if len(self._values) < self._count:
            self._values.append(None if value is MISSING else value)
        elif self._last:
            self._values.pop(0)
            self._values.append(None if value is MISSING else value)

    def value(self) -> list[Any]:
        return self._values


class _Best:
    """The first `count` of the pairs `(document, output)` in an order; what is beyond them is dropped now and then."""

    __slots__ = ("_budget", "_count", "_keys", "_pairs", "_reverse", "_single")

    def __init__(self, budget: Budget, sort: Sort, count: int, *, reverse: bool, single: bool) -> None:
        self._budget = budget
        self._count = count
        self._reverse = reverse
        self._single = single
        self._keys = [(sort_key(path, way, sort.collation), way < 0) for path, way in reversed(sort.fields)]
        self._pairs: list[tuple[Document, Any]] = []

    def add(self, value: Any) -> None:
        self._pairs.append(value)
        if len(self._pairs) >= 2 * self._count + 100:
            self._cut()

    def _cut(self) -> None:
        for key, down in self._keys:
            self._pairs.sort(key=lambda pair, key=key: key(pair[0]), reverse=down)  # type: ignore[misc]
        self._pairs = self._pairs[-self._count :] if self._reverse else self._pairs[: self._count]

    def value(self) -> Any:
        self._cut()
        found = [None if output is MISSING else output for _, output in self._pairs]
        return (found[0] if found else None) if self._single else found


class _ExtremeN:
    __slots__ = ("_count", "_largest", "_order", "_values")

    def __init__(self, order: Callable[[Any], Key], count: int, *, largest: bool) -> None:
        self._order = order
        self._count = count
        self._largest = largest
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if not is_null(value):
            self._values.append(value)
            if len(self._values) >= 2 * self._count + 100:
                self._cut()

    def _cut(self) -> None:
        self._values.sort(key=self._order, reverse=self._largest)
        del self._values[self._count :]

    def value(self) -> list[Any]:
        self._cut()
        return self._values


_Builder = Callable[[str, Any, Context], Field]


def _of_expression(make: Callable[[Context], Callable[[Budget], Accumulator]]) -> _Builder:
    def build(name: str, raw: Any, context: Context) -> Field:
        if isinstance(raw, list | tuple):
            if len(raw) != 1:
                raise OperatorError(f"{name} takes one expression here.", operator=name)
            [raw] = raw
        return Field(context.expression(raw), make(context))

    return build


def _count(name: str, raw: Any, _: Context) -> Field:
    if raw != {}:
        raise OperatorError(f"{name} takes an empty document.", operator=name)
    return Field(lambda _: 1, lambda _: Total())


def _number(name: str, raw: Any, context: Context) -> int:
    count = whole_number(name, "n", context.constant(name, raw))
    if count < 1:
        raise OperatorError(f"{name} takes an n of at least 1.", operator=name)
    return count


def _some(name: str, raw: Any, context: Context) -> Field:
    options = fields_of(name, raw, ["input", "n"])
    count, order = _number(name, options["n"], context), context.compiler.order
    if name in {"$maxN", "$minN"}:
        return Field(context.expression(options["input"]), lambda _: _ExtremeN(order, count, largest=name == "$maxN"))
    return Field(context.expression(options["input"]), lambda _: _FirstN(count, last=name == "$lastN"))


def _best(name: str, raw: Any, context: Context) -> Field:
    single = name in {"$top", "$bottom"}
    options = fields_of(name, raw, ["sortBy", "output"] if single else ["n", "sortBy", "output"])
    count = 1 if single else _number(name, options["n"], context)
    sort, output = parsed_sort(name, options["sortBy"], context), context.expression(options["output"])
    reverse = name in {"$bottom", "$bottomN"}
    return Field(
        lambda document: (document, output(document)),
        lambda budget: _Best(budget, sort, count, reverse=reverse, single=single),
    )


ACCUMULATORS: Final[Mapping[str, _Builder]] = {
    "$addToSet": _of_expression(lambda context: lambda budget: _Set(budget, context.compiler.order)),
    "$avg": _of_expression(lambda _: lambda _: Mean()),
    "$bottom": _best,
    "$bottomN": _best,
    "$count": _count,
    "$first": _of_expression(lambda _: lambda _: _First()),
    "$firstN": _some,
    "$last": _of_expression(lambda _: lambda _: _Last()),
    "$lastN": _some,
    "$max": _of_expression(lambda context: lambda _: Extreme(context.compiler.order, largest=True)),
    "$maxN": _some,
    "$mergeObjects": _of_expression(lambda _: _Merged),
    "$min": _of_expression(lambda context: lambda _: Extreme(context.compiler.order, largest=False)),
    "$minN": _some,
    "$push": _of_expression(lambda _: _Push),
    "$stdDevPop": _of_expression(lambda _: lambda _: Deviation(sample=False)),
    "$stdDevSamp": _of_expression(lambda _: lambda _: Deviation(sample=True)),
    "$sum": _of_expression(lambda _: lambda _: Total()),
    "$top": _best,
    "$topN": _best,
}


def parse_accumulator(stage: str, field: Any, raw: Any, context: Context) -> Field:
    """Understand one computed field of a group: `{"$sum": "$price"}`."""
    if not isinstance(field, str) or not field or "." in field or field.startswith("$"):
        raise OperatorError(f"{stage} makes fields, and {field!r} is no name of one.", operator=stage)
    if not isinstance(raw, Mapping) or len(raw) != 1:
        raise OperatorError(
            f"{stage}: the field {field!r} takes one accumulator.", hint='{"$sum": "$price"}', operator=stage
        )
    [(name, argument)] = raw.items()
    build = ACCUMULATORS.get(name)
    if build is None:
        raise unknown_operator(name, ACCUMULATORS, f"{stage}, as an accumulator")
    return build(name, argument, context)
