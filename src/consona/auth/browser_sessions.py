"""Browsers keep their session in a cookie that scripts cannot read; requests that other sites cause do not count.

The cookie is `SESSION.PROOF`; the proof is an HMAC with a key that is not in the database. Each request looks for the
session, and remembers it for some seconds; what was taken back meanwhile is known from the revocations.

Source: RFC 6265bis (`__Host-`); F. Valsorda, "Cross-Site Request Forgery", 2025 (Fetch metadata instead of tokens).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from consona.auth.claims import Claims
from consona.auth.errors import TokenInvalid, TokenRevoked
from consona.auth.jws import encode
from consona.auth.revocations import Revocations
from consona.errors import PermissionDenied
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase

__all__ = ["BrowserSessions", "CrossSite", "same_site"]

REMEMBER_S: Final = 30.0
REMEMBERED: Final = 10_000
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_COOKIE: Final = re.compile(r"([A-Za-z0-9-]{22})\.([A-Za-z0-9_-]{43})")


class CrossSite(PermissionDenied):
    """A request that changes something came from another site, with this site's cookie."""

    code = "auth.cross_site"
    hint = "Send it from a page of this site, or with a token instead of the cookie."


class _Found(msgspec.Struct):
    account: str
    name: str
    roles: str
    version: int
    active: int
    created_at: float
    last_seen: float
    expires_at: float
    ended_at: float | None


class BrowserSessions:
    """Writes the cookies and reads them."""

    def __init__(
        self,
        db: SQLDatabase,
        revocations: Revocations,
        *,
        issuer: str,
        secret: Callable[[], bytes],
        ttl: float,
        secure: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._revocations = revocations
        self._issuer = issuer
        self._secret = secret
        self._ttl = ttl
        self._secure = secure
        self._clock = clock
        self.cookie = "__Host-consona-session" if secure else "consona-session"
        self._known: OrderedDict[str, tuple[Claims, float]] = OrderedDict()

    def give(self, response: Response, session: str) -> None:
        """Let a browser keep a session."""
        value = f"{session}.{self._proof(session)}"
        response.set_cookie(self.cookie, value, max_age=int(self._ttl), secure=self._secure, same_site="lax")

    def take(self, response: Response) -> None:
        """Let a browser forget it."""
        response.set_cookie(self.cookie, "", max_age=0, secure=self._secure, same_site="lax")

    async def identify(self, request: Request) -> Claims | None:
        """Whose cookie a request brings; None where it brings none.

        Raises:
            TokenInvalid: The cookie is not ours, or its session has ended.
            CrossSite: It would change something, and comes from another site.
        """
        value = request.cookies.get(self.cookie)
        if not value:
            return None
        changes = request.method not in SAFE or request.scope["type"] == "websocket"  # what is said there, too
        if changes and not same_site(request):
            raise CrossSite("This request comes from another site.")
        now = self._clock()
        known = self._known.get(value)
        if known is None or not 0 <= now - known[1] < REMEMBER_S:
            known = await self._look(value, now)
        if self._revocations.cover(known[0]):
            known = await self._look_again(value, now)
        return known[0]

    async def _look_again(self, value: str, now: float) -> tuple[Claims, float]:
        """The session was ended, or its account was changed and it goes on with what holds now."""
        with contextlib.suppress(TokenInvalid):
            known = await self._look(value, now)
            if not self._revocations.cover(known[0]):
                return known
        raise TokenRevoked("The session was ended.")

    async def _look(self, value: str, now: float) -> tuple[Claims, float]:
        parts = _COOKIE.fullmatch(value)
        if parts is None or not hmac.compare_digest(self._proof(parts[1]), parts[2]):
            raise TokenInvalid("The cookie of the session is not one of ours.")
        found = await self._db.fetch_one(
            "SELECT s.account, a.name, a.roles, a.version, a.active, s.created_at, s.last_seen, s.expires_at, s.ended_at"
            " FROM consona_sessions s JOIN consona_accounts a ON a.id = s.account WHERE s.id = ?",
            parts[1],
            into=_Found,
        )
        if found is None or found.ended_at is not None or found.expires_at < now or not found.active:
            raise TokenInvalid("The session has ended.")
        if now - found.last_seen > 60:
            await self._db.execute(
                "UPDATE consona_sessions SET last_seen = ?, expires_at = ? WHERE id = ?", now, now + self._ttl, parts[1]
            )
        claims = Claims(
            subject=found.account,
            id=parts[1],
            issuer=self._issuer,
            audience=(self._issuer,),
            issued_at=found.created_at,
            not_before=found.created_at,
            expires_at=now + self._ttl,
            roles=frozenset(found.roles.split()),
            session=parts[1],
            version=found.version,
            _payload=msgspec.json.encode({"sub": found.account, "name": found.name, "sid": parts[1]}),
        )
        self._known[value] = claims, now
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return claims, now

    def _proof(self, session: str) -> str:
        return encode(hmac.digest(self._secret(), session.encode(), hashlib.sha256))


def same_site(request: Request) -> bool:
    """Whether a page of this very origin made the request, or somebody in no page at all.

    Browsers say it (`Sec-Fetch-Site`, `Origin`), and no page can change what they say.
    """
    fetch = request.headers.get("sec-fetch-site")
    if fetch is not None:
        return fetch in {"same-origin", "none"}
    origin = request.headers.get("origin")
    if origin is None:
        return False  # neither: it is no browser of the last years, and what it is cannot be told
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()
