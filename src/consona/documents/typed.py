"""Documents as the types that were asked for: Structs, dataclasses, TypedDicts.

The `_id` goes into a field that is called so: `id: ObjectId = msgspec.field(name="_id")`. Fields that the type does not
have are left out. A Decimal128 becomes a `Decimal` where the type wants one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec
from bson import Decimal128

from consona.documents.values import Document
from consona.errors import FieldProblem, ValidationError

__all__ = ["reader_into", "schema_check"]

_AT: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")


def reader_into(into: Any) -> Callable[[Document], Any]:
    """A function that makes documents into the type; None gives them as they are.

    Raises:
        ValidationError: (when called) The document does not fit; the message says where.
    """
    if into is None or into is dict:
        return lambda document: document
    return lambda document: _converted(document, into, "The document does not fit")


def schema_check(schema: Any) -> Callable[[Document], None]:
    """A function that refuses documents that do not fit the type."""

    def check(document: Document) -> None:
        _converted(document, schema, "The document does not fit the schema of its collection,")

    return check


def _converted(document: Document, into: Any, words: str) -> Any:
    try:
        return msgspec.convert(_decimals(document), into, dec_hook=_own_type)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _AT.search(text)
        path, problem = (place[1], text[: place.start()]) if place else ("", text)
        raise ValidationError(
            f"{words} {getattr(into, '__qualname__', into)}: {path or 'it'}: {problem}.",
            fields=[FieldProblem(path, problem)],
        ) from error


def _own_type(wanted: Any, value: Any) -> Any:
    """For types that msgspec does not know: those of BSON stand for themselves."""
    if isinstance(wanted, type) and isinstance(value, wanted):
        return value
    if wanted is Decimal128 and type(value) is Decimal:
        return Decimal128(value)
    raise msgspec.ValidationError(f"Expected `{getattr(wanted, '__name__', wanted)}`, got `{type(value).__name__}`")


def _decimals(value: Any) -> Any:
    kind = type(value)
    if kind is Decimal128:
        return value.to_decimal()
    if kind is dict:
        return {name: _decimals(item) for name, item in value.items()}
    return [_decimals(item) for item in value] if kind is list else value
