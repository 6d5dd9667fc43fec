"""What a SQL engine must do. The front (`database.py`) does everything else.

    SQLEngine        open, close, execute, execute_many, fetch, stream, begin
    OpenTransaction  execute, execute_many, fetch, stream, begin (a savepoint), commit, rollback

The front gives statements that are compiled for the engine's dialect, and values that are checked:
None, bool, int (64 bits), float (no NaN), str (no NUL, no lone surrogate), bytes, Decimal (finite),
datetime (with a zone), date, time (without one), UUID, `JsonText`, `Array`. The engine stores them so
that they come back unharmed, and gives rows as its driver has them; the dialect's `decoders` say how
a declared type is made of those. Errors are those of `QueryError`'s tree, `ConnectError` where
nothing was sent, and `ConfigurationError`; what they say names tables and columns, never a value.

An engine takes an `Address` in its constructor, and opens nothing there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from consona.sql.dialect import Dialect
from consona.sql.placeholders import Statement

__all__ = [
    "Begin",
    "Done",
    "Isolation",
    "OpenTransaction",
    "ReadRows",
    "Rows",
    "SQLEngine",
    "Session",
    "SupportsExplain",
    "SupportsHealth",
    "SupportsLoading",
    "SupportsNative",
    "SupportsPinning",
    "SupportsReading",
    "SupportsScripts",
    "SupportsStats",
]

Isolation = Literal["read committed", "repeatable read", "serializable"]


class Done(NamedTuple):
    """What a statement did."""

    rows: int
    """How many rows it inserted, changed or deleted; 0 where it is of another kind."""
    key: Any = None
    """The key that the database generated for the last inserted row; None where it generated none."""


class Rows(NamedTuple):
    """What a statement found."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    """Tuples, or a driver's own rows where these behave like tuples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """How a transaction is begun."""

    name: str
    """What messages call it."""
    where: str
    """Where it was begun: `orders.py:41 in place_order`."""
    isolation: Isolation | None = None
    """None: the engine's own. An engine may give more than was asked for, never less."""
    read_only: bool = False
    deadline_s: float | None = None
    """After how many seconds it is rolled back, and its owner told; None: what the engine has as a default."""


class Session(Protocol):
    """Runs statements: an engine each in a transaction of its own, an open transaction in itself."""

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done: ...

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        """Once for each row, all or nothing. `Done.rows` is the sum; the key is that of the last."""

    async def fetch(self, statement: Statement, values: Sequence[Any], *, limit: int | None = None) -> Rows:
        """All rows, or the first `limit`, the rest unread.

        A statement that writes and returns rows (`RETURNING`) is run to its end, and committed, before they are given.
        """

    def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        """The rows in batches of at most `batch`, as of one moment, in bounded memory.

        The first batch is always given, so that the columns are known, even where it has no rows.
        Closing the generator (`aclose`) lets everything go; so does cancellation.
        """

    async def begin(self, how: Begin) -> OpenTransaction:
        """Of an engine: a transaction. Of a transaction: a savepoint in it, for which only the names matter.

        Cancelled, it leaves nothing open.
        """


class SQLEngine(Session, Protocol):
    """One database at one address."""

    dialect: Dialect

    async def open(self) -> None:
        """Connect once, to find out that it works."""

    async def close(self) -> None:
        """Give everything back."""


class OpenTransaction(Session, Protocol):
    """A transaction, or a savepoint in one. One task uses it at a time. After `commit` or `rollback` it is over."""

    async def commit(self) -> None:
        """Make it last (of a savepoint: keep it). On any error it is rolled back, save for `CommitUnknown`."""

    async def rollback(self) -> None:
        """Undo it; never raises for what is gone already. Finishes although its caller is cancelled."""


class ReadRows(Protocol):
    """Makes what was asked for of some rows; `first` is the number of the first of them, for messages."""

    def __call__(self, rows: list[tuple[Any, ...]], first: int = 1) -> list[Any]: ...


# Powers that not every engine has: each is asked for once, with isinstance.


@runtime_checkable
class SupportsScripts(Protocol):
    """Several statements in one text, without values."""

    async def execute_script(self, sql: str) -> None:
        """All of it in one transaction where the engine can; else each statement by itself, in order."""


@runtime_checkable
class SupportsLoading(Protocol):
    """Of a session that has a faster way to insert many rows than a statement."""

    async def load(self, table: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        """Insert the rows, all or nothing. `table` is a name, or schema and name. Returns how many there were."""


@runtime_checkable
class SupportsReading(Protocol):
    """Of a session whose rows come from a thread: they can be made into what was asked for there, beside the loop."""

    async def fetch_read(
        self, statement: Statement, values: Sequence[Any], reader: Callable[[tuple[str, ...]], ReadRows]
    ) -> list[Any]:
        """Like `fetch`, then `reader(columns)` over the rows, in small pieces."""


@runtime_checkable
class SupportsExplain(Protocol):
    async def explain(self, statement: Statement, values: Sequence[Any], *, analyze: bool) -> str:
        """The plan, as text for people. `analyze` runs the statement, and undoes it."""


@runtime_checkable
class SupportsPinning(Protocol):
    """One connection for several statements, which need not be a transaction. Migrations run on it."""

    def pinned(self) -> AbstractAsyncContextManager[Session]:
        """A session on one connection. What is set in it (a lock, a variable) lasts to the end of the block.

        Outside of `begin`, a statement runs in no transaction but its own, so that CREATE INDEX CONCURRENTLY,
        VACUUM and PRAGMA work. Afterwards the connection is clean, or closed.
        """


@runtime_checkable
class SupportsHealth(Protocol):
    async def ping(self) -> None:
        """Raise where it cannot be used now."""


@runtime_checkable
class SupportsStats(Protocol):
    def stats(self) -> dict[str, Any]: ...


@runtime_checkable
class SupportsNative(Protocol):
    """What is underneath: the driver's pool, or the storage engine. Of a transaction: its connection."""

    @property
    def native(self) -> Any: ...
