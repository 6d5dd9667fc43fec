"""The state of a pipeline in a `Store`, for targets that have no place of their own for it.

Who runs the pipeline holds a lease, renewed while it works; each write of the state is refused to whoever lost it.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from consona.errors import ConsonaError
from consona.pipelines.errors import PipelineBusy, PlaceLost
from consona.pipelines.state import State
from consona.storage.store import ABSENT, Store

if TYPE_CHECKING:
    from consona.storage.transaction import SharedTransaction

__all__ = ["StoredState"]

LEASE_S: Final = 15.0


class StoredState:
    """Of one pipeline; `take` and `give_back` are called in turns."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._owner = b""
        self._lease = ""
        self._key = ""
        self._version = ABSENT
        self._lease_version = ABSENT
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, pipeline: str) -> State:
        """Take the pipeline's place.

        Raises:
            PipelineBusy: Another process runs it.
        """
        self._owner = f"{os.getpid()} {uuid.uuid4().hex}".encode()
        self._lease, self._key = f"pipelines/{pipeline}/runner", f"pipelines/{pipeline}/state"
        version = await self.store.put_if(self._lease, self._owner, version=ABSENT, ttl=LEASE_S)
        if version is None:
            raise PipelineBusy(
                f"The pipeline {pipeline!r} is running already, or was killed less than {LEASE_S:g} seconds ago."
            )
        self._lease_version = version
        self._renewing = asyncio.create_task(self._renew(), name=f"lease of the pipeline {pipeline}")
        item = await self.store.get(self._key)
        self._version = ABSENT if item is None else item.version
        state = State() if item is None else State.decode(item.value)
        state.generation += 1
        return state

    async def save(self, state: State, *, tx: SharedTransaction | None = None) -> None:
        """Keep the state, in the transaction where there is one.

        Raises:
            PlaceLost: Another runner has written it.
        """
        version = await self.store.put_if(self._key, state.encode().encode(), version=self._version, tx=tx)
        if version is None:
            raise PlaceLost("The pipeline was taken over by another runner.")
        self._version = version

    async def give_back(self) -> None:
        """Let another one run it at once."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None
        with suppress(ConsonaError):  # it ends by itself soon
            await self.store.delete(self._lease, version=self._lease_version)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with suppress(ConsonaError):  # the next try, or the version of the state, decides
                version = await self.store.put_if(self._lease, self._owner, version=self._lease_version, ttl=LEASE_S)
                self._lease_version = version or self._lease_version
