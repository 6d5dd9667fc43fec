"""What can go wrong with documents and queries, beside what every database can say.

ConsonaError
├── QueryError              (foundation)
│   ├── OperatorError       an operator that does not exist, is refused, or is used wrongly
│   ├── PatternTooSlow      a regular expression took too long
│   └── ConstraintFailed    (foundation)
│       └── DuplicateKey    another document has this key in a unique index
└── ValidationError         (foundation)
    └── DocumentRefused     a document that cannot be kept: its keys, types, depth or size
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from consona.errors import ConstraintFailed, FieldProblem, QueryError, ValidationError

__all__ = ["DocumentRefused", "DuplicateKey", "OperatorError", "PatternTooSlow", "refused", "unknown_operator"]


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


class DocumentRefused(ValidationError):
    """A document cannot be kept: a key, a type, a number, its depth or its size breaks a rule."""

    code = "validation.document"


# Operators that run code are refused for good; the others belong to servers or need what no engine here has.
_REFUSED = {
    "$where": "it runs code; $expr can compare fields with each other",
    "$function": "it runs code; the other expressions do without",
    "$accumulator": "it runs code; $group has $sum, $push, $first and others",
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
