"""What a document may hold: its types, its keys, its depth and its size.

A document that passes is a copy of its own, in plain types (`dict`, `list`, `str`, …), so nothing that the
caller changes later changes it, and the rest of the package need not look at subclasses.

Source: https://www.mongodb.com/docs/manual/reference/limits/, https://www.mongodb.com/docs/manual/core/document/
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import bson
import msgspec
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.errors import InvalidDocument

from consona.documents.errors import refused
from consona.documents.values import Document

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Literal", "bson_size", "checked_document", "checked_id", "checked_value"]

MAX_BYTES: Final = 16 * 1024 * 1024
"""The size of a document in BSON."""
MAX_DEPTH: Final = 100
"""Documents and arrays within each other."""
SURELY_SMALL: Final = 100_000
"""Up to so many values and letters, a document need not be measured."""

_INT64: Final = range(-(1 << 63), 1 << 63)
_AS_THEY_ARE: Final = frozenset({bool, type(None), float, ObjectId, Decimal128, UUID, bytes, Timestamp, MinKey, MaxKey})
_REFERENCE_KEYS: Final = frozenset({"$ref", "$id", "$db"})


class Literal:
    """A value that is never an operator, whatever it holds: wrap what users send.

    Example:
        >>> from consona.documents.filters import parse_filter
        >>> form = {"name": "ada", "password": {"$ne": None}}        # somebody tries to get in
        >>> account = {"name": "ada", "password": "x7Kq"}
        >>> parse_filter({"name": form["name"], "password": form["password"]}).matches(account)
        True
        >>> parse_filter({"name": form["name"], "password": Literal(form["password"])}).matches(account)
        False
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Literal(…)"


def checked_document(document: Any) -> Document:
    """A copy of a document that is to be kept.

    Args:
        document: A mapping, a `msgspec.Struct` or a dataclass.

    Raises:
        DocumentRefused: Something in it cannot be kept; the message says what and where.
    """
    fields = _fields(document)
    if fields is None:
        raise refused("", f"expected a mapping, a Struct or a dataclass, got {type(document).__name__}")
    copy = _Copy(stored=True)
    kept = copy.mapping(fields, "", 1)
    if copy.weight > SURELY_SMALL and (size := bson_size(kept)) > MAX_BYTES:
        raise refused("", f"it has {size} bytes in BSON; at most {MAX_BYTES} are allowed", "Keep large data in files.")
    if "_id" in kept:
        checked_id(kept["_id"])
    return kept


def checked_value(value: Any, path: str = "", *, stored: bool = False) -> Any:
    """A copy of a value in plain types; its keys may begin with a dollar unless it is to be `stored`."""
    return _Copy(stored=stored).value(value, path, 1)


def checked_id(value: Any) -> None:
    """Refuse what cannot be an `_id`: an array, a regular expression."""
    if type(value) is list or type(value) is Regex:
        raise refused("_id", f"an {'array' if type(value) is list else 'expression'} cannot be the id of a document")


def bson_size(document: Document) -> int:
    """The size of a checked document in BSON, in bytes."""
    try:
        return len(bson.encode({"": document})) - 7
    except InvalidDocument as error:  # more than 2 GiB, or what `checked_document` would have refused
        raise refused("", f"it cannot be written as BSON ({error})") from error


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a mapping, a Struct or a dataclass."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, msgspec.Struct):
        fields = {
            field.encode_name: item
            for field in msgspec.structs.fields(value)
            if (item := getattr(value, field.name)) is not msgspec.UNSET
        }
        config = value.__struct_config__
        return {config.tag_field: config.tag, **fields} if config.tag_field is not None else fields
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


class _Copy:
    """One walk over one document."""

    __slots__ = ("stored", "weight")

    def __init__(self, *, stored: bool) -> None:
        self.stored = stored
        self.weight = 0
        """At least a hundredth of the size in BSON (a key of an array has at most 8 bytes, a number 9)."""

    def mapping(self, fields: Mapping[str, Any], path: str, depth: int) -> Document:
        if depth > MAX_DEPTH:
            raise refused(path[:80], f"documents and arrays can be at most {MAX_DEPTH} levels deep")
        copy: Document = {}
        for name, value in fields.items():
            kind = type(value)
            if type(name) is not str or not name or "$" in name or "." in name or "\0" in name or not name.isascii():
                name = self.key(name, path)  # noqa: PLW2901  a plain str now
            if kind is str and value.isascii():
                self.weight += len(value)
                copy[name] = value
            else:
                copy[name] = self.value(value, f"{path}.{name}" if path else name, depth)
            self.weight += len(name) + 1
        return copy

    def key(self, name: Any, path: str) -> str:
        if not isinstance(name, str):
            raise refused(path, f"the key {name!r} is no text", "Keys of documents are text: write str(key).")
        if self.stored:
            if "\0" in name:
                raise refused(path, f"the key {name!r} holds a NUL character")
            if name.startswith("$") and name not in _REFERENCE_KEYS:
                raise refused(
                    path,
                    f"the key {name!r} begins with a dollar, as operators do",
                    "Rename it. Where a user sent it, it may be an attack: keep the text as a value.",
                )
            if "." in name or not name:
                raise refused(path, f"the key {name!r} is empty or has a dot, so no path could name it")
        return self.text(name, path)

    def value(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        self.weight += 1
        if kind in _AS_THEY_ARE:
            if kind is bytes:
                self.weight += len(value)
            return value
        if kind is str:
            return self.text(value, path)
        if kind is int:
            return self.integer(value, path)
        if kind is dict:
            return self.mapping(value, path, depth + 1)
        if kind is list:
            return self.array(value, path, depth + 1)
        if kind is datetime:
            return self.date(value, path)
        return self.uncommon(value, path, depth)

    def array(self, value: Any, path: str, depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise refused(path[:80], f"documents and arrays can be at most {MAX_DEPTH} levels deep")
        return [self.value(item, f"{path}.{place}", depth) for place, item in enumerate(value)]

    def text(self, value: str, path: str) -> str:
        self.weight += len(value)
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise refused(path, "the text holds half of a surrogate pair, which is no character") from error
        return str(value)

    def integer(self, value: int, path: str) -> int:
        if value not in _INT64:
            raise refused(path, "the integer does not fit into 64 bits", "Keep it as text, or as a Decimal128.")
        return int(value)

    def date(self, value: datetime, path: str) -> datetime:
        """In UTC, cut to milliseconds as BSON has them; one without a zone is taken as UTC, as PyMongo does."""
        try:
            value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError as error:
            raise refused(path, "the date leaves the years 1 to 9999 in UTC") from error
        return value.replace(microsecond=value.microsecond // 1000 * 1000)

    def uncommon(self, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, Literal):
            return self.value(value.value, path, depth)
        if isinstance(value, Binary):
            return bytes(value) if value.subtype == 0 else self.binary(value)
        for base, convert in _PLAIN:
            if isinstance(value, base):
                return self.value(convert(value), path, depth)
        if isinstance(value, re.Pattern):
            value = Regex.from_native(value)
        if isinstance(value, Regex):
            return Regex(self.text(str(value.pattern), path), value.flags & ~re.UNICODE)
        if isinstance(value, tuple):
            return self.array(value, path, depth + 1)
        fields = _fields(value)
        if fields is not None:
            return self.mapping(fields, path, depth + 1)
        raise refused(path, f"a {type(value).__qualname__} is no value of a document", _HINTS.get(type(value), ""))

    def binary(self, value: Binary) -> Any:
        self.weight += len(value)
        return value.as_uuid() if value.subtype == 4 and len(value) == 16 else value


_PLAIN: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (Enum, lambda value: value.value),
    (bool, bool),
    (Int64, int),
    (int, int),
    (float, float),
    (str, str.__str__),
    (datetime, lambda value: datetime.combine(value.date(), value.timetz())),
    (bytes, bytes),
    (bytearray, bytes),
    (memoryview, bytes),
    (list, list),
)

_HINTS: Final[dict[type, str]] = {
    Decimal: "Write Decimal128(value): from bson import Decimal128.",
    date: "Write a datetime: datetime(day.year, day.month, day.day, tzinfo=UTC).",
    time: "Keep it as text, or as a number of seconds.",
    timedelta: "Keep it as a number of seconds.",
    set: "Write it as a list.",
    frozenset: "Write it as a list.",
    complex: "Keep its two numbers.",
}
