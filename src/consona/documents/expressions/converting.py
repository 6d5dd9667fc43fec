"""Types: `$type`, `$isNumber`, `$convert`, and `$toInt`, `$toDate` and their kin, which are short for it.

Ints are of one type here: `$toInt` refuses what does not fit into 32 bits, `$toLong` what does not fit into 64.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/convert/
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from bson import Decimal128, ObjectId, Timestamp
from bson.errors import InvalidId

from consona.documents.arithmetic import DECIMAL, to_decimal
from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import NULL, Builder, Compiler, Expression, Scope, is_null, of_one
from consona.documents.expressions.date_texts import NoDate, parsed_iso
from consona.documents.expressions.numbers_as_text import number_text
from consona.documents.expressions.zones import EPOCH, date_of
from consona.documents.extended_json import date_text
from consona.documents.values import TYPE_NAMES, is_number, type_name

__all__ = ["OPERATORS"]


class _Unfit(Exception):
    """A value cannot be converted; the message says why."""


_INT_TEXT: Final = re.compile(r"[+-]?\d+", re.ASCII)
_DOUBLE_TEXT: Final = re.compile(
    r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE | re.ASCII
)
_MILLISECOND: Final = timedelta(milliseconds=1)


def _to_bool(value: Any) -> bool:
    if is_number(value):
        return bool((value.to_decimal() if type(value) is Decimal128 else value) != 0)
    if type(value) is bool:
        return value
    if type(value) in {str, ObjectId, datetime, Timestamp, bytes, UUID}:
        return True
    raise _Unfit


def _to_whole(bits: int) -> Callable[[Any], int]:
    limit = 1 << (bits - 1)

    def convert(value: Any) -> int:
        if type(value) is bool:
            return int(value)
        if type(value) is str:
            if not _INT_TEXT.fullmatch(value) or len(value) > 40:
                raise _Unfit("the text is no whole number")
            number: Any = int(value)
        elif type(value) is datetime and bits == 64:
            number = (value - EPOCH) // _MILLISECOND
        elif is_number(value):
            number = value.to_decimal() if type(value) is Decimal128 else value
            if not math.isfinite(number):
                raise _Unfit("it is not finite")
            number = int(number)
        else:
            raise _Unfit
        if not -limit <= number < limit:
            raise _Unfit(f"it does not fit into {bits} bits")
        return int(number)

    return convert


def _to_double(value: Any) -> float:
    if type(value) is str:
        if not _DOUBLE_TEXT.fullmatch(value):
            raise _Unfit("the text is no number")
        return float(value)
    if type(value) is datetime:
        return float((value - EPOCH) // _MILLISECOND)
    if type(value) is Decimal128:
        return float(value.to_decimal())
    if is_number(value) or type(value) is bool:
        return float(value)
    raise _Unfit


def _to_decimal(value: Any) -> Decimal128:
    try:
        with decimal.localcontext(DECIMAL):
            if type(value) is str:
                if not _DOUBLE_TEXT.fullmatch(value):
                    raise _Unfit("the text is no number")
                return Decimal128(Decimal(value))
            if type(value) is datetime:
                return Decimal128(Decimal((value - EPOCH) // _MILLISECOND))
            if is_number(value) or type(value) is bool:
                return Decimal128(to_decimal(value))
    except decimal.DecimalException as error:
        raise _Unfit("the number does not fit") from error
    raise _Unfit


def _to_string(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    if type(value) is datetime:
        return date_text(value)
    if type(value) in {ObjectId, UUID}:
        return str(value)
    raise _Unfit


def _to_object_id(value: Any) -> ObjectId:
    if type(value) is ObjectId:
        return value
    if type(value) is not str:
        raise _Unfit
    try:
        return ObjectId(value)
    except InvalidId as error:
        raise _Unfit("the text is no ObjectId, which has 24 hexadecimal digits") from error


def _to_uuid(value: Any) -> UUID:
    if type(value) is UUID:
        return value
    if type(value) is not str:
        raise _Unfit
    try:
        return UUID(value)
    except ValueError as error:
        raise _Unfit("the text is no UUID") from error


def _to_date(value: Any) -> datetime:
    if type(value) in {datetime, ObjectId, Timestamp}:
        return date_of("$toDate", value)
    if type(value) is str:
        try:
            return parsed_iso(value).astimezone(EPOCH.tzinfo)
        except (NoDate, OverflowError) as error:
            raise _Unfit(f"the text is no date: {error}") from error
    if not is_number(value):
        raise _Unfit
    try:
        return EPOCH + _MILLISECOND * int(value.to_decimal() if type(value) is Decimal128 else value)
    except (OverflowError, ValueError) as error:
        raise _Unfit("the date would leave the years 1 to 9999") from error


_CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "bool": _to_bool,
    "date": _to_date,
    "decimal": _to_decimal,
    "double": _to_double,
    "int": _to_whole(32),
    "long": _to_whole(64),
    "objectId": _to_object_id,
    "string": _to_string,
    "uuid": _to_uuid,
}


def _converted(name: str, value: Any, to: str) -> Any:
    try:
        return _CONVERSIONS[to](value)
    except _Unfit as error:
        why = f": {error}" if error.args else ""
        raise OperatorError(
            f"{name} cannot make a value of type {type_name(value)} into {to}{why}.",
            hint="$convert has onError, which says what to give then.",
            operator=name,
        ) from error


def _target(name: str, value: Any) -> str:
    found = TYPE_NAMES.get(int(value), "") if is_number(value) and float(str(value)).is_integer() else value
    if not isinstance(found, str) or found not in _CONVERSIONS:
        raise OperatorError(
            f"{name} cannot convert to this type.", hint=f"It converts to {', '.join(_CONVERSIONS)}.", operator=name
        )
    return found


def _convert(name: str, raw: Any, compiler: Compiler) -> Expression:
    parts = compiler.named(name, raw, ["input", "to"], ["onError", "onNull"])
    of, to, on_error = parts["input"], parts["to"], parts.get("onError")
    on_null = parts.get("onNull", NULL)

    def evaluate(scope: Scope) -> Any:
        value, wanted = of(scope), to(scope)
        if is_null(value):
            return on_null(scope)
        if is_null(wanted):
            return None
        target = _target(name, wanted)
        try:
            return _converted(name, value, target)
        except OperatorError:
            if on_error is None:
                raise
            return on_error(scope)

    return evaluate


def _short(to: str) -> Builder:
    return of_one(lambda name, value: _converted(name, value, to))


OPERATORS: Final[dict[str, Builder]] = {
    "$convert": _convert,
    "$isNumber": of_one(lambda _, value: is_number(value), nulls=False),
    "$toBool": _short("bool"),
    "$toDate": _short("date"),
    "$toDecimal": _short("decimal"),
    "$toDouble": _short("double"),
    "$toInt": _short("int"),
    "$toLong": _short("long"),
    "$toObjectId": _short("objectId"),
    "$toString": _short("string"),
    "$toUUID": _short("uuid"),
    "$type": of_one(lambda _, value: type_name(value), nulls=False),
}
