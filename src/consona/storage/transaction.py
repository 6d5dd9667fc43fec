"""An interactive transaction: several steps, awaited one by one, that happen together or not at all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import apsw

from consona.errors import QueryError
from consona.storage.jobs import Begin, Command, Session, settled

if TYPE_CHECKING:  # the engine makes transactions, so the import can only go one way
    from consona.storage.sqlite_engine import SQLiteEngine

__all__ = ["SharedTransaction", "Transaction", "caller"]

T = TypeVar("T")


class SharedTransaction(Protocol):
    """A transaction of any part, which other parts on the same engine can take part in."""

    @property
    def native(self) -> Any:
        """The engine's own transaction; of a SQLite file a `Transaction`."""


class Transaction:
    """Made by `engine.transaction()`; has the writer to itself from entering to leaving.

    Leaving it normally commits; any error, and cancellation, rolls back. Inside another transaction of the
    same task it is a savepoint of that one.

    Attributes:
        engine: The engine whose file it changes.
        name: What messages call it.
        where: Where it was begun: `orders.py:41 in place_order`.
    """

    def __init__(
        self,
        engine: SQLiteEngine,
        *,
        name: str,
        where: str,
        limit_s: float,
        parent: Transaction | None,
        read_only: bool = False,
    ) -> None:
        self.engine = engine
        self.name = name
        self.where = where
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._parent = parent
        self._session: Session = (
            Session(name, where, limit_s, read_only=read_only) if parent is None else parent._session
        )
        self._child: Transaction | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._steps: set[Command] = set()
        self._state = "new"

    async def run(self, fn: Callable[[apsw.Connection], T]) -> T:
        """Run `fn(connection)` in the transaction: all of it, or nothing when it raises.

        Raises:
            QueryError: SQLite refused it, or the transaction is over.
            DeadlineExceeded: The transaction was open for too long, and was rolled back.
        """
        if self._state != "open":
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Use it inside `async with`.")
        value: T = await self._step("run", fn)
        return value

    def transaction(self, *, name: str = "", where: str = "") -> Transaction:
        """A savepoint in it, which can fail without the rest."""
        return self.engine.transaction(name=name, tx=self, where=where)

    async def begin(self) -> None:
        """Wait for the writer, and begin. `async with` does it by itself."""
        if self._state != "new":
            raise QueryError(f"The transaction {self.name!r} was entered before.", hint="Make a new one.")
        if self._parent is None:
            await self._begin()
        else:
            await self._begin_nested(self._parent)
        self._state = "open"

    async def commit(self) -> None:
        """Make it last, and end it."""
        await self._end(keep=True)

    async def rollback(self) -> None:
        """Undo it, and end it."""
        await self._end(keep=False)

    @property
    def native(self) -> Transaction:
        """Itself: what others who share the engine take as `tx`."""
        return self

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._end(keep=error is None)

    async def _end(self, *, keep: bool) -> None:
        if self._state != "open":
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="It ends once.")
        self._state = "over"
        if self._parent is not None:
            await self._end_nested(self._parent, keep=keep)
            return
        if self._timer is not None:
            self._timer.cancel()
        self.engine._leave(self._task)
        await self._step("commit" if keep else "rollback")

    async def _begin(self) -> None:
        engine = self.engine
        loop = asyncio.get_running_loop()
        begin = Begin(self._session, loop, engine._writer.clock())
        engine._writer.put(begin)
        try:
            await begin.future
        except asyncio.CancelledError:
            if not engine._writer.withdraw(begin):
                await settled(begin)
                if begin.error is None:
                    await self._step("rollback")
            raise
        self._task = asyncio.current_task()
        engine._enter(self._task, self)
        self._timer = loop.call_later(self._session.limit_s, self._cut_steps)

    async def _begin_nested(self, parent: Transaction) -> None:
        if parent._state != "open":
            raise QueryError(f"The transaction {parent.name!r} is {parent._state}, so nothing can be nested in it.")
        if parent._child is not None:
            raise QueryError(
                f"The transaction {parent.name!r} has {parent._child.name!r} nested in it already.",
                hint="Savepoints end in the reverse order of their beginning: nest the new one in that, or wait.",
            )
        parent._child = self
        try:
            await self._control(f"SAVEPOINT consona_{self.depth}")
        except BaseException:
            parent._child = None
            raise
        self._task = asyncio.current_task()
        self.engine._enter(self._task, self)

    async def _end_nested(self, parent: Transaction, *, keep: bool) -> None:
        parent._child = None
        self.engine._leave(self._task, parent)
        if keep:
            await self._control(f"RELEASE consona_{self.depth}")
        elif not self._session.over:
            await self._control(f"ROLLBACK TO consona_{self.depth}; RELEASE consona_{self.depth}")

    async def _control(self, sql: str) -> None:
        def control(connection: apsw.Connection) -> None:
            connection.execute(sql)

        await self._step("control", control)

    async def _step(self, kind: str, fn: Callable[[apsw.Connection], Any] | None = None) -> Any:
        writer = self.engine._writer
        step = Command(self._session, kind, asyncio.get_running_loop(), 0.0, fn)
        self._steps.add(step)
        writer.put(step)
        try:
            return await step.future
        except asyncio.CancelledError:
            # A step that has not begun is taken back, one that runs is interrupted. What ends the transaction
            # is neither: its outcome is waited for.
            if kind != "run":
                await settled(step)
            elif not writer.withdraw(step):
                await settled(step, lambda: writer.interrupt(step))
            raise
        finally:
            self._steps.discard(step)

    def _cut_steps(self) -> None:
        """Time is over: the writer rolls back as soon as the running step lets it."""
        for step in self._steps:
            self.engine._writer.interrupt(step)
        if not self._session.over:
            self._timer = asyncio.get_running_loop().call_later(0.02, self._cut_steps)


def caller() -> str:
    """Where the code outside of Consona is that called us: `orders.py:41 in place_order`."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("consona."):
        frame = frame.f_back
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
