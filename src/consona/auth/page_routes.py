"""The pages for who is not signed in: sign in, register, set a lost password anew, verify an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from consona.auth.account_routes import DEVICE
from consona.auth.errors import SecondFactorNeeded
from consona.auth.social import local_target
from consona.errors import ConsonaError, ValidationError
from consona.rest.server.parameters import Cookie
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response
from consona.rest.server.routing import Routes

if TYPE_CHECKING:
    from consona.auth.pages import AccountPages

__all__ = ["page_routes"]


def page_routes(routes: Routes, pages: AccountPages) -> None:
    """Add them."""
    _style(routes, pages)
    _signing_in(routes, pages)
    _second_factor(routes, pages)
    if pages.accounts.settings.registration:
        _registering(routes, pages)
    if pages.accounts.letters is not None:
        _forgetting(routes, pages)
        _verifying(routes, pages)


def _style(routes: Routes, pages: AccountPages) -> None:
    sheet = pages.accounts.theme.draw("pages/account.css")

    @routes.get("/account.css", public=True, documented=False, etag=True)
    async def style() -> Response:
        return Response(sheet, media_type="text/css; charset=utf-8", headers={"cache-control": "max-age=300"})


def _target(pages: AccountPages, given: str) -> str:
    """Where to go after the sign-in; never elsewhere, whatever a link says."""
    try:
        return local_target(given) if given else pages.home
    except ValidationError:
        return pages.home


def _device(request: Request) -> dict[str, Any]:
    return {"address": request.client_address, "agent": request.headers.get("user-agent", "")}


def _signing_in(routes: Routes, pages: AccountPages) -> None:
    def values(target: str) -> dict[str, Any]:
        accounts = pages.accounts
        return {
            "target": target,
            "providers": sorted(pages.social.providers) if pages.social else [],
            "registration": accounts.settings.registration,
            "letters": accounts.letters is not None,
        }

    @routes.get("/login", public=True, documented=False)
    async def login_page(request: Request, next: str = "", told: str = "") -> Response:  # noqa: A002 the parameter's name
        target = _target(pages, next)
        if await pages.signed_in(request) is not None:
            return pages.leave(target)
        return pages.draw(request, "login", told=told, **values(target))

    @routes.post("/login", public=True, documented=False, max_body=20_000)
    async def login(request: Request, device: Annotated[str, Cookie(DEVICE)] = "") -> Response:
        form = await pages.fields(request)
        target = _target(pages, form.get("next", ""))
        name, password = form.get("name", "").strip(), form.get("password", "")
        try:
            session = await pages.accounts.authenticate(name, password, device=device, **_device(request))
        except SecondFactorNeeded as needed:
            return pages.draw(request, "second_factor", note=needed.note, target=target)
        except ConsonaError as error:
            return pages.again(request, "login", error, typed={"name": name}, told="", **values(target))
        return pages.enter(session, target)

    @routes.post("/logout", public=True, documented=False)
    async def logout(request: Request) -> Response:
        await pages.fields(request)
        claims = await pages.signed_in(request)
        if claims is not None:
            await pages.accounts.logout(claims.session)
        response = pages.to(request, "login?told=out")
        pages.accounts.browsers.take(response)
        return response


def _second_factor(routes: Routes, pages: AccountPages) -> None:
    @routes.post("/code", public=True, documented=False, max_body=20_000)
    async def code(request: Request, device: Annotated[str, Cookie(DEVICE)] = "") -> Response:
        form = await pages.fields(request)
        target, note = _target(pages, form.get("next", "")), form.get("note", "")
        try:
            session = await pages.accounts.authenticate_code(
                note, form.get("code", ""), device=device, **_device(request)
            )
        except ConsonaError as error:
            return pages.again(request, "second_factor", error, note=note, target=target)
        return pages.enter(session, target)


def _registering(routes: Routes, pages: AccountPages) -> None:
    @routes.get("/register", public=True, documented=False)
    async def register_page(request: Request, next: str = "") -> Response:  # noqa: A002 the parameter's name
        return pages.draw(request, "register", target=_target(pages, next))

    @routes.post("/register", public=True, documented=False, max_body=20_000)
    async def register(request: Request) -> Response:
        form = await pages.fields(request)
        target = _target(pages, form.get("next", ""))
        typed = {"name": form.get("name", "").strip(), "email": form.get("email", "").strip()}
        accounts = pages.accounts
        try:
            made = await accounts.register(
                typed["name"], typed["email"], form.get("password", ""), roles=accounts.settings.new_roles
            )
        except ConsonaError as error:
            return pages.again(request, "register", error, typed=typed, target=target)
        return pages.enter(await accounts.sign_in(made.id, how="registration", **_device(request)), target)


def _forgetting(routes: Routes, pages: AccountPages) -> None:
    @routes.get("/forgot", public=True, documented=False)
    async def forgot_page(request: Request) -> Response:
        return pages.draw(request, "forgot", sent=False)

    @routes.post("/forgot", public=True, documented=False, max_body=20_000)
    async def forgot(request: Request) -> Response:
        form = await pages.fields(request)
        typed = {"email": form.get("email", "").strip()}
        try:
            await pages.accounts.forgot_password(typed["email"], address=request.client_address)
        except ConsonaError as error:
            return pages.again(request, "forgot", error, typed=typed, sent=False)
        return pages.draw(request, "forgot", sent=True)

    @routes.get("/reset", public=True, documented=False)
    async def reset_page(request: Request, token: str = "") -> Response:
        # Looking at the page does not use the link up: programs that look for danger follow links in mails.
        return pages.draw(request, "reset", token=token)

    @routes.post("/reset", public=True, documented=False, max_body=20_000)
    async def reset(request: Request) -> Response:
        form = await pages.fields(request)
        token = form.get("token", "")
        try:
            await pages.accounts.reset_password(token, form.get("password", ""), address=request.client_address)
        except ConsonaError as error:
            return pages.again(request, "reset", error, token=token)
        response = pages.to(request, "login?told=reset")
        pages.accounts.browsers.take(response)
        return response


def _verifying(routes: Routes, pages: AccountPages) -> None:
    @routes.get("/verify", public=True, documented=False)
    async def verify_page(request: Request, token: str = "") -> Response:
        return pages.draw(request, "verify", token=token, done=False)

    @routes.post("/verify", public=True, documented=False, max_body=20_000)
    async def verify(request: Request) -> Response:
        form = await pages.fields(request)
        token = form.get("token", "")
        try:
            await pages.accounts.verify_email(token, address=request.client_address)
        except ConsonaError as error:
            return pages.again(request, "verify", error, token=token, done=False)
        return pages.draw(request, "verify", token="", done=True)
