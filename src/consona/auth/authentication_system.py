"""Accounts: who may sign in, what they may do, and what they are doing.

    accounts = AuthenticationSystem(db, tokens)
    async with db, accounts:
        await accounts.register("alice", "alice@example.org", password, roles=["admin"])
        session = await accounts.authenticate("alice", password)
        session = await accounts.refresh(session.refresh_token)

It is the guard of a server, too: `api.secure(accounts)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consona.auth.account_guard import AccountGuard
from consona.auth.account_settings import AccountSettings
from consona.auth.jwt_manager import JWTManager
from consona.auth.leaving import Leaving
from consona.auth.managing import Managing
from consona.auth.recovering import Recovering
from consona.auth.registering import Registering
from consona.auth.roles import Roles
from consona.auth.signing_in import SigningIn
from consona.auth.theme import Theme
from consona.mail import Mailer
from consona.rest.server.guards import Identity
from consona.rest.server.requests import Request
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer
    from consona.sql.database import SQLDatabase

__all__ = ["AuthenticationSystem"]


class AuthenticationSystem(Registering, SigningIn, Recovering, Leaving, Managing):
    """Accounts in a database, with sessions that can be ended everywhere within a second.

    Args:
        db: Where they are kept, in tables of its own (`consona_…`). It is started with this part.
        tokens: Who makes access tokens. It is started with this part.
        roles: What each role may do.
        settings: Limits and habits.
        clock: Seconds since the epoch.
        mailer: Who sends mails; with it, addresses are verified, and lost passwords are set anew. Started with this part.
        links_to: The address of the pages that links in mails lead to, as browsers see it:
            `https://shop.example/account` has `/verify?token=…` and `/reset?token=…`.
        theme: Templates for mails and pages, if not those that come with Consona.

    Example:
        >>> import asyncio
        >>> from consona import JWTManager, SigningKey, SQLDatabase
        >>> async def main():
        ...     tokens = JWTManager(SigningKey.generate(), issuer="shop")
        ...     async with AuthenticationSystem(SQLDatabase("sqlite://accounts-example"), tokens) as accounts:
        ...         await accounts.register("alice", "alice@example.org", "correct horse battery staple")
        ...         session = await accounts.authenticate("alice", "correct horse battery staple")
        ...         return session.account.name, accounts.tokens.verify(session.access_token).session == session.id
        >>> asyncio.run(main())
        ('alice', True)
    """

    challenge = "Bearer"

    def __init__(
        self,
        db: SQLDatabase,
        tokens: JWTManager,
        *,
        roles: Roles | None = None,
        settings: AccountSettings | None = None,
        name: str = "accounts",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
        mailer: Mailer | None = None,
        links_to: str = "",
        theme: Theme | None = None,
    ) -> None:
        super().__init__(
            db,
            tokens,
            roles=roles,
            settings=settings,
            name=name,
            observer=observer,
            clock=clock,
            mailer=mailer,
            links_to=links_to,
            theme=theme,
        )
        self._guard = AccountGuard(self)

    # As the guard of a server; see `AccountGuard`.

    def attach(self, api: APIServer) -> None:
        """Start with the server, and add the routes of accounts; called by `api.secure(accounts)`."""
        self._guard.attach(api)

    async def identify(self, request: Request) -> Identity | None:
        """Who a request's credentials belong to."""
        return await self._guard.identify(request)

    def allows(self, identity: Identity, roles: frozenset[str], scopes: frozenset[str]) -> bool:
        """Whether they have one of `roles` and all of `scopes`."""
        return self._guard.allows(identity, roles, scopes)

    async def user(self, identity: Identity, kind: type[Any]) -> Any:
        """The account, as the type that a handler declares."""
        return await self._guard.user(identity, kind)

    def security_schemes(self) -> dict[str, Any]:
        """For the OpenAPI document."""
        return self._guard.security_schemes()
