"""Arithmetic: `$add`, `$divide`, `$round`, `$pow`, logarithms, angles, bits.

Ints stay ints as long as they fit into 64 bits and become doubles then; a Decimal128 makes the result one.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#arithmetic-expression-operators
"""

from __future__ import annotations

import decimal
import math
import operator
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any, Final

from bson import Decimal128

from consona.documents import arithmetic
from consona.documents.arithmetic import DECIMAL, to_decimal
from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import (
    Builder,
    Compiler,
    Expression,
    of_one,
    of_several,
    whole_number,
    wrong,
)
from consona.documents.values import is_number

__all__ = ["OPERATORS", "moved", "narrowed"]

_EXACT: Final = decimal.Context(prec=1200, Emin=-9999, Emax=9999)
"""Holds every double and every Decimal128 without rounding."""
_MILLISECOND: Final = timedelta(milliseconds=1)


def narrowed(value: Any) -> Any:
    """A result as BSON can keep it: an int beyond 64 bits becomes a double."""
    return value if arithmetic.fits(value) else float(value)


def moved(name: str, date: datetime, milliseconds: float) -> datetime:
    """A date later by so many milliseconds.

    Raises:
        OperatorError: It leaves the years 1 to 9999.
    """
    try:
        return date + _MILLISECOND * int(milliseconds)
    except (OverflowError, ValueError):
        raise OperatorError(f"{name}: the date leaves the years 1 to 9999.", operator=name) from None


def _number(name: str, value: Any) -> Any:
    if not is_number(value):
        raise wrong(name, "numbers", value)
    return value


def _milliseconds(value: Any) -> float:
    return float(value.to_decimal()) if type(value) is Decimal128 else value


def _add(name: str, *values: Any) -> Any:
    total: Any = 0
    date: datetime | None = None
    for value in values:
        if type(value) is datetime:
            if date is not None:
                raise OperatorError(f"{name} takes one date at most.", hint="$subtract gives the time between two.")
            date = value
        elif is_number(value):
            total = arithmetic.add(total, value)
        else:
            raise wrong(name, "numbers and a date", value)
    return moved(name, date, _milliseconds(total)) if date is not None else narrowed(total)


def _subtract(name: str, one: Any, other: Any) -> Any:
    if type(one) is datetime:
        if type(other) is datetime:
            return (one - other) // _MILLISECOND
        return moved(name, one, -_milliseconds(_number(name, other)))
    return narrowed(arithmetic.subtract(_number(name, one), _number(name, other)))


def _multiply(name: str, *values: Any) -> Any:
    return narrowed(reduce(arithmetic.multiply, (_number(name, value) for value in values), 1))


def _divide(name: str, one: Any, other: Any) -> Any:
    one, other = _number(name, one), _number(name, other)
    decimals = type(one) is Decimal128 or type(other) is Decimal128
    divisor = to_decimal(other) if decimals else other
    if divisor == 0:
        raise OperatorError(f"{name} cannot divide by 0.", operator=name)
    if decimals:
        with decimal.localcontext(DECIMAL):
            return Decimal128(to_decimal(one) / divisor)
    return one / other


def _mod(name: str, one: Any, other: Any) -> Any:
    one, other = _number(name, one), _number(name, other)
    if type(one) is Decimal128 or type(other) is Decimal128:
        with decimal.localcontext(DECIMAL):
            divisor = to_decimal(other)
            if divisor == 0:
                raise OperatorError(f"{name} cannot divide by 0.", operator=name)
            return Decimal128(to_decimal(one) % divisor)
    if other == 0:
        raise OperatorError(f"{name} cannot divide by 0.", operator=name)
    if type(one) is int and type(other) is int:
        rest = abs(one) % abs(other)
        return rest if one >= 0 else -rest
    return math.nan if math.isinf(one) else math.fmod(one, other)


def _abs(name: str, value: Any) -> Any:
    value = _number(name, value)
    return Decimal128(abs(value.to_decimal())) if type(value) is Decimal128 else narrowed(abs(value))


def _whole(rounding: str) -> Callable[[str, Any], Any]:
    def function(name: str, value: Any) -> Any:
        return _rounded(_number(name, value), 0, rounding)

    return function


def _rounded(value: Any, place: int, rounding: str) -> Any:
    """A number of the same type, rounded at a place: 1 for tenths, -1 for tens."""
    if type(value) is int and place >= 0:
        return value
    number = value.to_decimal() if type(value) is Decimal128 else Decimal(value)
    if not number.is_finite() or number.adjusted() > 1000:  # then there is nothing behind the point
        return value
    exponent = Decimal(1).scaleb(-place)
    with decimal.localcontext(_EXACT) as context:
        context.rounding = rounding
        result = number.quantize(exponent)
    if type(value) is Decimal128:
        with decimal.localcontext(DECIMAL):
            return Decimal128(+result)
    return float(result) if type(value) is float else narrowed(int(result))


def _rounding(rounding: str) -> Callable[..., Any]:
    def function(name: str, value: Any, place: Any = 0) -> Any:
        digits = whole_number(name, "the place", place)
        if not -20 <= digits <= 100:
            raise OperatorError(f"{name} rounds at the places -20 to 100.", operator=name)
        return _rounded(_number(name, value), digits, rounding)

    return function


def _real(
    of_double: Callable[[float], float],
    of_decimal: Callable[[Decimal], Decimal] | None = None,
    *,
    low: float = -math.inf,
) -> Callable[[str, Any], Any]:
    """A function of the real numbers from `low` on; without `of_decimal`, of doubles only."""

    def function(name: str, value: Any) -> Any:
        value = _number(name, value)
        if type(value) is Decimal128:
            return _of_decimal(name, value.to_decimal(), of_decimal, low)
        if math.isnan(value):
            return math.nan
        if value < low:
            raise OperatorError(f"{name} takes numbers from {low:g} on.", operator=name)
        try:
            return float(of_double(value))
        except OverflowError:
            return math.inf
        except ValueError:
            raise OperatorError(f"{name} is not defined for this number.", operator=name) from None

    return function


def _of_decimal(name: str, value: Decimal, function: Callable[[Decimal], Decimal] | None, low: float) -> Decimal128:
    if function is None:
        raise OperatorError(f"{name} is not made for a Decimal128.", hint="Convert it: $toDouble.", operator=name)
    if not value.is_nan() and value < low:
        raise OperatorError(f"{name} takes numbers from {low:g} on.", operator=name)
    with decimal.localcontext(DECIMAL):
        return Decimal128(function(value))


def _positive(
    of_double: Callable[[float], float], of_decimal: Callable[[Decimal], Decimal]
) -> Callable[[str, Any], Any]:
    inner = _real(of_double, of_decimal)

    def function(name: str, value: Any) -> Any:
        number = value.to_decimal() if type(value) is Decimal128 else value
        if is_number(value) and not math.isnan(number) and number <= 0:
            raise OperatorError(f"{name} takes numbers above 0.", operator=name)
        return inner(name, value)

    return function


_ln = _positive(math.log, lambda value: value.ln())


def _log(name: str, value: Any, base: Any) -> Any:
    above, below = _ln(name, value), _ln(name, base)
    if (to_decimal(below) if type(below) is Decimal128 else below) == 0:
        raise OperatorError(f"{name}: 1 is no base of a logarithm.", operator=name)
    return _divide(name, above, below)


def _pow(name: str, base: Any, exponent: Any) -> Any:
    base, exponent = _number(name, base), _number(name, exponent)
    if (to_decimal(base) if type(base) is Decimal128 else base) == 0 and float(str(exponent)) < 0:
        raise OperatorError(f"{name}: 0 has no negative powers.", operator=name)
    if type(base) is Decimal128 or type(exponent) is Decimal128:
        with decimal.localcontext(DECIMAL):
            return Decimal128(to_decimal(base) ** to_decimal(exponent))
    if type(base) is int and type(exponent) is int and exponent >= 0:
        if abs(base) <= 1:
            return base**exponent if exponent < 2 or base >= 0 else base ** (exponent % 2)
        if exponent <= 64:
            return narrowed(base**exponent)
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf if base > 0 or exponent % 2 == 0 else -math.inf
    except ValueError:
        return math.nan


def _atan2(name: str, one: Any, other: Any) -> Any:
    for value in (one, other):
        if type(_number(name, value)) is Decimal128:
            raise OperatorError(f"{name} is not made for a Decimal128.", hint="Convert it: $toDouble.", operator=name)
    return math.atan2(one, other)


def _bits(join: Callable[[int, int], int], start: int) -> Builder:
    def function(name: str, *values: Any) -> Any:
        for value in values:
            if type(value) is not int:
                raise wrong(name, "ints", value)
        return reduce(join, values, start)

    return of_several(function, 0)


def _bit_not(name: str, value: Any) -> Any:
    if type(value) is not int:
        raise wrong(name, "an int", value)
    return ~value


def _rand(name: str, raw: Any, _: Compiler) -> Expression:
    if raw not in ({}, []):
        raise OperatorError(f"{name} takes no arguments.", hint=f"{{{name!r}: {{}}}}", operator=name)
    return lambda _: random.random()  # noqa: S311  not for secrets


OPERATORS: Final[dict[str, Builder]] = {
    "$abs": of_one(_abs),
    "$add": of_several(_add, 0),
    "$atan2": of_several(_atan2, 2, exactly=True),
    "$bitAnd": _bits(operator.and_, -1),
    "$bitNot": of_one(_bit_not),
    "$bitOr": _bits(operator.or_, 0),
    "$bitXor": _bits(operator.xor, 0),
    "$ceil": of_one(_whole(decimal.ROUND_CEILING)),
    "$divide": of_several(_divide, 2, exactly=True),
    "$exp": of_one(_real(math.exp, lambda value: value.exp())),
    "$floor": of_one(_whole(decimal.ROUND_FLOOR)),
    "$ln": of_one(_ln),
    "$log": of_several(_log, 2, exactly=True),
    "$log10": of_one(_positive(math.log10, lambda value: value.log10())),
    "$mod": of_several(_mod, 2, exactly=True),
    "$multiply": of_several(_multiply, 0),
    "$pow": of_several(_pow, 2, exactly=True),
    "$rand": _rand,
    "$round": of_several(_rounding(decimal.ROUND_HALF_EVEN), 1, 2),
    "$sqrt": of_one(_real(math.sqrt, lambda value: value.sqrt(), low=0)),
    "$subtract": of_several(_subtract, 2, exactly=True),
    "$trunc": of_several(_rounding(decimal.ROUND_DOWN), 1, 2),
    **{
        f"${name}": of_one(_real(function))
        for name, function in {
            "acos": math.acos,
            "acosh": math.acosh,
            "asin": math.asin,
            "asinh": math.asinh,
            "atan": math.atan,
            "atanh": math.atanh,
            "cos": math.cos,
            "cosh": math.cosh,
            "degreesToRadians": math.radians,
            "radiansToDegrees": math.degrees,
            "sin": math.sin,
            "sinh": math.sinh,
            "tan": math.tan,
            "tanh": math.tanh,
        }.items()
    },
}
