"""Who may connect: found out at the handshake, and again while the connection lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consona.errors import AuthenticationError, ConfigurationError, PermissionDenied, RateLimited
from consona.realtime.client import Client
from consona.realtime.tickets import CARRIED, TICKET, Tickets
from consona.rest.server.guards import Guard, Identity, admit
from consona.rest.server.problems import ServiceUnavailable
from consona.rest.server.requests import Request

if TYPE_CHECKING:
    from consona.realtime.server import RealtimeServer

__all__ = ["Admission"]


class Admission:
    """The door of one server.

    Args:
        server: Whose.
        public: Whether those are let in who have not signed in.
        roles: One of these is needed.
    """

    def __init__(self, server: RealtimeServer, *, public: bool, roles: frozenset[str]) -> None:
        self._server = server
        self._public = public
        self._roles = roles
        self._tickets = Tickets(server.channels.store, ttl_s=server.limits.ticket)
        self._addresses: dict[str, int] = {}

    def declare(self, path: str) -> None:
        """Add the route that gives out tickets."""

        @self._server.post(f"{path}/ticket", public=True, documented=False)
        async def give_ticket(request: Request) -> dict[str, Any]:
            if await self._identity(request) is None:
                raise AuthenticationError("A ticket stands for a login, and there is none.")
            ticket = await self._tickets.give(request.scope["headers"])
            return {"ticket": ticket, "expires_in": self._server.limits.ticket}

    def check(self) -> None:
        """Refuse to start where nobody could be let in.

        Raises:
            ConfigurationError: Roles are asked for, and there is no guard.
        """
        asked = self._roles or any(room.roles for room in self._server.rooms)
        if asked and self._server.guard is None:
            raise ConfigurationError(
                f"{self._server.name} asks for roles, and nobody knows who has them.",
                hint="Give it a guard: guard=accounts, or mount it in a server that has one.",
            )

    async def identify(self, request: Request) -> Identity | None:
        """Who connects; None for a stranger, where those are let in.

        Raises:
            AuthenticationError: There are no credentials, or wrong ones, or the ticket was used.
            PermissionDenied: They lack the role.
        """
        tickets = request.query.get(TICKET)
        if tickets:
            carried = await self._tickets.take(tickets[0])
            others = [pair for pair in request.scope["headers"] if pair[0] not in CARRIED]
            request.scope["headers"] = [*others, *carried]
            request.fields.update(carried)
        return await self._identity(request)

    async def _identity(self, request: Request) -> Identity | None:
        guard = self._server.guard
        if guard is None:
            return None
        if not self._public or self._roles:
            return await admit(guard, request, self._roles, frozenset())
        request.identity = await guard.identify(request)
        return request.identity

    def check_room(self, request: Request) -> None:
        """Refuse a connection for which there is no room.

        Raises:
            ServiceUnavailable: There are as many as there may be.
            RateLimited: Its address has as many as it may have.
        """
        limits = self._server.limits
        if len(self._server.clients) >= limits.max_clients:
            raise ServiceUnavailable("Too many clients are connected.", retry_after=1)
        address = request.client_address
        if address and self._addresses.get(address, 0) >= limits.max_per_address:  # within the process there is none
            raise RateLimited("Your address has too many connections.", retry_after=1)

    def enter(self, client: Client, *, checked: bool = False) -> str:
        """Count a connection. Returns the address to give to `leave`.

        Raises:
            ServiceUnavailable, RateLimited: There is no room for it, and that was not `checked` before.
        """
        if not checked:
            self.check_room(client.request)
        address = client.request.client_address
        self._addresses[address] = self._addresses.get(address, 0) + 1
        return address

    def leave(self, address: str) -> None:
        """Count it no more."""
        left = self._addresses[address] - 1
        if left:
            self._addresses[address] = left
        else:
            del self._addresses[address]

    async def recheck(self, client: Client) -> None:
        """Look at a client's credentials again, and end its connection where they are good no more."""
        guard: Guard | None = self._server.guard
        if guard is None or client.identity is None:
            return
        try:
            identity = await guard.identify(client.request)
            if identity is None:
                raise AuthenticationError("There is no login any more.")
            if self._roles and not guard.allows(identity, self._roles, frozenset()):
                raise PermissionDenied("You may not do this any more.")
        except AuthenticationError:
            client.end(LOGIN_ENDED, "Your login has ended. Sign in, and connect again.")
        except PermissionDenied:
            client.end(NOT_ALLOWED, "You may not be here any more.")
        else:
            client.identity = identity
            await self._server.still_allowed(client)


LOGIN_ENDED = 4401
"""The close code where credentials have expired or were taken back."""
NOT_ALLOWED = 4403
