"""Statements under a policy: each stands alone, so it can wait its turn, be cut in time, and be tried again.

What is tried again says itself that it is worth it, and that nothing was written (`retryable`). The rows of a
stream are not asked for twice, and what happens in a transaction is its owner's to repeat: `run_in_transaction`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, cast

from consona.resilience.policy import Runner
from consona.sql.engine import (
    Begin,
    Done,
    OpenTransaction,
    ReadRows,
    Rows,
    SQLEngine,
    SupportsLoading,
    SupportsReading,
)
from consona.sql.placeholders import Statement

__all__ = ["PolicedSession"]


class PolicedSession:
    """The engine as a session, with the policy around each call."""

    def __init__(self, engine: SQLEngine, runner: Runner) -> None:
        self._engine = engine
        self._runner = runner
        if isinstance(engine, SupportsLoading):  # asked for with isinstance, so it is there only where it works
            self.load = self._load

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        return await self._runner.run(lambda: self._engine.execute(statement, values))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        return await self._runner.run(lambda: self._engine.execute_many(statement, rows))

    async def fetch(self, statement: Statement, values: Sequence[Any], *, limit: int | None = None) -> Rows:
        return await self._runner.run(lambda: self._engine.fetch(statement, values, limit=limit))

    async def fetch_read(
        self, statement: Statement, values: Sequence[Any], reader: Callable[[tuple[str, ...]], ReadRows]
    ) -> list[Any]:
        engine = cast("SupportsReading", self._engine)  # the front asks whether the engine can
        return await self._runner.run(lambda: engine.fetch_read(statement, values, reader))

    def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        return self._engine.stream(statement, values, batch=batch)

    async def begin(self, how: Begin) -> OpenTransaction:
        return await self._runner.run(lambda: self._engine.begin(how))

    async def _load(self, table: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        engine = cast("SupportsLoading", self._engine)
        return await self._runner.run(lambda: engine.load(table, columns, rows))
