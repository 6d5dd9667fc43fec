"""The cookies of one origin. A client takes them from its base's origin and gives them to no other.

So neither `Domain` nor `SameSite` matters here; `Path`, `Secure`, `Expires` and `Max-Age` do.

Source: RFC 6265, section 5.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

__all__ = ["CookieJar"]

MAX_COOKIES: Final = 50
MAX_COOKIE_BYTES: Final = 4096


class Cookie(NamedTuple):
    value: str
    expires: float | None
    secure: bool


class CookieJar:
    """Cookies by name and path; the oldest give way beyond 50.

    Example:
        >>> jar = CookieJar(clock=lambda: 0.0)
        >>> jar.take("https://api.example.com/v1/login", "sid=31d4; Path=/v1; Max-Age=60; Secure; HttpOnly")
        >>> jar.header("https://api.example.com/v1/users"), jar.header("https://api.example.com/other")
        ('sid=31d4', '')
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._cookies: dict[tuple[str, str], Cookie] = {}

    def __len__(self) -> int:
        return len(self._cookies)

    def clear(self) -> None:
        self._cookies.clear()

    def take(self, url: str, set_cookie: str) -> None:
        """Keep what a `Set-Cookie` header of the answer from `url` says. One that cannot be read is dropped."""
        pair, *attributes = set_cookie.split(";")
        name, separator, value = pair.partition("=")
        name, value = name.strip(), value.strip()
        if not name or not separator or len(name) + len(value) > MAX_COOKIE_BYTES or not (name + value).isprintable():
            return
        path, expires, secure = "", None, False
        for attribute in attributes:
            key, _, given = attribute.partition("=")
            key, given = key.strip().lower(), given.strip()
            if key == "path" and given.startswith("/"):
                path = given
            elif key == "secure":
                secure = True
            elif key == "max-age" and given.removeprefix("-").isdecimal():
                expires = self._clock() + min(int(given), 400 * 86400)
            elif key == "expires" and expires is None:
                expires = _date(given)
        key_ = (name, path or _default_path(urlsplit(url).path))
        self._cookies.pop(key_, None)
        if expires is None or expires > self._clock():
            self._cookies[key_] = Cookie(value, expires, secure)
        while len(self._cookies) > MAX_COOKIES:
            del self._cookies[next(iter(self._cookies))]

    def header(self, url: str) -> str:
        """The `Cookie` header for a request to `url`; empty where there is none."""
        if not self._cookies:
            return ""
        scheme, _, path, _, _ = urlsplit(url)
        now = self._clock()
        for key in [
            key for key, cookie in self._cookies.items() if cookie.expires is not None and cookie.expires <= now
        ]:
            del self._cookies[key]
        fitting = [
            (len(where), name, cookie.value)
            for (name, where), cookie in self._cookies.items()
            if _under(path or "/", where) and (scheme == "https" or not cookie.secure)
        ]
        fitting.sort(key=lambda found: -found[0])  # longer paths first, else in the order of their coming
        return "; ".join(f"{name}={value}" for _, name, value in fitting)


def _under(path: str, where: str) -> bool:
    return path == where or (path.startswith(where) and (where.endswith("/") or path[len(where)] == "/"))


def _default_path(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text.replace("-", " ")).timestamp()
    except (ValueError, OverflowError):
        return None
