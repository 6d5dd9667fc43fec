"""What PostgreSQL and its driver say when something fails, in the words of Consona's tree.

PostgreSQL's own words are kept where they name tables, columns and rules. Those of class 22 (data that does
not fit) quote the value, so they are replaced.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from typing import Any, Final

import asyncpg

from consona.errors import (
    CommitUnknown,
    ConnectionLost,
    ConsonaError,
    ConstraintFailed,
    DatabaseCorrupt,
    DatabaseLocked,
    DatabaseReadOnly,
    DeadlineExceeded,
    DiskFull,
    QueryError,
    StatementError,
    TransactionConflict,
)

__all__ = ["is_lost", "is_outdated", "lost", "translated", "was_sent"]

ENDED: Final = {"57P01", "57P03", "57P05", "25P03"}
"""The server says that it ends the session, which it says instead of committing, not after it."""

_CLASSES: Final[dict[str, tuple[type[QueryError], str]]] = {
    "23": (ConstraintFailed, "refused the change"),
    "42": (StatementError, "does not understand the statement"),
    "42501": (QueryError, "refused the statement"),
    "40": (TransactionConflict, "could not run this beside others"),
    "55P03": (DatabaseLocked, "did not get a lock in time"),
    "25006": (DatabaseReadOnly, "may only be read here"),
    "53100": (DiskFull, "cannot grow: its disk is full"),
    "XX001": (DatabaseCorrupt, "is damaged"),
    "XX002": (DatabaseCorrupt, "is damaged"),
}
_DATA: Final = {
    "22001": "a text is too long for its column",
    "22003": "a number is out of the range of its type",
    "22007": "a text is no date or time",
    "22008": "a date or time is out of range",
    "22012": "division by zero",
    "22021": "a text has characters that the encoding does not have",
    "22023": "a parameter is out of range",
    "22P02": "a text does not read as the type that is expected",
    "22P03": "a value has not the type that is expected",
}
_STORED: Final = {"22001", "22003", "22007", "22008", "22P02", "22P03"}
"""Of those, what a rule of the schema refuses."""
_RULES: Final = {
    "23505": "unique",
    "23502": "not null",
    "23514": "check",
    "23503": "foreign key",
    "23P01": "other",
    **dict.fromkeys(_STORED, "type"),
}
_KEY: Final = re.compile(r"Key \(([^()]+)\)=")
"""Of the detail only the names of the columns; behind them is the value."""
_AGAIN: Final = "Run the transaction again as a whole: run_in_transaction() does it."
_HINTS: Final = {
    "25P02": "Look at the first error in the transaction; use a savepoint for what may fail.",
    "40P01": f"{_AGAIN} Change rows in the same order everywhere.",
    "42P18": "Say its type: write CAST(? AS integer), or CAST(:name AS text).",
    "42501": "GRANT the right to the user of the address, or use another user.",
    "42703": "Look at the column's name, and whether the migrations ran.",
    "42P01": "Look at the table's name, and whether the migrations ran.",
}


def translated(error: BaseException, name: str) -> BaseException:
    """The error of our tree for one of PostgreSQL's or its driver's, with it as the cause; others as they are."""
    if isinstance(error, asyncpg.PostgresError):
        ours: ConsonaError = _of_server(error, name)
    elif isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        ours = QueryError(f"{name}: {str(error).partition(chr(10))[0]}.", database=name)
    else:
        return error
    ours.__cause__ = error
    return ours


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, rather than the statement wrong."""
    if isinstance(error, asyncpg.PostgresConnectionError | OSError):
        return True
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return not was_sent(error)
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in {*ENDED, "57P02"}


def was_sent(error: BaseException) -> bool:
    """Whether the statement may have gone out before the connection was found to be gone."""
    if isinstance(error, asyncpg.InternalClientError):
        return "cannot switch to state" not in str(error)  # the server's farewell was read, its end was not yet
    return not (isinstance(error, asyncpg.InterfaceError) and "closed" in str(error))


def lost(error: BaseException, name: str, *, may_have_happened: bool) -> QueryError:
    """What a caller is told whose connection broke while it waited for an answer.

    Args:
        error: How that was noticed.
        name: The database.
        may_have_happened: Whether it would have been committed: not what only reads, or is in a transaction.
    """
    farewell = error if isinstance(error, asyncpg.PostgresError) and error.sqlstate in ENDED else error.__cause__
    announced = getattr(farewell, "sqlstate", None) in ENDED
    words = f"{name} ended the connection" if announced else f"The connection to {name} broke"
    ours: QueryError
    if may_have_happened and not announced and was_sent(error):
        ours = CommitUnknown(f"{words} before it answered.", database=name)
    else:
        ours = ConnectionLost(f"{words}; nothing was written.", database=name)
    ours.__cause__ = error
    return ours


def is_outdated(error: BaseException) -> bool:
    """Whether a prepared statement does not fit the schema any more."""
    return isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError)


def _of_server(error: asyncpg.PostgresError, name: str) -> ConsonaError:
    state: str = error.sqlstate or ""
    words: str = error.args[0] if error.args else type(error).__name__
    context: dict[str, Any] = {"database": name, "sqlstate": state}
    for attribute in ("table_name", "column_name", "constraint_name"):
        if found := getattr(error, attribute, None):
            context[attribute.removesuffix("_name")] = found
    if rule := _RULES.get(state):
        context["rule"] = rule
    if (columns := _KEY.match(error.detail or "")) and rule == "unique":
        context["columns"] = tuple(columns[1].split(", "))
    if (position := getattr(error, "position", None)) and state[:2] == "42":
        context["offset"] = int(position) - 1
    if state == "57014" and "timeout" in words:
        return DeadlineExceeded(f"{name}: {words}.", **context)
    if is_outdated(error):
        return TransactionConflict(f"{name}: the schema changed under an open transaction.", hint=_AGAIN, **context)
    if state.startswith("22"):
        reason = _DATA.get(state, "the data do not fit")
        kind: type[QueryError] = ConstraintFailed if state in _STORED else QueryError
        return kind(f"{name}: {reason} ({_condition(error)}).", **context)
    kind, verb = _CLASSES.get(state) or _CLASSES.get(state[:2]) or (QueryError, "refused the statement")
    return kind(f"{name} {verb} ({words}).", hint=_HINTS.get(state), **context)


def _condition(error: BaseException) -> str:
    """`StringDataRightTruncationError` -> `string data right truncation`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
