"""A transaction on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from consona.storage.postgresql.connections import Answer, PostgreSQLConnection
from consona.storage.server_transaction import ServerTransaction

if TYPE_CHECKING:  # the engine makes transactions, so the import can only go one way
    from consona.storage.postgresql.engine import PostgreSQLEngine

__all__ = ["PostgreSQLTransaction"]


class PostgreSQLTransaction(ServerTransaction[PostgreSQLConnection]):
    """Made by `engine.transaction()`. Leaving its block commits; any error, and cancellation, rolls back."""

    @property
    def engine(self) -> PostgreSQLEngine:
        """Whose it is."""
        return self._engine  # type: ignore[return-value]  # it makes no others

    async def ask(
        self,
        text: str,
        values: Sequence[Any] = (),
        *,
        reads: bool = False,  # noqa: ARG002  in a transaction nothing is asked again
        first: bool = False,
    ) -> Answer:
        """Run one statement in it. See `PostgreSQLEngine.ask`."""
        async with self._step() as connection:
            return await connection.ask(text, values, first=first)

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Run a statement once for each row of values. Returns the rows that it gives."""
        async with self._step() as connection:
            return await connection.ask_many(text, rows)

    async def stream(self, text: str, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Answer]:
        """The rows in batches, from a cursor; other statements may run between them."""
        batches = self.connection.stream(text, values, batch)
        async with aclosing(batches):
            while True:
                async with self._step():
                    answer = await anext(batches, None)
                if answer is None:
                    return
                yield answer

    async def copy(
        self, table: str, rows: Iterable[Sequence[Any]], *, columns: Sequence[str], schema: str | None = None
    ) -> int:
        """Load rows with a binary COPY. See `PostgreSQLEngine.copy`."""
        async with self._step() as connection:
            return await connection.load(table, rows, columns, schema)
