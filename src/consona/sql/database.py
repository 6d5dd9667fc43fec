"""A SQL database: the same calls on SQLite, PostgreSQL and MariaDB.

    db = SQLDatabase("sqlite:///shop.db")
    async with db:
        done = await db.execute("INSERT INTO users (name, age) VALUES (?, ?)", "Ada", 36)
        users = await db.fetch_all("SELECT * FROM users WHERE age > ?", 28, into=User)
        async with db.transaction() as tx:
            await tx.execute("UPDATE users SET age = age + 1 WHERE id = ?", done.key)

`engine.py` says what an engine must do; everything else is written once: here and in `queries.py`
(asking), `transaction.py`, `placeholders.py`, `values.py` (what goes in) and `rows.py` (what comes out).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, get_args

from consona.address import Address, adapter_for
from consona.errors import ConfigurationError, ConsonaError, QueryError, TransactionOpen
from consona.part import Health, Part, Status
from consona.resilience import Policy, Retry
from consona.sql.cache.freshness import SupportsFreshness, SupportsWatching
from consona.sql.cache.query_cache import QueryCache
from consona.sql.cache.strict import Cache, lifetime
from consona.sql.dialect import Dialect
from consona.sql.engine import (
    Begin,
    Isolation,
    Rows,
    Session,
    SQLEngine,
    SupportsExplain,
    SupportsHealth,
    SupportsReading,
    SupportsScripts,
    SupportsStats,
)
from consona.sql.many_rows import DEADLINE_S
from consona.sql.migrations.runner import MigrationRun, Migrations
from consona.sql.named_lock import NamedLocks
from consona.sql.placeholders import Statement
from consona.sql.policed import PolicedSession
from consona.sql.pool import with_pool
from consona.sql.queries import Queries, Statements
from consona.sql.slow_queries import SlowQueries, SlowQuery
from consona.sql.statement_figures import StatementStats
from consona.sql.transaction import Transaction
from consona.sql.values import checked
from consona.storage.transaction import caller
from consona.telemetry.observer import Observer, Operation

__all__ = ["SQLDatabase"]

T = TypeVar("T")

RETRY: Final = Retry(attempts=5, backoff=0.02, max_wait=1.0)
CACHE_BYTES: Final = 32 << 20
_ISOLATION: Final = get_args(Isolation)


class SQLDatabase(Part, Queries):
    """A database at an address.

    Args:
        target: The address (`sqlite:///shop.db`, `sqlite://` for memory shared by the process,
            `postgresql://…`, `mysql://…`), or an engine.
        pool: How many connections there are at most: of a server, or to read a SQLite file. None: what the address
            says (`?max_size=20`, of SQLite `?readers=8`), or else 10 of a server, and 4 readers of a file.
        name: What the dashboard, the logs and the errors call it; by default the database's name.
        cache_bytes: How much memory the answers that are kept for `cache=` may take together.
        slow: Seconds beyond which a statement is logged with its plan.
        policy: Timeout, retries, breaker, limits for each statement that stands alone, and for the beginning of
            each transaction. Kept answers cost no turn of it. By default none: the pool has its own waits.

    Raises:
        AddressError: No engine has the address' scheme.
        MissingExtra: The engine's driver is not installed.

    Example:
        >>> async def main():
        ...     async with SQLDatabase("sqlite://example") as db:
        ...         await db.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        ...         done = await db.execute("INSERT INTO pets (name) VALUES (?)", "Rex")
        ...         return done, await db.fetch_all("SELECT * FROM pets")
        >>> asyncio.run(main())
        (Done(rows=1, key=1), [{'id': 1, 'name': 'Rex'}])
    """

    kind: ClassVar[str] = "sql"

    def __init__(
        self,
        target: str | Address | SQLEngine,
        *,
        pool: int | None = None,
        name: str = "",
        cache_bytes: int = CACHE_BYTES,
        slow: float = 1.0,
        policy: Policy | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.address: Address | None = None
        """Where it is; None where an engine was given."""
        if isinstance(target, str | Address):
            address = Address.parse(target)
            self.address = address = address if pool is None else with_pool(address, pool)
            target = adapter_for("sql", address)(address)
            name = name or _name_of(address)
        elif pool is not None:
            raise ConfigurationError("pool= goes with an address; an engine that is given has its own.")
        assert not isinstance(target, str | Address)
        name = name or "sql"
        super().__init__(name, observer=observer or Observer(name, self.kind, slow=slow))
        self.engine: SQLEngine = target
        self.dialect: Dialect = target.dialect
        self._reads_in_thread = isinstance(target, SupportsReading)
        self._statements = Statements(self.dialect, self.observer)
        self._slow = SlowQueries(self.observer, target)
        self.observer.finer = self._statements.figures.each
        self._locks = NamedLocks(self)
        self._runner = policy.bind(self.name) if policy is not None else None
        self._policed = PolicedSession(target, self._runner) if self._runner is not None else None
        self._open_in: dict[asyncio.Task[Any] | None, Transaction] = {}
        self._cache_bytes = cache_bytes
        self._cache: QueryCache | None = None
        self._told: QueryCache | None = None
        """The same, where it must be told what this process writes."""

    async def _open(self) -> None:
        await self.engine.open()

    async def _close(self) -> None:
        cache, self._cache, self._told = self._cache, None, None
        if cache is not None:
            await cache.close()
        await self._slow.close()
        await self.engine.close()

    async def check(self) -> Health:
        """Whether it can be asked now."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        if isinstance(self.engine, SupportsHealth):
            try:
                await self.engine.ping()
            except ConsonaError as error:
                return Health(Status.DOWN, error.message)
        return Health(Status.UP)

    def detail(self) -> dict[str, Any]:
        detail = self.engine.stats() if self.started and isinstance(self.engine, SupportsStats) else {}
        detail |= {"cache": self._cache.stats()} if self._cache is not None else {}
        return detail | ({"policy": self._runner.state()} if self._runner is not None else {})

    @property
    def native(self) -> Any:
        """What is underneath: the storage engine of a SQLite file, the driver's pool of a server."""
        return getattr(self._engine(), "native", None)

    def transaction(
        self,
        *,
        name: str = "",
        isolation: Isolation | None = None,
        read_only: bool = False,
        deadline: float | None = None,
    ) -> Transaction:
        """Several statements that happen together: `async with db.transaction() as tx: await tx.execute(…)`.

        Leaving the block commits; any error, and cancellation, rolls back. Where this task has one open
        already, the new one is a savepoint in that, and the other arguments do not apply.

        Args:
            name: What messages call it; by default the task's name.
            isolation: At least how far others' changes are kept out; None for the engine's own level. SQLite is
                always serializable.
            read_only: Refuse statements that write. A SQLite file is then read at one moment, beside who writes.
            deadline: Seconds that it may be open; then it is rolled back. None for the engine's own limit.

        Raises:
            DatabaseLocked: (when entered) Somebody else held the database for too long; the message says who.
            DeadlineExceeded: (in it) It was open for too long, and is rolled back.
            DatabaseReadOnly: (in it) It is `read_only`, and the statement writes.
        """
        if isolation is not None and isolation not in _ISOLATION:
            raise ConfigurationError(
                f"There is no isolation level {isolation!r}.", hint=f"Known: {', '.join(_ISOLATION)}."
            )
        if deadline is not None and not deadline > 0:
            raise ConfigurationError(f"The deadline of a transaction must be above 0 seconds; it is {deadline:g}.")
        task = asyncio.current_task()
        parent = self._open_in.get(task)
        if parent is not None:
            return parent.transaction(name=name)
        name = name or (task.get_name() if task is not None else "unnamed")
        how = Begin(name=name, where=caller(), isolation=isolation, read_only=read_only, deadline_s=deadline)
        return Transaction(self, how, None)

    async def begin(self, **how: Any) -> Transaction:
        """A transaction that is begun, to be ended by hand with `commit()` or `rollback()`. See `transaction`."""
        transaction = self.transaction(**how)
        await transaction.begin()
        return transaction

    async def run_in_transaction(
        self,
        fn: Callable[[Transaction], Awaitable[T]],
        *,
        retry: Retry = RETRY,
        name: str = "",
        isolation: Isolation | None = None,
        read_only: bool = False,
        deadline: float | None = None,
    ) -> T:
        """Run `fn(tx)` in a transaction, and run it again as a whole where others were in its way.

        Args:
            fn: An async function. It may run several times, so it changes the database and nothing else.
            retry: How often, and after how long. Only errors of the database that say that they are worth it
                (a deadlock, a serialization failure, a locked file) are tried again, never an unknown outcome.
            name: See `transaction`.
            isolation: See `transaction`.
            read_only: See `transaction`.
            deadline: See `transaction`.

        Returns:
            What `fn` returned in the try that was committed.
        """

        async def once() -> T:
            async with self.transaction(name=name, isolation=isolation, read_only=read_only, deadline=deadline) as tx:
                return await fn(tx)

        runner = Policy(retry=retry).bind(self.name)
        return await runner.run(once, retry_if=_worth_a_retry)

    def lock(self, name: str, *, wait: float = 5.0) -> AbstractAsyncContextManager[None]:
        """Let one at a time do something, among all tasks and programs on this database: `async with db.lock("report"):`.

        It locks no table, only its name. It ends with the block, and with the program that has it, however that
        ends. On servers it takes one connection of the pool while it is held.

        Args:
            name: What all who do it call it. Each database has its own names.
            wait: Seconds to wait where somebody else has it; 0 tries once.

        Raises:
            LockTimeout: (when entered) Somebody else had it for too long; the message says who.
            LockLost: (when left) The connection that it was on broke meanwhile.

        Example:
            >>> async def main():
            ...     async with SQLDatabase("sqlite://example-lock") as db, db.lock("nightly report"):
            ...         return "nobody else makes it now"
            >>> asyncio.run(main())
            'nobody else makes it now'
        """
        return self._locks.hold(name, wait_s=wait, where=caller())

    def _bulk_transaction(self) -> Transaction:
        return self.transaction(name="many rows", deadline=DEADLINE_S)

    async def execute_script(self, sql: str) -> None:
        """Run several statements without values, in order; in one transaction where the engine can do that.

        Raises:
            ConfigurationError: The engine takes one statement at a time.
            QueryError: The database refused one of them.
        """
        engine = self._engine()
        if not isinstance(engine, SupportsScripts):
            raise ConfigurationError(f"{self.name} takes one statement at a time.", hint="Execute them one by one.")
        with self.observer.operation("SCRIPT"):
            self._session(writes=True)
            try:
                await engine.execute_script(sql)
            finally:
                self._anything_ran()

    async def migrate(self, folder: Path | str, *, wait: float = 300.0) -> list[MigrationRun]:
        """Run the migrations of a folder that did not run yet. At the start of a program, before it serves.

        Many processes may do so at the same time: one runs them, the others wait for it. `Migrations` has the
        rest: status, down, to a version, dry runs.

        Args:
            folder: Where the files are: `0001_create_users.sql`, `0002_fill.py`.
            wait: Seconds to wait while somebody else migrates the same database.

        Returns:
            What ran, in order; nothing where the database is up to date.

        Raises:
            MigrationFileError: A file cannot be understood; nothing was run.
            MigrationConflict: Files and history do not fit: edited, missing, out of order, half done.
            MigrationFailed: One failed; those before it stay.
            MigrationLocked: Somebody else was at it for too long.
        """
        return await Migrations(self, folder, wait=wait).up()

    async def watch_tables(self, *tables: str, strict: bool = False) -> None:
        """Let the database tell of each change of these tables, so that `cache=` may keep answers that come from them.

        Needed on servers, once for each table: it makes a trigger (its name begins with `consona`), which fires
        for every client. Tables that are watched already are left alone. SQLite tells of changes by itself.

        Args:
            tables: Their names; `schema.table` for one in another schema.
            strict: Also count the changes in the database, for `cache=Strict(…)`.

        Raises:
            QueryError: There is no such table, or it is not the user's own.
        """
        engine = self._engine()
        if isinstance(engine, SupportsWatching):
            with self.observer.operation("WATCH"):
                self._session(writes=True)
                await engine.watch_tables(tables, strict=strict)
            self._anything_ran()

    async def explain(self, sql: str, *values: Any, analyze: bool = False) -> str:
        """How the database goes about a statement: its plan, as text for people.

        Args:
            sql: One statement.
            values: Its values, as in `fetch_all`.
            analyze: Run it, to show what it really took; what it changed is undone.

        Raises:
            ConfigurationError: The engine shows no plans, or (SQLite) does not measure a run.
        """
        statement, *_ = self._statements(sql)
        engine = self._engine()
        if not isinstance(engine, SupportsExplain):
            raise ConfigurationError(f"{self.name} shows no plans.")
        with self.observer.operation("EXPLAIN", statement.target):
            return await engine.explain(statement, checked(statement.values(values)), analyze=analyze)

    def statements(self, limit: int = 20) -> list[StatementStats]:
        """What each statement took since this database was made: those first that took most time altogether.

        Statements that differ in their values only are one. 500 are told apart; further ones are counted together.
        """
        return self._statements.figures.top(limit)

    @property
    def slow_queries(self) -> list[SlowQuery]:
        """The last calls that took longer than `slow`, with their plans, oldest first. They are logged too."""
        return self._slow.last()

    def clear_cache(self) -> None:
        """Forget all answers that are kept for `cache=`, in this process."""
        if self._cache is not None:
            self._cache.clear()

    async def _cached(
        self, statement: Statement, values: Sequence[Any], limit: int | None, cache: Cache, op: Operation
    ) -> Rows:
        seconds, strict = lifetime(cache)
        if not seconds or (self._open_in and asyncio.current_task() in self._open_in):
            return await super()._cached(statement, values, limit, cache, op)
        kept = self._cache or self._new_cache()
        if kept.freshness.strict_only and not strict:
            raise ConfigurationError(
                f"{self.name} cannot tell by itself what others changed, so it keeps answers only where it is asked.",
                hint=f"Write cache=Strict({seconds:g}).",
            )
        plain = checked(statement.values(values))
        rows = kept.now(statement, plain, limit, seconds) if not strict else None
        hit = rows is not None
        if rows is None:

            async def ask() -> Rows:
                return await self._fetch(statement, values, op, limit=limit)

            rows, hit = await kept.fetch(statement, plain, limit, seconds, strict=strict, ask=ask)
        if hit:
            op.set(cache="hit")
        return rows

    def _new_cache(self) -> QueryCache:
        engine = self._engine()
        if not isinstance(engine, SupportsFreshness):
            raise ConfigurationError(f"{self.name} keeps no answers: its engine does not tell of changes.")
        self._cache = QueryCache(engine.freshness(), self.dialect, max_bytes=self._cache_bytes)
        self._told = self._cache if self._cache.freshness.wants_writes else None
        return self._cache

    def _ran(self, statement: Statement, began_ns: int, *, settled: bool = True) -> None:
        if self._told is not None:
            self._told.wrote((statement.source,), began_ns / 1e9, settled=settled, whole=True)

    def _all_ran(self, statements: Iterable[str], began_ns: int, *, settled: bool, whole: bool) -> None:
        if self._told is not None:
            self._told.wrote(statements, began_ns / 1e9, settled=settled, whole=whole)

    def _anything_ran(self) -> None:
        """Nobody knows what was changed: a script, migrations."""
        if self._cache is not None:
            self._cache.freshness.wrote(None, 0.0, settled=True, whole=False)

    def _engine(self) -> SQLEngine:
        self._require_started()
        return self.engine

    def _session(self, *, writes: bool) -> Session:
        if writes and self._open_in:
            mine = self._open_in.get(asyncio.current_task())
            if mine is not None:
                raise TransactionOpen(
                    f"This task has the transaction {mine.name!r} open on {self.name}, and this statement is beside it.",
                    hint="Ask the transaction itself: `await tx.execute(…)`.",
                    database=self.name,
                )
        engine = self._engine()
        return self._policed or engine

    def _enter(self, task: asyncio.Task[Any] | None, transaction: Transaction) -> None:
        self._open_in[task] = transaction

    def _leave(self, task: asyncio.Task[Any] | None, parent: Transaction | None) -> None:
        if parent is not None and parent._task is task:
            self._open_in[task] = parent
        else:
            self._open_in.pop(task, None)


def _worth_a_retry(error: BaseException) -> bool:
    return isinstance(error, QueryError) and error.retryable


def _name_of(address: Address) -> str:
    path = address.path.rpartition("/")[2]
    return path.rpartition(".")[0] or path or address.host or "memory"
