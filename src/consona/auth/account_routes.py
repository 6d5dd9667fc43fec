"""The routes of accounts, below `/auth`: for programs with tokens, for browsers with a cookie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from consona.auth.account import Account
from consona.auth.api_keys import APIKeyInfo
from consona.auth.browser_sessions import same_site
from consona.auth.claims import Claims
from consona.auth.errors import (
    AccountDisabled,
    AccountLocked,
    LinkRefused,
    LoginFailed,
    RefreshRefused,
    SecondFactorNeeded,
)
from consona.auth.revocation_follower import Revoked
from consona.auth.second_factors import Enrolment
from consona.auth.sessions import SessionInfo
from consona.errors import Conflict, NotFound, PermissionDenied
from consona.rest.server.guards import CurrentUser
from consona.rest.server.parameters import Cookie
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response, json_encode
from consona.rest.server.routing import Routes

if TYPE_CHECKING:
    from consona.auth.authentication_system import AuthenticationSystem
    from consona.auth.signing_in import Session

__all__ = ["account_routes"]

DEVICE: str = "consona-device"


class NewAccount(msgspec.Struct, forbid_unknown_fields=True):
    """What a registration may say. Roles are not among it."""

    name: str
    password: str
    email: str = ""


class Login(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    """The account's name or e-mail address."""
    password: str
    code: str = ""
    """Of the second factor, where the account has one."""
    cookie: bool = False
    """For browsers: keep the session in a cookie, and give no tokens."""


class Refresh(msgspec.Struct, forbid_unknown_fields=True):
    refresh_token: str


class NewPassword(msgspec.Struct, forbid_unknown_fields=True):
    old: str
    new: str


class NewEmail(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    password: str
    """The present one."""


class Forgotten(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    """The account's address, or its name."""


class LinkToken(msgspec.Struct, forbid_unknown_fields=True):
    token: str


class Reset(msgspec.Struct, forbid_unknown_fields=True):
    token: str
    password: str


class Leave(msgspec.Struct, forbid_unknown_fields=True):
    password: str


class Code(msgspec.Struct, forbid_unknown_fields=True):
    code: str


class FirstCode(msgspec.Struct, forbid_unknown_fields=True):
    note: str
    code: str


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    scopes: list[str]
    ttl: float | None = None
    """Seconds that it lives; left out, for ever."""


class MadeKey(msgspec.Struct):
    key: str
    info: APIKeyInfo


class AccountView(msgspec.Struct):
    """What the owner of an account sees of it."""

    id: str
    name: str
    email: str
    email_verified: bool
    roles: list[str]
    second_factor: bool


class SignedIn(msgspec.Struct, omit_defaults=True):
    account: AccountView
    session: str
    access_token: str = ""
    refresh_token: str = ""
    token_type: str = ""
    expires_in: float = 0.0


def account_routes(accounts: AuthenticationSystem) -> Routes:
    """The routes, for `api.include`."""
    routes = Routes("/auth", tags=["accounts"])

    if accounts.settings.registration:

        @routes.post("/register", status=201, public=True, errors=[Conflict])
        async def register(new: NewAccount) -> AccountView:
            """Make an account."""
            made = await accounts.register(new.name, new.email, new.password, roles=accounts.settings.new_roles)
            return _view(made)

    @routes.post("/login", public=True, errors=[LoginFailed, SecondFactorNeeded, AccountLocked, AccountDisabled])
    async def login(body: Login, request: Request, device: Annotated[str, Cookie(DEVICE)] = "") -> SignedIn:
        """Sign in with name and password."""
        if body.cookie and not same_site(request):
            raise PermissionDenied("Signing in with a cookie is for pages of this site.")
        session = await accounts.authenticate(
            body.name,
            body.password,
            code=body.code,
            address=request.client_address,
            agent=request.headers.get("user-agent", ""),
            device=device,
        )
        response = _answer(session, tokens=not body.cookie)
        if body.cookie:
            accounts.browsers.give(response, session.id)
        secure = accounts.settings.secure_cookies
        response.set_cookie(DEVICE, session.device, max_age=400 * 86_400, path="/auth", secure=secure)
        return response  # type: ignore[return-value]  # a Response instead of what it holds is always allowed

    @routes.post("/refresh", public=True, errors=[RefreshRefused, AccountDisabled])
    async def refresh(body: Refresh, request: Request) -> SignedIn:
        """Exchange a refresh token for the next tokens."""
        session = await accounts.refresh(body.refresh_token, address=request.client_address)
        return _answer(session, tokens=True)  # type: ignore[return-value]  # see above

    @routes.post("/logout")
    async def logout(claims: CurrentUser[Claims]) -> None:
        """End this session."""
        await accounts.logout(_session_of(claims))
        response = Response(b"", status=204)
        accounts.browsers.take(response)
        return response  # type: ignore[return-value]  # see above

    @routes.post("/logout-everywhere")
    async def logout_everywhere(claims: CurrentUser[Claims]) -> None:
        """End all sessions of this account."""
        _session_of(claims)
        await accounts.logout_everywhere(claims.subject)

    @routes.get("/me")
    async def me(account: CurrentUser[Account]) -> AccountView:
        """The account that asks."""
        return _view(account)

    @routes.get("/sessions")
    async def sessions(claims: CurrentUser[Claims]) -> list[SessionInfo]:
        """Where this account is signed in."""
        _session_of(claims)
        return await accounts.sessions(claims.subject)

    @routes.delete("/sessions/{id}", errors=[NotFound])
    async def end_session(id: str, claims: CurrentUser[Claims]) -> None:  # noqa: A002 the name in the path
        """End one of this account's sessions."""
        _session_of(claims)
        if id not in {each.id for each in await accounts.sessions(claims.subject)}:
            raise NotFound("There is no such session.")
        await accounts.logout(id)

    @routes.post("/password", errors=[LoginFailed, AccountLocked])
    async def password(body: NewPassword, claims: CurrentUser[Claims], request: Request) -> None:
        """Set another password. All other sessions end."""
        await accounts.change_password(
            claims.subject, body.old, body.new, address=request.client_address, session=_session_of(claims)
        )

    @routes.post("/second-factor", errors=[Conflict])
    async def begin_second_factor(claims: CurrentUser[Claims]) -> Enrolment:
        """Begin to use an app that makes codes."""
        _session_of(claims)
        return await accounts.begin_second_factor(claims.subject)

    @routes.post("/second-factor/confirm", errors=[LoginFailed, AccountLocked, Conflict])
    async def confirm_second_factor(body: FirstCode, claims: CurrentUser[Claims], request: Request) -> list[str]:
        """Show that the app makes right codes. The answer is the recovery codes, this once."""
        _session_of(claims)
        return await accounts.confirm_second_factor(
            claims.subject, body.note, body.code, address=request.client_address
        )

    @routes.post("/second-factor/remove", errors=[LoginFailed, AccountLocked])
    async def remove_second_factor(body: Code, claims: CurrentUser[Claims], request: Request) -> None:
        """Ask for codes no more."""
        _session_of(claims)
        await accounts.remove_second_factor(claims.subject, body.code, address=request.client_address)

    @routes.get("/keys")
    async def keys(claims: CurrentUser[Claims]) -> list[APIKeyInfo]:
        """The keys of this account, without their texts."""
        _session_of(claims)
        return await accounts.list_keys(claims.subject)

    @routes.post("/keys", status=201)
    async def make_key(body: NewKey, claims: CurrentUser[Claims]) -> MadeKey:
        """Make a key for a program. Its text is in this answer, and nowhere else."""
        _session_of(claims)
        info, text = await accounts.make_key(claims.subject, body.name, body.scopes, ttl=body.ttl)
        response = Response(json_encode(MadeKey(text, info)), status=201, media_type="application/json")
        response.headers["cache-control"] = "no-store"
        return response  # type: ignore[return-value]  # see above

    @routes.delete("/keys/{id}", errors=[NotFound])
    async def remove_key(id: str, claims: CurrentUser[Claims]) -> None:  # noqa: A002 the name in the path
        """Let a key of this account count no more."""
        _session_of(claims)
        await accounts.remove_key(claims.subject, id)

    @routes.get("/export")
    async def export(claims: CurrentUser[Claims]) -> dict[str, Any]:
        """All that is known of this account, but secrets."""
        _session_of(claims)
        return await accounts.export(claims.subject)

    @routes.post("/delete", errors=[LoginFailed, AccountLocked])
    async def delete(body: Leave, claims: CurrentUser[Claims], request: Request) -> None:
        """Remove this account, with all that is known of it. It takes the password."""
        _session_of(claims)
        await accounts.leave(claims.subject, body.password, address=request.client_address)
        response = Response(b"", status=204)
        accounts.browsers.take(response)
        return response  # type: ignore[return-value]  # see above

    @routes.get("/revocations", scopes={"revocations:read"})
    async def revocations(after: int = 0) -> list[Revoked]:
        """What was taken back, for services that believe our tokens: `[number, kind, name, version, until]`."""
        return await accounts.feed.after(after)

    if accounts.letters is not None:
        _mail_routes(routes, accounts)
    return routes


def _mail_routes(routes: Routes, accounts: AuthenticationSystem) -> None:
    """The routes that send mails, and those that take what the mails bring."""

    @routes.post("/verification", status=202, errors=[Conflict])
    async def send_verification(claims: CurrentUser[Claims]) -> None:
        """Send the mail that verifies this account's address once more."""
        _session_of(claims)
        await accounts.send_verification(claims.subject)

    @routes.post("/verify", public=True, errors=[LinkRefused, AccountLocked, Conflict])
    async def verify(body: LinkToken, request: Request) -> AccountView:
        """Show that an address is yours, with the token of the link that was sent to it."""
        return _view(await accounts.verify_email(body.token, address=request.client_address))

    @routes.post("/email", status=202, errors=[LoginFailed, AccountLocked])
    async def change_email(body: NewEmail, claims: CurrentUser[Claims], request: Request) -> None:
        """Begin to give this account another address: a link is sent to it."""
        _session_of(claims)
        await accounts.change_email(claims.subject, body.email, body.password, address=request.client_address)

    @routes.post("/forgot", status=202, public=True, errors=[AccountLocked])
    async def forgot(body: Forgotten, request: Request) -> None:
        """Send a link with which a new password can be set. The answer is the same where there is no such account."""
        await accounts.forgot_password(body.email, address=request.client_address)

    @routes.post("/reset", status=204, public=True, errors=[LinkRefused, AccountLocked, AccountDisabled])
    async def reset(body: Reset, request: Request) -> None:
        """Set a new password with the token of a link. All sessions end."""
        await accounts.reset_password(body.token, body.password, address=request.client_address)


def _session_of(claims: Claims) -> str:
    """The session that the request belongs to: accounts are changed by their owners, not by keys that they gave out.

    Raises:
        PermissionDenied: The credentials are a key or a token without a session, or are limited to some scopes.
    """
    if not claims.session or claims.scopes:
        raise PermissionDenied("This is for who has signed in.", hint="Sign in with a password.")
    return claims.session


def _view(account: Account) -> AccountView:
    return AccountView(
        account.id,
        account.name,
        account.email,
        account.email_verified,
        sorted(account.roles),
        account.second_factor,
    )


def _answer(session: Session, *, tokens: bool) -> Response:
    told = SignedIn(_view(session.account), session.id)
    if tokens:
        told.access_token, told.refresh_token = session.access_token, session.refresh_token
        told.token_type, told.expires_in = "Bearer", session.expires_in
    response = Response(json_encode(told), media_type="application/json")
    response.headers["cache-control"] = "no-store"
    return response
