"""Steps that look beyond one batch, or beyond this process: duplicates, lookups, calls.

What they saw before cannot be had again in the middle of a run, so a pipeline with `Dedupe` commits at the end only.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol, runtime_checkable

import apsw

from consona.errors import ConfigurationError, ConsonaError
from consona.pipelines.batch import Batch, Row
from consona.pipelines.source import Room, Source
from consona.resilience import Policy

__all__ = ["AsyncMap", "Dedupe", "Lookup", "SupportsRun"]

IN_MEMORY: Final = 500_000
"""Marks of rows that are kept in memory; more go to a temporary file."""


@runtime_checkable
class SupportsRun(Protocol):
    """Of a step that keeps something for the length of a run."""

    def running(self) -> Any:
        """An async context manager around the run."""


class Dedupe:
    """Only the first row with the same key goes on. Memory is bounded: beyond half a million keys, a temporary file
    holds their marks (16 bytes each).

    Args:
        keys: The fields that make the key; all fields where there is none.
    """

    whole = True

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._keys = tuple(keys)
        self._seen: set[bytes] = set()
        self._file: apsw.Connection | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        self._forget()
        try:
            yield
        finally:
            self._forget()

    def _forget(self) -> None:
        self._seen = set()
        if self._file is not None:
            self._file.close()
            self._file = None

    def run(self, batch: Batch) -> None:
        kept = [
            (row, number)
            for row, number in zip(batch.rows, batch.numbers, strict=True)
            if self._is_new(self._mark(row))
        ]
        batch.rows, batch.numbers = [row for row, _ in kept], [number for _, number in kept]

    def _mark(self, row: Row) -> bytes:
        what = [row.get(name) for name in self._keys] if self._keys else sorted(row.items(), key=lambda item: item[0])
        return hashlib.blake2b(repr(what).encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _is_new(self, mark: bytes) -> bool:
        if mark in self._seen:
            return False
        if len(self._seen) < IN_MEMORY:
            self._seen.add(mark)
            return True
        if self._file is None:
            self._file = apsw.Connection("")  # a temporary file, gone when it is closed
            self._file.execute("PRAGMA journal_mode = OFF; CREATE TABLE seen (mark BLOB PRIMARY KEY) WITHOUT ROWID")
            self._file.execute("BEGIN")
        self._file.execute("INSERT OR IGNORE INTO seen VALUES (?)", (mark,))
        return self._file.changes() == 1


class Lookup:
    """Fields of another source, found by a key: the join with a small table, which is held in memory.

    Args:
        source: Where the other rows are: a source, or rows. It is read once, as the run begins.
        on: The field here.
        key: The field there; by default of the same name.
        fields: Which fields come over, under which names; by default all but the key.
        missing: What happens to a row without a partner: `keep` (the fields are None), `drop`, or `reject`.
    """

    def __init__(
        self,
        source: Source,
        *,
        on: str,
        key: str = "",
        fields: Mapping[str, str] | Sequence[str] | None = None,
        missing: str = "keep",
    ) -> None:
        if missing not in {"keep", "drop", "reject"}:
            raise ConfigurationError(f"lookup(missing={missing!r}): known are keep, drop and reject.")
        self._source = source
        self._on = on
        self._key = key or on
        self._fields = (
            dict(fields) if isinstance(fields, Mapping) else None if fields is None else {f: f for f in fields}
        )
        self._missing = missing
        self._found: dict[Any, Row] = {}
        self._none: Row = {}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        self._found, names = {}, dict.fromkeys((self._fields or {}).values())
        async with AsyncExitStack() as stack:
            for part in self._source.parts:
                await stack.enter_async_context(part)
            async for extracted in self._source.batches(None, room=Room(5000)):
                for row in extracted.rows:
                    key = row.get(self._key)
                    wanted = self._fields or {name: name for name in row if name != self._key}
                    self._found[key] = {ours: row.get(theirs) for theirs, ours in wanted.items()}
                    names.update(dict.fromkeys(wanted.values()))
        self._none = dict.fromkeys(names)
        try:
            yield
        finally:
            self._found = {}

    def run(self, batch: Batch) -> None:
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            found = self._found.get(row.get(self._on))
            if found is None:
                if self._missing == "drop":
                    continue
                if self._missing == "reject":
                    batch.reject(number, "transform", f"{self._on!r} is not known to {self._source.name}", self._on)
                    continue
                found = self._none
            rows.append({**row, **found})
            numbers.append(number)
        batch.rows, batch.numbers = rows, numbers


class AsyncMap:
    """An async call for each row, some at a time; the rows stay in their order.

    Args:
        function: Takes a row and gives the new one, or None to leave it out. A `ConsonaError` that it raises
            refuses the row; one that says it is worth a retry ends the run, so that nothing is refused for a
            server that is away.
        concurrency: How many calls are under way at once, at most.
        policy: Timeout, retries and limits of each call.
    """

    def __init__(
        self, function: Callable[[Row], Awaitable[Row | None]], *, concurrency: int = 8, policy: Policy | None = None
    ) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"map(concurrency={concurrency}): at least 1.")
        self._function = function
        self._concurrency = concurrency
        self._runner = policy.bind(getattr(function, "__name__", "map")) if policy is not None else None

    async def run_async(self, batch: Batch) -> None:
        made: list[Row | None] = [None] * len(batch.rows)
        waiting = iter(range(len(batch.rows)))

        async def work() -> None:
            for place in waiting:
                made[place] = await self._one(batch, place)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._concurrency, len(batch.rows))):
                    group.create_task(work())
        except* Exception as errors:  # noqa: BLE001  the group is taken apart again
            raise errors.exceptions[0] from None
        kept = [(row, number) for row, number in zip(made, batch.numbers, strict=True) if row is not None]
        batch.rows, batch.numbers = [row for row, _ in kept], [number for _, number in kept]

    async def _one(self, batch: Batch, place: int) -> Row | None:
        row = batch.rows[place]
        try:
            if self._runner is None:
                return await self._function(row)
            return await self._runner.run(lambda: self._function(row))
        except ConsonaError as error:
            if error.retryable:
                raise
            batch.reject(batch.numbers[place], "transform", f"the call failed: {error.code}")
        except Exception as error:  # noqa: BLE001  functions are of users
            batch.reject(batch.numbers[place], "transform", f"the call failed: {type(error).__name__}")
        return None
