"""Rows to a REST API."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from consona.errors import APIError, ConfigurationError
from consona.part import Part
from consona.pipelines.batch import Batch
from consona.pipelines.file_writers import plain_rows
from consona.pipelines.state import State
from consona.pipelines.stored_state import StoredState
from consona.pipelines.target import RowsRefused
from consona.rest.client.api_client import APIClient
from consona.storage.store import Store, open_store

__all__ = ["APITarget"]


class APITarget:
    """Rows sent to an API, one or some at a time, each call with an `Idempotency-Key`.

    A call whose answer was lost is made again with the same key, so a server that honours the key keeps each row once;
    any other one may get the rows of one batch twice.

    Args:
        api: The client, or the address of the API. Its policy holds: limits, retries, timeouts.
        path: Where to: `/orders`.
        size: How many rows one call has; with 1, its body is the row and not a list.
        method: POST, PUT or PATCH.
        state: Where the pipeline's state is kept: a `Store`, or its address.

    Example:
        >>> APITarget("https://api.example.com", "/orders", state="memory://").guarantee
        'at least once; exactly once where the server honours Idempotency-Key'
    """

    guarantee = "at least once; exactly once where the server honours Idempotency-Key"

    def __init__(
        self,
        api: APIClient | str,
        path: str,
        *,
        size: int = 100,
        method: str = "POST",
        state: Store | str = "sqlite:///pipelines.db",
    ) -> None:
        if size < 1:
            raise ConfigurationError(f"APITarget(size={size}): at least 1 row a call.")
        self.api = APIClient(api) if isinstance(api, str) else api
        self._path = path
        self._size = size
        self._method = method
        self._state = StoredState(open_store(state) if isinstance(state, str) else state)
        self.name = path
        self._pipeline = ""

    @property
    def parts(self) -> Sequence[Part]:
        return (self.api, self._state.store)

    def commits_batches(self, *, resumable: bool) -> bool:  # noqa: ARG002  what was sent cannot be taken back
        return True

    async def open(self, pipeline: str) -> State:
        self._pipeline = pipeline
        return await self._state.take(pipeline)

    async def begin(self, state: State, *, by_batch: bool, declared: Any) -> None:
        """Nothing has to be prepared."""

    async def write(self, batch: Batch, state: State) -> None:
        rows = plain_rows(batch.rows)
        for first in range(0, len(rows), self._size):
            some = rows[first : first + self._size]
            body = msgspec.json.encode(some[0] if self._size == 1 else some, enc_hook=str)
            key = hashlib.blake2b(
                b"\0".join((self._pipeline.encode(), state.run.encode(), b"%d" % (batch.first + first), body)),
                digest_size=16,
            ).hexdigest()
            try:
                await self.api.request(
                    self._method,
                    self._path,
                    content=body,
                    headers={"Content-Type": "application/json", "Idempotency-Key": key},
                    idempotent=True,
                )
            except APIError as error:
                if error.status not in {400, 413, 422} or first:
                    raise
                raise RowsRefused(
                    [(place, f"the API answered {error.status}", ()) for place in range(len(some))]
                ) from error
        await self._state.save(state)

    async def save(self, state: State) -> None:
        await self._state.save(state)

    async def finish(self, state: State) -> None:
        await self._state.save(state)

    async def close(self) -> None:
        await self._state.give_back()
