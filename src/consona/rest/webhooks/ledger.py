"""The durable notes of a sender, in a `Store`.

    endpoint/<owner>/<id>                        an Endpoint
    message/<message id>                         the body, byte for byte
    pending/<message id>/<owner>/<endpoint id>   a Delivery that is to be tried
    done/<message id>/<owner>/<endpoint id>      a Delivery that is finished; goes after a while

Each step is one compare-and-set of one key, so that any number of processes can share the ledger, and one
that dies between two steps leaves nothing that the next cannot go on from: a delivery in both places was
finished, one in progress is tried again once its time is over. Message ids begin with the time, so lists
come in order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from consona.errors import Conflict, NotFound
from consona.rest.webhooks.delivery import Delivery, Endpoint
from consona.storage.store import ABSENT, Store
from consona.storage.transaction import Transaction

__all__ = ["PENDING", "Ledger", "Noted", "read_delivery"]

PENDING: Final = "pending/"
DONE: Final = "done/"

_encode = msgspec.json.Encoder().encode
_endpoint = msgspec.json.Decoder(Endpoint).decode
read_delivery = msgspec.json.Decoder(Delivery).decode


@dataclass(frozen=True, slots=True)
class Noted:
    """A delivery as it was read."""

    delivery: Delivery
    version: int


class Ledger:
    """Reads and writes the notes. It knows nothing of HTTP, time or tasks."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # Endpoints.

    async def add_endpoint(self, endpoint: Endpoint) -> None:
        await self.store.put_if(f"endpoint/{endpoint.id}", _encode(endpoint), version=ABSENT)

    async def endpoint(self, id: str) -> Endpoint | None:  # noqa: A002 it is one
        item = await self.store.get(f"endpoint/{id}")
        return None if item is None else _endpoint(item.value)

    async def endpoints(self, owner: str) -> AsyncIterator[Endpoint]:
        """Those of one owner; empty for all."""
        async for item in self.store.scan(f"endpoint/{owner}/" if owner else "endpoint/"):
            yield _endpoint(item.value)

    async def change_endpoint(self, id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:  # noqa: A002
        """Raises NotFound where there is none."""

        def changed(value: bytes | None) -> bytes:
            if value is None:
                raise NotFound(f"There is no webhook endpoint {id!r}.")
            return _encode(change(_endpoint(value)))

        value = await self.store.update(f"endpoint/{id}", changed)
        assert value is not None
        return _endpoint(value)

    async def remove_endpoint(self, id: str) -> bool:  # noqa: A002
        return await self.store.delete(f"endpoint/{id}")

    # Messages and deliveries.

    async def put_message(self, id: str, body: bytes, *, ttl: float, tx: Transaction | None) -> None:  # noqa: A002
        await self.store.put(f"message/{id}", body, ttl=ttl, tx=tx)

    async def message(self, id: str) -> bytes | None:  # noqa: A002
        item = await self.store.get(f"message/{id}")
        return None if item is None else item.value

    async def add(self, delivery: Delivery, *, tx: Transaction | None = None) -> None:
        await self.store.put(PENDING + delivery.id, _encode(delivery), tx=tx)

    async def pending(self, id: str) -> Noted | None:  # noqa: A002
        item = await self.store.get(PENDING + id)
        return None if item is None else Noted(read_delivery(item.value), item.version)

    async def change(self, noted: Noted, delivery: Delivery) -> Noted | None:
        """Write the new state; None where another process was faster."""
        version = await self.store.put_if(PENDING + delivery.id, _encode(delivery), version=noted.version)
        return None if version is None else Noted(delivery, version)

    async def finish(self, noted: Noted, delivery: Delivery, *, keep: float) -> None:
        await self.store.put(DONE + delivery.id, _encode(delivery), ttl=keep)
        await self.store.delete(PENDING + delivery.id, version=noted.version)

    async def finished(self, id: str) -> Delivery | None:  # noqa: A002
        item = await self.store.get(DONE + id)
        return None if item is None else read_delivery(item.value)

    async def drop_pending(self, noted: Noted) -> None:
        await self.store.delete(PENDING + noted.delivery.id, version=noted.version)

    async def begin_again(self, delivery: Delivery) -> None:
        """Make a finished delivery a pending one; a pending one due now.

        Raises:
            Conflict: It is being tried at this moment.
        """
        noted = await self.pending(delivery.id)
        if noted is None:
            finished = await self.store.get(DONE + delivery.id)
            await self.add(delivery)
            if finished is not None:  # by its version: it may have been tried, and have ended, meanwhile
                await self.store.delete(DONE + delivery.id, version=finished.version)
        elif noted.delivery.in_progress or await self.change(noted, delivery) is None:
            raise Conflict(f"The delivery {delivery.id} is being tried at this moment.", retryable=True)

    async def deliveries(self, message: str) -> AsyncIterator[Delivery]:
        """Pending ones, then finished ones, each oldest first; a message's only, or all."""
        for place in (PENDING, DONE):
            async for item in self.store.scan(f"{place}{message}/" if message else place):
                yield read_delivery(item.value)

    def watch(self) -> AsyncIterator[Any]:
        """The newest state of each pending delivery, then every change."""
        return self.store.watch(PENDING)
