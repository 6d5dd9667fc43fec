"""Transactions: several statements that happen together or not at all."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from consona.errors import QueryError
from consona.sql.engine import Begin, OpenTransaction, Session, SupportsReading
from consona.sql.placeholders import Statement
from consona.sql.queries import Queries

if TYPE_CHECKING:  # the database makes transactions, so the import can only go one way
    from consona.sql.database import SQLDatabase

__all__ = ["Transaction"]

log = logging.getLogger("consona.sql")


class Transaction(Queries):
    """Made by `db.transaction()`. Leaving its block commits; any error, and cancellation, rolls back.

    Inside another one of the same task it is a savepoint: it can fail without the rest. Other parts on the
    same database take part in it: `await store.put("last", b"7", tx=tx)`.

    Attributes:
        database: Whose it is.
        depth: 0 for a transaction, 1 and more for a savepoint.
    """

    def __init__(
        self, database: SQLDatabase, how: Begin, parent: Transaction | None, *, session: Session | None = None
    ) -> None:
        self.database = database
        self.name = how.name
        self.observer = database.observer
        self.dialect = database.dialect
        self._statements = database._statements
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._how = how
        self._parent = parent
        self._begins_in = session
        """Where it begins, if not on a connection that the engine chooses."""
        self._child: Transaction | None = None
        self._open: OpenTransaction | None = None
        self._state = "not begun"
        self._task: asyncio.Task[Any] | None = None
        self._hooks: list[Callable[[], object]] = []
        self._ran_in_it: dict[str, Statement] = {}
        self._had_savepoints = False

    @property
    def native(self) -> Any:
        """The connection underneath: of SQLite the storage engine's transaction, of servers the driver's connection."""
        return getattr(self._opened(), "native", None)

    def on_commit(self, hook: Callable[[], object]) -> None:
        """Call `hook()` once the whole transaction is committed; never where it (or this savepoint) is rolled back.

        It may be an async function. What it raises is logged, since the commit has happened.
        """
        self._opened()
        self._hooks.append(hook)

    def transaction(self, *, name: str = "") -> Transaction:
        """A savepoint in it, which can fail without the rest."""
        how = Begin(name=name or f"{self.name}.{self.depth + 1}", where=self._how.where)
        return Transaction(self.database, how, self)

    async def begin(self) -> None:
        """Begin. `async with` does it by itself; by hand, end it with `commit()` or `rollback()` in all cases."""
        if self._state != "not begun":
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Make a new one.")
        parent = self._parent
        with self.observer.operation("BEGIN" if parent is None else "SAVEPOINT"):
            if parent is None:
                self._open = await (self._begins_in or self.database._session(writes=False)).begin(self._how)
            else:
                self._open = await parent._nest(self)
        self._reads_in_thread = isinstance(self._open, SupportsReading)
        self._state = "open"
        self._task = asyncio.current_task()
        self.database._enter(self._task, self)

    async def commit(self) -> None:
        """Make it last; then the hooks run. A savepoint becomes part of what it is in.

        Raises:
            QueryError: The database refused it; it is rolled back.
            CommitUnknown: The connection or the disk failed meanwhile.
        """
        session = self._opened()
        self._leave("committed")
        settled = False
        began_ns = self.observer.clock()
        try:
            with self.observer.operation("COMMIT" if self._parent is None else "RELEASE"):
                await session.commit()
            settled = True
        finally:
            if self._parent is None:
                self.database._all_ran(self._ran_in_it, began_ns, settled=settled, whole=not self._had_savepoints)
            else:
                self._parent._ran_in_it |= self._ran_in_it
        if self._parent is not None:
            self._parent._hooks += self._hooks
        else:
            await _run(self._hooks)

    async def rollback(self) -> None:
        """Undo it."""
        session = self._opened()
        self._leave("rolled back")
        with self.observer.operation("ROLLBACK"):
            await session.rollback()

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._state != "open":
            return  # ended by hand
        if error is None:
            await self.commit()
        else:
            await self.rollback()

    def _ran(self, statement: Statement, began_ns: int, *, settled: bool = True) -> None:  # noqa: ARG002  the commit decides
        self._ran_in_it[statement.source] = statement

    def _bulk_transaction(self) -> Transaction:
        return self.transaction(name="many rows")

    def _session(self, *, writes: bool) -> Session:  # noqa: ARG002  both run in it
        session = self._opened()
        if self._child is not None:
            raise QueryError(
                f"The transaction {self.name!r} has {self._child.name!r} open in it.",
                hint="Ask the inner one, or end that first.",
            )
        return session

    def _opened(self) -> OpenTransaction:
        if self._state != "open" or self._open is None:
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Use it inside `async with`.")
        return self._open

    async def _nest(self, child: Transaction) -> OpenTransaction:
        if self._child is not None:
            raise QueryError(
                f"The transaction {self.name!r} has {self._child.name!r} nested in it already.",
                hint="Savepoints end in the reverse order of their beginning: nest the new one in that, or wait.",
            )
        session = self._opened()
        self._child = child
        self._had_savepoints = True
        try:
            return await session.begin(replace(child._how))
        except BaseException:
            self._child = None
            raise

    def _leave(self, state: str) -> None:
        self._state = state
        parent = self._parent
        if parent is not None:
            parent._child = None
        self.database._leave(self._task, parent)


async def _run(hooks: list[Callable[[], object]]) -> None:
    for hook in hooks:
        try:
            found = hook()
            if inspect.isawaitable(found):
                await found
        except Exception:
            log.exception("A hook after a commit failed; the commit has happened.")
