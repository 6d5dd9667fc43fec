"""Keys: what SQLite compares and indexes in the place of a document's value.

SQLite orders NULL, numbers, texts, blobs. So a key is NULL for null and missing, the number or text itself, and for
every other type a blob whose first byte is the type's place in MongoDB's order, so that keys sort as MongoDB sorts.
Two blobs stand for what has no key: `ARRAY` for an array on the path (its elements have keys of their own, in
`indexes.py`), and `ODD` for numbers that are no JSON numbers (Decimal128, NaN, the infinities) and Min/MaxKey.

`key_sql` makes the key of a path out of a row's document, and `key_of` that of a value in Python; a test holds the two
equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from bson import Binary, Decimal128, ObjectId

from consona.documents.extended_json import dumps, loads
from consona.documents.values import order, rank

__all__ = [
    "ARRAY",
    "ODD",
    "ODD_END",
    "decoded_id",
    "element_key_sql",
    "encoded_id",
    "json_path",
    "key_of",
    "key_sql",
    "quoted",
    "same_numbers",
]

ARRAY: Final = b"\x19"
ODD: Final = b"\x0a"
ODD_END: Final = b"\x0b"
_OBJECT: Final = b"\x14"
_BINARY: Final = b"\x1e"
_OBJECT_ID: Final = b"#"
_BOOL: Final = b"("
_NULL_ID: Final = b"\x05"

# The first letters of extended JSON tell the type: {"$date, {"$oid, {"$numberDecimal, …
_TAGS: Final = {
    '{"$d': "'-'",
    '{"$o': "'#'",
    '{"$b': "char(30)",
    '{"$u': "char(30)",
    '{"$n': "char(10)",
    '{"$m': "char(10)",
    '{"$t': "'/'",
    '{"$r': "'2'",
}


def quoted(name: str) -> str:
    """A name as SQL has it."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def json_path(parts: Sequence[str]) -> str:
    """A path of SQLite's JSON functions, as an SQL text."""
    labels = "".join('."' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)
    return "'$" + labels.replace("'", "''") + "'"


def key_sql(parts: Sequence[str], source: str = "data") -> str:
    """SQL for the key of a path of the document in the column `source`."""
    path = json_path(parts)
    key = _typed(f"json_type({source},{path})", f"{source}->>{path}")
    if len(parts) == 1:
        return key
    arrays = " OR ".join(f"json_type({source},{json_path(parts[:end])})='array'" for end in range(1, len(parts)))
    return f"CASE WHEN {arrays} THEN x'19' ELSE {key} END"


def element_key_sql(row: str) -> str:
    """SQL for the key of an element that `json_each` gives."""
    return _typed(f"{row}.type", f"{row}.value")


def _typed(kind: str, value: str) -> str:
    tags = " ".join(f"WHEN '{start}' THEN {tag}" for start, tag in _TAGS.items())
    return (
        f"CASE {kind} WHEN 'text' THEN {value} WHEN 'integer' THEN {value} WHEN 'real' THEN {value}"
        " WHEN 'true' THEN x'2831' WHEN 'false' THEN x'2830' WHEN 'array' THEN x'19'"
        f" WHEN 'object' THEN CAST(CASE substr({value},1,4) {tags} ELSE char(20) END||({value}) AS BLOB) END"
    )


def key_of(value: Any) -> Any:
    """The key of a value, as it is bound to a statement."""
    kind = type(value)
    if kind in {int, str, type(None)}:
        return value
    if kind is float and value - value == 0:  # finite
        return value
    if kind is bool:
        return b"(1" if value else b"(0"
    if kind is list:
        return ARRAY
    place = rank(value)
    if place in {-1, 10, 127}:
        return ODD + dumps(value).encode()
    return bytes([place]) + dumps(value).encode()


# The column `id`.


def encoded_id(value: Any) -> Any:
    """An `_id` as the column `id` has it: equal ids are equal there."""
    kind = type(value)
    if kind is ObjectId:
        return _OBJECT_ID + value.binary
    if value is None:
        return _NULL_ID
    if kind is Decimal128:
        return _plain_number(value)
    if kind is dict:
        return _OBJECT + repr(same_numbers(order(value))).encode()
    return _BINARY + dumps(value).encode() if kind in {bytes, Binary} else key_of(value)


def _plain_number(value: Decimal128) -> Any:
    """A decimal as the number that it equals, where there is one."""
    number: Decimal = value.to_decimal()
    if not number.is_finite():
        return key_of(float(number))
    if number == int(number) and -(1 << 63) <= number < 1 << 63:
        return int(number)
    return float(number) if Decimal(float(number)) == number else ODD + str(number.normalize()).encode()


def same_numbers(key: Any) -> Any:
    """A key of `order` in which equal numbers are written alike."""
    if type(key) is tuple:
        return tuple(same_numbers(item) for item in key)
    if type(key) in {float, Decimal} and key - key == 0:
        return int(key) if key == int(key) else float(key)
    return key


def decoded_id(stored: Any) -> Any:
    """The `_id` of a row whose document does not hold it."""
    if type(stored) is not bytes:
        return stored
    tag = stored[:1]
    if tag == _OBJECT_ID:
        return ObjectId(stored[1:])
    if tag == _BOOL:
        return stored == b"(1"
    return None if tag == _NULL_ID else loads(stored[1:].decode())
