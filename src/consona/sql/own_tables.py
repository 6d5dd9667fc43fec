"""Consona's own tables in a SQL database: made and upgraded in steps at the start, the same on each engine.

`consona_schema` has one row for each part that keeps tables in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from consona.errors import ConfigurationError, QueryError

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.queries import Queries
    from consona.sql.transaction import Transaction

__all__ = ["prepare"]

TRIES: Final = 10
_TYPES: Final = {
    "sqlite": {"numbered": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB", "text": "TEXT"},
    "postgresql": {"numbered": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bytes": "BYTEA", "text": "TEXT"},
    "mysql": {"numbered": "BIGINT AUTO_INCREMENT PRIMARY KEY", "bytes": "LONGBLOB", "text": "LONGTEXT"},
}
_DONE_BEFORE: Final = {1050, 1060, 1061, 1062}
"""What MariaDB and MySQL say of a table, a column, an index or a row that is there already."""
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS consona_schema"
    " (part VARCHAR(100) PRIMARY KEY, version INTEGER NOT NULL, oldest_reader INTEGER NOT NULL)"
)


async def prepare(db: SQLDatabase, part: str, steps: Sequence[Sequence[str]], *, oldest_reader: int = 1) -> None:
    """Bring the tables of `part` to version `len(steps)`. Processes that start at once do it once.

    Args:
        db: Started.
        part: Whose tables: `accounts`, `outbox`, …
        steps: The statements that lead from each version to the next; the first make the tables. In them
            `{numbered}` is a key that the database counts up, `{bytes}` the type of bytes, and `{text}` that of text of any length.
        oldest_reader: The oldest version of the code that can still use the newest tables, so that releases
            run side by side while they are replaced.

    Raises:
        ConfigurationError: A newer release made them, and this one cannot use them.
        QueryError: The database refused it.
    """

    async def run(tx: Transaction) -> None:
        await _steps(tx, part, steps, oldest_reader)

    for last in (*[False] * (TRIES - 1), True):
        try:
            if db.dialect.name == "mysql":  # it commits by itself before it changes tables
                await _steps(db, part, steps, oldest_reader)
            else:
                await db.run_in_transaction(run, name=f"tables of {part}")
        except QueryError:
            # Two that make the same table at once: one of them is refused, and finds it the next time.
            if last:
                raise
        else:
            return


async def _steps(db: Queries, part: str, steps: Sequence[Sequence[str]], oldest_reader: int) -> None:
    await db.execute(_SCHEMA)
    row = await db.fetch_one("SELECT version, oldest_reader FROM consona_schema WHERE part = ?", part)
    version, oldest = (0, 0) if row is None else (row["version"], row["oldest_reader"])
    if oldest > len(steps):
        raise ConfigurationError(
            f"The tables of {part} have version {version}; this release of Consona knows {len(steps)}.",
            hint="Use the release that made them, or a newer one.",
        )
    if version >= len(steps):
        return
    for statements in steps[version:]:
        for statement in statements:
            await _run(db, statement.format(**_TYPES[db.dialect.name]))
    # Last: where a step cannot be undone, who is killed in the middle is followed by one who does it again.
    if row is None:
        await db.execute("INSERT INTO consona_schema VALUES (?, ?, ?)", part, len(steps), oldest_reader)
    else:
        await db.execute(
            "UPDATE consona_schema SET version = ?, oldest_reader = ? WHERE part = ?", len(steps), oldest_reader, part
        )


async def _run(db: Queries, statement: str) -> None:
    try:
        await db.execute(statement)
    except QueryError as error:
        if error.context.get("errno") not in _DONE_BEFORE:
            raise
