"""What a request asks of a cache, and for whom."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

from consona.rest.caching import rules
from consona.rest.caching.fields import Directives, value
from consona.rest.transport import Request
from consona.telemetry.redaction import DEFAULT as REDACTION


def partition(request: Request, credentials: Collection[str]) -> str:
    """A name for the credentials of the request, the same for the same ones; they cannot be read from it."""
    found = _shown(request, credentials)
    if not found:
        return ""
    return hashlib.blake2b(repr(sorted(found)).encode(), digest_size=16, person=b"http-cache").hexdigest()


def authorised(request: Request, credentials: Collection[str]) -> bool:
    """Whether the request holds credentials; cookies are left to `Vary` and `private`, as RFC 9111 does."""
    return any(name != "cookie" for name, _ in _shown(request, credentials))


def _shown(request: Request, credentials: Collection[str]) -> list[tuple[str, str]]:
    return [
        (name.lower(), text)
        for name, text in request.headers
        if REDACTION.is_secret(name) or name.lower() in credentials
    ]


def part_of(wanted: str, headers: list[tuple[str, str]], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of the one range that is wanted of a whole answer (RFC 9110, 15.3.7, 15.5.17)."""
    part = rules.one_range(wanted, len(body))
    what = "*" if part is None else f"{part.start}-{part.stop - 1}"
    headers = [pair for pair in headers if pair[0].lower() not in {"content-length", "content-range"}]
    headers.append(("Content-Range", f"bytes {what}/{len(body)}"))
    body = b"" if part is None else body[part.start : part.stop]
    headers.append(("Content-Length", str(len(body))))
    return 416 if part is None else 206, headers, body


def passes_by(request: Request, directives: Directives) -> bool:
    """Whether the cache stays out of it: it may keep nothing, or what is asked is for the origin alone."""
    wanted = value(request.headers, "range")
    if wanted is not None and not rules.is_one_range(wanted):
        return True
    return "no-store" in directives or any(
        name.lower() in {"if-match", "if-unmodified-since", "if-range"} for name, _ in request.headers
    )


def selective(request: Request) -> bool:
    """Whether another's answer is of no use although the URL is the same."""
    return conditional(request) or value(request.headers, "range") is not None


def conditional(request: Request) -> bool:
    return any(name.lower() in {"if-none-match", "if-modified-since"} for name, _ in request.headers)


def as_text(headers: Iterable[tuple[Any, Any]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), text.decode("latin-1")) for name, text in headers]


def joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:
        return ""


def origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        default = {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or default
    except ValueError:
        return "", "", None
