"""Where refused rows are kept, with the reason, until somebody has looked at them.

What a run adds counts once the target has committed the batch: its state holds how long the quarantine is, and
`rewind` cuts off what is beyond that, so that a run which was killed leaves no row twice.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from consona.part import Part
from consona.pipelines.batch import Rejected
from consona.sql import own_tables
from consona.sql.database import SQLDatabase

__all__ = ["FileQuarantine", "Quarantine", "TableQuarantine", "quarantine_of"]


class Kept(msgspec.Struct, kw_only=True):
    """A refused row as it is kept."""

    pipeline: str
    run: str
    number: int
    stage: str
    fields: tuple[str, ...]
    reason: str
    at: str = ""
    time: float = 0.0
    original: Any = None


class Quarantine(Protocol):
    """A place for refused rows."""

    @property
    def parts(self) -> Sequence[Part]: ...

    async def rewind(self, length: int) -> int:
        """Forget what is beyond `length`, which no target has committed. Returns the length from now on.

        It is less where somebody has dealt with the rows and removed them.
        """

    async def add(self, pipeline: str, run: str, rejected: Sequence[Rejected]) -> int:
        """Keep them. Returns the length from now on."""

    async def read(self) -> list[Kept]:
        """All that is kept."""


class FileQuarantine:
    """A file of JSON Lines: one refused row a line. Its length is that in bytes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def parts(self) -> Sequence[Part]:
        return ()

    async def rewind(self, length: int) -> int:
        return await asyncio.to_thread(self._rewind, length)

    def _rewind(self, length: int) -> int:
        if not self.path.exists():
            return 0
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size > length:
                file.truncate(length)
            return min(size, length)

    async def add(self, pipeline: str, run: str, rejected: Sequence[Rejected]) -> int:
        return await asyncio.to_thread(self._add, pipeline, run, rejected)

    def _add(self, pipeline: str, run: str, rejected: Sequence[Rejected]) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        encoder = msgspec.json.Encoder(enc_hook=repr)
        lines = b"".join(encoder.encode(kept(pipeline, run, each)) + b"\n" for each in rejected)
        with self.path.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    async def read(self) -> list[Kept]:
        if not self.path.exists():
            return []
        data = await asyncio.to_thread(self.path.read_bytes)
        return [msgspec.json.decode(line, type=Kept) for line in data.splitlines() if line.strip()]


class TableQuarantine:
    """A table of a SQL database. Its length is the number of the last row."""

    def __init__(self, db: SQLDatabase, table: str = "consona_rejected") -> None:
        self.db = db
        self._table = db.identifier(table)
        self._steps = (
            (
                f"""CREATE TABLE IF NOT EXISTS {self._table} (
                    id {{numbered}}, pipeline VARCHAR(200) NOT NULL, run VARCHAR(64) NOT NULL, number BIGINT NOT NULL,
                    stage VARCHAR(20) NOT NULL, reason {{text}} NOT NULL, at {{text}} NOT NULL, time DOUBLE PRECISION NOT NULL,
                    fields {{text}} NOT NULL, original {{text}} NOT NULL)""",
            ),
        )
        self._part = f"rejected rows in {table}"

    @property
    def parts(self) -> Sequence[Part]:
        return (self.db,)

    async def rewind(self, length: int) -> int:
        await own_tables.prepare(self.db, self._part, self._steps)
        await self.db.execute(f"DELETE FROM {self._table} WHERE id > ?", length)  # noqa: S608  our own name
        return length

    async def add(self, pipeline: str, run: str, rejected: Sequence[Rejected]) -> int:
        rows = [
            {
                "pipeline": pipeline,
                "run": run,
                "number": each.number,
                "stage": each.stage,
                "reason": each.reason,
                "at": each.at,
                "time": time.time(),
                "fields": msgspec.json.encode(each.fields).decode(),
                "original": msgspec.json.encode(each.original, enc_hook=repr).decode(),
            }
            for each in rejected
        ]
        await self.db.insert_many(self._table.strip('"`'), rows)
        return int(await self.db.fetch_value(f"SELECT MAX(id) FROM {self._table}") or 0)  # noqa: S608  our own name

    async def read(self) -> list[Kept]:
        found = await self.db.fetch_all(f"SELECT * FROM {self._table} ORDER BY id")  # noqa: S608  our own name
        return [
            Kept(
                **{name: row[name] for name in ("pipeline", "run", "number", "stage", "reason", "at", "time")},
                fields=msgspec.json.decode(row["fields"], type=tuple[str, ...]),
                original=msgspec.json.decode(row["original"]),
            )
            for row in found
        ]


def kept(pipeline: str, run: str, each: Rejected) -> Kept:
    """A refused row as it is kept."""
    return Kept(
        pipeline=pipeline,
        run=run,
        number=each.number,
        stage=each.stage,
        fields=each.fields,
        reason=each.reason,
        at=each.at,
        time=time.time(),
        original=each.original,
    )


def quarantine_of(where: Any) -> Quarantine | None:
    """A quarantine for what a user names: a file's path, a database (its table `consona_rejected`), or one itself."""
    if where is None:
        return None
    if isinstance(where, SQLDatabase):
        return TableQuarantine(where)
    if isinstance(where, str | Path):
        return FileQuarantine(where)
    found: Quarantine = where
    return found
