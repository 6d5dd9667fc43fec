"""The writes that `bulk_write` takes, with PyMongo's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from consona.documents.collation import Collation, parse_collation
from consona.documents.document import checked_document
from consona.documents.engine import Delete, Give, Insert, Modify, Write
from consona.documents.errors import OperatorError
from consona.documents.filters import parse_filter
from consona.documents.sorting import parse_sort
from consona.documents.updates import parse_replacement, parse_update
from consona.documents.values import Document

__all__ = [
    "DeleteMany",
    "DeleteOne",
    "InsertOne",
    "Operation",
    "ReplaceOne",
    "UpdateMany",
    "UpdateOne",
    "deletion",
    "insertion",
    "modification",
]

Raw = Mapping[str, Any]


def insertion(document: Any) -> Insert:
    """Check a document; one without `_id` is given one, in the caller's document too where that is a dict."""
    if isinstance(document, dict) and "_id" not in document:
        document["_id"] = ObjectId()
    kept = checked_document(document)
    if next(iter(kept), None) != "_id":
        kept = {"_id": kept["_id"] if "_id" in kept else ObjectId(), **kept}
    return Insert(kept)


def modification(
    query: Raw,
    change: Any,
    *,
    replace: bool = False,
    many: bool = False,
    upsert: bool = False,
    array_filters: Sequence[Raw] | None = None,
    sort: Any = None,
    collation: Collation | Raw | None = None,
    hint: str | None = None,
    if_match: int | None = None,
    give: Give = "none",
    let: Mapping[str, Any] | None = None,
    inserted: Document | None = None,
) -> Modify:
    """Understand an update or a replacement; `let` and `inserted` are those of `parse_update`."""
    compare = parse_collation(collation)
    if replace:
        if if_match is not None and isinstance(change, dict):
            change = {name: value for name, value in change.items() if name != "_version"}
        parsed: Any = parse_replacement(change)
    else:
        parsed = parse_update(change, array_filters=array_filters, collation=compare, let=let, inserted=inserted)
    if upsert and if_match is not None:
        raise OperatorError("An upsert with if_match cannot be: what does not exist has no version.")
    return Modify(
        filter=parse_filter(_required(query), compare),
        change=parsed,
        many=many,
        upsert=upsert,
        sort=parse_sort(sort, collation=compare),
        if_match=if_match,
        give=give,
        hint=hint,
    )


def deletion(
    query: Raw,
    *,
    many: bool = False,
    sort: Any = None,
    collation: Collation | Raw | None = None,
    hint: str | None = None,
    if_match: int | None = None,
    give: Give = "none",
) -> Delete:
    """Understand a deletion."""
    compare = parse_collation(collation)
    return Delete(
        filter=parse_filter(_required(query), compare),
        many=many,
        sort=parse_sort(sort, collation=compare),
        if_match=if_match,
        give=give,
        hint=hint,
    )


def _required(query: Any) -> Raw:
    if not isinstance(query, Mapping):
        raise OperatorError("A write takes a filter that says which documents.", hint="{} means all of them.")
    return query


@dataclass(frozen=True, slots=True)
class InsertOne:
    document: Any

    def write(self) -> Write:
        return insertion(self.document)


@dataclass(frozen=True, slots=True)
class UpdateOne:
    filter: Raw
    update: Any
    upsert: bool = False
    collation: Raw | None = None
    array_filters: Sequence[Raw] | None = None
    hint: str | None = None
    sort: Any = None

    def write(self) -> Write:
        return modification(
            self.filter,
            self.update,
            upsert=self.upsert,
            array_filters=self.array_filters,
            sort=self.sort,
            collation=self.collation,
            hint=self.hint,
        )


@dataclass(frozen=True, slots=True)
class UpdateMany:
    filter: Raw
    update: Any
    upsert: bool = False
    collation: Raw | None = None
    array_filters: Sequence[Raw] | None = None
    hint: str | None = None

    def write(self) -> Write:
        return modification(
            self.filter,
            self.update,
            many=True,
            upsert=self.upsert,
            array_filters=self.array_filters,
            collation=self.collation,
            hint=self.hint,
        )


@dataclass(frozen=True, slots=True)
class ReplaceOne:
    filter: Raw
    replacement: Any
    upsert: bool = False
    collation: Raw | None = None
    hint: str | None = None
    sort: Any = None

    def write(self) -> Write:
        return modification(
            self.filter,
            self.replacement,
            replace=True,
            upsert=self.upsert,
            sort=self.sort,
            collation=self.collation,
            hint=self.hint,
        )


@dataclass(frozen=True, slots=True)
class DeleteOne:
    filter: Raw
    collation: Raw | None = None
    hint: str | None = None

    def write(self) -> Write:
        return deletion(self.filter, collation=self.collation, hint=self.hint)


@dataclass(frozen=True, slots=True)
class DeleteMany:
    filter: Raw
    collation: Raw | None = None
    hint: str | None = None

    def write(self) -> Write:
        return deletion(self.filter, many=True, collation=self.collation, hint=self.hint)


Operation = InsertOne | UpdateOne | UpdateMany | ReplaceOne | DeleteOne | DeleteMany
