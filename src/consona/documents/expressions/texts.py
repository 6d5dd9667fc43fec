"""Texts: `$concat`, `$substrCP`, `$split`, `$trim`, `$replaceAll`, `$indexOfCP`, …

Small and capital letters are told apart for ASCII only, as MongoDB does.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#string-expression-operators
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import (
    MAX_ELEMENTS,
    MAX_TEXT,
    Builder,
    Compiler,
    Expression,
    Scope,
    is_null,
    of_one,
    of_several,
    whole_number,
    wrong,
)
from consona.documents.expressions.numbers_as_text import number_text
from consona.documents.extended_json import date_text
from consona.documents.values import is_number

__all__ = ["OPERATORS", "fitting"]

_LOWER: Final = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}
_UPPER: Final = {letter: letter - 32 for letter in range(ord("a"), ord("z") + 1)}
_BLANKS: Final = "\0\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"


def fitting(name: str, text: str) -> str:
    """A text that an expression made, refused where it grew too long."""
    if len(text) > MAX_TEXT:
        raise OperatorError(f"{name} would make a text of more than {MAX_TEXT} letters.", operator=name)
    return text


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise wrong(name, "text", value)
    return value


def _coerced(name: str, value: Any) -> str:
    """Text, or a number or date as text; null is empty."""
    if is_null(value):
        return ""
    if type(value) is str:
        return value
    if type(value) is datetime:
        return date_text(value)
    if is_number(value):
        return number_text(value)
    raise wrong(name, "text", value)


def _concat(name: str, *values: Any) -> str:
    return fitting(name, "".join([_text(name, value) for value in values]))


def _strcasecmp(name: str, one: Any, other: Any) -> int:
    first, second = (_coerced(name, value).translate(_UPPER) for value in (one, other))
    return (first > second) - (first < second)


def _substr_cp(name: str, value: Any, start: Any, count: Any) -> str:
    text, first, length = (
        _coerced(name, value),
        whole_number(name, "the start", start),
        whole_number(name, "the length", count),
    )
    if first < 0 or length < 0:
        raise OperatorError(f"{name} takes a start and a length of at least 0.", operator=name)
    return text[first : first + length]


def _substr_bytes(name: str, value: Any, start: Any, count: Any) -> str:
    data = _coerced(name, value).encode()
    first, length = whole_number(name, "the start", start), whole_number(name, "the length", count)
    if first < 0:
        raise OperatorError(f"{name} takes a start of at least 0.", operator=name)
    try:
        return data[first : len(data) if length < 0 else first + length].decode()
    except UnicodeDecodeError:
        raise OperatorError(
            f"{name} would cut a letter in two.", hint="$substrCP counts letters.", operator=name
        ) from None


def _index_of(encode: Callable[[str], Any]) -> Callable[..., Any]:
    def function(name: str, value: Any, part: Any, start: Any = 0, end: Any = None) -> Any:
        if is_null(value):
            return None
        text, wanted = encode(_text(name, value)), encode(_text(name, part))
        first = whole_number(name, "the start", start)
        last = len(text) if end is None else min(whole_number(name, "the end", end), len(text))
        if first < 0 or last < 0:
            raise OperatorError(f"{name} takes a start and an end of at least 0.", operator=name)
        return text.find(wanted, first, last) if first <= last else -1

    return function


def _split(name: str, value: Any, separator: Any) -> list[str]:
    text, wanted = _text(name, value), _text(name, separator)
    if not wanted:
        raise OperatorError(f"{name} takes a separator that is not empty.", operator=name)
    if text.count(wanted) >= MAX_ELEMENTS:
        raise OperatorError(f"{name} would make more than {MAX_ELEMENTS} elements.", operator=name)
    return text.split(wanted)


def _trim(strip: Callable[[str, str], str]) -> Builder:
    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        parts = compiler.named(name, raw, ["input"], ["chars"])
        text, letters = parts["input"], parts.get("chars")

        def evaluate(scope: Scope) -> Any:
            value = text(scope)
            chosen = _BLANKS if letters is None else letters(scope)
            if is_null(value) or is_null(chosen):
                return None
            return strip(_text(name, value), _text(name, chosen))

        return evaluate

    return build


def _replace(count: int) -> Builder:
    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        parts = compiler.named(name, raw, ["input", "find", "replacement"])
        wanted = [parts[key] for key in ("input", "find", "replacement")]

        def evaluate(scope: Scope) -> Any:
            values = [part(scope) for part in wanted]
            for value in values:
                if not is_null(value):
                    _text(name, value)
            if any(is_null(value) for value in values):
                return None
            text, find, by = values
            found = (text.count(find) if count < 0 else min(1, text.count(find))) * (len(by) - len(find))
            if len(text) + found > MAX_TEXT:
                raise OperatorError(f"{name} would make a text of more than {MAX_TEXT} letters.", operator=name)
            return text.replace(find, by, count)

        return evaluate

    return build


OPERATORS: Final[dict[str, Builder]] = {
    "$concat": of_several(_concat, 0),
    "$indexOfBytes": of_several(_index_of(str.encode), 2, 4, nulls=False),
    "$indexOfCP": of_several(_index_of(str), 2, 4, nulls=False),
    "$ltrim": _trim(str.lstrip),
    "$replaceAll": _replace(-1),
    "$replaceOne": _replace(1),
    "$rtrim": _trim(str.rstrip),
    "$split": of_several(_split, 2, exactly=True),
    "$strLenBytes": of_one(lambda name, value: len(_text(name, value).encode()), nulls=False),
    "$strLenCP": of_one(lambda name, value: len(_text(name, value)), nulls=False),
    "$strcasecmp": of_several(_strcasecmp, 2, exactly=True, nulls=False),
    "$substr": of_several(_substr_bytes, 3, exactly=True, nulls=False),
    "$substrBytes": of_several(_substr_bytes, 3, exactly=True, nulls=False),
    "$substrCP": of_several(_substr_cp, 3, exactly=True, nulls=False),
    "$toLower": of_one(lambda name, value: _coerced(name, value).translate(_LOWER), nulls=False),
    "$toUpper": of_one(lambda name, value: _coerced(name, value).translate(_UPPER), nulls=False),
    "$trim": _trim(str.strip),
}
