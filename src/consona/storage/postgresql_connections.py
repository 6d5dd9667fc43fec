"""How connections to PostgreSQL are opened, judged and brought to order: what its pool must know."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

import asyncpg

from consona.address import Address
from consona.errors import ConfigurationError, ConnectError
from consona.storage.postgresql_settings import PostgreSQLSettings

__all__ = ["PostgreSQLConnection", "PostgreSQLDriver"]

CATALOG_MISSING: Final = "3D000"
TOO_MANY: Final = "53300"
STARTING_OR_STOPPING: Final = {"57P01", "57P02", "57P03"}


class PostgreSQLConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """One session. What was done to it is noted, so that the next caller gets it clean."""

    __slots__ = ("dirty", "interrupted")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dirty = False
        """Whether a statement changed the session: its settings, locks, listeners, temporary tables."""
        self.interrupted = False
        """Whether a statement was cancelled whose end the server has not told yet."""


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
        except asyncpg.PostgresError as error:
            raise self._refused(error) from error
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise ConnectError(f"{self.name} cannot be reached ({_words(error)}).", database=self.name) from error
        return connection

    async def close(self, connection: PostgreSQLConnection) -> None:
        await connection.close()

    def terminate(self, connection: PostgreSQLConnection) -> None:
        connection.terminate()

    def is_lost(self, connection: PostgreSQLConnection) -> bool:
        return connection.is_closed()  # type: ignore[no-any-return]

    def is_clean(self, connection: PostgreSQLConnection) -> bool:
        return not (connection.dirty or connection.interrupted or connection.is_in_transaction())

    async def clean(self, connection: PostgreSQLConnection) -> None:
        """What was cancelled is waited for by asyncpg, before it sends anything else."""
        await connection.execute("ROLLBACK" if connection.interrupted or connection.is_in_transaction() else "")
        if connection.dirty:
            await connection.reset()
            await connection.execute("DISCARD TEMP")
        connection.dirty = connection.interrupted = False

    async def ping(self, connection: PostgreSQLConnection) -> None:
        await connection.execute("")

    def _ssl(self) -> Any:
        if self.settings.ssl not in {"verify-ca", "verify-full"}:
            return self.settings.ssl
        try:
            context = ssl.create_default_context(cafile=self.settings.ssl_root or None)
        except OSError as error:
            raise ConfigurationError(
                f"The certificates in {self.settings.ssl_root!r} (ssl_root) cannot be read ({_words(error)})."
            ) from error
        context.check_hostname = self.settings.ssl == "verify-full"
        return context

    def _refused(self, error: asyncpg.PostgresError) -> ConnectError:
        """What the server said when it let us not in; a wrong password stays wrong, however often it is tried."""
        state = error.sqlstate or ""
        retryable, hint = True, None
        if state.startswith("28"):
            retryable, hint = False, "Check the user and the password in the address, and pg_hba.conf on the server."
        elif state == CATALOG_MISSING:
            retryable, hint = False, f"Create it first: CREATE DATABASE {self.address.path};"
        elif state == TOO_MANY:
            hint = "Lower max_size in all programs that use this server together, or raise its max_connections."
        elif state not in STARTING_OR_STOPPING:
            retryable = False
        return ConnectError(
            f"{self.name} refused the connection ({error.args[0]}).",
            hint=hint,
            retryable=retryable,
            database=self.name,
            sqlstate=state,
        )


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "it did not answer in time"
    return str(error) or type(error).__name__
