"""Signing in with other services: find or make the account, link and unlink.

    social = SocialAuthManager(accounts, providers=[Google(...), GitHub(...)], base_url="https://shop.example")
    api.secure(accounts, social)

Who somebody is at a service is the pair of issuer and subject, never an e-mail address: an address that a service
tells, proven or not, opens no account that is there already.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from consona.auth.errors import SignInRefused
from consona.auth.names import email_key, name_key
from consona.auth.oauth.handshake import Handshake, Seal
from consona.auth.oauth.oauth2 import Grant, OAuth2, Profile, checked_url
from consona.auth.strangers import asked_by_strangers
from consona.errors import ConfigurationError, Conflict, ConstraintFailed, NotFound, ValidationError
from consona.part import Part
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.auth.authentication_system import AuthenticationSystem
    from consona.auth.signing_in import Session
    from consona.rest.server.api_server import APIServer
    from consona.sql.transaction import Transaction

__all__ = ["LinkedIdentity", "SocialAuthManager", "SocialSession", "local_target"]

_TARGET: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


class LinkedIdentity(msgspec.Struct, frozen=True):
    """A way to sign in to an account."""

    provider: str
    issuer: str
    subject: str
    email: str
    name: str
    linked_at: float
    last_login: float


@dataclass(frozen=True, slots=True)
class SocialSession:
    """What a sign-in with another service gives."""

    session: Session
    profile: Profile
    """Who it is there."""
    next: str
    """Where in this application the browser goes now."""


class SocialAuthManager(Part):
    """Signs people in with other services.

    Args:
        accounts: The accounts. Started with this part.
        providers: The services.
        base_url: Where this application is, as browsers see it: `https://shop.example`. With it the addresses are
            made that the services send browsers back to: `https://shop.example/auth/NAME/callback`, to be
            registered there exactly so.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: Two providers have one name, or the URL is not HTTPS (or of this machine).
    """

    kind: ClassVar[str] = "auth.social"

    def __init__(
        self,
        accounts: AuthenticationSystem,
        providers: Iterable[OAuth2],
        *,
        base_url: str,
        name: str = "social",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        self.accounts = accounts
        given = list(providers)
        self.providers = {provider.name: provider for provider in given}
        if len(self.providers) != len(given):
            raise ConfigurationError("Two providers have the same name.", hint="Give one of them another: name=…")
        self.base_url = checked_url(base_url).rstrip("/")
        self._clock = clock
        self.seal = Seal(accounts._secret("seal"), clock=clock)
        self._opened: contextlib.AsyncExitStack | None = None

    async def _open(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.accounts)
            for provider in self.providers.values():
                await stack.enter_async_context(provider)
            self._opened = stack.pop_all()

    async def _close(self) -> None:
        opened, self._opened = self._opened, None
        assert opened is not None
        await opened.aclose()

    def attach(self, api: APIServer) -> None:
        """Start with the server, and add the routes; called by `api.secure(accounts, social)`."""
        from consona.auth.social_routes import social_routes  # noqa: PLC0415 they need this module's types

        if self not in api.parts:
            api.parts.append(self)
        api.include(social_routes(self))

    def provider(self, name: str) -> OAuth2:
        """The service of this name.

        Raises:
            NotFound: There is none.
        """
        found = self.providers.get(name)
        if found is None:
            raise NotFound("There is no such service to sign in with.")
        return found

    def redirect_uri(self, name: str) -> str:
        """Where a service sends the browser back to."""
        return f"{self.base_url}/auth/{name}/callback"

    # The sign-in.

    async def begin(
        self,
        provider: str,
        *,
        next: str = "/",  # noqa: A002 the parameter of the route
        account: str = "",
        redirect_uri: str = "",
        scopes: Iterable[str] | None = None,
    ) -> tuple[str, str]:
        """Where to send the browser, and the sealed note that it keeps until it comes back.

        Args:
            provider: The service's name.
            next: Where in this application it goes afterwards: a path, nothing elsewhere.
            account: Whose account is to be linked; empty for signing in.
            redirect_uri: Where the service sends it back to, if not to the route of this application.
            scopes: What is asked for, if not the usual.

        Raises:
            NotFound: There is no such service.
            ValidationError: `next` leads elsewhere.
            ProviderFailed: The service does not answer.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "begin"):
            url, handshake = await self.provider(provider).begin(
                redirect_uri or self.redirect_uri(provider), next=local_target(next), account=account, scopes=scopes
            )
            return url, self.seal.close_handshake(handshake)

    async def complete(
        self, provider: str, answer: Mapping[str, str], note: str, *, address: str = "", agent: str = ""
    ) -> SocialSession:
        """Sign in whom the service sent back; an account is made at the first time.

        Args:
            provider: The service's name.
            answer: The parameters with which the browser came back.
            note: What the browser kept.
            address: The network address of who asks.
            agent: What device it is.

        Raises:
            SignInRefused: The service refused, or the answer belongs to another question, browser or time.
            Conflict: The e-mail address belongs to an account that is there: sign in to that, and link.
            AccountDisabled: The account may not be used.
            ProviderFailed: The service does not answer as it should.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "complete"):
            handshake, grant = await self._grant(provider, answer, note)
            if handshake.account:
                raise SignInRefused("This was begun for linking an account, not for signing in.")
            account = await self._find_or_make(provider, grant)
            claims = {"provider": provider, "social_id": grant.profile.subject}
            session = await self.accounts.sign_in(account, how=provider, address=address, agent=agent, claims=claims)
            return SocialSession(session, grant.profile, handshake.next)

    async def link(self, provider: str, answer: Mapping[str, str], note: str, *, account: str) -> Handshake:
        """Let an account be signed in to with a service, too.

        Args:
            provider: The service's name.
            answer: The parameters with which the browser came back.
            note: What the browser kept.
            account: The id of the account that is signed in; it must be the one that began.

        Raises:
            SignInRefused: As for `complete`; or another account began.
            Conflict: That identity is linked with another account.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "link"):
            handshake, grant = await self._grant(provider, answer, note)
            if not account or handshake.account != account:
                raise SignInRefused("Another account began to be linked.")
            await self.accounts.get(account)

            async def insert(tx: Transaction) -> None:
                await self._insert(tx, provider, grant, account)

            try:
                await self.accounts.db.run_in_transaction(insert, name="link")
            except ConstraintFailed:
                known = await self._account_of(grant.profile)
                if known != account:
                    raise Conflict("This identity is linked with another account.") from None
            return handshake

    async def _grant(self, provider: str, answer: Mapping[str, str], note: str) -> tuple[Handshake, Grant]:
        handshake = self.seal.open_handshake(note)
        return handshake, await self.provider(provider).finish(handshake, answer)

    async def _account_of(self, profile: Profile) -> str | None:
        account: str | None = await self.accounts.db.fetch_value(
            "SELECT account FROM consona_identities WHERE issuer = ? AND subject = ?", profile.issuer, profile.subject
        )
        return account

    async def _find_or_make(self, provider: str, grant: Grant) -> str:
        profile = grant.profile
        for _ in range(2):
            known = await self._account_of(profile)
            if known is not None:
                await self._seen(grant)
                return known
            with contextlib.suppress(_MadeMeanwhileError):
                return await self._make(provider, grant)
        raise Conflict("This identity is being linked elsewhere.", retryable=True)  # pragma: no cover - twice in a row

    async def _seen(self, grant: Grant) -> None:
        await self.accounts.db.execute(
            "UPDATE consona_identities SET last_login = ? WHERE issuer = ? AND subject = ?",
            self._clock(),
            grant.profile.issuer,
            grant.profile.subject,
        )
        if grant.tokens.refresh_token:
            await self.accounts.db.execute(
                "UPDATE consona_identities SET refresh_token = ? WHERE issuer = ? AND subject = ?",
                self._sealed(grant),
                grant.profile.issuer,
                grant.profile.subject,
            )

    def _sealed(self, grant: Grant) -> str:
        token = grant.tokens.refresh_token
        purpose = f"refresh token of {grant.profile.issuer}"
        return self.seal.close(token.encode(), purpose) if 0 < len(token) < 2000 else ""

    async def _make(self, provider: str, grant: Grant) -> str:
        """A new account for somebody whom nobody knew."""
        profile = grant.profile
        email = profile.email if profile.email_verified else ""  # what is not proven proves nothing here either
        with contextlib.suppress(ValidationError):
            key = email_key(email) if email else None
            if key and await self.accounts.db.fetch_value("SELECT 1 FROM consona_accounts WHERE email_key = ?", key):
                if await self._account_of(profile) is not None:
                    raise _MadeMeanwhileError
                raise Conflict(
                    "There is an account with this e-mail address.",
                    hint=f"Sign in to it as before; then link {provider} with it.",
                )
            return await self._insert_account(provider, grant, email, key)
        return await self._insert_account(provider, grant, "", None)

    async def _insert_account(self, provider: str, grant: Grant, email: str, address: str | None) -> str:
        accounts = self.accounts
        now = self._clock()

        async def identity(tx: Transaction) -> None:
            await self._insert(tx, provider, grant, row.id)

        for name in _names(grant.profile):
            row = accounts._new_row(name, email, accounts.settings.new_roles, email_verified=now if address else None)
            try:
                await accounts._insert(row, name_key(name), address, also=identity)
            except Conflict:
                if await self._account_of(grant.profile) is not None:
                    raise _MadeMeanwhileError from None
                continue  # the name is somebody's: another one
            return row.id
        raise Conflict("No free name was found.", retryable=True)  # pragma: no cover - random names do not run out

    async def _insert(self, tx: Transaction, provider: str, grant: Grant, account: str) -> None:
        profile, now = grant.profile, self._clock()
        await tx.execute(
            "INSERT INTO consona_identities VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            profile.issuer[:255],
            profile.subject[:255],
            account,
            provider,
            profile.email[:254],
            profile.name[:255],
            now,
            now,
            self._sealed(grant),
        )
        await self.accounts.audit.append(tx, "linked", account=account, provider=provider)

    # Identities.

    async def identities(self, account: str) -> list[LinkedIdentity]:
        """The ways to sign in to an account beside its password."""
        self._require_started()
        with self.observer.operation("identities"):
            return await self.accounts.db.fetch_all(
                "SELECT provider, issuer, subject, email, name, linked_at, last_login FROM consona_identities"
                " WHERE account = ? ORDER BY linked_at",
                account,
                into=LinkedIdentity,
            )

    async def unlink(self, account: str, provider: str) -> None:
        """Let an account not be signed in to with a service any more.

        Raises:
            NotFound: It is not linked.
            Conflict: It is the last way in.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "unlink"):

            async def remove(tx: Transaction) -> None:
                row = await self.accounts._row(account, tx)
                linked = await tx.fetch_column("SELECT provider FROM consona_identities WHERE account = ?", account)
                if provider not in linked:
                    raise NotFound(f"{provider} is not linked with this account.")
                if row.password is None and not set(linked) - {provider}:
                    raise Conflict("This is the last way in to this account.", hint="Set a password before.")
                await tx.execute("DELETE FROM consona_identities WHERE account = ? AND provider = ?", account, provider)
                await self.accounts.audit.append(tx, "unlinked", account=account, provider=provider)

            await self.accounts.db.run_in_transaction(remove, name="unlink")


class _MadeMeanwhileError(Exception):
    """Another request made the account of this identity in the same moment."""


def local_target(target: str) -> str:
    """A place in this application, as a path.

    Raises:
        ValidationError: It leads elsewhere, or could be read so by a browser.

    Example:
        >>> local_target("/orders?page=2")
        '/orders?page=2'
    """
    if len(target) > 1000 or not _TARGET.fullmatch(target):
        raise ValidationError("`next` is a path in this application, such as /orders.")
    return target


def _names(profile: Profile) -> Iterable[str]:
    """Names for a new account: the one that somebody has there if it is free, then with digits behind it."""
    wanted = profile.username or profile.name or "user"
    plain = unicodedata.normalize("NFKC", wanted).replace(" ", ".")
    plain = "".join(c for c in plain if c in "._-" or unicodedata.category(c) in {"Ll", "Lu", "Lt", "Lo", "Nd"})[:40]
    plain = plain.strip("._-")
    try:
        name_key(plain)
    except ValidationError:
        plain = "user"
    yield plain
    for digits in (2, 3, 5, 8):
        yield f"{plain}{secrets.randbelow(10**digits):0{digits}}"
