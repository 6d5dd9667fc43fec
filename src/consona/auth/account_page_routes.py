"""The pages of somebody who is signed in: the account, its sessions, its second factor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import segno

from consona.auth.claims import Claims
from consona.errors import ConsonaError, NotFound
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response
from consona.rest.server.routing import Routes

if TYPE_CHECKING:
    from consona.auth.pages import AccountPages

__all__ = ["account_page_routes"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A form that somebody sent who is signed in."""

    claims: Claims
    form: dict[str, str]
    address: str

    @property
    def account(self) -> str:
        return self.claims.subject


Action = Callable[[Asked], Awaitable[str]]
"""Does what a form asks for; returns the word for what was done, for the page."""


def account_page_routes(routes: Routes, pages: AccountPages) -> None:
    """Add them."""
    _account(routes, pages)
    _changing(routes, pages)
    _second_factor(routes, pages)


def _to_login(request: Request, pages: AccountPages) -> Response:
    return pages.to(request, "login")


async def _shown(request: Request, pages: AccountPages, claims: Claims, **values: Any) -> Response:
    accounts, error = pages.accounts, values.pop("error", None)
    shown: dict[str, Any] = {
        "account": await accounts.get(claims.subject),
        "sessions": await accounts.sessions(claims.subject),
        "here": claims.session,
        "identities": await pages.social.identities(claims.subject) if pages.social else [],
        "letters": accounts.letters is not None,
        "clock": _clock,
        "told": "",
        "form": "",
        "codes": [],
    } | values
    if error is not None:
        return pages.again(request, "account", error, **shown)
    return pages.draw(request, "account", **shown)


def _account(routes: Routes, pages: AccountPages) -> None:
    @routes.get("", public=True, documented=False)
    async def account_page(request: Request, told: str = "") -> Response:
        claims = await pages.signed_in(request)
        if claims is None:
            return _to_login(request, pages)
        return await _shown(request, pages, claims, told=told)

    action = _actions(routes, pages)

    @action("sessions/end")
    async def end_session(asked: Asked) -> str:
        wanted = asked.form.get("session", "")
        if wanted not in {each.id for each in await pages.accounts.sessions(asked.account)}:
            raise NotFound("This session has ended already.")
        await pages.accounts.logout(wanted)
        return "ended"

    @action("sessions/end-others")
    async def end_others(asked: Asked) -> str:
        await pages.accounts.logout_everywhere(asked.account, but=asked.claims.session)
        return "ended"

    @action("identities/unlink")
    async def unlink(asked: Asked) -> str:
        if pages.social is None:
            raise NotFound("There are no services to sign in with.")
        await pages.social.unlink(asked.account, asked.form.get("provider", ""))
        return "unlinked"


def _actions(routes: Routes, pages: AccountPages) -> Callable[[str], Callable[[Action], Action]]:
    def action(path: str) -> Callable[[Action], Action]:
        """A form of the account page: it is done, or the page is shown again with what was wrong."""

        def add(function: Action) -> Action:
            @routes.post(f"/{path}", public=True, documented=False, max_body=20_000)
            async def act(request: Request) -> Response:
                form = await pages.fields(request)
                claims = await pages.signed_in(request)
                if claims is None:
                    return _to_login(request, pages)
                try:
                    told = await function(Asked(claims, form, request.client_address))
                except ConsonaError as error:
                    typed = {"email": form.get("email", "")}
                    return await _shown(request, pages, claims, error=error, form=path, typed=typed)
                return pages.to(request, f"?told={told}")

            return function

        return add

    return action


def _changing(routes: Routes, pages: AccountPages) -> None:
    action = _actions(routes, pages)

    @routes.get("/export", public=True, documented=False)
    async def export(request: Request) -> Response:
        claims = await pages.signed_in(request)
        if claims is None:
            return _to_login(request, pages)
        told = await pages.accounts.export(claims.subject)
        headers = {"content-disposition": 'attachment; filename="account.json"', "cache-control": "no-store"}
        return Response(told, headers=headers)

    @routes.post("/delete", public=True, documented=False, max_body=20_000)
    async def delete(request: Request) -> Response:
        form = await pages.fields(request)
        claims = await pages.signed_in(request)
        if claims is None:
            return _to_login(request, pages)
        try:
            await pages.accounts.leave(claims.subject, form.get("old", ""), address=request.client_address)
        except ConsonaError as error:
            return await _shown(request, pages, claims, error=error, form="delete")
        response = pages.to(request, "login?told=gone")
        pages.accounts.browsers.take(response)
        return response

    @action("password")
    async def password(asked: Asked) -> str:
        await pages.accounts.change_password(
            asked.account,
            asked.form.get("old", ""),
            asked.form.get("password", ""),
            address=asked.address,
            session=asked.claims.session,
        )
        return "password"

    if pages.accounts.letters is None:
        return

    @action("email")
    async def email(asked: Asked) -> str:
        await pages.accounts.change_email(
            asked.account, asked.form.get("email", "").strip(), asked.form.get("old", ""), address=asked.address
        )
        return "email"

    @action("verification")
    async def verification(asked: Asked) -> str:
        await pages.accounts.send_verification(asked.account)
        return "email"


def _second_factor(routes: Routes, pages: AccountPages) -> None:
    accounts = pages.accounts

    @routes.get("/second-factor", public=True, documented=False)
    async def begin(request: Request) -> Response:
        claims = await pages.signed_in(request)
        if claims is None:
            return _to_login(request, pages)
        try:
            begun = await accounts.begin_second_factor(claims.subject)
        except ConsonaError as error:
            return await _shown(request, pages, claims, error=error)
        return pages.draw(request, "setup_factor", **_drawn(begun.secret, begun.uri), note=begun.note)

    @routes.post("/second-factor", public=True, documented=False, max_body=20_000)
    async def confirm(request: Request) -> Response:
        form = await pages.fields(request)
        claims = await pages.signed_in(request)
        if claims is None:
            return _to_login(request, pages)
        note, code = form.get("note", ""), form.get("code", "").replace(" ", "")
        try:
            codes = await accounts.confirm_second_factor(claims.subject, note, code, address=request.client_address)
        except ConsonaError as error:
            # The secret is not shown again, and none is made: the app has it.
            return pages.again(request, "setup_factor", error, note=note, secret="", picture="")
        return await _shown(request, pages, claims, told="factor", codes=codes)

    action = _actions(routes, pages)

    @action("second-factor/remove")
    async def remove(asked: Asked) -> str:
        await accounts.remove_second_factor(
            asked.account, asked.form.get("code", "").replace(" ", ""), address=asked.address
        )
        return "factor_removed"


def _drawn(secret: str, uri: str) -> dict[str, Any]:
    picture = segno.make(uri, error="m").svg_inline(scale=5, border=3, light="#fff", omitsize=True)
    return {"secret": " ".join(secret[n : n + 4] for n in range(0, len(secret), 4)), "picture": picture}


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
