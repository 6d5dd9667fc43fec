"""Consona's own tables in a SQLite file: made and upgraded in steps, and refused where they are too new.

`consona_schema` has one row for each part that keeps tables in the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from consona.errors import ConfigurationError

__all__ = ["prepare"]


def prepare(connection: apsw.Connection, part: str, steps: Sequence[str], *, oldest_reader: int = 1) -> None:
    """Bring the tables of `part` to version `len(steps)`. Call it in a write: all of it happens, or nothing.

    Args:
        connection: The writing one.
        part: Whose tables: `store`, `queue`, …
        steps: The SQL that leads from each version to the next; the first makes the tables.
        oldest_reader: The oldest version of the code that can still use the newest tables, so that releases
            run side by side while they are replaced.

    Raises:
        ConfigurationError: A newer release made the tables, and this one cannot use them.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS consona_schema"
        " (part TEXT PRIMARY KEY, version INTEGER NOT NULL, oldest_reader INTEGER NOT NULL) STRICT, WITHOUT ROWID"
    )
    row = connection.execute("SELECT version, oldest_reader FROM consona_schema WHERE part = ?", (part,)).fetchone()
    version, oldest = row or (0, 0)
    if oldest > len(steps):
        raise ConfigurationError(
            f"The tables of {part!r} in {connection.filename or 'memory'} have version {version}; this release of"
            f" Consona knows {len(steps)}.",
            hint="Use the release that made them, or a newer one.",
            part=part,
        )
    if version >= len(steps):
        return
    for step in steps[version:]:
        connection.execute(step)
    connection.execute("INSERT OR REPLACE INTO consona_schema VALUES (?, ?, ?)", (part, len(steps), oldest_reader))
