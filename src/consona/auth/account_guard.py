"""Accounts as the guard of a server: who asks is looked for in the request, and what they may do in the roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consona.auth.account import Account
from consona.auth.account_routes import account_routes
from consona.auth.api_keys import is_api_key
from consona.auth.claims import Claims
from consona.auth.errors import RevocationsStale, TokenInvalid
from consona.auth.token_guard import allowed, as_kind, bearer
from consona.errors import NotFound
from consona.rest.server.guards import Identity
from consona.rest.server.requests import Request

if TYPE_CHECKING:
    from consona.auth.authentication_system import AuthenticationSystem
    from consona.rest.server.api_server import APIServer

__all__ = ["AccountGuard"]


class AccountGuard:
    """What `AuthenticationSystem` does for a server."""

    def __init__(self, accounts: AuthenticationSystem) -> None:
        self._accounts = accounts

    def attach(self, api: APIServer) -> None:
        accounts = self._accounts
        if accounts not in api.parts:
            api.parts.append(accounts)

        @api.get("/.well-known/jwks.json", public=True, documented=False)
        async def jwks() -> dict[str, Any]:
            return accounts.tokens.jwks()

        api.include(account_routes(accounts))

    async def identify(self, request: Request) -> Identity | None:
        token = bearer(request)
        if token is None and self._accounts.browsers.cookie not in request.cookies:
            return None
        if request.route.options.get("critical") and self._accounts.feed.stale:
            raise RevocationsStale("It is not known whether these credentials were taken back.", retry_after=1.0)
        claims = await self._claims(request, token)
        return Identity(claims.subject, roles=claims.roles, scopes=claims.scopes, claims={"token": claims})

    async def _claims(self, request: Request, token: str | None) -> Claims:
        if token is not None and is_api_key(token):
            return await self._accounts.keys.identify(token)
        if token is not None:
            return self._accounts.tokens.verify(token)
        claims = await self._accounts.browsers.identify(request)
        if claims is None:
            raise TokenInvalid("The cookie of the session is empty.")
        return claims

    def allows(self, identity: Identity, roles: frozenset[str], scopes: frozenset[str]) -> bool:
        return allowed(self._accounts.roles, identity, roles, scopes, scopes_alone=False)

    async def user(self, identity: Identity, kind: type[Any]) -> Any:
        if kind is Identity:
            return identity
        if kind is Claims:
            return identity.claims["token"]
        try:
            row = await self._accounts._row(identity.subject)
        except NotFound:
            raise TokenInvalid("The account of this token does not exist any more.") from None
        if kind is Account:
            return row.account
        return as_kind(kind, identity, row.values())

    def security_schemes(self) -> dict[str, Any]:
        cookie = {"type": "apiKey", "in": "cookie", "name": self._accounts.browsers.cookie}
        return {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}, "cookie": cookie}
