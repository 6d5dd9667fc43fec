"""Connections to MariaDB and MySQL: how they are opened, asked, judged, and ended.

Statements with values go through the server's own prepared statements, in its binary protocol, so that no value
enters the text. A cancelled statement leaves its connection in the middle of an answer, so the driver closes it;
the server, which would go on working, is told to stop by another one.

Source: https://mariadb.com/kb/en/clientserver-protocol/
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import select
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, NamedTuple

from asyncmy.connection import Connection
from asyncmy.constants import CLIENT
from asyncmy.cursors import SSCursor
from asyncmy.errors import Error

from consona.address import Address
from consona.errors import ConfigurationError, ConnectError, QueryError
from consona.sql.mysql.errors import is_whole, number_of
from consona.sql.mysql.settings import MySQLSettings

__all__ = ["NOT_PREPARABLE", "Answer", "Ender", "MySQLConnection", "MySQLDriver"]

PREPARED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "CALL", "TABLE"})
"""What is worth being prepared; other statements change the schema or the session, and are seldom asked twice."""
NOT_PREPARABLE: Final = 1295
MODE: Final = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""Without it, values that do not fit are cut without a word."""
SESSION: Final = f"SET SESSION sql_mode = '{MODE}', time_zone = '+00:00'"
_SESSION: Final = re.compile(
    r"^\s*(?:SET|USE|PREPARE|LOCK|FLUSH|HANDLER|CALL)\b|\bGET_LOCK\s*\(|\bCREATE\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b",
    re.IGNORECASE,
)
BULK_ROWS: Final = 1000
BULK_BYTES: Final = 4 << 20


class Answer(NamedTuple):
    """What a statement gave."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    changed: int
    """How many rows it found for a change, whether they differ after it or not."""
    key: int
    """The key that was generated for the first inserted row; 0 where none was."""
    increment: int = 1
    """By how much the key of the next row is greater."""


class Wire(Connection):  # type: ignore[misc]  # its types leave out what a connection is made of
    """The driver's connection, which looks first whether the server offers encryption."""

    must_encrypt = False
    _ssl_context: Any

    async def _request_authentication(self) -> None:
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            if self.must_encrypt:
                raise ConnectError(
                    f"The server at {self._host} offers no encryption, which the address asks for (ssl).",
                    hint="Turn it on at the server. With ssl=prefer nobody vouches for who reads along.",
                    retryable=False,
                )
            self._ssl_context = None
            self._client_flag &= ~CLIENT.SSL
        await super()._request_authentication()


class MySQLConnection:
    """One session.

    Args:
        wire: The driver's connection, connected.
        keep: How many prepared statements it keeps.
    """

    def __init__(self, wire: Any, keep: int) -> None:
        self.wire = wire
        self.keep = keep
        self.thread_id: int = wire.thread_id()
        """What the server calls this session."""
        self.increment = 1
        """By how much a generated key is greater than the one before."""
        self.consecutive = True
        """Whether the keys of many rows follow each other (`innodb_autoinc_lock_mode`)."""
        self.opened_at = time.monotonic()
        self.dirty = False
        """Whether a statement changed the session: a setting, a lock, a temporary table."""
        self.interrupted = False
        """Whether something was cancelled on which the server may still work."""
        self.broken = False
        """Whether nobody knows any more what the next answer would answer."""
        self.begun = False
        """Whether the statement that was asked last may have begun to run, rather than only been prepared."""
        self.streaming = False
        self._kept: dict[str, Any] = {}
        self._incoming = _incoming(wire._transport)

    @property
    def is_closed(self) -> bool:
        return not self.wire.connected or bool(self.wire._stream_broken)

    @property
    def in_transaction(self) -> bool:
        return bool(self.wire.get_transaction_status())

    def has_unread(self) -> bool:
        """Whether something arrived that was not read yet: an idle connection hears nothing but its end."""
        return bool(self._incoming is not None and self._incoming.poll(0))

    async def ask(self, text: str, values: Sequence[Any]) -> Answer:
        """Run one statement, prepared if it was asked before."""
        self._not_streaming()
        self.begun = False
        self.dirty = self.dirty or _changes_session(text)
        if not values and text.lstrip("( \t\r\n")[:8].split(" ", 1)[0].upper() not in PREPARED:
            self.begun = True
            return await self._say(text)
        statement = self._kept.get(text)
        if statement is None:
            try:
                statement = await self._prepared(text)
            except Error as error:
                if number_of(error) != NOT_PREPARABLE or values:
                    raise
                self.begun = True
                return await self._say(text)
        self.begun = True
        result = await statement.execute(tuple(values))
        if not self.keep:
            await statement.close()
        return _answer(result)._replace(increment=self.increment)

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]], *, bulk: bool) -> Answer:
        """Run a statement once for each row of values; in a transaction, where that takes several steps."""
        self._not_streaming()
        self.begun = False
        statement = self._kept.get(text) or await self._prepared(text)
        self.begun = True
        changed, key = 0, 0
        given: list[tuple[Any, ...]] = []
        for piece in _pieces(rows):
            if bulk and self.wire._bulk_supported:
                try:
                    result = await statement.execute_bulk(piece)
                except ValueError:  # raised before anything is sent: values of several types in one column
                    pass
                else:
                    changed += result.affected_rows
                    last = result.insert_id + (len(piece) - 1) * self.increment
                    key = last if result.insert_id and self.consecutive else 0
                    continue
            for row in piece:
                answer = _answer(await statement.execute(tuple(row)))
                changed, key = changed + answer.changed, answer.key
                given += answer.rows
        return Answer((), given, changed, key)

    def in_one_step(self, rows: Sequence[Sequence[Any]], *, bulk: bool) -> bool:
        """Whether `ask_many` is one statement for the server, which happens as a whole by itself."""
        return bulk and bool(self.wire._bulk_supported) and len(list(_pieces(rows))) == 1 and _is_uniform(rows)

    async def stream(self, text: str, values: Sequence[Any], batch: int) -> AsyncGenerator[Answer]:
        """Batches of rows, as the server sends them; it is held back while nobody reads.

        The driver reads piece by piece in the text protocol only, so the values go into variables of the session.
        """
        self._not_streaming()
        names = [f"@consona_{number}" for number in range(len(values))]
        dirty = self.dirty
        if names:
            await self.ask(f"SET {', '.join(f'{name} = ?' for name in names)}", values)
            quoted = text.replace("\\", "\\\\").replace("'", "''")
            await self._say(f"PREPARE consona_stream FROM '{quoted}'")
            text = f"EXECUTE consona_stream USING {', '.join(names)}"
        cursor = self.wire.cursor(SSCursor)
        self.streaming = True
        try:
            await cursor.execute(text)
            columns = _columns(cursor.description)
            rows = await cursor.fetchmany(batch)
            yield Answer(columns, rows, len(rows), 0)
            while len(rows) == batch:
                self.wire._transport.resume_reading()
                rows = await cursor.fetchmany(batch)
                if rows:
                    self.wire._transport.pause_reading()
                    yield Answer(columns, rows, len(rows), 0)
        finally:
            self.streaming = False
            if not (self.interrupted or self.is_closed):
                self.wire._transport.resume_reading()
                await cursor.close()
                if names:
                    await self._say("DEALLOCATE PREPARE consona_stream")
                    await self._say(f"SET {', '.join(f'{name} = NULL' for name in names)}")
                    self.dirty = dirty

    async def control(self, sql: str) -> None:
        """Run BEGIN, SAVEPOINT and their like."""
        self._not_streaming()
        await self.wire.query(sql)

    async def commit(self) -> bool:
        """Run COMMIT."""
        await self.control("COMMIT")
        return True

    def terminate(self) -> None:
        """Close it at once."""
        self._kept.clear()
        self.wire.close()

    def _not_streaming(self) -> None:
        if self.streaming:
            raise QueryError(
                "A stream on this connection is not read to its end, and the server takes nothing else before.",
                hint="Read it to the end, close it (aclosing), or ask outside of the transaction.",
            )

    async def _say(self, text: str) -> Answer:
        await self.wire.query(text)
        return _answer(self.wire._result)

    async def _prepared(self, text: str) -> Any:
        statement = await self.wire.prepare(text)
        if self.keep:
            if len(self._kept) >= self.keep:
                await self._kept.pop(next(iter(self._kept))).close()
            self._kept[text] = statement
        return statement


class MySQLDriver:
    """Opens connections to one address.

    Args:
        address: `mysql://user:password@host:port/database`.
        settings: How.
    """

    def __init__(self, address: Address, settings: MySQLSettings) -> None:
        self.address = address
        self.settings = settings
        self.name = str(Address(scheme="mysql", host=address.host, port=address.port, path=address.path))
        """How messages call it: without user and password."""
        self.on_interrupted: Callable[[MySQLConnection], None] = lambda _: None
        """Is told whose session still works on something that nobody waits for."""

    async def connect(self) -> MySQLConnection:
        address, settings = self.address, self.settings
        wire = Wire(
            host=address.host or None,
            port=address.port or 3306,
            unix_socket=address.options.get("host"),
            user=address.username or None,
            password=address.password.encode(),
            database=address.path or None,
            charset="utf8mb4",
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS,
            program_name=settings.application,
            connect_timeout=max(1, round(settings.pool.connect)),
            ssl=self._ssl(),
        )
        wire.must_encrypt = settings.ssl not in {"disable", "prefer"}
        try:
            await wire.connect()
            connection = MySQLConnection(wire, settings.statements)
            await connection.control(SESSION)
            how = (await connection.ask("SELECT @@auto_increment_increment, @@innodb_autoinc_lock_mode", ())).rows
            connection.increment, connection.consecutive = how[0][0], how[0][1] < 2
        except (Error, OSError) as error:
            wire.close()
            raise self._refused(error) from error
        except BaseException:
            wire.close()
            raise
        return connection

    async def close(self, connection: MySQLConnection) -> None:
        await connection.wire.ensure_closed()

    def terminate(self, connection: MySQLConnection) -> None:
        if connection.interrupted:
            self.on_interrupted(connection)
        connection.terminate()

    def is_lost(self, connection: MySQLConnection) -> bool:
        """One that was cancelled is closed too, but that says nothing of the others."""
        return not connection.interrupted and (connection.is_closed or connection.has_unread())

    def is_clean(self, connection: MySQLConnection) -> bool:
        return not (
            connection.dirty
            or connection.interrupted
            or connection.broken
            or connection.streaming
            or connection.is_closed
            or connection.in_transaction
        )

    async def clean(self, connection: MySQLConnection) -> None:
        """Only a transaction can be undone. Whatever else was done to the session, the pool closes it for it."""
        if connection.in_transaction and not (connection.interrupted or connection.broken or connection.is_closed):
            await connection.control("ROLLBACK")

    async def ping(self, connection: MySQLConnection) -> None:
        await connection.wire.ping(reconnect=False)

    def _ssl(self) -> ssl.SSLContext | None:
        settings = self.settings
        if settings.ssl == "disable":
            return None
        try:
            context = ssl.create_default_context(cafile=settings.ssl_root or None)
        except OSError as error:
            raise ConfigurationError(
                f"The certificates in {settings.ssl_root!r} (ssl_root) cannot be read ({error})."
            ) from error
        context.check_hostname = settings.ssl == "verify-full"
        if settings.ssl in {"prefer", "require"}:
            context.verify_mode = ssl.CERT_NONE
        return context

    def _refused(self, error: BaseException) -> ConnectError:
        """What happened instead; a wrong password stays wrong, however often it is tried."""
        number = number_of(error)
        words = str(error.args[-1]) if error.args else type(error).__name__
        if not is_whole(error):
            return ConnectError(f"{self.name} cannot be reached ({words}).", database=self.name)
        retryable, hint = False, None
        if number in {1044, 1045, 1698}:
            hint = "Check the user and the password in the address, and the user's rights on the server."
        elif number == 1049:
            hint = f"Create it first: CREATE DATABASE {self.address.path};"
        elif number in {1040, 1203, 1226}:
            retryable = True
            hint = "Lower max_size in all programs that use this server together, or raise its max_connections."
        return ConnectError(
            f"{self.name} refused the connection ({words}).",
            hint=hint,
            retryable=retryable,
            database=self.name,
            errno=number,
        )


class Ender:
    """Tells the server to end sessions that work on something that nobody waits for any more.

    Args:
        driver: Opens the connection by which it is told.
    """

    def __init__(self, driver: MySQLDriver) -> None:
        self._driver = driver
        self._sessions: list[tuple[int, float]] = []
        self._task: asyncio.Task[None] | None = None
        self.ended = 0

    def end(self, connection: MySQLConnection) -> None:
        self._sessions.append((connection.thread_id, connection.opened_at))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name=f"{self._driver.name} ender")

    async def close(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._driver.settings.pool.clean)
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        """Where it cannot be told, the server notices by itself when it wants to answer."""
        with contextlib.suppress(ConnectError, Error, OSError):
            async with asyncio.timeout(self._driver.settings.pool.connect):
                connection = await self._driver.connect()
            try:
                uptime_s = float((await connection.ask("SHOW GLOBAL STATUS LIKE 'Uptime'", ())).rows[0][1])
                while self._sessions:
                    number, opened_at = self._sessions.pop()
                    if time.monotonic() - opened_at > uptime_s:
                        continue  # the server began anew, and with it the numbers of sessions
                    with contextlib.suppress(Error):  # it is gone by itself
                        await connection.control(f"KILL CONNECTION {number}")
                        self.ended += 1
            finally:
                connection.terminate()


def _answer(result: Any) -> Answer:
    if result.description is None:
        return Answer((), [], result.affected_rows, result.insert_id)
    # The numbers of a statement that gives rows are in its rows.
    return Answer(_columns(result.description), list(result.rows), len(result.rows), 0)


@functools.lru_cache(maxsize=2000)
def _changes_session(text: str) -> bool:
    """Judged by its words: what looks like more than it does costs a new connection at most."""
    return _SESSION.search(text) is not None


def _columns(description: Any) -> tuple[str, ...]:
    return tuple(column[0] for column in description or ())


def _pieces(rows: Sequence[Sequence[Any]]) -> list[list[tuple[Any, ...]]]:
    """The rows, in pieces that fit in one packet."""
    pieces: list[list[tuple[Any, ...]]] = [[]]
    size = 0
    for row in rows:
        bytes_ = sum(
            4 * len(value) if isinstance(value, str) else len(value) for value in row if isinstance(value, str | bytes)
        )
        if pieces[-1] and (len(pieces[-1]) == BULK_ROWS or size + bytes_ > BULK_BYTES):
            pieces.append([])
            size = 0
        pieces[-1].append(tuple(row))
        size += bytes_
    return pieces


def _is_uniform(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether each column has values of one type and at least one of them, as the bulk protocol wants it."""
    return all(len({type(value) for value in column if value is not None}) == 1 for column in zip(*rows, strict=True))


def _incoming(transport: Any) -> Any:
    """What tells whether bytes wait to be read; None where the system has no `poll` (Windows)."""
    connected = transport.get_extra_info("socket")
    if connected is None or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(connected.fileno(), select.POLLIN)
    return poll
