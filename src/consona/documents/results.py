"""What writes answer: PyMongo's results, with its attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BulkWriteResult",
    "DeleteResult",
    "InsertManyResult",
    "InsertOneResult",
    "ReturnDocument",
    "UpdateResult",
]


class ReturnDocument:
    """Which document `find_one_and_update` and `find_one_and_replace` give: as it was, or as it is now."""

    BEFORE = False
    AFTER = True


@dataclass(frozen=True, slots=True)
class InsertOneResult:
    inserted_id: Any
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class InsertManyResult:
    inserted_ids: list[Any]
    """In the order of the documents."""
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class UpdateResult:
    matched_count: int
    modified_count: int
    """Fewer than matched where some were the same already."""
    upserted_id: Any = None
    did_upsert: bool = False
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class DeleteResult:
    deleted_count: int
    acknowledged: bool = True


@dataclass(frozen=True, slots=True)
class BulkWriteResult:
    inserted_count: int = 0
    matched_count: int = 0
    modified_count: int = 0
    deleted_count: int = 0
    upserted_count: int = 0
    upserted_ids: dict[int, Any] = field(default_factory=dict)
    """Place of the write -> the new document's `_id`."""
    acknowledged: bool = True
