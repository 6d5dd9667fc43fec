"""A guard for servers that believe tokens and have no accounts: the caller is whoever the token names.

api.secure(TokenGuard(tokens, roles))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from consona.auth.claims import Claims
from consona.auth.errors import RevocationsStale, TokenInvalid
from consona.auth.jwt_manager import JWTManager
from consona.auth.remote_revocations import RemoteRevocations
from consona.auth.roles import Roles, matches
from consona.errors import ConfigurationError
from consona.rest.server.guards import Identity
from consona.rest.server.requests import Request

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["TokenGuard", "as_kind", "bearer"]


class TokenGuard:
    """Finds out who asks from `Authorization: Bearer TOKEN`. It implements the server's `Guard`.

    A token's scopes limit what it is good for. Where it names roles too, both must allow: a role that has the
    permission, and a scope that covers it. Where it names scopes alone, those decide.

    Args:
        tokens: Who verifies.
        roles: What roles inherit and may do; without it, a role is its name.
        closed: Whether all routes need a token, unless they say `public=True`.
        revocations: Where it is asked which tokens were taken back; started with the server. Without it, tokens count
            until they expire, and routes with `critical=True` cannot be promised anything: they answer 503.
    """

    challenge = "Bearer"

    def __init__(
        self,
        tokens: JWTManager,
        roles: Roles | None = None,
        *,
        closed: bool = True,
        revocations: RemoteRevocations | None = None,
    ) -> None:
        self.tokens = tokens
        self.roles = roles or Roles()
        self.closed = closed
        self.revocations = revocations

    def attach(self, api: APIServer) -> None:
        """Start the tokens with the server, and publish their keys at `/.well-known/jwks.json`."""
        for part in (self.tokens, self.revocations):
            if part is not None and part not in api.parts:
                api.parts.append(part)

        @api.get("/.well-known/jwks.json", public=True, documented=False)
        async def jwks() -> dict[str, Any]:
            return self.tokens.jwks()

    async def identify(self, request: Request) -> Identity | None:
        """Who the token belongs to; None where the request brings none."""
        token = bearer(request)
        if token is None:
            return None
        if request.route.options.get("critical") and (self.revocations is None or self.revocations.stale):
            raise RevocationsStale("It is not known whether these credentials were taken back.", retry_after=1.0)
        claims = self.tokens.verify(token)
        return Identity(claims.subject, roles=claims.roles, scopes=claims.scopes, claims={"token": claims})

    def allows(self, identity: Identity, roles: frozenset[str], scopes: frozenset[str]) -> bool:
        """Whether they have one of `roles`, inherited ones included, and all of `scopes`."""
        return allowed(self.roles, identity, roles, scopes, scopes_alone=True)

    async def user(self, identity: Identity, kind: type[Any]) -> Any:
        """What the token says, as the type that a handler declares: its fields are claims, `id` and `roles`."""
        claims: Claims = identity.claims["token"]
        return as_kind(kind, identity, {"id": claims.subject, "roles": sorted(claims.roles)} | claims.all)

    def security_schemes(self) -> dict[str, Any]:
        """For the OpenAPI document."""
        return {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}


def bearer(request: Request) -> str | None:
    """The token that a request brings.

    Raises:
        TokenInvalid: It brings several, or none behind the word Bearer.
    """
    values = request.headers.all("authorization")
    found = [value.partition(" ") for value in values if value[:7].lower() in {"bearer", "bearer "}]
    if not found:
        return None
    if len(values) > 1 or not found[0][2].strip():
        raise TokenInvalid(
            "The request does not bring one token.", hint="Send one header: Authorization: Bearer TOKEN."
        )
    return found[0][2].strip()


def allowed(
    table: Roles, identity: Identity, roles: frozenset[str], scopes: frozenset[str], *, scopes_alone: bool
) -> bool:
    """The rule of all guards.

    - One of `roles` is among those that the caller has, or inherits. A credential that is limited to some scopes
      passes a route that asks for a role only where the route names scopes as well, and it covers them.
    - Each of `scopes` is given by a role, and covered by the credential where that is limited.
    """
    limited = bool(identity.scopes)
    if roles and not roles & table.included(identity.roles):
        return False
    if roles and not scopes and limited and "*" not in identity.scopes:
        return False
    for scope in scopes:
        covered = any(matches(pattern, scope) for pattern in identity.scopes)
        if limited and not covered:
            return False
        if not (limited and scopes_alone and not identity.roles) and not table.allow(identity.roles, scope):
            return False
    return True


def as_kind(kind: type[Any], identity: Identity, values: dict[str, Any]) -> Any:
    """The caller as the type that a handler asks for.

    Raises:
        ConfigurationError: The type has fields that nothing is known for.
    """
    if kind is Identity:
        return identity
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"The caller cannot be given as {getattr(kind, '__name__', kind)}: {error}.",
            hint=f"Its fields may be: {', '.join(sorted(values))}; give the others defaults.",
        ) from None
