"""One-time tickets: a page that cannot set headers on a WebSocket shows one in their place.

A page asks for a ticket with its usual credentials, and connects with `?ticket=`. The ticket stands for those
credentials: they are taken up again at the handshake, and looked at again while the connection lasts, so that what
ends them ends the connection. It is good once, for a short time. An address may end in a log, and then the ticket
in it is worth nothing any more.

What the store holds cannot be used without the ticket: its name is the ticket's hash, and the credentials lie
there under a pad that is made of the ticket, and used only once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from consona.errors import AuthenticationError
from consona.storage.store import Store

__all__ = ["TICKET", "Tickets"]

TICKET: Final = "ticket"
"""The parameter of the query."""
CARRIED: Final = (b"authorization", b"cookie")

Headers = Sequence[tuple[bytes, bytes]]


class Tickets:
    """Gives tickets out and takes them back.

    Args:
        store: Shared by all processes of the server.
        ttl_s: How long a ticket is good.
    """

    def __init__(self, store: Store, *, ttl_s: float) -> None:
        self._store = store
        self._ttl_s = ttl_s

    async def give(self, headers: Headers) -> str:
        """A ticket for the credentials in these headers."""
        ticket = secrets.token_urlsafe(32)
        carried = [(name, value) for name, value in headers if name in CARRIED]
        plain = msgspec.msgpack.encode(carried)
        await self._store.put(_name(ticket), _padded(ticket, plain), ttl=self._ttl_s)
        return ticket

    async def take(self, ticket: str) -> list[tuple[bytes, bytes]]:
        """The headers that a ticket stands for. It is worth nothing afterwards.

        Raises:
            AuthenticationError: There is no such ticket (any more).
        """
        item = await self._store.get(_name(ticket))
        if item is None or not await self._store.delete(item.key, version=item.version):
            raise AuthenticationError(
                "The ticket is not known: it was used, or its time is over.",
                hint="Ask for a new one and connect again.",
            )
        return msgspec.msgpack.decode(_padded(ticket, item.value), type=list[tuple[bytes, bytes]])


def _name(ticket: str) -> str:
    return f"tickets/{hashlib.sha256(ticket.encode()).hexdigest()}"


def _padded(ticket: str, data: bytes) -> bytes:
    pad = hashlib.shake_256(b"consona ticket " + ticket.encode()).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, pad, strict=True))
