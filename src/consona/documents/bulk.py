"""What several writes did together, in PyMongo's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from consona.documents.engine import Delete, Insert, Write, Written
from consona.documents.errors import DuplicateKey
from consona.documents.results import BulkWriteResult
from consona.errors import ConsonaError, ValidationError

__all__ = ["bulk_result"]

DUPLICATE_KEY: Final = 11000
REFUSED: Final = 121
OTHER: Final = 2
"""MongoDB's numbers: DuplicateKey, DocumentValidationFailure, BadValue."""


def bulk_result(
    writes: Sequence[Write], answers: Sequence[Written | ConsonaError]
) -> tuple[BulkWriteResult, dict[str, Any]]:
    """The result, and PyMongo's `details` with every write that failed."""
    count = {"inserted": 0, "matched": 0, "modified": 0, "deleted": 0}
    upserted: dict[int, Any] = {}
    failed: list[dict[str, Any]] = []
    for place, (write, answer) in enumerate(zip(writes, answers, strict=False)):  # an error may have ended it early
        if isinstance(answer, ConsonaError):
            failed.append({"index": place, "code": _number(answer), "errmsg": answer.message})
        elif isinstance(write, Insert):
            count["inserted"] += answer.modified
        elif isinstance(write, Delete):
            count["deleted"] += answer.modified
        else:
            count["matched"] += answer.matched
            count["modified"] += answer.modified
            if answer.upserted:
                upserted[place] = answer.upserted_id
    result = BulkWriteResult(
        inserted_count=count["inserted"],
        matched_count=count["matched"],
        modified_count=count["modified"],
        deleted_count=count["deleted"],
        upserted_count=len(upserted),
        upserted_ids=upserted,
    )
    details = {
        "writeErrors": failed,
        "writeConcernErrors": [],
        "nInserted": result.inserted_count,
        "nUpserted": result.upserted_count,
        "nMatched": result.matched_count,
        "nModified": result.modified_count,
        "nRemoved": result.deleted_count,
        "upserted": [{"index": place, "_id": identity} for place, identity in upserted.items()],
    }
    return result, details


def _number(error: ConsonaError) -> int:
    if isinstance(error, DuplicateKey):
        return DUPLICATE_KEY
    return REFUSED if isinstance(error, ValidationError) else OTHER
