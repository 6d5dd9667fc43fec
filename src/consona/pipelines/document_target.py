"""Rows into a collection of documents."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal

from consona.documents.database import DocumentDatabase
from consona.documents.operations import InsertOne, ReplaceOne
from consona.errors import ConfigurationError
from consona.part import Part
from consona.pipelines.batch import Batch
from consona.pipelines.file_writers import plain_rows
from consona.pipelines.state import State
from consona.pipelines.stored_state import StoredState
from consona.storage.store import Store, open_store

__all__ = ["DocumentTarget"]


class DocumentTarget:
    """Rows as documents of a collection.

    Where the database has transactions and the state lies in it, a batch and the state are committed together:
    exactly once. Elsewhere a batch may come twice, which `upsert` does not show.

    Args:
        documents: The database, or its address.
        collection: Its name.
        mode: `append`, or `upsert` with `key`.
        key: The field that tells documents apart.
        state: Where the pipeline's state is kept: a `Store`; by default in the same database.

    Example:
        >>> DocumentTarget("sqlite://shop", "products", mode="upsert", key="sku").guarantee
        'exactly once'
    """

    def __init__(
        self,
        documents: DocumentDatabase | str,
        collection: str,
        *,
        mode: Literal["append", "upsert"] = "append",
        key: str = "",
        state: Store | str | None = None,
    ) -> None:
        if mode not in {"append", "upsert"}:
            raise ConfigurationError(f"DocumentTarget has no mode {mode!r}.", hint="Known: append, upsert.")
        if (mode == "upsert") is not bool(key):
            raise ConfigurationError('DocumentTarget(mode="upsert") and key= go together.')
        self.documents = DocumentDatabase(documents) if isinstance(documents, str) else documents
        self._collection = collection
        self._key = key
        self.name = collection
        address = self.documents.address
        self._together = state is None and address is not None and address.scheme in {"sqlite", "postgresql"}
        if state is None:
            if not self._together:
                raise ConfigurationError(
                    "DocumentTarget needs state=, a place for the pipeline's state: this database has no transactions.",
                    hint='For example state="sqlite:///pipelines.db".',
                )
            state = str(address)
        self._state = StoredState(open_store(state) if isinstance(state, str) else state)
        self.guarantee = "exactly once" if self._together or mode == "upsert" else "at least once"

    @property
    def parts(self) -> Sequence[Part]:
        return (self.documents, self._state.store)

    def commits_batches(self, *, resumable: bool) -> bool:  # noqa: ARG002
        return True

    async def open(self, pipeline: str) -> State:
        return await self._state.take(pipeline)

    async def begin(self, state: State, *, by_batch: bool, declared: Any) -> None:
        """The collection is made by its first document."""

    async def write(self, batch: Batch, state: State) -> None:
        writes: list[Any] = [
            ReplaceOne({self._key: {"$eq": row.get(self._key)}}, row, upsert=True) if self._key else InsertOne(row)
            for row in plain_rows(batch.rows)
        ]
        async with AsyncExitStack() as stack:
            tx = await stack.enter_async_context(self.documents.transaction()) if self._together else None
            if writes:
                await self.documents[self._collection].bulk_write(writes, tx=tx)
            await self._state.save(state, tx=tx)

    async def save(self, state: State) -> None:
        await self._state.save(state)

    async def finish(self, state: State) -> None:
        await self._state.save(state)

    async def close(self) -> None:
        await self._state.give_back()
