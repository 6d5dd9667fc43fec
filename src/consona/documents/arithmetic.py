"""Numbers as MongoDB calculates with them: int, double and Decimal128, the widest type wins.

Source: https://www.mongodb.com/docs/manual/reference/operator/update/inc/, .../operator/aggregation/add/
"""

from __future__ import annotations

import decimal
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from bson import Decimal128
from bson.decimal128 import create_decimal128_context

__all__ = ["DECIMAL", "INT64", "add", "fits", "multiply", "subtract", "to_decimal"]

DECIMAL: Final = create_decimal128_context()
"""34 digits."""
INT64: Final = range(-(1 << 63), 1 << 63)


def fits(value: Any) -> bool:
    """Whether it is a number that BSON has: an integer of up to 64 bits, or another kind."""
    return type(value) is not int or value in INT64


def to_decimal(value: Any) -> Decimal:
    """A number as a decimal; of a double, the shortest digits that mean it, up to 15 of them, as MongoDB does."""
    if type(value) is Decimal128:
        decimal_value: Decimal = value.to_decimal()
        return decimal_value
    if type(value) is float:
        return Decimal(format(value, ".15g"))
    return Decimal(value)


def _calculate(one: Any, other: Any, operation: Callable[[Any, Any], Any]) -> Any:
    if type(one) is Decimal128 or type(other) is Decimal128:
        with decimal.localcontext(DECIMAL):
            return Decimal128(operation(to_decimal(one), to_decimal(other)))
    try:
        return operation(one, other)
    except OverflowError:  # an integer too large for a float does not come here: they have 64 bits
        return float("inf")


def add(one: Any, other: Any) -> Any:
    """The sum. Of two ints an int, however large: see `fits`."""
    return _calculate(one, other, operator.add)


def subtract(one: Any, other: Any) -> Any:
    """The difference."""
    return _calculate(one, other, operator.sub)


def multiply(one: Any, other: Any) -> Any:
    """The product."""
    return _calculate(one, other, operator.mul)
