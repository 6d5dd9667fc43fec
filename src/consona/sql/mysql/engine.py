"""MariaDB and MySQL, on a pool of connections of its own.

How values are stored: a datetime in UTC, without its zone, which the column types cannot keep; UUID as its text
(or as MariaDB's UUID); Json as text; bool as 0 and 1. Read with `into=`, they come back as they were; without, as
what is stored: a DATETIME has no zone then, and a TIME is a timedelta.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from consona.address import Address
from consona.errors import FieldProblem, QueryError, ValidationError
from consona.sql.cache.mysql import MySQLFreshness
from consona.sql.cache.mysql_watching import watch
from consona.sql.dialect import MYSQL
from consona.sql.engine import Begin, Done, Rows
from consona.sql.mysql.connections import NOT_PREPARABLE, Answer, Ender, MySQLConnection, MySQLDriver
from consona.sql.mysql.errors import is_lost, is_whole, lost, number_of, translated, was_sent
from consona.sql.mysql.settings import MySQLSettings
from consona.sql.placeholders import WRITING, Statement, split_statements, tokens
from consona.sql.values import Array, JsonText
from consona.storage.place import caller_place
from consona.storage.pool import Pool
from consona.storage.server_transaction import ServerTransaction

__all__ = ["MySQL", "MySQLOpenTransaction", "MySQLTransaction"]

_AS_IT_IS: Final = frozenset({int, str, float, bytes, bool, type(None)})
_COMMITS: Final = frozenset(
    {"CREATE", "ALTER", "DROP", "TRUNCATE", "RENAME", "GRANT", "REVOKE", "LOCK", "ANALYZE", "OPTIMIZE"}
)
"""Statements before which the server commits what is open, without asking."""


ATTEMPTS: Final = 3
"""How many connections a statement is tried on, when each is found to be gone and nothing was done on it."""


class MySQLSession:
    """Statements of the port, for whatever is asked: an engine, one of its connections, or a transaction."""

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        answer = await self._ask(statement, encoded(values))
        if statement.verb not in WRITING:
            return Done(0)
        return Done(answer.changed, _last_key(statement, answer))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        stored, bulk = [encoded(row) for row in rows], not _has_word(statement, "RETURNING")
        try:
            answer = await self._ask_many(statement, stored, bulk=bulk)
        except QueryError as error:
            if not bulk or error.__cause__ is None or number_of(error.__cause__) != NOT_PREPARABLE:
                raise
            answer = await self._ask_many(statement, stored, bulk=False)  # INSERT … SELECT, of several tables, …
        return Done(answer.changed or len(answer.rows), (answer.key or None) if statement.verb == "INSERT" else None)

    async def fetch(self, statement: Statement, values: Sequence[Any], *, limit: int | None = None) -> Rows:
        answer = await self._ask(statement, encoded(values))
        return Rows(answer.columns, answer.rows if limit is None else answer.rows[:limit])

    async def _ask(self, statement: Statement, values: Sequence[Any]) -> Answer:
        raise NotImplementedError

    async def _ask_many(self, statement: Statement, rows: Sequence[Sequence[Any]], *, bulk: bool) -> Answer:
        raise NotImplementedError


class MySQL(MySQLSession):
    """`mysql://user:password@host/database`, for MariaDB too."""

    dialect = MYSQL

    def __init__(self, address: Address) -> None:
        self.settings = MySQLSettings().with_options(address)
        self.patience_s = self.settings.pool.clean
        driver = MySQLDriver(address, self.settings)
        self.name = driver.name
        self._driver = driver
        self._pool: Pool[MySQLConnection] | None = None
        self._ender: Ender | None = None

    async def open(self) -> None:
        self._ender = Ender(self._driver)
        self._driver.on_interrupted = self._ender.end
        pool = Pool(self._driver, self.settings.pool, name=self.name)
        await pool.open()
        self._pool = pool

    async def close(self) -> None:
        await self.native.close()
        self._pool = None
        if self._ender is not None:
            await self._ender.close()

    @property
    def native(self) -> Pool[MySQLConnection]:
        assert self._pool is not None, "the front checks that it is started"
        return self._pool

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        async with self._connection(caller_place()) as connection:
            batches = connection.stream(statement.text, encoded(values), batch)
            try:
                async with aclosing(batches):
                    while (answer := await self.asked(connection, anext(batches, None))) is not None:
                        yield Rows(answer.columns, answer.rows)
            except GeneratorExit:
                connection.interrupted = True  # the rest is not worth being read
                raise

    async def begin(self, how: Begin) -> MySQLOpenTransaction:
        return await self._begin(how, None)

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[MySQLPinned]:
        async with self._connection(caller_place()) as connection:
            connection.dirty = True
            yield MySQLPinned(self, connection)

    async def execute_script(self, sql: str) -> None:
        async with self._connection(caller_place()) as connection:
            connection.dirty = True
            for token in split_statements(sql, MYSQL):
                await self.asked(connection, connection.ask(token.text, ()), may_have_happened=True)

    async def explain(self, statement: Statement, values: Sequence[Any], *, analyze: bool) -> str:
        is_mariadb = "MariaDB" in str((await self._run("SELECT version()")).rows[0][0])
        how = "EXPLAIN FORMAT=JSON" if not analyze else "ANALYZE FORMAT=JSON" if is_mariadb else "EXPLAIN ANALYZE"
        transaction = self._transaction(("START TRANSACTION",), name="explain", where=caller_place())
        async with transaction as tx:
            answer = await tx.ask(f"{how} {statement.text}", encoded(values))
            await tx.rollback()
        return "\n".join(str(row[0]) for row in answer.rows)

    def freshness(self) -> MySQLFreshness:
        return MySQLFreshness(self)

    async def watch_tables(self, tables: Sequence[str], *, strict: bool) -> None:  # noqa: ARG002  it is always
        async with self.pinned() as session:
            await watch(session, tables)

    async def ping(self) -> None:
        await self._run("SELECT 1")

    def stats(self) -> dict[str, Any]:
        ended = self._ender.ended if self._ender is not None else 0
        return {**self.native.stats(), "sessions_ended": ended}

    # For transactions, and ourselves.

    async def take(self, place: str) -> MySQLConnection:
        return await self.native.take(place)

    def give_back(self, connection: MySQLConnection) -> None:
        if self._pool is not None:
            self._pool.give_back(connection)

    def explained(self, error: BaseException, connection: MySQLConnection, *, may_have_happened: bool) -> BaseException:
        """An error in our words; itself where it is not the database's."""
        if is_lost(error) and (connection.is_closed or not isinstance(error, OSError)):
            connection.broken = True
            return lost(error, self.name, may_have_happened=may_have_happened)
        return translated(error, self.name)

    async def asked(self, connection: MySQLConnection, question: Any, *, may_have_happened: bool = False) -> Any:
        """The answer to one question on a connection; errors in our words, and cancellation noted on it."""
        try:
            return await question
        except (asyncio.CancelledError, GeneratorExit):
            connection.interrupted = True
            raise
        except Exception as error:
            if not is_whole(error) and not isinstance(error, QueryError | ValidationError):
                connection.broken = True  # nobody knows what the next answer would answer
            ours = self.explained(error, connection, may_have_happened=may_have_happened)
            if ours is error:
                raise
            raise ours from error

    @asynccontextmanager
    async def _connection(self, place: str = "") -> AsyncIterator[MySQLConnection]:
        connection = await self.take(place)
        try:
            yield connection
        finally:
            self.give_back(connection)

    async def _ask(self, statement: Statement, values: Sequence[Any]) -> Answer:
        return await self._run(statement.text, values, reads=statement.reads)

    async def _run(self, text: str, values: Sequence[Any] = (), *, reads: bool = True) -> Answer:
        """One statement in a transaction of its own; on another connection where the first one was gone."""
        for attempt in range(1, ATTEMPTS + 1):
            connection = await self.take("")
            try:
                return await connection.ask(text, values)
            except asyncio.CancelledError:
                connection.interrupted = True
                raise
            except Exception as error:
                connection.broken = not (is_whole(error) or isinstance(error, QueryError | ValidationError))
                again = is_lost(error) and (reads or not connection.begun or not was_sent(error))
                if attempt == ATTEMPTS or not again:
                    ours = self.explained(error, connection, may_have_happened=not reads)
                    if ours is error:
                        raise
                    raise ours from error
            finally:
                self.give_back(connection)
        raise AssertionError("it returned, or raised")

    async def _ask_many(self, statement: Statement, rows: Sequence[Sequence[Any]], *, bulk: bool) -> Answer:
        async with self._connection() as connection:
            if connection.in_one_step(rows, bulk=bulk):
                asking = connection.ask_many(statement.text, rows, bulk=bulk)
                answer: Answer = await self.asked(connection, asking, may_have_happened=True)
                return answer
        transaction = self._transaction(("START TRANSACTION",), name="execute_many", where=caller_place())
        async with transaction as tx:
            return await tx.ask_many(statement.text, rows, bulk=bulk)

    async def _begin(self, how: Begin, connection: MySQLConnection | None) -> MySQLOpenTransaction:
        begin = [f"SET TRANSACTION ISOLATION LEVEL {how.isolation.upper()}"] if how.isolation else []
        begin.append("START TRANSACTION READ ONLY" if how.read_only else "START TRANSACTION")
        transaction = self._transaction(
            tuple(begin), name=how.name, where=how.where, limit_s=how.deadline_s, connection=connection
        )
        await transaction.begin()
        return MySQLOpenTransaction(transaction)

    def _transaction(
        self,
        begin: tuple[str, ...],
        *,
        name: str,
        where: str,
        limit_s: float | None = None,
        connection: MySQLConnection | None = None,
    ) -> MySQLTransaction:
        limit_s = self.settings.transaction if limit_s is None else limit_s
        return MySQLTransaction(self, name=name, where=where, begin=begin, limit_s=limit_s, connection=connection)


class MySQLTransaction(ServerTransaction[MySQLConnection]):
    """What other parts on the same database may take part in, and what the port's transaction stands on."""

    async def ask(self, text: str, values: Sequence[Any]) -> Answer:
        """Run one statement in it, with `?` for values."""
        async with self._step() as connection:
            answer: Answer = await self._noted(connection, connection.ask(text, values))
            return answer

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]], *, bulk: bool) -> Answer:
        """Run a statement once for each row of values."""
        async with self._step() as connection:
            answer: Answer = await self._noted(connection, connection.ask_many(text, rows, bulk=bulk))
            return answer

    async def stream(self, text: str, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Answer]:
        """The rows in batches; nothing else can be asked until they are read."""
        batches = self.connection.stream(text, values, batch)
        async with aclosing(batches):
            while True:
                async with self._step() as connection:
                    answer = await self._noted(connection, anext(batches, None))
                if answer is None:
                    return
                yield answer

    async def _noted(self, connection: MySQLConnection, question: Any) -> Any:
        try:
            return await question
        except Exception as error:
            if not is_whole(error) and not isinstance(error, QueryError | ValidationError):
                connection.broken = True  # nobody knows what the next answer would answer
            raise


class MySQLOpenTransaction(MySQLSession):
    """An open transaction, or a savepoint in one."""

    def __init__(self, transaction: MySQLTransaction) -> None:
        self.native = transaction

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        async with aclosing(self.native.stream(statement.text, encoded(values), batch=batch)) as batches:
            async for answer in batches:
                yield Rows(answer.columns, answer.rows)

    async def begin(self, how: Begin) -> MySQLOpenTransaction:
        nested = self.native.transaction(name=how.name, where=how.where)
        await nested.begin()
        return MySQLOpenTransaction(nested)

    async def commit(self) -> None:
        await self.native.commit()

    async def rollback(self) -> None:
        await self.native.rollback()

    async def _ask(self, statement: Statement, values: Sequence[Any]) -> Answer:
        if statement.verb in _COMMITS and not _has_word(statement, "TEMPORARY"):
            raise QueryError(
                f"{statement.verb} would commit the transaction {self.native.name!r}: MariaDB and MySQL do so by"
                " themselves before they change tables.",
                hint="Run it outside of the transaction.",
            )
        return await self.native.ask(statement.text, values)

    async def _ask_many(self, statement: Statement, rows: Sequence[Sequence[Any]], *, bulk: bool) -> Answer:
        return await self.native.ask_many(statement.text, rows, bulk=bulk)


class MySQLPinned(MySQLSession):
    """One connection, asked like the engine: what is set in its session lasts until the block ends."""

    def __init__(self, engine: MySQL, connection: MySQLConnection) -> None:
        self._engine = engine
        self._connection = connection

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        batches = self._connection.stream(statement.text, encoded(values), batch)
        async with aclosing(batches):
            while (answer := await self._engine.asked(self._connection, anext(batches, None))) is not None:
                yield Rows(answer.columns, answer.rows)

    async def begin(self, how: Begin) -> MySQLOpenTransaction:
        return await self._engine._begin(how, self._connection)

    async def _ask(self, statement: Statement, values: Sequence[Any]) -> Answer:
        asking = self._connection.ask(statement.text, values)
        answer: Answer = await self._engine.asked(self._connection, asking, may_have_happened=not statement.reads)
        return answer

    async def _ask_many(self, statement: Statement, rows: Sequence[Sequence[Any]], *, bulk: bool) -> Answer:
        connection = self._connection
        if connection.in_transaction or connection.in_one_step(rows, bulk=bulk):
            asking = connection.ask_many(statement.text, rows, bulk=bulk)
            answer: Answer = await self._engine.asked(connection, asking, may_have_happened=True)
            return answer
        how = Begin(name="execute_many", where=caller_place())
        transaction = (await self.begin(how)).native
        try:
            answer = await transaction.ask_many(statement.text, rows, bulk=bulk)
        except BaseException:
            await transaction.rollback()
            raise
        await transaction.commit()
        return answer


def encoded(values: Sequence[Any]) -> Sequence[Any]:
    """The values as they are stored."""
    for value in values:
        if type(value) not in _AS_IT_IS:
            return [_stored(value) for value in values]
    return values


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, JsonText | UUID):
        return str(value)
    if isinstance(value, Array):
        raise ValidationError(
            "MariaDB and MySQL have no arrays.",
            fields=[FieldProblem("values", "an Array, which the database has not")],
            hint="Store the list as JSON: Json(value).",
        )
    return value


def _last_key(statement: Statement, answer: Answer) -> Any:
    """The server tells the key of the first row; the last one's follows where it is certain how many rows there are."""
    if statement.verb != "INSERT" or not answer.key:
        return None
    if answer.changed == 1:
        return answer.key
    certain = not (
        _has_word(statement, "SELECT") or _has_word(statement, "IGNORE") or _has_word(statement, "DUPLICATE")
    )
    return answer.key + (answer.changed - 1) * answer.increment if certain else None


def _has_word(statement: Statement, word: str) -> bool:
    if word not in statement.source.upper():
        return False
    return any(token.kind == "word" and token.text.upper() == word for token in tokens(statement.source, MYSQL))
