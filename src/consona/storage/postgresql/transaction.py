"""A transaction on PostgreSQL: several statements, awaited one by one, that happen together or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from consona.errors import CommitUnknown, ConnectionLost, ConsonaError, DeadlineExceeded, QueryError
from consona.storage.postgresql.connections import Answer, PostgreSQLConnection
from consona.storage.postgresql.errors import is_lost

if TYPE_CHECKING:  # the engine makes transactions, so the import can only go one way
    from consona.storage.postgresql.engine import PostgreSQLEngine

__all__ = ["PostgreSQLTransaction"]


class Hold:
    """The connection that a transaction and its savepoints share, until it ends or its time is over."""

    def __init__(
        self, engine: PostgreSQLEngine, connection: PostgreSQLConnection, limit_s: float, *, borrowed: bool
    ) -> None:
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
        """Let the connection go. What is not committed is rolled back by the pool, before anybody else has it."""
        if not self.over:
            self.over = True
            self.timer.cancel()
            if not self.borrowed:
                self.engine._give_back(self.connection)
        if too_long and self.why is None:
            self.why = DeadlineExceeded(
                f"A transaction on {self.engine.name} was rolled back: it was open for more than {self.limit_s:g} s.",
                hint="Do less in it, or give it more time: transaction(deadline=...).",
                database=self.engine.name,
            )


class PostgreSQLTransaction:
    """Made by `engine.transaction()`. Leaving its block commits; any error, and cancellation, rolls back.

    Attributes:
        engine: Whose it is.
        name: What messages call it.
        where: Where it was begun.
    """

    def __init__(
        self,
        engine: PostgreSQLEngine,
        *,
        name: str,
        where: str,
        begin: str = "",
        limit_s: float = 60.0,
        parent: PostgreSQLTransaction | None = None,
        connection: PostgreSQLConnection | None = None,
    ) -> None:
        self.engine = engine
        self.name = name
        self.where = where
        self.depth: int = 0 if parent is None else parent.depth + 1
        self._limit_s = limit_s
        self._parent = parent
        self._begin_sql = begin if parent is None else f"SAVEPOINT {self._savepoint}"
        self._pinned = connection
        self._hold: Hold | None = None
        self._state = "not begun"

    @property
    def native(self) -> PostgreSQLTransaction:
        """Itself: what others who share the engine take as `tx`."""
        return self

    @property
    def connection(self) -> PostgreSQLConnection:
        """The connection that it runs on, a `asyncpg.Connection`."""
        return self._held().connection

    def transaction(self, *, name: str = "", where: str = "") -> PostgreSQLTransaction:
        """A savepoint in it, which can fail without the rest."""
        return PostgreSQLTransaction(
            self.engine, name=name or f"{self.name}.{self.depth + 1}", where=where or self.where, parent=self
        )

    async def ask(self, text: str, values: Sequence[Any] = (), *, reads: bool = False, first: bool = False) -> Answer:  # noqa: ARG002  in a transaction nothing is asked again
        """Run one statement in it. See `PostgreSQLEngine.ask`."""
        async with self._step() as connection:
            return await connection.ask(text, values, first=first)

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a statement once for each row of values. Returns the rows that it gives."""
        async with self._step() as connection:
            return await connection.ask_many(text, rows)

    async def stream(self, text: str, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Answer]:
        """The rows in batches, from a cursor; other statements may run between them."""
        self._held()
        batches = self.connection.stream(text, values, batch)
        async with aclosing(batches):
            while True:
                async with self._step():
                    answer = await anext(batches, None)
                if answer is None:
                    return
                yield answer

    async def copy(
        self, table: str, rows: Iterable[Sequence[Any]], *, columns: Sequence[str], schema: str | None = None
    ) -> int:
        """Load rows with a binary COPY. See `PostgreSQLEngine.copy`."""
        async with self._step() as connection:
            return await connection.load(table, rows, columns, schema)

    async def begin(self) -> None:
        """Begin it. `async with` does it by itself."""
        if self._state != "not begun":
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Make a new one.")
        if self._parent is not None:
            self._hold = self._parent._held()
        else:
            connection = self._pinned or await self.engine._take(self.where)
            self._hold = Hold(self.engine, connection, self._limit_s, borrowed=self._pinned is not None)
        self._state = "open"
        try:
            async with self._step() as connection:
                await connection.execute(self._begin_sql)
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
                await connection.execute(f"RELEASE SAVEPOINT {self._savepoint}")
            self._state = "over"
            return
        self._state = "over"
        if hold.over:
            raise hold.why or self._is_over()
        hold.running = True
        try:
            status = await self._settled(hold.connection)
        except Exception as error:
            if is_lost(error):
                raise CommitUnknown(
                    f"The connection to {self.engine.name} broke during COMMIT.", database=self.engine.name
                ) from error
            raise self.engine._explained(error, hold.connection, may_have_happened=False) from error
        finally:
            hold.end()
        if status != "COMMIT":
            raise QueryError(
                f"The transaction {self.name!r} on {self.engine.name} was rolled back: a statement in it had failed.",
                hint="Look at the first error in it; use a savepoint for what may fail.",
                database=self.engine.name,
            )

    async def rollback(self) -> None:
        """Undo it, and end it. Never raises for what is gone already."""
        if self._state != "open" or self._hold is None:
            return
        hold, self._state = self._hold, "over"
        undo = "ROLLBACK" if self._parent is None else f"ROLLBACK TO SAVEPOINT {self._savepoint}"
        try:
            # After a cancelled statement the pool does it, which does not wait longer than it may.
            if not (hold.over or (hold.connection.interrupted and self._parent is None and not hold.borrowed)):
                async with asyncio.timeout(self.engine.settings.pool.clean), self._step():
                    await hold.connection.execute(undo)
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

    def _held(self) -> Hold:
        if self._state != "open" or self._hold is None:
            raise QueryError(f"The transaction {self.name!r} is {self._state}.", hint="Use it inside `async with`.")
        return self._hold

    @asynccontextmanager
    async def _step(self) -> AsyncIterator[PostgreSQLConnection]:
        """One statement, within the time of the transaction; its errors in our words."""
        hold = self._hold
        assert hold is not None
        if hold.over:
            raise hold.why or self._is_over()
        hold.running = True
        timeout = asyncio.timeout_at(hold.until)
        try:
            async with timeout:
                yield hold.connection
        except asyncio.CancelledError:
            hold.connection.interrupted = True
            raise
        except Exception as error:
            if timeout.expired():
                hold.connection.interrupted = True
                hold.end(too_long=True)
                assert hold.why is not None
                raise hold.why from error
            ours = self.engine._explained(error, hold.connection, may_have_happened=False)
            if isinstance(ours, ConnectionLost):
                hold.why = ours
                hold.end()
            if ours is error:
                raise
            raise ours from error
        finally:
            hold.running = False

    def _is_over(self) -> QueryError:
        return QueryError(f"The transaction {self.name!r} is over.")

    async def _settled(self, connection: PostgreSQLConnection) -> str:
        """COMMIT, whose outcome is waited for although the caller is cancelled."""
        committing = asyncio.ensure_future(connection.execute("COMMIT"))
        try:
            return str(await asyncio.shield(committing))
        except asyncio.CancelledError:
            await asyncio.wait([committing], timeout=self.engine.settings.pool.clean)
            if not committing.done():
                connection.terminate()
            with contextlib.suppress(Exception):
                await committing
            raise
