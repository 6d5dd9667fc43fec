"""The tables of `ops.db`, and which release may use them.

A file holds observations only: deleting it loses the past on the dashboard, and nothing else.

`ops_meta` has one row: the version of the tables, and the oldest version whose code still
understands them. So releases next to each other share a file, and one that cannot is told so.
"""

from __future__ import annotations

from typing import Any, Final

from consona.errors import ConfigurationError

__all__ = ["VERSION", "prepare"]

VERSION: Final = 1
OLDEST_READER: Final = 1
"""The oldest code that may use tables of `VERSION`: raised by an upgrade that is not an addition."""

_TABLES: Final = """
CREATE TABLE ops_meta (version INTEGER NOT NULL, oldest_reader INTEGER NOT NULL);

CREATE TABLE ops_processes (
    id TEXT PRIMARY KEY, service TEXT NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL,
    started REAL NOT NULL, seen REAL NOT NULL, stopped REAL,      -- seconds since the epoch
    dropped_spans INTEGER NOT NULL, dropped_reports INTEGER NOT NULL
) WITHOUT ROWID;

-- The newest figures of each part (figures and detail are JSON), summed over its operations ...
CREATE TABLE ops_parts (
    process TEXT NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL, at REAL NOT NULL,
    figures TEXT NOT NULL, detail TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (process, part, kind)
) WITHOUT ROWID;

-- ... and for each operation alone.
CREATE TABLE ops_series (
    process TEXT NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL,
    operation TEXT NOT NULL, target TEXT NOT NULL, figures TEXT NOT NULL,
    PRIMARY KEY (process, part, kind, operation, target)
) WITHOUT ROWID;

-- What a part did in the five seconds from `slot` on; no row where it did nothing.
CREATE TABLE ops_points (
    slot INTEGER NOT NULL, process TEXT NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL, figures TEXT NOT NULL,
    PRIMARY KEY (slot, process, part, kind)
) WITHOUT ROWID;

CREATE TABLE ops_entries (
    at REAL NOT NULL, process TEXT NOT NULL, service TEXT NOT NULL, part TEXT NOT NULL,
    kind TEXT NOT NULL, operation TEXT NOT NULL, target TEXT NOT NULL, duration REAL NOT NULL,
    outcome TEXT NOT NULL, error TEXT NOT NULL, attributes TEXT NOT NULL, trace_id TEXT NOT NULL,
    id INTEGER PRIMARY KEY
);
CREATE INDEX ops_entries_part ON ops_entries (service, part, kind, outcome);
CREATE INDEX ops_entries_outcome ON ops_entries (outcome);

CREATE TABLE ops_spans (
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent_id TEXT NOT NULL,
    process TEXT NOT NULL, service TEXT NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,      -- wall time, nanoseconds since the epoch
    outcome TEXT NOT NULL, error TEXT NOT NULL, attributes TEXT NOT NULL,
    id INTEGER PRIMARY KEY
);
CREATE INDEX ops_spans_trace ON ops_spans (trace_id);
"""


def prepare(connection: Any, url: str) -> None:
    """Make the tables in an empty file, or see that this code may use those that are there. Runs in a write.

    Raises:
        ConfigurationError: A newer release made the tables, in a way that this one does not understand.
    """
    if not _rows(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'ops_meta'"):
        for statement in filter(str.strip, _without_comments(_TABLES).split(";")):
            connection.execute(statement)
        connection.execute("INSERT INTO ops_meta VALUES (?, ?)", (VERSION, OLDEST_READER))
        return
    [(version, oldest_reader)] = _rows(connection, "SELECT version, oldest_reader FROM ops_meta")
    if oldest_reader > VERSION:
        raise ConfigurationError(
            f"The tables of {url} are of version {version}; this release of Consona understands {VERSION}.",
            hint="Install the newer release here too, or give this system a file of its own. "
            "The file holds observations only, so it may also be deleted.",
            version=version,
            understood=VERSION,
        )


def _without_comments(sql: str) -> str:
    return "\n".join(line.partition("--")[0] for line in sql.splitlines())


def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    return list(connection.execute(sql))
