"""What an HTTP cache may keep, how long it is fresh, and how it is brought up to date: RFC 9111 without I/O.

Everything here is a function of an answer, a request, the time and the kind of cache (`CacheRules`).

Source: RFC 9111 (HTTP Caching), RFC 5861 (stale-while-revalidate, stale-if-error), RFC 8246 (immutable).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from consona.rest.caching.fields import (
    Directives,
    Pairs,
    age_field,
    all_values,
    names_in,
    parse_date,
    parse_directives,
    seconds,
    value,
)

__all__ = ["CacheRules", "Head", "Use"]

HEURISTIC_STATUS: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be kept without being told so (RFC 9110, 15.1)."""
UNDERSTOOD: Final = HEURISTIC_STATUS | frozenset(
    {201, 202, 205, 302, 303, 307, 400, 401, 402, 403, 406, 407, 408, 409, 411, 412, 413, 415, 416, 417, 421, 422}
    | {426, 428, 429, 431, 451, 500, 502, 503, 504, 505}
)
ERROR_STATUS: Final = frozenset({500, 502, 503, 504})
"""What `stale-if-error` calls an error (RFC 5861, 4)."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
HEURISTIC_SHARE: Final = 0.1
"""Of the time since the last change (RFC 9111, 4.2.2, names it as typical)."""

_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization"}
    | {"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_BODY_FIELDS: Final = frozenset({"content-length", "content-encoding", "content-range"})
"""They describe the kept body, so an answer without one does not change them (RFC 9111, 3.2)."""
_FOLDED: Final = frozenset({"accept", "accept-charset", "accept-encoding", "accept-language"})
"""Fields in which case carries no meaning."""
_RANGE: Final = re.compile(r"(?i:bytes)=(?=\d|-\d)(\d{0,18})-(\d{0,18})", re.ASCII)
_TAG: Final = re.compile(r'\s*(?:[Ww]/)?("[^"]*"|[^,\s"]+)\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer, and when it was asked for and came (seconds since the epoch)."""

    status: int
    headers: Pairs
    request_time: float
    response_time: float

    @property
    def directives(self) -> Directives:
        return parse_directives(all_values(self.headers, "cache-control"))

    @property
    def date(self) -> float:
        """When the origin made it; when it came, where that is not said."""
        date = parse_date(value(self.headers, "date"))
        return self.response_time if date is None else date


class Use(Enum):
    """What may be done with a kept answer."""

    FRESH = "fresh"
    """Give it out."""
    WHILE_REVALIDATING = "while revalidating"
    """Give it out, and ask in the background whether it still holds."""
    REVALIDATE = "revalidate"
    """Ask first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """One kind of cache.

    Args:
        shared: Whether it serves several users (RFC 9111, 1); else it is private.
        heuristic: Whether an answer that does not say how long it is fresh is taken for fresh for a tenth
            of the time since its `Last-Modified`.
        heuristic_limit: Seconds that such a guess never exceeds.
    """

    shared: bool = False
    heuristic: bool = False
    heuristic_limit: float = 86_400.0

    # What may be kept (section 3).

    def may_store(self, method: str, url: str, request: Pairs, head: Head, *, authorised: bool) -> bool:
        """Whether the answer may be kept, and is worth it; `authorised` tells of credentials in the request."""
        directives = head.directives
        if not self._method_stores(method, url, head) or head.status in {206, 304} or not 200 <= head.status <= 599:
            return False
        if "must-understand" in directives:
            if head.status not in UNDERSTOOD:
                return False
        elif "no-store" in directives:
            return False
        if "no-store" in parse_directives(all_values(request, "cache-control")):
            return False
        if "*" in names_in(all_values(head.headers, "vary")):
            return False
        if self.shared:
            if "private" in directives and not directives["private"]:
                return False
            for_all = directives.keys() & {"public", "must-revalidate", "s-maxage"}
            if authorised and not for_all:
                return False
        named = directives.keys() & (
            {"public", "max-age", "s-maxage"} if self.shared else {"public", "private", "max-age"}
        )
        if not named and value(head.headers, "expires") is None and head.status not in HEURISTIC_STATUS:
            return False
        return self.lifetime(head) > 0 or bool(validators(head.headers)) or "stale-if-error" in directives

    def _method_stores(self, method: str, url: str, head: Head) -> bool:
        if method == "GET":
            return True
        # The answer to a POST is that to a GET only where it says so (RFC 9110, 9.3.3).
        return method == "POST" and value(head.headers, "content-location") == url and self._explicit(head) is not None

    def stored_headers(self, headers: Pairs) -> list[tuple[str, str]]:
        """The fields that may be kept (section 3.1)."""
        left_out = _HOP_BY_HOP | set(names_in(all_values(headers, "connection")))
        directives = parse_directives(all_values(headers, "cache-control"))
        # Fields that may be used only after asking the origin are left out: then they are never used too early.
        left_out |= set(names_in([directives.get("no-cache") or ""]))
        if self.shared:
            left_out |= set(names_in([directives.get("private") or ""]))
        return [(name, text) for name, text in headers if name.lower() not in left_out]

    # How long it is fresh (section 4.2).

    def lifetime(self, head: Head) -> float:
        """For how many seconds after it was made the answer is fresh."""
        explicit = self._explicit(head)
        if explicit is not None:
            return explicit
        modified = parse_date(value(head.headers, "last-modified"))
        allowed = head.status in HEURISTIC_STATUS or "public" in head.directives
        if not self.heuristic or modified is None or not allowed:
            return 0.0
        return min(max(0.0, (head.date - modified) * HEURISTIC_SHARE), self.heuristic_limit)

    def _explicit(self, head: Head) -> float | None:
        directives = head.directives
        for name in ("s-maxage", "max-age") if self.shared else ("max-age",):
            given = seconds(directives, name)
            if given is not None:
                return float(given)
        expires = value(head.headers, "expires")
        if expires is None:
            return None
        at = parse_date(expires)
        return 0.0 if at is None else max(0.0, at - head.date)

    @staticmethod
    def age(head: Head, now: float) -> float:
        """How many seconds ago the origin made it, delays on the way included."""
        apparent = max(0.0, head.response_time - head.date)
        corrected = age_field(head.headers) + max(0.0, head.response_time - head.request_time)
        return max(apparent, corrected) + max(0.0, now - head.response_time)

    # Whether it may be given out now (sections 4.2.4 and 5.2).

    def use(self, head: Head, request: Directives, now: float) -> Use:
        """What may be done with a kept answer for a request with these directives."""
        directives = head.directives
        whole = "no-cache" in directives and not directives["no-cache"]
        if whole or "no-cache" in request or now < head.response_time - 1:  # the last: a clock that was set back
            return Use.REVALIDATE
        age, lifetime = self.age(head, now), self.lifetime(head)
        stale_s = age - lifetime
        youngest = seconds(request, "max-age")
        too_old = youngest is not None and (age > youngest or youngest == 0)
        # What never changes while it is fresh (RFC 8246) is as good as a younger one.
        if too_old and not ("immutable" in directives and stale_s < 0):
            return Use.REVALIDATE
        still = seconds(request, "min-fresh")
        if still is not None and still > -stale_s:
            return Use.REVALIDATE
        if stale_s < 0:
            return Use.FRESH
        if self._strict(directives):
            return Use.REVALIDATE
        if "max-stale" in request and (request["max-stale"] is None or stale_s <= (seconds(request, "max-stale") or 0)):
            return Use.FRESH
        window = seconds(directives, "stale-while-revalidate")
        return Use.WHILE_REVALIDATING if window is not None and stale_s <= window else Use.REVALIDATE

    def may_use_on_error(self, head: Head, request: Directives, now: float) -> bool:
        """Whether a stale answer may stand in for an error of the origin (RFC 5861, 4)."""
        directives = head.directives
        if self._strict(directives) or "no-cache" in directives or "no-cache" in request:
            return False
        windows = [seconds(directives, "stale-if-error"), seconds(request, "stale-if-error")]
        stale_s = self.age(head, now) - self.lifetime(head)
        return any(window is not None and stale_s <= window for window in windows)

    def is_stale(self, head: Head, now: float) -> bool:
        return self.age(head, now) >= self.lifetime(head)

    def keep_for(self, head: Head, now: float) -> float:
        """After how many seconds it is of no use any more, to bound the store: a week past its freshness."""
        windows = [seconds(head.directives, name) or 0 for name in ("stale-while-revalidate", "stale-if-error")]
        return max(0.0, self.lifetime(head) - self.age(head, now)) + max(604_800, *windows)

    def _strict(self, directives: Directives) -> bool:
        """Whether a stale answer may never be given out."""
        return "must-revalidate" in directives or (
            self.shared and bool(directives.keys() & {"proxy-revalidate", "s-maxage"})
        )


# Which of the kept answers a request selects (section 4.1).


def vary_key(answer: Pairs, request: Pairs) -> list[tuple[str, str]]:
    """The fields of the request that the answer depends on, in a normal form."""
    names = sorted(set(names_in(all_values(answer, "vary"))))
    return [(name, _normal(name, all_values(request, name))) for name in names]


def selects(vary: Sequence[tuple[str, str]], request: Pairs) -> bool:
    """Whether the request is the one that an answer with this `vary_key` was for."""
    return all(_normal(name, all_values(request, name)) == text for name, text in vary)


def _normal(name: str, values: Sequence[str]) -> str:
    if not values:
        return "\0"  # a field that is missing is not an empty one
    text = ",".join(part.strip() for value in values for part in value.split(","))
    return text.lower() if name in _FOLDED else text


# Asking whether it still holds (section 4.3).


def validators(headers: Pairs) -> list[tuple[str, str]]:
    """The conditions to send for a kept answer; empty where it has no validator."""
    found = [("If-None-Match", tag) for tag in all_values(headers, "etag")[:1]]
    modified = value(headers, "last-modified")
    if modified is not None and parse_date(modified) is not None:
        found.append(("If-Modified-Since", modified))
    return found


def not_modified(request: Pairs, head: Head) -> bool:
    """Whether the caller's own conditions hold for a fresh kept answer, so that a 304 answers them (4.3.2)."""
    wanted = all_values(request, "if-none-match")
    if wanted:
        tags = [tag for text in wanted for tag in _TAG.findall(text)]
        own = _TAG.findall(value(head.headers, "etag") or "")
        return "*" in tags or bool(own and own[0] in tags)
    since = parse_date(value(request, "if-modified-since"))
    modified = parse_date(value(head.headers, "last-modified"))
    return since is not None and (head.date if modified is None else modified) <= since


def confirms(answer: Pairs, stored: Pairs, *, asked_for_it: bool) -> bool:
    """Whether a 304 is about the kept answer: by its validators, or because its own were asked about (4.3.4)."""
    for name in ("etag", "last-modified"):
        came = value(answer, name)
        if came is not None:
            return came == value(stored, name)
    return asked_for_it


def head_confirms(answer: Pairs, stored: Pairs) -> bool:
    """Whether the answer to a HEAD shows that the kept one still holds: a validator that is the same (4.3.5)."""
    same = [value(answer, name) == value(stored, name) for name in ("etag", "last-modified") if value(answer, name)]
    length = value(answer, "content-length")
    return bool(same) and all(same) and length in {None, value(stored, "content-length")}


def freshened(stored: Pairs, answer: Pairs) -> list[tuple[str, str]]:
    """The kept fields, with those that came put in their place (3.2)."""
    came = [(name, text) for name, text in answer if name.lower() not in _BODY_FIELDS]
    replaced = {name.lower() for name, _ in came}
    # The old age belongs to the old answer.
    return [(name, text) for name, text in stored if name.lower() not in replaced | {"age"}] + came


def is_one_range(text: str) -> bool:
    """Whether a `Range` field asks for one byte range (RFC 9110, section 14.1.2)."""
    found = _RANGE.fullmatch(text.strip())
    return found is not None and not (found[1] and found[2] and int(found[1]) > int(found[2]))


def one_range(text: str, size: int) -> range | None:
    """The byte range that a `Range` field with one asks for, of a body of `size` bytes; None where it is beyond it.

    Example:
        >>> one_range("bytes=-3", 10), one_range("bytes=8-20", 10), one_range("bytes=10-", 10)
        (range(7, 10), range(8, 10), None)
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None or not is_one_range(text):
        return None
    first, last = found.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, stop = max(0, size - int(last)), size
    return range(start, stop) if start < stop else None
