"""A transaction on a database server: several statements, awaited one by one, that happen together or not at all.

What is the same on every server is here: how it begins and ends, savepoints, its time limit, and what its owner
is told when the connection breaks. An engine's own transaction derives from it and adds how it asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from consona.errors import CommitUnknown, ConnectionLost, ConsonaError, DeadlineExceeded, QueryError

__all__ = ["ServerConnection", "ServerEngine", "ServerTransaction"]


class ServerConnection(Protocol):
    """What a transaction wants of a connection."""

    interrupted: bool
    """Whether something was cancelled whose end the server has not told yet."""

    async def control(self, sql: str) -> None:
        """Run BEGIN, SAVEPOINT and their like."""

    async def commit(self) -> bool:
        """Run COMMIT. False where the server rolled back instead, since a statement had failed."""

    def terminate(self) -> None:
        """Close it at once."""


C = TypeVar("C", bound=ServerConnection)


class ServerEngine(Protocol[C]):
    """What a transaction wants of its engine."""

    name: str
    patience_s: float
    """How long the end of a transaction may take."""

    async def take(self, place: str) -> C: ...

    def give_back(self, connection: C) -> None:
        """Let it go. Whoever has it next gets it clean: what was not committed is rolled back."""

    def explained(self, error: BaseException, connection: C, *, may_have_happened: bool) -> BaseException:
        """An error in our words; itself where it is not the database's."""


class Hold(Generic[C]):
    """The connection that a transaction and its savepoints share, until it ends or its time is over."""

    def __init__(self, engine: ServerEngine[C], connection: C, limit_s: float, *, borrowed: bool) -> None:
        loop = asyncio.get_running_loop()
        self.engine = engine
        self.connection = connection
        self.borrowed = borrowed
        """Whether it stays with whoever pinned it, when the transaction ends."""
        self.limit_s = limit_s
        self.until = loop.time() + limit_s
        self.over = False
        self.why: ConsonaError | None = None
        self.running = False
        self.timer = loop.call_at(self.until, self.expire)

    def expire(self) -> None:
        """Its time is over. What runs is interrupted by its own timeout; else the connection goes back now."""
        if not self.running:
            self.end(too_long=True)

    def end(self, *, too_long: bool = False) -> None:
        """Let the connection go."""
        if not self.over:
            self.over = True
            self.timer.cancel()
            if not self.borrowed:
                self.engine.give_back(self.connection)
        if too_long and self.why is None:
            self.why = DeadlineExceeded(
                f"A transaction on {self.engine.name} was rolled back: it was open for more than {self.limit_s:g} s.",
                hint="Do less in it, or give it more time: transaction(deadline=...).",
                database=self.engine.name,
            )


class ServerTransaction(Generic[C]):
    """Leaving its block commits; any error, and cancellation, rolls back.

    Args:
        engine: Whose it is.
        name: What messages call it.
        where: Where it was begun.
        begin: The statements that begin it.
        limit_s: How long it may be open.
        parent: The transaction in which it is a savepoint.
        connection: The one that it is to use and leave, where somebody pinned one.
    """

    def __init__(
        self,
        engine: ServerEngine[C],
        *,
        name: str,
        where: str,
        begin: tuple[str, ...] = (),
        limit_s: float = 60.0,
        parent: ServerTransaction[C] | None = None,
        connection: C | None = None,
    ) -> None:
        self.name = name
        self.where = where
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._engine = engine
        self._limit_s = limit_s
        self._parent = parent
        self._begin = begin if parent is None else (f"SAVEPOINT {self._savepoint}",)
        self._pinned = connection
        self._hold: Hold[C] | None = None
        self._state = "not begun"

    @property
    def native(self) -> Self:
        """Itself: what others who share the engine take as `tx`."""
        return self

    @property
    def connection(self) -> C:
        """The connection that it runs on."""
        return self._held().connection

    def transaction(self, *, name: str = "", where: str = "") -> Self:
        """A savepoint in it, which can fail without the rest."""
        return type(self)(
            self._engine, name=name or f"{self.name}.{self.depth + 1}", where=where or self.where, parent=self
        )

    async def begin(self) -> None:
        """Begin it. `async with` does it by itself."""
        if self._state != "not begun":
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Make a new one.")
        if self._parent is not None:
            self._hold = self._parent._held()
        else:
            connection = self._pinned or await self._engine.take(self.where)
            self._hold = Hold(self._engine, connection, self._limit_s, borrowed=self._pinned is not None)
        self._state = "open"
        try:
            async with self._step() as connection:
                for statement in self._begin:
                    await connection.control(statement)
        except BaseException:
            self._state = "over"
            if self._parent is None:
                self._hold.end()
            raise

    async def commit(self) -> None:
        """Make it last, and end it. On any error it is rolled back, save for `CommitUnknown`."""
        hold = self._held()
        if self._parent is not None:
            async with self._step() as connection:
                await connection.control(f"RELEASE SAVEPOINT {self._savepoint}")
            self._state = "over"
            return
        self._state = "over"
        if hold.over:
            raise hold.why or self._is_over()
        hold.running = True
        try:
            happened = await self._settled(hold.connection)
        except Exception as error:
            ours = self._engine.explained(error, hold.connection, may_have_happened=True)
            if isinstance(ours, CommitUnknown | ConnectionLost):
                # Also where the server said goodbye: nobody promises that it says so before it commits.
                raise CommitUnknown(
                    f"The connection to {self._engine.name} broke during COMMIT.", database=self._engine.name
                ) from error
            raise ours from error
        finally:
            hold.end()
        if not happened:
            raise QueryError(
                f"The transaction {self.name!r} on {self._engine.name} was rolled back: a statement in it had failed.",
                hint="Look at the first error in it; use a savepoint for what may fail.",
                database=self._engine.name,
            )

    async def rollback(self) -> None:
        """Undo it, and end it. Never raises for what is gone already."""
        if self._state != "open" or self._hold is None:
            return
        hold, self._state = self._hold, "over"
        undo = "ROLLBACK" if self._parent is None else f"ROLLBACK TO SAVEPOINT {self._savepoint}"
        # After a cancelled statement the pool does it, which does not wait longer than it may.
        is_pools = hold.connection.interrupted and self._parent is None and not hold.borrowed
        try:
            if not (hold.over or is_pools):
                async with asyncio.timeout(self._engine.patience_s), self._step():
                    await hold.connection.control(undo)
                    hold.connection.interrupted = False
        except (ConsonaError, TimeoutError):
            if self._parent is not None:
                hold.end()
        finally:
            if self._parent is None:
                hold.end()

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._state != "open":
            return
        if error is None:
            await self.commit()
        else:
            await self.rollback()

    @property
    def _savepoint(self) -> str:
        return f"consona_{self.depth}"

    def _held(self) -> Hold[C]:
        if self._state != "open" or self._hold is None:
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Use it inside `async with`.")
        return self._hold

    def _is_over(self) -> QueryError:
        return QueryError(f"The transaction {self.name!r} is over.")

    @asynccontextmanager
    async def _step(self) -> AsyncIterator[C]:
        """One statement, within the time of the transaction; its errors in our words."""
        hold = self._hold
        if hold is None:
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Use it inside `async with`.")
        if hold.over:
            raise hold.why or self._is_over()
        hold.running = True
        timeout = asyncio.timeout_at(hold.until)
        try:
            async with timeout:
                yield hold.connection
        except (asyncio.CancelledError, GeneratorExit):
            hold.connection.interrupted = True
            raise
        except Exception as error:
            if timeout.expired():
                hold.connection.interrupted = True
                hold.end(too_long=True)
                assert hold.why is not None
                raise hold.why from error
            ours = self._engine.explained(error, hold.connection, may_have_happened=False)
            if isinstance(ours, ConnectionLost):
                hold.why = ours
                hold.end()
            if ours is error:
                raise
            raise ours from error
        finally:
            hold.running = False

    async def _settled(self, connection: C) -> bool:
        """COMMIT, whose outcome is waited for although the caller is cancelled."""
        committing: asyncio.Future[Any] = asyncio.ensure_future(connection.commit())
        try:
            return bool(await asyncio.shield(committing))
        except asyncio.CancelledError:
            await asyncio.wait([committing], timeout=self._engine.patience_s)
            if not committing.done():
                connection.terminate()
            with contextlib.suppress(Exception):
                await committing
            raise
