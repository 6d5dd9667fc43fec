"""Rows as documents, and documents as rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from bson import ObjectId

from consona.documents.extended_json import dump_bytes, restored
from consona.documents.sqlite.keys import decoded_id, encoded_id
from consona.documents.values import Document, identical

__all__ = ["read_document", "read_rows", "row_of"]

_decode: Final = msgspec.json.Decoder(Document).decode
_READ_BACK: Final = frozenset({int, str, bool, ObjectId, type(None)})


def read_document(identity: Any, text: str) -> Document:
    """The document of a row: `id`, and `json(data)`."""
    fields = _decode(text)
    if '"$' in text:
        restored(fields)
    return fields if "_id" in fields else {"_id": decoded_id(identity), **fields}


def read_rows(rows: Iterable[Any]) -> list[tuple[int, Document]]:
    """Of rows with `seq`, `id` and `json(data)`: the number and the document of each."""
    return [(seq, read_document(identity, text)) for seq, identity, text in rows]


def row_of(document: Document) -> tuple[Any, str]:
    """`id` and `data` of a checked document, whose `_id` comes first."""
    fields = dict(document)
    identity = fields.pop("_id")
    stored = encoded_id(identity)
    if type(identity) not in _READ_BACK and not _reads_back(stored, identity):
        fields = {"_id": identity, **fields}
    return stored, dump_bytes(fields).decode()


def _reads_back(stored: Any, identity: Any) -> bool:
    try:
        return identical(decoded_id(stored), identity)
    except ValueError:
        return False
