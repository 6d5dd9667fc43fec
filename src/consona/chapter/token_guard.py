"""Who may call a route with `auth_required`: whoever brings a bearer token that the program's verifier accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from consona.errors import AuthenticationError, ConfigurationError
from consona.rest.server.guards import Identity
from consona.rest.server.requests import Request

__all__ = ["TokenGuard", "Verify"]

Verify = Callable[[str], Mapping[str, Any]]


class TokenGuard:
    """A `Guard` that asks a function. Without one, nobody passes: no token is built in."""

    challenge = "Bearer"

    def __init__(self) -> None:
        self.verify: Verify | None = None

    async def identify(self, request: Request) -> Identity | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        if self.verify is None:
            raise AuthenticationError("No token is accepted here.")
        verdict: Any = await request.serving.threads.run(partial(self.verify, token))
        if not isinstance(verdict, Mapping) or "valid" not in verdict:
            raise ConfigurationError('A token verifier must return {"valid": True, "user": {…}} or {"valid": False}.')
        if verdict["valid"] is not True:
            raise AuthenticationError("The token is not valid.")
        user = verdict.get("user") or {name: value for name, value in verdict.items() if name != "valid"}
        return Identity(str(user.get("id", user.get("user_id", ""))), claims=user)

    def allows(self, _identity: Identity, _roles: frozenset[str], _scopes: frozenset[str]) -> bool:
        return True  # the chapter's routes ask for a login alone

    async def user(self, identity: Identity, _kind: type[Any]) -> Any:
        return dict(identity.claims)

    def security_schemes(self) -> dict[str, Any]:
        return {"bearer": {"type": "http", "scheme": "bearer"}}
