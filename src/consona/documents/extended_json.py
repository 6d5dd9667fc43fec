"""Documents as JSON, with BSON's own types in MongoDB's extended JSON: `{"$oid": "507f…"}`, `{"$date": "2024-…"}`.

Engines keep documents in this form, so every tool that knows MongoDB reads them; `import` and `export` use it too.
Dates are always written in full, `2024-05-01T12:00:00.000Z`, so that they sort as texts.

Source: https://github.com/mongodb/specifications/blob/master/source/extended-json.md
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from bson import Binary, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp

from consona.documents.values import Document

__all__ = ["date_text", "dump_bytes", "dumps", "extended", "loads", "restored"]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_SCALARS: Final = frozenset({str, int, bool, type(None)})


def date_text(value: datetime) -> str:
    """A UTC date as text that sorts like it."""
    return f"{value:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + f".{value.microsecond // 1000:03d}Z"


def _double(value: float) -> Any:
    if math.isfinite(value):
        return value
    return {"$numberDouble": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}


def _binary(value: bytes | Binary) -> Any:
    subtype = value.subtype if isinstance(value, Binary) else 0
    return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": f"{subtype:02x}"}}


def _regex(value: Regex[Any]) -> Any:
    letters = {1 << 1: "i", 1 << 2: "l", 1 << 3: "m", 1 << 4: "s", 1 << 6: "x"}
    options = "".join(letter for flag, letter in letters.items() if value.flags & flag)
    return {"$regularExpression": {"pattern": value.pattern, "options": options}}


_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    float: _double,
    dict: lambda value: {name: extended(item) for name, item in value.items()},
    list: lambda value: [extended(item) for item in value],
    ObjectId: lambda value: {"$oid": str(value)},
    datetime: lambda value: {"$date": date_text(value)},
    Decimal128: lambda value: {"$numberDecimal": str(value)},
    bytes: _binary,
    Binary: _binary,
    UUID: lambda value: {"$uuid": str(value)},
    Timestamp: lambda value: {"$timestamp": {"t": value.time, "i": value.inc}},
    Regex: _regex,
    MinKey: lambda _: {"$minKey": 1},
    MaxKey: lambda _: {"$maxKey": 1},
}


def extended(value: Any) -> Any:
    """A checked value in the types of JSON."""
    return value if type(value) in _SCALARS else _WRITERS[type(value)](value)


def _is_json(value: Any) -> bool:
    """Whether JSON has every type in a document or array, so that nothing must be written in another way."""
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind in _SCALARS or (kind is float and -math.inf < item < math.inf):
            continue
        if kind not in {dict, list} or not _is_json(item):
            return False
    return True


def dump_bytes(document: Document) -> bytes:
    """A checked document as JSON in UTF-8."""
    return _encode(document if _is_json(document) else extended(document))


def dumps(value: Any) -> str:
    """A checked value as JSON."""
    return _encode(extended(value)).decode()


def loads(text: str | bytes) -> Any:
    """What `dumps` wrote, or other extended JSON, with BSON's types restored.

    Raises:
        ValueError: The text is no JSON, or what stands below a `$` name is not of its form.
    """
    value = _decode(text)
    marked = '"$' in text if isinstance(text, str) else b'"$' in text
    return restored(value) if marked else value


def restored(value: Any) -> Any:
    """A decoded value with BSON's types in place of their extended form."""
    kind = type(value)
    if kind is dict:
        if len(value) == 1:
            [(name, item)] = value.items()
            read = _READERS.get(name)
            if read is not None:
                return read(item)
        for name, item in value.items():
            if type(item) in {dict, list}:
                value[name] = restored(item)
    elif kind is list:
        for place, item in enumerate(value):
            if type(item) in {dict, list}:
                value[place] = restored(item)
    return value


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _read_date(value: Any) -> datetime:
    if isinstance(value, str):
        read = datetime.fromisoformat(value)
        read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
        return read.replace(microsecond=read.microsecond // 1000 * 1000)
    number = int(value["$numberLong"] if isinstance(value, dict) else value)
    try:
        return _EPOCH + timedelta(milliseconds=number)
    except OverflowError:
        raise ValueError("a date outside of the years 1 to 9999") from None


def _read_binary(value: Any) -> Any:
    data, subtype = base64.b64decode(value["base64"], validate=True), int(str(value["subType"]), 16)
    if subtype == 4 and len(data) == 16:
        return UUID(bytes=data)
    return data if subtype == 0 else Binary(data, subtype)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$oid": ObjectId,
    "$date": _read_date,
    "$numberDecimal": Decimal128,
    "$numberDouble": float,
    "$numberInt": int,
    "$numberLong": int,
    "$binary": _read_binary,
    "$uuid": UUID,
    "$timestamp": lambda value: Timestamp(value["t"], value["i"]),
    "$regularExpression": lambda value: Regex(value["pattern"], value["options"]),
    "$symbol": str,
    "$undefined": lambda _: None,
    "$minKey": lambda _: MinKey(),
    "$maxKey": lambda _: MaxKey(),
}
