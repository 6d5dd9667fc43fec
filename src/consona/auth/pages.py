"""Pages with which people sign in and see to their account: drawn by the server, without scripts.

    pages = AccountPages(accounts, social)
    api.secure(accounts, social, pages)          # below /account

Forms of other sites do not count (`same_site`), so there is nothing to be added to forms. Templates and the style
sheet can be an application's own: `AuthenticationSystem(theme=Theme("templates"))`.

Source: WCAG 2.2 (names, errors, focus, autocomplete: 1.3.5, 3.3.1 to 3.3.8); OWASP, "Forgot Password Cheat Sheet".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from consona.auth.account_page_routes import account_page_routes
from consona.auth.account_routes import DEVICE
from consona.auth.browser_sessions import same_site
from consona.auth.claims import Claims
from consona.auth.errors import TokenInvalid
from consona.auth.page_routes import page_routes
from consona.auth.page_words import Problems, words_of
from consona.auth.signing_in import Session
from consona.errors import ConfigurationError, ConsonaError, PermissionDenied
from consona.rest.server.requests import Request
from consona.rest.server.responses import Redirect, Response
from consona.rest.server.routing import Routes

if TYPE_CHECKING:
    from consona.auth.authentication_system import AuthenticationSystem
    from consona.auth.social import SocialAuthManager
    from consona.rest.server.api_server import APIServer

__all__ = ["AccountPages"]

HEADERS: Final = {
    "cache-control": "no-store",
    # No script at all; styles, pictures and forms of this site alone; in no frame.
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # Links of mails have a token in them. Other sites do not see it; forms still say where they come from.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class AccountPages:
    """The pages; `api.secure(accounts, social, pages)` adds them.

    Args:
        accounts: The accounts.
        social: The services that people may sign in with, too.
        path: Below which path they are.
        home: Where a browser goes once it is signed in, if it did not come from elsewhere; a path here.

    Raises:
        ConfigurationError: The path is none.
    """

    def __init__(
        self,
        accounts: AuthenticationSystem,
        social: SocialAuthManager | None = None,
        *,
        path: str = "/account",
        home: str = "",
    ) -> None:
        if not _PATH.fullmatch(path):
            raise ConfigurationError(f"AccountPages(path={path!r}) is no path.", hint='path="/account"')
        self.accounts = accounts
        self.social = social
        self.path = path
        self.home = home or path

    def attach(self, api: APIServer) -> None:
        """Add the pages; called by `api.secure`."""
        routes = Routes(self.path)
        page_routes(routes, self)
        account_page_routes(routes, self)
        api.include(routes)

    # What all pages need.

    async def signed_in(self, request: Request) -> Claims | None:
        """Whose cookie the browser brings; None where it is nobody's (any more).

        Raises:
            CrossSite: It would change something, and comes from another site.
        """
        try:
            return await self.accounts.browsers.identify(request)
        except TokenInvalid:
            return None

    async def fields(self, request: Request) -> dict[str, str]:
        """The fields of a form of this site.

        Raises:
            PermissionDenied: Another site sent it.
        """
        if not same_site(request):
            raise PermissionDenied("A page of another site sent this form.", hint="Send it from a page of this site.")
        form = await request.form()
        return dict(form.fields)

    def draw(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page."""
        root = request.scope.get("root_path", "") + self.path
        values["typed"] = {"name": "", "email": ""} | values.get("typed", {})
        common = {"root": root, "service": self.accounts.tokens.issuer, "password_hint": self.accounts.rules.hint}
        html = self.accounts.theme.draw(f"pages/{template}.html", **({"problems": Problems()} | common | values))
        return Response(html, status=status, media_type="text/html; charset=utf-8", headers=HEADERS)

    def again(self, request: Request, template: str, error: ConsonaError, **values: Any) -> Response:
        """The page once more, with what was wrong."""
        status = 422 if error.status == 401 else error.status  # a form is not challenged (RFC 9110, 15.5.2)
        response = self.draw(request, template, status=status, problems=words_of(error), **values)
        if error.retry_after is not None:
            response.headers["retry-after"] = str(max(1, round(error.retry_after)))
        return response

    def to(self, request: Request, page: str = "") -> Redirect:
        """Go to a page of these."""
        root = request.scope.get("root_path", "") + self.path
        return self.leave(root + (page if page.startswith("?") else f"/{page}" if page else ""))

    def leave(self, target: str) -> Redirect:
        response = Redirect(target, status=303)
        response.headers["cache-control"] = "no-store"
        return response

    def enter(self, session: Session, target: str) -> Redirect:
        """Let the browser keep its session, and go on."""
        response = self.leave(target)
        self.accounts.browsers.give(response, session.id)
        secure = self.accounts.settings.secure_cookies
        response.set_cookie(DEVICE, session.device, max_age=400 * 86_400, path=self.path, secure=secure)
        return response
