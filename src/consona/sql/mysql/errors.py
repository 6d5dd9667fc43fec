"""What MariaDB, MySQL and their driver say when something fails, in the words of Consona's tree.

The server's own words are kept where they name tables, columns and rules, and replaced where they quote a value.

Source: https://mariadb.com/kb/en/mariadb-error-code-reference/
"""

from __future__ import annotations

import re
from typing import Any, Final

from asyncmy import errors as driver

from consona.errors import (
    CommitUnknown,
    ConnectionLost,
    ConsonaError,
    ConstraintFailed,
    DatabaseLocked,
    DatabaseReadOnly,
    DeadlineExceeded,
    DiskFull,
    QueryError,
    StatementError,
    TransactionConflict,
)

__all__ = ["is_lost", "is_whole", "lost", "number_of", "translated", "was_sent"]

GONE: Final = {0, 2006}
"""The driver found the connection closed, and sent nothing."""
LOST: Final = {*GONE, 2013, 2055, 1152, 1153, 1158, 1159, 1160, 1161, 4031}
ENDED: Final = {1053, 1079, 1927}
"""The server says that it ends the session, which it says instead of committing."""

_DATA: Final = {
    1048: "a column may not be NULL",
    1264: "a number is out of the range of its column",
    1265: "a value would be cut by its column",
    1292: "a text does not read as the type that is expected",
    1364: "a column that has no default got no value",
    1365: "division by zero",
    1366: "a value has not the type of its column",
    1406: "a value is too long for its column",
    1411: "a text does not read as a date or time",
    1525: "a text does not read as the type that is expected",
    1690: "a number is out of the range of its type",
    3140: "a text is no JSON",
    4025: "a rule of the table (CHECK) is broken",
}
_CLASSES: Final[dict[int, tuple[type[QueryError], str]]] = {
    **dict.fromkeys((1216, 1217, 1451, 1452, 3819, 1586, 1761, 1762), (ConstraintFailed, "refused the change")),
    **dict.fromkeys((1213, 1020, 1614), (TransactionConflict, "could not run this beside others")),
    **dict.fromkeys((1205, 1206, 3572), (DatabaseLocked, "did not get a lock in time")),
    **dict.fromkeys((1290, 1792, 1836), (DatabaseReadOnly, "may only be read here")),
    **dict.fromkeys((1021, 1041, 1114), (DiskFull, "cannot grow: its disk, or a limit, is full")),
}
_NOT_UNDERSTOOD: Final = {
    1049,
    1050,
    1051,
    1052,
    1054,
    1058,
    1060,
    1061,
    1064,
    1091,
    1109,
    1136,
    1146,
    1149,
    1305,
    1582,
}
_RULES: Final = {
    **dict.fromkeys((1062, 1022, 1586, 1761, 1762), "unique"),
    **dict.fromkeys((1048, 1364), "not null"),
    **dict.fromkeys((4025, 3819), "check"),
    **dict.fromkeys((1216, 1217, 1451, 1452), "foreign key"),
    **dict.fromkeys((1264, 1265, 1292, 1366, 1406, 1411, 1525, 3140), "type"),
}
_HINTS: Final = {
    1044: "GRANT the right to the user of the address, or use another user.",
    1142: "GRANT the right to the user of the address, or use another user.",
    1054: "Look at the column's name, and whether the migrations ran.",
    1146: "Look at the table's name, and whether the migrations ran.",
    1213: "Run the transaction again as a whole: run_in_transaction() does it. Change rows in the same order everywhere.",
}


def number_of(error: BaseException) -> int | None:
    """The number of an error, of the server or (2000 and more) of the driver; None where it has none."""
    number = error.args[0] if isinstance(error, driver.Error) and error.args else None
    return number if isinstance(number, int) else None


def is_whole(error: BaseException) -> bool:
    """Whether the connection can be used after this error: only where the server itself refused a statement."""
    number = number_of(error)
    return number is not None and number >= 1000 and not 2000 <= number < 3000 and number not in {*LOST, *ENDED}


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, rather than the statement wrong."""
    return isinstance(error, ConnectionError | TimeoutError) or number_of(error) in {*LOST, *ENDED}


def was_sent(error: BaseException) -> bool:
    """Whether the statement may have gone out before the connection was found to be gone."""
    return number_of(error) not in GONE


def lost(error: BaseException, name: str, *, may_have_happened: bool) -> QueryError:
    """What a caller is told whose connection broke while it waited for an answer.

    Args:
        error: How that was noticed.
        name: The database.
        may_have_happened: Whether it would have been committed: not what only reads, or is in a transaction.
    """
    announced = number_of(error) in ENDED
    words = f"{name} ended the connection" if announced else f"The connection to {name} broke"
    ours: QueryError
    if may_have_happened and not announced and was_sent(error):
        ours = CommitUnknown(f"{words} before it answered.", database=name)
    else:
        ours = ConnectionLost(f"{words}; nothing was written.", database=name)
    ours.__cause__ = error
    return ours


def translated(error: BaseException, name: str) -> BaseException:
    """The error of our tree for one of the server's or the driver's, with it as the cause; others as they are."""
    number = number_of(error)
    if not isinstance(error, driver.Error):
        return error
    ours = _of(number or 0, str(error.args[-1]) if error.args else type(error).__name__, name)
    ours.__cause__ = error
    return ours


def _of(number: int, words: str, name: str) -> ConsonaError:
    context: dict[str, Any] = {"database": name, "errno": number}
    if rule_kind := _RULES.get(number):
        context["rule"] = rule_kind
    if number in {1062, 1022}:
        if (key := re.search(r"for key '(.+)'$", words)) is not None:
            context["constraint"] = key[1]
        rule = f" {context['constraint']!r}" if "constraint" in context else ""
        return ConstraintFailed(f"{name} refused the change (duplicate entry for the key{rule}).", **context)
    if (column := re.search(r"(?:[Cc]olumn|Field) '?(?:`[^`]*`\.)*`?([^`' ]+)`?'?", words)) is not None:
        context["column"] = column[1]
    if (rule_ := re.search(r"CONSTRAINT `([^`]+)`", words)) is not None:
        context["constraint"] = rule_[1]
    if number in _DATA:
        where = context.get("column") or context.get("constraint")
        return ConstraintFailed(
            f"{name} refused the change ({_DATA[number]}{f': {where}' if where else ''}).", **context
        )
    if number in {1969, 3024}:
        return DeadlineExceeded(f"{name}: the statement took longer than the server allows.", **context)
    if number in _NOT_UNDERSTOOD:
        line = re.search(r"at line (\d+)$", words)
        place = f"line {line[1]}" if line else ""
        return StatementError(
            f"{name} does not understand the statement ({words}).", hint=_HINTS.get(number), place=place, **context
        )
    kind, verb = _CLASSES.get(number, (QueryError, "refused the statement"))
    return kind(f"{name} {verb} ({words}).", hint=_HINTS.get(number), **context)
