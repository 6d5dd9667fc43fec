"""Who may call a route: what `roles=`, `scopes=` and `CurrentUser[User]` stand on.

The server knows nothing of accounts or tokens. It asks its guard (`api.secure(guard)`), and without
one a route that needs somebody makes the server refuse to start: closed unless opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, runtime_checkable

from consona.errors import AuthenticationError, PermissionDenied
from consona.rest.server.requests import Request

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["Attachable", "CurrentUser", "Guard", "Identity", "admit"]

User = TypeVar("User")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, as the guard found out from the request's credentials."""

    subject: str
    """The account's id, as it goes into logs and history."""
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What else the credentials say."""


class Guard(Protocol):
    """Finds out who asks. Kept short, so that any account system can be one.

    A guard whose attribute `closed` is true closes all routes that do not say `public=True`: whoever calls them
    must be known.
    """

    challenge: str
    """The `WWW-Authenticate` header of a 401: `Bearer`, `Basic realm="shop"`."""

    async def identify(self, request: Request) -> Identity | None:
        """Who the request's credentials belong to; None where it brings none.

        Raises:
            AuthenticationError: It brings some, and they are wrong, expired or revoked.
        """
        ...

    def allows(self, identity: Identity, roles: frozenset[str], scopes: frozenset[str]) -> bool:
        """Whether they have one of `roles` (where there are any) and all of `scopes`, inherited ones included."""
        ...

    async def user(self, identity: Identity, kind: type[Any]) -> Any:
        """The account, as the type that a handler declares (`CurrentUser[User]`)."""
        ...

    def security_schemes(self) -> dict[str, Any]:
        """How to bring credentials: OpenAPI security scheme objects by name."""
        ...


@runtime_checkable
class Attachable(Protocol):
    """A guard, or something beside it, that has routes of its own or parts to be started with the server."""

    def attach(self, api: APIServer) -> None:
        """Add them; called by `api.secure(...)`."""
        ...


class WantsUser:
    """Marks a parameter that gets the caller's account."""


CurrentUser = Annotated[User, WantsUser()]
"""The caller's account, as a handler's parameter: `user: CurrentUser[User]`. The route needs a login then."""


async def admit(guard: Guard, request: Request, roles: frozenset[str], scopes: frozenset[str]) -> Identity:
    """The caller's identity, where they may pass.

    Raises:
        AuthenticationError: There are no credentials, or wrong ones.
        PermissionDenied: The caller is known, and may not.
    """
    identity = request.identity
    if identity is None:
        identity = request.identity = await guard.identify(request)
    if identity is None:
        raise AuthenticationError("This needs a login.", hint=f"Send credentials: {guard.challenge}.")
    if not guard.allows(identity, roles, scopes):
        needed = [*(f"role {role}" for role in sorted(roles)), *(f"scope {scope}" for scope in sorted(scopes))]
        raise PermissionDenied("You may not do this.", hint=f"It needs: {', '.join(needed)}.")
    return identity
