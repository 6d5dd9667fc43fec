"""Annotations: what one piece of text can hold, what several can, what is data."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

__all__ = ["FiniteFloat", "is_body_like", "is_text_like", "many_of", "shown", "unwrap", "without_none"]

FiniteFloat = Annotated[float, msgspec.Meta(ge=-1.7976931348623157e308, le=1.7976931348623157e308)]
"""`nan` and `inf` are numbers to a parser of text; no handler expects them."""

_TEXT_TYPES: Final = (
    str,
    int,
    float,
    bool,
    decimal.Decimal,
    uuid.UUID,
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
)


def is_text_like(hint: Any) -> bool:
    """Whether one piece of text can hold it."""
    plain, _ = unwrap(hint)
    origin = get_origin(plain)
    if origin in {Union, types.UnionType}:
        return all(member is type(None) or is_text_like(member) for member in get_args(plain))
    if origin is Literal:
        return True
    return isinstance(plain, type) and (plain in _TEXT_TYPES or issubclass(plain, enum.Enum))


def many_of(hint: Any) -> Any:
    """The member type, where the type is a list (tuple, set) of what text can hold; else None."""
    plain, _ = unwrap(hint)
    origin = get_origin(plain)
    if origin in {Union, types.UnionType}:
        members = [member for member in get_args(plain) if member is not type(None)]
        return many_of(members[0]) if len(members) == 1 else None
    arguments = get_args(plain)
    if origin in {list, set, frozenset} and is_text_like(arguments[0]):
        return arguments[0]
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis and is_text_like(arguments[0]):
        return arguments[0]
    return None


def is_body_like(hint: Any) -> bool:
    """Whether it is declared data: a Struct, dataclass, TypedDict or NamedTuple, or a collection or union of them."""
    plain, _ = unwrap(hint)
    origin = get_origin(plain)
    if origin in {Union, types.UnionType}:
        members = [member for member in get_args(plain) if member is not type(None)]
        return bool(members) and all(is_body_like(member) for member in members)
    if origin in {list, tuple, set, frozenset}:
        return any(is_body_like(member) for member in get_args(plain) if member is not Ellipsis)
    if origin is dict or plain is dict:
        return True
    kind = origin if isinstance(origin, type) else plain
    return isinstance(kind, type) and (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or typing.is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        or hasattr(kind, "__attrs_attrs__")
    )


def unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type itself, and what `Annotated` adds to it."""
    if get_origin(hint) is Annotated:
        plain, *extras = get_args(hint)
        return plain, tuple(extras)
    return hint, ()


def without_none(hint: Any) -> Any:
    """The type without None, for what arrives as text: it is left out instead, and `null` is text as any other."""
    plain, extras = unwrap(hint)
    if get_origin(plain) in {Union, types.UnionType}:
        members = tuple(member for member in get_args(plain) if member is not type(None))
        plain = Union[members]  # noqa: UP007 of a tuple
    return Annotated[(plain, *extras)] if extras else plain


def shown(hint: Any) -> str:
    """For messages."""
    return getattr(hint, "__name__", None) or str(hint)
