"""One PostgreSQL database at one address, shared by all parts of an event loop that name it.

    engine = await open_postgresql("postgresql://shop@db.example/orders")
    answer = await engine.ask("SELECT id, total FROM orders WHERE id = $1", [7], reads=True)
    async with engine.transaction() as tx:
        await tx.ask("UPDATE orders SET total = $1 WHERE id = $2", [990, 7])
        await store.put("last-order", b"7", tx=tx)
    await engine.close()

Statements are PostgreSQL's own, with `$1`. Each runs on a connection of the pool, prepared where it was asked
before; what changed the schema is forgotten by all connections. A connection that broke is replaced unseen where
nothing was sent, or only read; else the error says whether anything may have been written.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar

from consona.address import Address
from consona.errors import AddressError, ConfigurationError
from consona.storage.place import caller_place
from consona.storage.pool import Pool
from consona.storage.postgresql.connections import Answer, PostgreSQLConnection, PostgreSQLDriver
from consona.storage.postgresql.doorbell import Doorbell
from consona.storage.postgresql.errors import is_lost, lost, translated, was_sent
from consona.storage.postgresql.notifications import Notifications
from consona.storage.postgresql.settings import PostgreSQLSettings
from consona.storage.postgresql.transaction import PostgreSQLTransaction

__all__ = ["Pinned", "PostgreSQLEngine", "open_postgresql"]

T = TypeVar("T")

ATTEMPTS: Final = 3
"""How many connections a statement is tried on, when each is found to be gone and nothing was done on it."""


class PostgreSQLEngine:
    """The one engine of a database in an event loop. Get it with `open_postgresql`; give it back with `close`.

    Attributes:
        pool: The connections.
        notifications: What other sessions say with `NOTIFY`.
        doorbell: Hints for others that something changed.
        schema: Grows when a statement of this engine changed tables or other objects.
    """

    def __init__(
        self, address: Address, settings: PostgreSQLSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.address = address
        self.settings = settings
        driver = PostgreSQLDriver(address, settings)
        self.name = driver.name
        self.pool: Pool[PostgreSQLConnection] = Pool(driver, settings.pool, name=self.name, clock=clock)
        self.notifications = Notifications(driver, clock=clock)
        self.doorbell = Doorbell(self.notifications, self.ask)
        self.patience_s = settings.pool.clean
        self.schema = 0
        self._users = 0
        self._ready: asyncio.Task[None] | None = None

    async def ask(self, text: str, values: Sequence[Any] = (), *, reads: bool = False, first: bool = False) -> Answer:
        """Run one statement, in a transaction of its own.

        Args:
            text: With `$1`, `$2`, ….
            values: One for each.
            reads: Whether it changes nothing, so that it may be asked again when the connection breaks.
            first: Give the first row only, and leave the rest unread.

        Raises:
            ValidationError: A value has not the type that the statement expects.
            ConstraintFailed: The change breaks a rule of the schema.
            QueryError: PostgreSQL refused it; nothing was written.
            ConnectionLost: The connection broke; nothing was written.
            CommitUnknown: The connection broke before the answer, so it may have been written or not.
            PoolTimeout: No connection was free in time.
            ConnectError: The server cannot be reached.
        """
        attempt = 1
        while True:
            connection = await self.take()
            try:
                return await connection.ask(text, values, first=first)
            except asyncio.CancelledError:
                connection.interrupted = True
                raise
            except Exception as error:
                harmless = reads or not (connection.begun and was_sent(error))
                if attempt == ATTEMPTS or not harmless or not is_lost(error):
                    ours = self.explained(error, connection, may_have_happened=not reads)
                    if ours is error:
                        raise
                    raise ours from error
                connection.terminate()
            finally:
                self.give_back(connection)
            attempt += 1

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a statement once for each row of values, all or nothing. Returns the rows that it gives.

        Raises:
            QueryError: As for `ask`.
        """
        async with self._connection() as connection:
            return await self._asked(connection, connection.ask_many(text, rows), may_have_happened=True)

    async def run_script(self, sql: str) -> None:
        """Several statements without values, all or nothing where none of them begins a transaction itself."""
        async with self._connection() as connection:
            connection.dirty = connection.remade = True
            await self._asked(connection, connection.execute(sql), may_have_happened=True)
            connection.forget()

    async def stream(self, text: str, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Answer]:
        """The rows of one moment in batches, from a cursor on the server."""
        async with self.transaction() as tx, aclosing(tx.stream(text, values, batch=batch)) as batches:
            async for answer in batches:
                yield answer

    async def copy(
        self,
        table: str,
        rows: Iterable[Sequence[Any]],
        *,
        columns: Sequence[str],
        schema: str | None = None,
        tx: PostgreSQLTransaction | None = None,
    ) -> int:
        """Load rows with a binary COPY, all or nothing: the fastest way in. Returns how many there were.

        Args:
            table: Its name, unquoted.
            rows: Each with a value for each column; read as they are sent, so they need not fit in memory.
            columns: Which columns, in the order of the values.
            schema: Where the table is; None for the search path.
            tx: Load in this open transaction.
        """
        if tx is not None:
            return await tx.copy(table, rows, columns=columns, schema=schema)
        async with self._connection(caller_place()) as connection:
            loading = connection.load(table, rows, columns, schema)
            return await self._asked(connection, loading, may_have_happened=True)

    def transaction(
        self,
        *,
        name: str = "",
        isolation: str | None = None,
        read_only: bool = False,
        deadline: float | None = None,
        where: str = "",
    ) -> PostgreSQLTransaction:
        """Several statements that happen together: `async with engine.transaction() as tx: await tx.ask(…)`.

        Args:
            name: What messages call it; by default the task's name.
            isolation: `read committed`, `repeatable read` or `serializable`; None for the server's own.
            read_only: Refuse statements that write.
            deadline: Seconds that it may be open; by default those of the settings.
            where: Where it is begun; by default the caller's line.
        """
        return self._transaction(
            name=name, isolation=isolation, read_only=read_only, deadline=deadline, where=where, connection=None
        )

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[Pinned]:
        """One connection for several statements, which need not be a transaction; reset when the block ends."""
        async with self._connection(caller_place()) as connection:
            connection.dirty = True
            yield Pinned(self, connection)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[PostgreSQLConnection]:
        """Have a lock that one session of the whole database has at a time; waits for it, in the order of asking.

        It holds one connection of the pool. It ends with the block, or with the connection: what is done under it
        on that connection (which the block gets) cannot outlive it.
        """
        connection = await self.take(caller_place())
        try:
            connection.dirty = True  # so that the pool lets the lock go where we cannot
            await self._asked(connection, connection.execute(f"SELECT pg_advisory_lock({_lock_key(name)})"))
            try:
                yield connection
            finally:
                if not (connection.interrupted or connection.is_closed() or connection.is_in_transaction()):
                    unlock = connection.execute(f"SELECT pg_advisory_unlock({_lock_key(name)})")
                    await self._asked(connection, unlock)
        finally:
            self.give_back(connection)

    async def notify(self, channel: str, payload: str = "") -> None:
        """Tell all who listen on a channel, also in other processes. See `notifications`."""
        await self.ask("SELECT pg_notify($1, $2)", [channel, payload])

    def stats(self) -> dict[str, Any]:
        """What the pool counts, and how the listener is."""
        return {**self.pool.stats(), "notifications": self.notifications.stats(), "users": self._users}

    async def ping(self) -> None:
        """One round trip. Raises where the database cannot be used."""
        await self.ask("SELECT 1", reads=True)

    async def close(self) -> None:
        """Give it back. The last one who does waits for what still runs, and closes the connections."""
        self._users -= 1
        if self._users:
            return
        _engines.pop(_key(self.address), None)
        await self.doorbell.close()
        await self.notifications.close()
        await self.pool.close()

    # For transactions, and ourselves.

    def _transaction(
        self,
        *,
        name: str = "",
        isolation: str | None = None,
        read_only: bool = False,
        deadline: float | None = None,
        where: str = "",
        connection: PostgreSQLConnection | None,
    ) -> PostgreSQLTransaction:
        task = asyncio.current_task()
        return PostgreSQLTransaction(
            self,
            name=name or (task.get_name() if task is not None else "unnamed"),
            where=where or caller_place(),
            begin=(_begin_sql(isolation, read_only=read_only),),
            limit_s=self.settings.transaction if deadline is None else deadline,
            connection=connection,
        )

    async def take(self, place: str = "") -> PostgreSQLConnection:
        connection = await self.pool.take(place)
        if connection.schema != self.schema:
            connection.forget()
            connection.schema = self.schema
        return connection

    def give_back(self, connection: PostgreSQLConnection) -> None:
        if connection.remade:
            self.schema += 1
            connection.remade = False
        if self.settings.reset == "always":
            connection.dirty = True
        self.pool.give_back(connection)

    def explained(
        self, error: BaseException, connection: PostgreSQLConnection, *, may_have_happened: bool
    ) -> BaseException:
        """The error in our words; itself where it is not the database's (what reads a file for COPY may fail too)."""
        if is_lost(error) and (connection.is_closed() or not isinstance(error, OSError)):
            connection.terminate()
            return lost(error, self.name, may_have_happened=may_have_happened)
        return translated(error, self.name)

    async def _asked(
        self, connection: PostgreSQLConnection, question: Awaitable[T], *, may_have_happened: bool = False
    ) -> T:
        """The answer to one question on a connection; errors in our words, and cancellation noted on it."""
        try:
            return await question
        except (asyncio.CancelledError, GeneratorExit):
            connection.interrupted = True
            raise
        except Exception as error:
            ours = self.explained(error, connection, may_have_happened=may_have_happened)
            if ours is error:
                raise
            raise ours from error

    @asynccontextmanager
    async def _connection(self, place: str = "") -> AsyncIterator[PostgreSQLConnection]:
        connection = await self.take(place)
        try:
            yield connection
        finally:
            self.give_back(connection)

    async def _start(self) -> None:
        await self.pool.open()


class Pinned:
    """One connection, asked like the engine: what is set in its session lasts until the block ends."""

    def __init__(self, engine: PostgreSQLEngine, connection: PostgreSQLConnection) -> None:
        self.engine = engine
        self.connection = connection

    async def ask(self, text: str, values: Sequence[Any] = (), *, reads: bool = False, first: bool = False) -> Answer:
        """Run one statement, in a transaction of its own. See `PostgreSQLEngine.ask`."""
        asking = self.connection.ask(text, values, first=first)
        return await self.engine._asked(self.connection, asking, may_have_happened=not reads)

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a statement once for each row of values, all or nothing. Returns the rows that it gives."""
        asking = self.connection.ask_many(text, rows)
        return await self.engine._asked(self.connection, asking, may_have_happened=True)

    async def stream(self, text: str, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Answer]:
        """The rows of one moment in batches, in a transaction of its own."""
        async with self.transaction() as tx, aclosing(tx.stream(text, values, batch=batch)) as batches:
            async for answer in batches:
                yield answer

    async def copy(
        self, table: str, rows: Iterable[Sequence[Any]], *, columns: Sequence[str], schema: str | None = None
    ) -> int:
        """Load rows with a binary COPY. See `PostgreSQLEngine.copy`."""
        loading = self.connection.load(table, rows, columns, schema)
        return await self.engine._asked(self.connection, loading, may_have_happened=True)

    def transaction(self, **how: Any) -> PostgreSQLTransaction:
        """A transaction on this connection. See `PostgreSQLEngine.transaction`."""
        return self.engine._transaction(connection=self.connection, **how)


_engines: Final[dict[tuple[str, asyncio.AbstractEventLoop], PostgreSQLEngine]] = {}


def _forget_engines() -> None:
    """After a fork: the connections are the parent's."""
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_engines)


async def open_postgresql(url: str | Address, settings: PostgreSQLSettings | None = None) -> PostgreSQLEngine:
    """The engine of a database, connected now or shared with those of this event loop who opened it before.

    Args:
        url: `postgresql://user:password@host:port/database`; settings may follow: `?max_size=20&ssl=verify-full`.
        settings: How; None takes what the address says, and of an engine that is open already, what it has.

    Raises:
        ConfigurationError: It is open with other settings.
        ConnectError: The server cannot be reached, or refuses us.
    """
    address = Address.parse(url)
    if address.scheme not in {"postgresql", "postgres"}:
        raise AddressError(
            f"{address} is no PostgreSQL address.", hint="Write postgresql://user:password@host/database."
        )
    wanted = (settings or PostgreSQLSettings()).with_options(address)
    for key in [key for key in _engines if key[1].is_closed()]:
        del _engines[key]
    engine = _engines.get(_key(address))
    if engine is None:
        engine = _engines[_key(address)] = PostgreSQLEngine(address, wanted)
        engine._ready = asyncio.create_task(engine._start())
    elif (settings is not None or address.options) and engine.settings != wanted:
        raise ConfigurationError(
            f"{engine.name} is open in this process with other settings: {wanted.differences(engine.settings)}.",
            hint="Give everybody who shares the database the same settings, or give them in one place only.",
        )
    engine._users += 1
    try:
        assert engine._ready is not None
        await asyncio.shield(engine._ready)
    except BaseException:
        await engine.close()
        raise
    return engine


def _key(address: Address) -> tuple[str, asyncio.AbstractEventLoop]:
    host = address.options.get("host", "")
    return replace(address, options={"host": host} if host else {}).canonical, asyncio.get_running_loop()


def _begin_sql(isolation: str | None, *, read_only: bool) -> str:
    level = f" ISOLATION LEVEL {isolation.upper()}" if isolation else ""
    return f"BEGIN{level}{' READ ONLY' if read_only else ''}"


def _lock_key(name: str) -> str:
    """The name as SQL that makes a number of it; quoted, though our own code alone chooses names."""
    quoted = name.replace("'", "''")
    return f"hashtextextended('consona:{quoted}', 0)"
