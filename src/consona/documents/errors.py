"""What can go wrong with documents and queries, beside what every database can say.

ConsonaError
├── QueryError              (foundation)
│   ├── OperatorError       an operator that does not exist, is refused, or is used wrongly
│   ├── PatternTooSlow      a regular expression took too long
│   ├── ChangesLost         a watch cannot go on where it stopped
│   ├── BulkWriteError      some of several writes failed
│   └── ConstraintFailed    (foundation)
│       └── DuplicateKey    another document has this key in a unique index
├── Conflict                (foundation)
│   └── DocumentChanged     somebody changed the document meanwhile
└── ValidationError         (foundation)
    └── DocumentRefused     a document that cannot be kept: its keys, types, depth or size
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from consona.errors import Conflict, ConstraintFailed, FieldProblem, QueryError, ValidationError

__all__ = [
    "BulkWriteError",
    "ChangesLost",
    "DocumentChanged",
    "DocumentRefused",
    "DuplicateKey",
    "OperatorError",
    "PatternTooSlow",
    "refused",
    "unknown_operator",
]


class OperatorError(QueryError):
    """An operator of a filter, an update or a pipeline does not exist, is refused, or is used wrongly.

    It is a mistake in the program, or text of a user that came where an operator can stand.
    """

    code = "query.operator"
    status = 400


class PatternTooSlow(QueryError):
    """A regular expression took too long on the documents, so the query was given up."""

    code = "query.pattern_too_slow"
    status = 400
    hint = "Avoid repeats inside repeats, such as (a+)+, and begin the pattern with ^ and fixed text where you can."


class DuplicateKey(ConstraintFailed):
    """Another document has this key in a unique index (`_id` is one)."""

    code = "query.duplicate_key"
    hint = "Change the document that is there (update_one, replace_one), or give the new one another key."


class ChangesLost(QueryError):
    """A watch cannot go on after its token: what came then is no longer kept, or never was."""

    code = "query.changes_lost"
    status = 410
    hint = "Read the collection anew, then watch without a token."


class BulkWriteError(QueryError):
    """Some of several writes failed. Those before (and, unordered, those after) them happened.

    Attributes:
        details: As PyMongo has them: `writeErrors` (each with `index`, `code`, `errmsg`), `nInserted`, `nMatched`,
            `nModified`, `nRemoved`, `nUpserted`, `upserted`.
    """

    code = "query.bulk_write"
    status = 409
    hint = "Look at `details`: it tells of each write that failed, by its place."

    def __init__(self, message: str = "", *, details: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.details = details or {}


class DocumentChanged(Conflict):
    """The document has another version than `if_match` says: somebody changed it meanwhile."""

    code = "conflict.document"
    hint = "Read it again, look at what changed, and repeat the change on that."


class DocumentRefused(ValidationError):
    """A document cannot be kept: a key, a type, a number, its depth or its size breaks a rule."""

    code = "validation.document"


# Operators that run code are refused for good; the others belong to servers or need what no engine here has.
_REFUSED = {
    "$where": "it runs code; $expr can compare fields with each other",
    "$function": "it runs code; the other expressions do without",
    "$accumulator": "it runs code; $group has $sum, $push, $first and others",
    "$text": "no engine here keeps a text index; $regex finds words, more slowly",
}


def unknown_operator(name: str, known: Iterable[str], where: str) -> OperatorError:
    """The error for an operator that `where` (a filter, an update, …) does not have."""
    if name in _REFUSED:
        return OperatorError(f"{name} is refused: {_REFUSED[name]}.", hint="", operator=name)
    near = get_close_matches(name, list(known), n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else "The reference lists the operators that there are."
    return OperatorError(f"{name!r} is no operator of {where}.", hint=hint, operator=name)


def refused(path: str, problem: str, hint: str = "") -> DocumentRefused:
    """The error for what is wrong at one place of a document."""
    place = path or "the document"
    return DocumentRefused(f"{place}: {problem}.", hint=hint, fields=[FieldProblem(path, problem)])
