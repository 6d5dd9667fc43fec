"""What ran on a database, kept in the database: the table `consona_migrations`.

One row for each migration that ran, or began to. The table's own version stands in `consona_schema`,
beside those of Consona's other tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

from consona.errors import ConfigurationError
from consona.sql.dialect import Dialect
from consona.sql.engine import Session
from consona.sql.migrations.script import Direction
from consona.sql.placeholders import compile_statement

__all__ = ["History", "Row"]

State = Literal["done", "running", "failed"]
VERSION: Final = 1
TABLE: Final = "consona_migrations"

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS consona_schema"
    " (part VARCHAR(100) PRIMARY KEY, version INTEGER NOT NULL, oldest_reader INTEGER NOT NULL)"
)
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} ("
    "version BIGINT NOT NULL PRIMARY KEY,"
    " name VARCHAR(200) NOT NULL,"
    " checksum VARCHAR(64) NOT NULL,"
    " direction VARCHAR(4) NOT NULL,"
    " state VARCHAR(10) NOT NULL,"
    " statements INTEGER NOT NULL,"
    " done INTEGER NOT NULL,"
    " schema_before VARCHAR(64) NOT NULL,"
    " ran_at VARCHAR(40) NOT NULL,"
    " seconds DOUBLE PRECISION NOT NULL,"
    " ran_by VARCHAR(200) NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one migration."""

    version: int
    name: str
    checksum: str
    direction: Direction
    """Into which it ran, or began to run; `down` only while it is not done."""
    state: State
    statements: int
    """How many it has."""
    done: int
    """How many of them have happened for certain."""
    schema_before: str
    """The fingerprint of the schema before the statement that is not known to have happened."""
    ran_at: str
    """When it began, by the clock of who ran it: `2026-01-31T12:00:00Z`."""
    seconds: float
    ran_by: str
    """`user@host`, and the process."""


_COLUMNS: Final = tuple(field.name for field in fields(Row))


class History:
    """The rows, read and written in the session that runs the migrations."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    async def prepare(self, session: Session) -> None:
        """Make the table where it is not there.

        Raises:
            ConfigurationError: A newer release made it, in a form that this one does not know.
        """
        if await self._exists(session):
            await self._check_version(session)
            return
        await self._run(session, _SCHEMA)
        await self._run(session, _CREATE)
        known = await self._run(session, "SELECT version FROM consona_schema WHERE part = 'migrations'")
        if not known:
            await self._run(session, "INSERT INTO consona_schema VALUES ('migrations', ?, 1)", VERSION)

    async def rows(self, session: Session) -> dict[int, Row]:
        """All rows by version; none where the table was never made."""
        if not await self._exists(session):
            return {}
        await self._check_version(session)
        found = await self._run(session, f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} ORDER BY version")  # noqa: S608  our names
        return {row[0]: Row(*row) for row in found}

    async def begin(self, session: Session, row: Row) -> None:
        marks = ", ".join("?" for _ in _COLUMNS)
        values = [getattr(row, column) for column in _COLUMNS]
        sql = f"INSERT INTO {TABLE} ({', '.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608  our names
        await self._run(session, sql, *values)

    async def update(self, session: Session, version: int, **columns: Any) -> None:
        changes = ", ".join(f"{column} = ?" for column in columns)
        sql = f"UPDATE {TABLE} SET {changes} WHERE version = ?"  # noqa: S608  our names
        await self._run(session, sql, *columns.values(), version)

    async def remove(self, session: Session, version: int) -> None:
        await self._run(session, f"DELETE FROM {TABLE} WHERE version = ?", version)  # noqa: S608  our names

    async def _exists(self, session: Session) -> bool:
        return bool(await self._run(session, _LOOK[self._dialect.name], TABLE))

    async def _check_version(self, session: Session) -> None:
        found = await self._run(session, "SELECT version, oldest_reader FROM consona_schema WHERE part = 'migrations'")
        if found and found[0][1] > VERSION:
            raise ConfigurationError(
                f"The history of migrations has the form {found[0][0]}; this release of Consona knows {VERSION}.",
                hint="Use the release that made it, or a newer one.",
            )

    async def _run(self, session: Session, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        statement = compile_statement(sql, self._dialect)
        if statement.verb == "SELECT":
            return (await session.fetch(statement, values)).rows
        await session.execute(statement, values)
        return ()


_LOOK: Final = {
    "sqlite": "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?",
    "postgresql": "SELECT 1 WHERE to_regclass(?) IS NOT NULL",
    "mysql": "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
}


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
