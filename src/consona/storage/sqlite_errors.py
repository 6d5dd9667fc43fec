"""What SQLite says when something fails, in the words of Consona's tree."""

from __future__ import annotations

import re
from typing import Any, Final

import apsw

from consona.errors import (
    CommitUnknown,
    ConstraintFailed,
    DatabaseCorrupt,
    DatabaseLocked,
    DatabaseReadOnly,
    DeadlineExceeded,
    DiskFull,
    QueryError,
    StatementError,
)
from consona.storage.jobs import Session

__all__ = [
    "commit_failed",
    "commit_is_unknown",
    "held_too_long",
    "open_too_long",
    "transaction_lost",
    "translated",
]

_CLASSES: Final[tuple[tuple[tuple[type[apsw.Error], ...], type[QueryError], str], ...]] = (
    ((apsw.ConstraintError, apsw.MismatchError), ConstraintFailed, "refused the change"),
    ((apsw.BusyError, apsw.LockedError, apsw.ProtocolError), DatabaseLocked, "is locked by somebody else"),
    ((apsw.FullError,), DiskFull, "cannot grow: the disk, or the limit set for the file, is full"),
    ((apsw.CorruptError, apsw.NotADBError, apsw.FormatError), DatabaseCorrupt, "is damaged or is no database"),
    ((apsw.ReadOnlyError, apsw.PermissionsError), DatabaseReadOnly, "may only be read"),
)


def translated(error: BaseException, name: str) -> BaseException:
    """The error of our tree for one of SQLite's, with it as the cause; any other error as it is.

    SQLite's own words are kept: they name tables, columns and files, and no bound value.
    """
    if not isinstance(error, apsw.Error):
        return error
    ours: QueryError
    for classes, ours_class, words in _CLASSES:
        if isinstance(error, classes):
            ours = ours_class(f"{name} {words} ({error}).", database=name, **_rule(error))
            break
    else:
        ours = QueryError(f"{name}: {type(error).__name__}: {error}.", database=name)
        if isinstance(error, apsw.SQLError) and _NOT_UNDERSTOOD.search(str(error)):
            place = "".join(getattr(error, "__notes__", ()))  # who runs statements of users notes it
            at = f" at {place}" if place else ""
            ours = StatementError(f"{name} does not understand the statement{at}: {error}.", database=name, place=place)
        elif isinstance(error, apsw.IOError):
            ours = QueryError(f"{name}: the disk failed to read or write ({error}).", database=name)
    code = getattr(error, "extendedresult", None)
    if isinstance(code, int):
        ours.context["sqlite_code"] = code
    if isinstance(error, apsw.ReadOnlyError) and "readonly database" in str(error):
        ours.hint = f"{ours.hint} If this was a read: use write() for statements that change something."
    ours.__cause__ = error
    return ours


_RULES: Final = {
    apsw.SQLITE_CONSTRAINT_UNIQUE: "unique",
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    apsw.SQLITE_CONSTRAINT_ROWID: "unique",
    apsw.SQLITE_CONSTRAINT_NOTNULL: "not null",
    apsw.SQLITE_CONSTRAINT_CHECK: "check",
    apsw.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign key",
    apsw.SQLITE_CONSTRAINT_DATATYPE: "type",
    apsw.SQLITE_MISMATCH: "type",
}
_COLUMNS: Final = re.compile(r"(?:constraint failed: |value in \w+ column )(?P<list>\S+\.\S+(?:, \S+\.\S+)*)$")
_NAMED: Final = re.compile(r"constraint failed: (?:index '(?P<index>.+)'|(?P<check>.+))$")
_NOT_UNDERSTOOD: Final = re.compile(
    r"syntax error|incomplete input|^no such (?!savepoint)|has no column|unrecognized token|ambiguous column|wrong number of arg"
    r"|misuse of |already exists|\d values? (?:for|were supplied)|cannot modify "
)


def _rule(error: apsw.Error) -> dict[str, Any]:
    """What SQLite tells of the rule that a change breaks."""
    if not isinstance(error, apsw.ConstraintError | apsw.MismatchError):
        return {}
    words = str(error)
    rule = _RULES.get(
        getattr(error, "extendedresult", 0), "foreign key" if words.startswith("FOREIGN KEY") else "other"
    )
    found = _COLUMNS.search(words)
    if found and rule != "check":
        pairs = [column.rpartition(".") for column in found["list"].split(", ")]
        return {"rule": rule, "table": pairs[0][0], "columns": tuple(pair[2] for pair in pairs)}
    named = _NAMED.search(words)
    return {"rule": rule, "constraint": named["index"] or named["check"]} if named else {"rule": rule}


def commit_is_unknown(error: BaseException) -> bool:
    """Whether this error of COMMIT leaves open what a later reader will find.

    A write-ahead log whose sync failed may hold the whole commit: this process rolls it back, yet the
    recovery after a crash may find it. Every other failure of COMMIT is known to have written nothing.
    """
    return isinstance(error, apsw.IOError)


def commit_failed(error: BaseException, name: str) -> BaseException:
    """The error of a caller whose COMMIT failed; one of its own for each, since each is raised."""
    if not commit_is_unknown(error):
        return translated(error, name)
    unknown = CommitUnknown(f"{name}: the disk failed during COMMIT ({error}).", database=name)
    unknown.__cause__ = error
    return unknown


def held_too_long(name: str, session: Session, *, waited: float, now: float) -> DatabaseLocked:
    """What a waiting caller is told: who holds the database, since when, and where that was written."""
    return DatabaseLocked(
        f"{name} was not free for {waited:.1f} s: the transaction {session.name!r}, begun {now - session.began:.1f} s"
        f" ago at {session.where}, holds it.",
        hint="Keep transactions short: nothing that waits for a network or a person belongs in one.",
        database=name,
        holder=session.name,
        where=session.where,
    )


def open_too_long(name: str, session: Session) -> DeadlineExceeded:
    """What the owner of a transaction is told that held the database for too long."""
    return DeadlineExceeded(
        f"The transaction {session.name!r} on {name} was rolled back: it was open for more than {session.limit_s:g} s.",
        hint="Do less in it, or give it more time: transaction(deadline=...).",
        database=name,
    )


def transaction_lost(name: str, session: Session, cause: BaseException | None) -> QueryError:
    """What the owner of a transaction is told that SQLite itself rolled back."""
    error = QueryError(
        f"The transaction {session.name!r} on {name} is gone: the database rolled it back.",
        hint="Look at the first error in it; nothing of it was written. Run it again as a whole.",
        database=name,
    )
    error.__cause__ = cause
    return error
