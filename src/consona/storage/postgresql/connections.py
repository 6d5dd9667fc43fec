"""Connections to PostgreSQL: how they are opened, asked, judged, and brought to order before the next one has them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import select
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from consona.address import Address
from consona.errors import ConfigurationError, ConnectError, FieldProblem, ValidationError
from consona.storage.postgresql.errors import is_outdated
from consona.storage.postgresql.settings import PostgreSQLSettings

__all__ = ["Answer", "PostgreSQLConnection", "PostgreSQLDriver"]

DATABASE_MISSING: Final = "3D000"
TOO_MANY: Final = "53300"
STARTING_OR_STOPPING: Final = {"57P01", "57P02", "57P03"}
PIECE_S: Final = 0.001
HANDFUL: Final = 100
"""After how many rows of a COPY it is looked whether a millisecond is over."""


class Answer(NamedTuple):
    """What a statement gave."""

    columns: tuple[str, ...]
    rows: list[Any]
    """Records of asyncpg: sequences of values, which know their columns too."""
    changed: int
    """How many rows it inserted, changed or deleted; of a SELECT, how many it found."""


class Nature(NamedTuple):
    session: bool
    """It leaves something in the session."""
    schema: bool
    """It changes tables or other objects."""


class Prepared:
    """A statement that one connection keeps prepared."""

    __slots__ = ("columns", "dates", "nature", "statement")

    def __init__(self, statement: Any, nature: Nature) -> None:
        self.statement = statement
        self.nature = nature
        self.columns = tuple(attribute.name for attribute in statement.get_attributes())
        types = enumerate(statement.get_parameters())
        self.dates = [number for number, parameter in types if parameter.name == "date"]

    def check(self, values: Sequence[Any]) -> None:
        """Refuse what the driver would cut: a datetime where a date goes."""
        for number in self.dates:
            if number < len(values) and isinstance(values[number], datetime):
                reason = "date expected, datetime given"
                raise ValidationError(
                    f"Value {number + 1} does not fit: {reason}.",
                    fields=[FieldProblem(f"values[{number + 1}]", reason)],
                    hint="Give its date(), or declare the column TIMESTAMPTZ.",
                )


class PostgreSQLConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """One session. What was done to it is noted, so that the next caller gets it clean."""

    __slots__ = ("begun", "dirty", "incoming", "interrupted", "keep", "kept", "remade", "schema")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dirty = False
        """Whether a statement changed the session: its settings, locks, listeners, temporary tables."""
        self.interrupted = False
        """Whether something was cancelled whose end the server has not told yet."""
        self.begun = False
        """Whether the statement that was asked last may have begun to run, rather than only been prepared."""
        self.remade = False
        """Whether a statement changed tables or other objects, which nobody else was told yet."""
        self.schema = 0
        """For which state of the schema its statements were prepared: a count of the engine's."""
        self.keep = 0
        self.kept: dict[str, Prepared] = {}
        self.incoming = _incoming(self._transport)

    def has_unread(self) -> bool:
        """Whether something arrived that was not read yet. Asks the operating system, within a microsecond."""
        return bool(self.incoming is not None and self.incoming.poll(0))

    async def ask(self, text: str, values: Sequence[Any], *, first: bool = False) -> Answer:
        """Run one statement, prepared if it was asked before; with `first`, only until it gave its first row."""
        kept = self.kept.get(text)
        self.begun = kept is not None
        try:
            if kept is None:
                nature = _nature(text)
                if nature.schema and not values:
                    return await self._ask_once(text, nature)
                kept = await self._keep_prepared(text, nature)
                self.begun = True
            rows = await _rows(kept, values, first=first)
        except asyncpg.PostgresError as error:
            if kept is not None and error.sqlstate == "22000":
                raise _misfit(error, kept, values) from error
            if not is_outdated(error) or self.is_in_transaction():
                raise
            # The server refused it before it ran: prepared anew, it fits the schema as it is now.
            self.forget()
            kept = await self._keep_prepared(text, _nature(text))
            rows = await _rows(kept, values, first=first)
        if kept.nature.session:
            self.dirty = True
        return Answer(kept.columns, rows, _changed(kept.statement.get_statusmsg()))

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a statement once for each row of values, all or nothing; returns the rows that it gives."""
        kept = self.kept.get(text) or await self._keep_prepared(text, _nature(text))
        if kept.dates:
            for row in rows:
                kept.check(row)
        try:
            found: list[Any] = await kept.statement.fetchmany(rows)
        except asyncpg.DataError as error:
            if error.sqlstate == "22000":
                raise _misfit(error, kept, ()) from error
            raise
        return found

    async def stream(self, text: str, values: Sequence[Any], batch: int) -> AsyncGenerator[Answer]:
        """Batches of rows, from a cursor; in a transaction. The first one is always given."""
        kept = self.kept.get(text) or await self._keep_prepared(text, _nature(text))
        try:
            cursor = await kept.statement.cursor(*values)
            rows = await cursor.fetch(batch)
        except asyncpg.DataError as error:
            if error.sqlstate == "22000":
                raise _misfit(error, kept, values) from error
            raise
        try:
            yield Answer(kept.columns, rows, len(rows))
            while len(rows) == batch and (rows := await cursor.fetch(batch)):
                yield Answer(kept.columns, rows, len(rows))
        finally:
            if not (self.interrupted or self.is_closed()) and self.is_in_transaction():
                # Left open, it would keep its table busy until the end of the transaction.
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
                    await cursor._close_portal(None)

    async def load(self, table: str, rows: Iterable[Sequence[Any]], columns: Sequence[str], schema: str | None) -> int:
        """Rows into a table with a binary COPY. Returns how many."""
        number = 0
        # What the driver would cut (a datetime in a DATE) is refused here too.
        names = [_quoted(name) for name in ((schema, table) if schema else (table,))]
        kept = await self._insert_of(".".join(names), [_quoted(name) for name in columns])

        async def counted() -> AsyncIterator[Sequence[Any]]:
            nonlocal number
            until = time.perf_counter() + PIECE_S
            for row in rows:
                number += 1
                kept.check(row)
                yield row
                if number % HANDFUL == 0 and time.perf_counter() > until:
                    await asyncio.sleep(0)  # the driver would encode half a megabyte before others run
                    until = time.perf_counter() + PIECE_S

        try:
            status = await self.copy_records_to_table(table, records=counted(), columns=columns, schema_name=schema)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            # The driver's own words have the value in them.
            raise ValidationError(
                f"Row {number} does not fit the columns of {table!r}: one of its values has another type, or is missing.",
                fields=[FieldProblem(f"rows[{number}]", "does not fit the columns")],
            ) from error
        return _changed(status)

    async def control(self, sql: str) -> None:
        """Run BEGIN, SAVEPOINT and their like."""
        await self.execute(sql)

    async def commit(self) -> bool:
        """Run COMMIT. False where the server rolled back instead, since a statement had failed."""
        return bool(await self.execute("COMMIT") == "COMMIT")

    def forget(self) -> None:
        """Prepare everything anew from now on."""
        self.kept.clear()

    async def _ask_once(self, text: str, nature: Nature) -> Answer:
        """A statement that changes the schema: nothing is gained by keeping it, and what is kept may not fit after."""
        self.begun = True
        self.dirty = self.dirty or nature.session
        self.remade = True
        status = await self.execute(text)
        self.forget()
        return Answer((), [], _changed(status))

    async def _insert_of(self, table: str, columns: Sequence[str]) -> Prepared:
        """An INSERT into these columns, prepared: its parameters have the columns' types."""
        places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        text = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
        return self.kept.get(text) or await self._keep_prepared(text, _nature(text))

    async def _keep_prepared(self, text: str, nature: Nature) -> Prepared:
        if len(self.kept) >= self.keep > 0:
            del self.kept[next(iter(self.kept))]
        prepared = Prepared(await self.prepare(text), nature)
        if self.keep:
            self.kept[text] = prepared
        return prepared


class PostgreSQLDriver:
    """Opens connections to one address.

    Args:
        address: `postgresql://user:password@host:port/database`; what is missing is taken as libpq would.
        settings: How.
    """

    def __init__(self, address: Address, settings: PostgreSQLSettings) -> None:
        self.address = address
        self.settings = settings
        self.name = str(Address(scheme="postgresql", host=address.host, port=address.port, path=address.path))
        """How messages call it: without user and password."""

    async def connect(self) -> PostgreSQLConnection:
        address, settings = self.address, self.settings
        try:
            connection: PostgreSQLConnection = await asyncpg.connect(
                host=address.host or address.options.get("host") or None,
                port=address.port,
                user=address.username or None,
                password=address.password or None,
                database=address.path or None,
                ssl=self._ssl(),
                timeout=settings.pool.connect,
                statement_cache_size=settings.statements,
                max_cached_statement_lifetime=0,
                server_settings={"application_name": settings.application},
                connection_class=PostgreSQLConnection,
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.PostgresConnectionError):
                raise self._refused(error) from error
            words = "it did not answer in time" if isinstance(error, TimeoutError) else str(error)
            raise ConnectError(
                f"{self.name} cannot be reached ({words or type(error).__name__}).", database=self.name
            ) from error
        connection.keep = settings.statements
        return connection

    async def close(self, connection: PostgreSQLConnection) -> None:
        connection.forget()
        await connection.close()

    def terminate(self, connection: PostgreSQLConnection) -> None:
        connection.forget()
        connection.terminate()

    def is_lost(self, connection: PostgreSQLConnection) -> bool:
        """Also where its end has arrived, and the event loop did not come to read it yet: an idle one hears nothing."""
        return connection.is_closed() or connection.has_unread()

    def is_clean(self, connection: PostgreSQLConnection) -> bool:
        return not (
            connection.dirty or connection.interrupted or connection.is_closed() or connection.is_in_transaction()
        )

    async def clean(self, connection: PostgreSQLConnection) -> None:
        """Before it sends anything, asyncpg waits for the end of what was cancelled."""
        if connection.interrupted or connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        if connection.dirty:
            await connection.reset()
            await connection.execute("DISCARD TEMP")
        connection.dirty = connection.interrupted = False

    async def ping(self, connection: PostgreSQLConnection) -> None:
        await connection.execute("SELECT 1")

    def _ssl(self) -> Any:
        if self.settings.ssl not in {"verify-ca", "verify-full"}:
            return self.settings.ssl
        try:
            context = ssl.create_default_context(cafile=self.settings.ssl_root or None)
        except OSError as error:
            raise ConfigurationError(
                f"The certificates in {self.settings.ssl_root!r} (ssl_root) cannot be read ({error})."
            ) from error
        context.check_hostname = self.settings.ssl == "verify-full"
        return context

    def _refused(self, error: asyncpg.PostgresError) -> ConnectError:
        """What the server said when it did not let us in; a wrong password stays wrong, however often it is tried."""
        state = error.sqlstate or ""
        retryable, hint = state in STARTING_OR_STOPPING, None
        if state.startswith("28"):
            hint = "Check the user and the password in the address, and pg_hba.conf on the server."
        elif state == DATABASE_MISSING:
            hint = f"Create it first: CREATE DATABASE {self.address.path};"
        elif state == TOO_MANY:
            retryable = True
            hint = "Lower max_size in all programs that use this server together, or raise its max_connections."
        return ConnectError(
            f"{self.name} refused the connection ({error.args[0]}).",
            hint=hint,
            retryable=retryable,
            database=self.name,
            sqlstate=state,
        )


async def _rows(kept: Prepared, values: Sequence[Any], *, first: bool) -> list[Any]:
    if kept.dates:
        kept.check(values)
    if first:
        row = await kept.statement.fetchrow(*values)
        return [] if row is None else [row]
    return await kept.statement.fetch(*values)  # type: ignore[no-any-return]


def _incoming(transport: Any) -> Any:
    """What tells whether bytes wait to be read; None where the system has no `poll` (Windows)."""
    connected = transport.get_extra_info("socket")
    if connected is None or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(connected.fileno(), select.POLLIN)
    return poll


_SESSION: Final = re.compile(
    r"""^\s*(?:SET(?!\s+(?:LOCAL|TRANSACTION)\b)|RESET|LISTEN|UNLISTEN|LOAD|PREPARE|DECLARE|CALL|DO)\b
    |\bset_config\s*\(|\bpg_(?:try_)?advisory_lock(?:_shared)?\s*\(|\b(?:CREATE|INTO)\s+(?:\w+\s+)?TEMP(?:ORARY)?\b""",
    re.IGNORECASE | re.VERBOSE,
)
_SCHEMA: Final = re.compile(
    r"^\s*(?:CREATE|ALTER|DROP|DISCARD|DEALLOCATE|IMPORT|REFRESH|SECURITY|COMMENT)\b", re.IGNORECASE
)
_COMMENTS: Final = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)


@functools.lru_cache(maxsize=2000)
def _nature(text: str) -> Nature:
    """Judged by its words: what looks like more than it is costs a reset at most."""
    bare = _COMMENTS.sub(" ", text)
    return Nature(_SESSION.search(bare) is not None, _SCHEMA.match(bare) is not None)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _changed(status: str | None) -> int:
    """`INSERT 0 5` -> 5."""
    number = (status or "").rpartition(" ")[2]
    return int(number) if number.isdecimal() else 0


def _misfit(error: asyncpg.PostgresError, kept: Prepared, values: Sequence[Any]) -> ValidationError:
    """The driver could not send a value as what the server expects. Its own words have the value in them."""
    found = re.search(r"query argument \$(\d+)", str(error))
    if found is None:
        return ValidationError("A value has not the type that the statement expects.")
    number = int(found[1])
    expected = kept.statement.get_parameters()[number - 1].name
    given = f"{type(values[number - 1]).__name__} given" if number <= len(values) else "got another type"
    row = re.search(r"in element #(\d+)", str(error))
    reason = f"{expected} expected, {given}"
    if "out of" in str(error):
        reason = f"out of the range of {expected}"
    elif number <= len(values) and isinstance(values[number - 1], datetime):
        reason = f"{expected} has no zone; declare the column TIMESTAMPTZ"
    where = f"rows[{int(row[1]) + 1}]" if row is not None else "values"
    return ValidationError(
        f"{f'Row {int(row[1]) + 1}, value' if row is not None else 'Value'} {number} does not fit: {reason}.",
        fields=[FieldProblem(f"{where}[{number}]", reason)],
        hint="Give a value of that type, or write CAST(? AS type), so that the database knows which one is meant.",
    )
