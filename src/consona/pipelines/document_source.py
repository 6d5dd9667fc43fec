"""Rows of a collection of documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from bson import ObjectId

from consona.documents.database import DocumentDatabase
from consona.part import Part
from consona.pipelines.batch import Position
from consona.pipelines.source import Extracted, Room, batched
from consona.pipelines.state import pack_value, unpack_value

__all__ = ["DocumentSource"]


class DocumentSource:
    """The documents that a filter finds.

    Args:
        documents: The database, or its address.
        collection: Its name.
        query: Which documents; all by default.
        projection: Which fields.
        cursor: A field that only grows (`_id` of documents that are never changed): a run reads those with a
            greater one than the last run saw.

    Example:
        >>> DocumentSource("memory://shop", "products").name
        'products'
    """

    def __init__(
        self,
        documents: DocumentDatabase | str,
        collection: str,
        query: Mapping[str, Any] | None = None,
        *,
        projection: Any = None,
        cursor: str = "",
        name: str = "",
    ) -> None:
        self.documents = DocumentDatabase(documents) if isinstance(documents, str) else documents
        self._collection = collection
        self._query = dict(query or {})
        self._projection = projection
        self._cursor = cursor
        self.name = name or collection
        self.incremental = self.resumable = bool(cursor)

    @property
    def parts(self) -> Sequence[Part]:
        return (self.documents,)

    async def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        query = self._query
        if position:
            after = {self._cursor: {"$gt": _unpack(position["cursor"])}}
            query = {"$and": [query, after]} if query else after
        found = self.documents[self._collection].find(query, self._projection)
        if self._cursor:
            found = found.sort(self._cursor)
        kept = 0
        held: list[Any] = []
        async for rows in batched(found, room):
            if not self._cursor:
                yield Extracted(rows)
                continue
            # Documents with the same cursor stay together, so that a position never stands between them.
            held += rows
            last = held[-1].get(self._cursor)
            kept = next((n for n in range(len(held), 0, -1) if held[n - 1].get(self._cursor) != last), 0)
            if kept:
                yield Extracted(held[:kept], {"cursor": _pack(held[kept - 1].get(self._cursor))})
                held = held[kept:]
        if held:
            yield Extracted(held, {"cursor": _pack(held[-1].get(self._cursor))})


def _pack(value: Any) -> Any:
    return {"oid": str(value)} if isinstance(value, ObjectId) else pack_value(value)


def _unpack(packed: Any) -> Any:
    return ObjectId(packed["oid"]) if isinstance(packed, dict) and "oid" in packed else unpack_value(packed)
