"""The routes of signing in with other services, for browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from consona.auth.account_routes import _session_of
from consona.auth.claims import Claims
from consona.auth.errors import ProviderFailed, SignInRefused
from consona.auth.social import LinkedIdentity
from consona.errors import Conflict, NotFound
from consona.rest.server.guards import CurrentUser
from consona.rest.server.parameters import Cookie
from consona.rest.server.requests import Request
from consona.rest.server.responses import Redirect
from consona.rest.server.routing import Routes

if TYPE_CHECKING:
    from consona.auth.social import SocialAuthManager

__all__ = ["social_routes"]


def social_routes(social: SocialAuthManager) -> Routes:
    """The routes, for `api.include`."""
    routes = Routes("/auth", tags=["accounts"])
    secure = social.accounts.settings.secure_cookies
    cookie = "__Host-consona-sign-in" if secure else "consona-sign-in"

    def leaving(url: str, note: str) -> Redirect:
        response = Redirect(url, status=303)
        response.headers["cache-control"] = "no-store"
        response.headers["referrer-policy"] = "no-referrer"
        # Lax: the browser comes back from another site, by a plain link.
        response.set_cookie(cookie, note, max_age=600, secure=secure, same_site="lax")
        return response

    @routes.get("/{provider}/login", public=True, errors=[NotFound, ProviderFailed])
    async def login(provider: str, next: str = "/") -> Redirect:  # noqa: A002 the parameter's name
        """Send the browser to a service, to sign in there. `next` is where it goes afterwards."""
        return leaving(*await social.begin(provider, next=next))

    @routes.post("/{provider}/link", errors=[NotFound, ProviderFailed])
    async def link(provider: str, claims: CurrentUser[Claims], next: str = "/") -> Redirect:  # noqa: A002 see above
        """Send the browser to a service, to link it with this account."""
        _session_of(claims)
        return leaving(*await social.begin(provider, next=next, account=claims.subject))

    @routes.get("/{provider}/callback", public=True, errors=[SignInRefused, Conflict, ProviderFailed])
    async def callback(provider: str, request: Request, note: Annotated[str, Cookie(cookie)] = "") -> Redirect:
        """Where a service sends the browser back to."""
        answer = {name: values[0] for name, values in request.query.items() if len(values) == 1}
        if social.seal.open_handshake(note).account:
            claims = await social.accounts.browsers.identify(request)
            handshake = await social.link(provider, answer, note, account=claims.subject if claims else "")
            response = Redirect(handshake.next, status=303)
        else:
            done = await social.complete(
                provider,
                answer,
                note,
                address=request.client_address,
                agent=request.headers.get("user-agent", ""),
            )
            response = Redirect(done.next, status=303)
            social.accounts.browsers.give(response, done.session.id)
        response.headers["cache-control"] = "no-store"
        response.headers["referrer-policy"] = "no-referrer"
        response.set_cookie(cookie, "", max_age=0, secure=secure)
        return response

    @routes.get("/identities")
    async def identities(claims: CurrentUser[Claims]) -> list[LinkedIdentity]:
        """The services that are linked with this account."""
        return await social.identities(claims.subject)

    @routes.delete("/identities/{provider}", errors=[NotFound, Conflict])
    async def unlink(provider: str, claims: CurrentUser[Claims]) -> None:
        """Unlink a service from this account."""
        _session_of(claims)
        await social.unlink(claims.subject, provider)

    return routes
