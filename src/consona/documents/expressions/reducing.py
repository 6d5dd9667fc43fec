"""What is made of several values: `$sum`, `$avg`, `$min`, `$max`, standard deviations.

As expressions, of the elements of an array or of several arguments; as accumulators, of a group's documents.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/sum/ and its neighbours
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

from bson import Decimal128

from consona.documents.arithmetic import DECIMAL, to_decimal
from consona.documents.expressions.compiler import Builder, Compiler, Expression, Scope, is_null
from consona.documents.expressions.mathematics import narrowed
from consona.documents.values import Key, is_number

__all__ = ["OPERATORS", "Deviation", "Extreme", "Mean", "Reducer", "Total"]


class Total:
    """`$sum`: of the numbers; what is none does not count. Doubles are added with their rounding errors kept."""

    __slots__ = ("_decimal", "_error", "_real", "_whole", "count")

    def __init__(self) -> None:
        self.count = 0
        self._whole = 0
        self._real: float | None = None
        self._error = 0.0
        self._decimal: Decimal | None = None

    def add(self, value: Any) -> None:
        kind = type(value)
        if kind is int:
            self._whole += value
        elif kind is float:
            self._add_real(value)
        elif kind is Decimal128:
            with decimal.localcontext(DECIMAL):
                self._decimal = (self._decimal or Decimal(0)) + value.to_decimal()
        else:
            return
        self.count += 1

    def _add_real(self, value: float) -> None:
        """Neumaier's sum: what rounding loses is kept beside."""
        old = self._real or 0.0
        new = old + value
        if math.isfinite(new):
            self._error += (old - new) + value if abs(old) >= abs(value) else (value - new) + old
        self._real = new

    def value(self) -> Any:
        if self._decimal is not None:
            with decimal.localcontext(DECIMAL):
                real = to_decimal((self._real or 0.0) + self._error)
                return Decimal128(self._decimal + self._whole + real)
        if self._real is None:
            return narrowed(self._whole)
        if not math.isfinite(self._real):
            return self._real
        return self._real + (self._error + self._whole)


class Mean:
    """`$avg`: of the numbers; null where there are none."""

    __slots__ = ("_total",)

    def __init__(self) -> None:
        self._total = Total()

    def add(self, value: Any) -> None:
        self._total.add(value)

    def value(self) -> Any:
        count, total = self._total.count, self._total.value()
        if not count:
            return None
        if type(total) is Decimal128:
            with decimal.localcontext(DECIMAL):
                return Decimal128(total.to_decimal() / count)
        return total / count


class Extreme:
    """`$min` and `$max`: in the order over all values; null and missing ones do not count."""

    __slots__ = ("_best", "_key", "_largest", "_order")

    def __init__(self, order: Callable[[Any], Key], *, largest: bool) -> None:
        self._order = order
        self._largest = largest
        self._best: Any = None
        self._key: Key | None = None

    def add(self, value: Any) -> None:
        if is_null(value):
            return
        key = self._order(value)
        if self._key is None or (key > self._key if self._largest else key < self._key):
            self._best, self._key = value, key

    def value(self) -> Any:
        return self._best


class Deviation:
    """`$stdDevPop` and `$stdDevSamp`, as doubles.

    Source: B. P. Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", 1962.
    """

    __slots__ = ("_count", "_mean", "_sample", "_squares")

    def __init__(self, *, sample: bool) -> None:
        self._sample = sample
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, value: Any) -> None:
        if not is_number(value):
            return
        number = float(value.to_decimal()) if type(value) is Decimal128 else float(value)
        self._count += 1
        away = number - self._mean
        self._mean += away / self._count
        self._squares += away * (number - self._mean)

    def value(self) -> Any:
        divisor = self._count - self._sample
        if divisor <= 0:
            return None
        return math.sqrt(self._squares / divisor) if not math.isnan(self._squares) else None


Reducer = Total | Mean | Extreme | Deviation

_REDUCERS: Final[dict[str, Callable[[Compiler], Reducer]]] = {
    "$avg": lambda _: Mean(),
    "$max": lambda compiler: Extreme(compiler.order, largest=True),
    "$min": lambda compiler: Extreme(compiler.order, largest=False),
    "$stdDevPop": lambda _: Deviation(sample=False),
    "$stdDevSamp": lambda _: Deviation(sample=True),
    "$sum": lambda _: Total(),
}


def _reduced(name: str, raw: Any, compiler: Compiler) -> Expression:
    arguments, make = compiler.many(name, raw), _REDUCERS[name]

    def evaluate(scope: Scope) -> Any:
        values: Iterable[Any] = [argument(scope) for argument in arguments]
        if len(arguments) == 1:
            [value] = values
            values = value if type(value) is list else (value,)
        reducer = make(compiler)
        for value in values:
            reducer.add(value)
        return reducer.value()

    return evaluate


OPERATORS: Final[dict[str, Builder]] = dict.fromkeys(_REDUCERS, _reduced)
