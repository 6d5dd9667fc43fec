"""Consona's own tables in PostgreSQL: made and upgraded in steps, and refused where they are too new.

`consona_schema` has one row for each part that keeps tables in the database, in the first schema of the
search path. Processes that start at the same time take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consona.errors import ConfigurationError
from consona.storage.postgresql.engine import PostgreSQLEngine

__all__ = ["prepare"]

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS consona_schema (
        part text PRIMARY KEY, version integer NOT NULL, oldest_reader integer NOT NULL)"""
_NOTE: Final = """
    INSERT INTO consona_schema VALUES ($1, $2, $3)
    ON CONFLICT (part) DO UPDATE SET version = $2, oldest_reader = $3"""
_VERSION: Final = "SELECT version, oldest_reader FROM consona_schema WHERE part = $1"


async def prepare(
    engine: PostgreSQLEngine, part: str, steps: Sequence[Sequence[str]], *, oldest_reader: int = 1
) -> None:
    """Bring the tables of `part` to version `len(steps)`: all of it happens, or nothing.

    Args:
        engine: Of the database.
        part: Whose tables: `store`, `queue`, …
        steps: The statements that lead from each version to the next; the first ones make the tables.
        oldest_reader: The oldest version of the code that can still use the newest tables, so that releases
            run side by side while they are replaced.

    Raises:
        ConfigurationError: A newer release made the tables, and this one cannot use them.
    """
    if await _version(engine, part, len(steps)) >= len(steps):
        return  # without a lock: the usual case
    async with engine.transaction(name=f"tables of {part}") as tx:
        await tx.ask("SELECT pg_advisory_xact_lock(hashtextextended('consona:schema', 0))")
        await tx.ask(_TABLE)
        rows = (await tx.ask(_VERSION, [part])).rows
        version = rows[0][0] if rows else 0
        for step in steps[version:]:
            for statement in step:
                await tx.ask(statement)
        if version < len(steps):
            await tx.ask(_NOTE, [part, len(steps), oldest_reader])


async def _version(engine: PostgreSQLEngine, part: str, known: int) -> int:
    there = (await engine.ask("SELECT to_regclass('consona_schema') IS NOT NULL", reads=True)).rows[0][0]
    rows = (await engine.ask(_VERSION, [part], reads=True)).rows if there else []
    if not rows:
        return 0
    version, oldest = rows[0]
    if oldest > known:
        raise ConfigurationError(
            f"The tables of {part!r} in {engine.name} have version {version}; this release of Consona knows {known}.",
            hint="Use the release that made them, or a newer one.",
            part=part,
        )
    return int(version)
