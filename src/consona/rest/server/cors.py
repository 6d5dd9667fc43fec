"""Lets pages of other sites call the server from a browser (CORS).

    api.middleware(CORS(origins=["https://shop.example"], credentials=True))

A browser asks first ("preflight") whether a page may send what it is about to send. It is answered for
paths that exist, with the methods that they really have; handlers and guards never see it. What comes
from other programs than browsers is not touched: CORS opens a door in browsers, and protects nothing.

Source: Fetch Standard, section 3.2 (CORS protocol), https://fetch.spec.whatwg.org.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from consona.errors import ConfigurationError, PermissionDenied
from consona.rest.headers import Headers, vary_on
from consona.rest.server.middleware import CallNext
from consona.rest.server.requests import Request
from consona.rest.server.responses import Empty, Response
from consona.rest.server.routing import METHODS

__all__ = ["CORS"]

ANY: Final = "*"
EXPOSED: Final = (
    "content-disposition",
    "etag",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-request-id",
)
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class CORS:
    """A middleware that says which pages may call the server. Declare it first, so that it is the outermost.

    Args:
        origins: The sites, like `https://shop.example`, as a browser writes them; or `"*"` for all.
        methods: The methods that they may use; by default all that a path has.
        headers: Headers that they may send beside those that need no leave; or `"*"` for any.
        credentials: Whether they may send the user's cookies and passwords along.
        max_age: Seconds for which a browser may remember the answer.
        expose: Headers of answers that their scripts may read, beside those that need no leave.

    Raises:
        ConfigurationError: An origin, method or header is not well-formed; or every site would get the
            users' credentials.

    Example:
        >>> CORS(origins="*", credentials=True)
        Traceback (most recent call last):
        consona.errors.ConfigurationError: CORS: credentials for every origin would let any site act as your users. \
Name the origins.
    """

    def __init__(
        self,
        *,
        origins: Iterable[str] | str,
        methods: Iterable[str] | None = None,
        headers: Iterable[str] | str = ("authorization", "content-type"),
        credentials: bool = False,
        max_age: int = 600,
        expose: Iterable[str] = EXPOSED,
    ) -> None:
        self.any_origin = origins == ANY
        self.origins = frozenset() if self.any_origin else frozenset(_listed("origins", origins))
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    f"CORS: {origin!r} is not an origin.",
                    hint="Write it as browsers do: https://shop.example, in lower case, without a path.",
                )
        if credentials and (self.any_origin or headers == ANY):
            what = "origin" if self.any_origin else "header"
            raise ConfigurationError(
                f"CORS: credentials for every {what} would let any site act as your users."
                if self.any_origin
                else "CORS: with credentials, a browser does not take * for the headers.",
                hint=f"Name the {what}s.",
            )
        self.methods = None if methods is None else frozenset(method.upper() for method in _listed("methods", methods))
        if self.methods is not None and not self.methods <= set(METHODS):
            raise ConfigurationError(f"CORS: unknown methods {', '.join(sorted(self.methods - set(METHODS)))}.")
        self.any_header = headers == ANY
        self.headers = [] if self.any_header else _tokens("headers", headers)
        self.credentials = credentials
        if max_age < 0:
            raise ConfigurationError(f"CORS(max_age={max_age}) must not be negative.")
        self.max_age = max_age
        self.expose = _tokens("expose", expose)

    async def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answer a preflight, or add what the browser wants to see to the answer."""
        origin = request.fields.get(b"origin", b"").decode("latin-1")
        wanted = request.fields.get(b"access-control-request-method")
        if origin and wanted is not None and request.method == "OPTIONS":
            methods = request.serving.finder.methods_at(request.scope)
            if methods is not None:
                return self._preflight(request, origin, methods)
        response = await call_next(request)
        self._admit(response.headers, origin)
        return response

    def _preflight(self, request: Request, origin: str, methods: list[str]) -> Response:
        if not self._knows(origin):
            raise PermissionDenied("Pages of this origin may not call this server.", hint="Its owner can allow them.")
        response = Empty()
        headers = response.headers
        self._admit(headers, origin)
        headers["access-control-allow-methods"] = ", ".join(
            method for method in methods if self.methods is None or method in self.methods
        )
        if self.any_header:
            headers["access-control-allow-headers"] = request.headers.get("access-control-request-headers", ANY)
            vary_on(headers, "access-control-request-headers")
        elif self.headers:
            headers["access-control-allow-headers"] = ", ".join(self.headers)
        headers["access-control-max-age"] = str(self.max_age)
        return response

    def _admit(self, headers: Headers, origin: str) -> None:
        if not self.any_origin:
            vary_on(headers, "origin")  # also without an origin: a cache must not give this answer to a page
        if not origin or not self._knows(origin):
            return
        headers["access-control-allow-origin"] = ANY if self.any_origin else origin
        if self.credentials:
            headers["access-control-allow-credentials"] = "true"
        if self.expose:
            headers["access-control-expose-headers"] = ", ".join(self.expose)

    def _knows(self, origin: str) -> bool:
        return self.any_origin or origin in self.origins


def _listed(name: str, given: Iterable[str] | str) -> list[str]:
    if isinstance(given, str):
        raise ConfigurationError(f"CORS({name}={given!r}) must be a list.", hint=f"Write {name}=[{given!r}].")
    return list(given)


def _tokens(name: str, given: Iterable[str] | str) -> list[str]:
    found = [header.lower() for header in _listed(name, given)]
    for header in found:
        if not _TOKEN.fullmatch(header) or header == ANY:
            raise ConfigurationError(f"CORS({name}=…): {header!r} cannot be the name of a header.")
    return found
