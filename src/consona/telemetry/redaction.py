"""One rule set for what must never be kept: in headers, URLs, query strings, JSON bodies and text.

A name is secret when it contains one of `SECRET_NAMES`, whatever its case and whether its words are
joined by `-`, `_` or nothing (`X-Api-Key`, `apiKey`, `api_key`). `DEFAULT` is used everywhere; add
names of your own at start with `DEFAULT.add("iban")`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = ["DEFAULT", "MASK", "Redaction"]

MASK: Final = "***"

SECRET_NAMES: Final = (
    "authorization",
    "cookie",
    "apikey",
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "credential",
    "privatekey",
    "signature",
    "session",
)

_SCHEMES = re.compile(r"(?i)\b(bearer|basic|digest)\s+[A-Za-z0-9._~+/=-]{4,}")
_URL_SECRET = re.compile(r"(?i)(://[^\s/:@]*:)[^\s/@]+(@)")
_WORD = re.compile(r"[^a-z0-9]")


class Redaction:
    """What counts as secret, and how it is masked.

    Example:
        >>> rules = Redaction()
        >>> rules.headers({"Authorization": "Bearer abc", "Accept": "*/*"})
        {'Authorization': '***', 'Accept': '*/*'}
        >>> rules.url("https://ada:pw@example.org/?api_key=1&page=2")
        'https://ada:***@example.org/?api_key=***&page=2'
    """

    def __init__(self, names: Iterable[str] = SECRET_NAMES) -> None:
        self._names: tuple[str, ...] = ()
        self._known: dict[str, bool] = {}
        self.add(*names)

    def add(self, *names: str) -> None:
        """Make further names secret, here and wherever this rule set is used."""
        self._names = tuple(dict.fromkeys([*self._names, *(_WORD.sub("", name.lower()) for name in names)]))
        self._known.clear()

    def is_secret(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            plain = _WORD.sub("", name.lower())
            known = any(secret in plain for secret in self._names)
            if len(self._known) < 1000:  # strangers choose names, so the memory of them is bounded
                self._known[name] = known
        return known

    def headers(self, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        return {name: MASK if self.is_secret(name) else value for name, value in pairs}

    def query(self, query: str) -> str:
        if not query:
            return query
        pairs = parse_qsl(query, keep_blank_values=True)
        return urlencode([(n, MASK if self.is_secret(n) else v) for n, v in pairs], safe="*")

    def url(self, url: str) -> str:
        try:
            parts = urlsplit(url)
        except ValueError:
            return MASK
        netloc = parts.netloc
        if "@" in netloc:
            credentials, _, host = netloc.rpartition("@")
            user, colon, _ = credentials.partition(":")
            netloc = f"{user}{colon}{MASK if colon else ''}@{host}"
        return urlunsplit((parts.scheme, netloc, parts.path, self.query(parts.query), ""))

    def data(self, value: Any, *, _depth: int = 0) -> Any:
        """A copy of decoded JSON in which the value of each secret name is masked."""
        if _depth > 50:
            return MASK  # deeper than any honest body; nothing of it is shown
        if isinstance(value, Mapping):
            return {
                name: MASK if isinstance(name, str) and self.is_secret(name) else self.data(item, _depth=_depth + 1)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.data(item, _depth=_depth + 1) for item in value]
        if isinstance(value, str):
            return self.text(value)
        return value

    def text(self, text: str) -> str:
        """Free text with credentials in it (`Bearer …`, `://user:password@`) masked."""
        if "://" in text:
            text = _URL_SECRET.sub(rf"\1{MASK}\2", text)
        return _SCHEMES.sub(lambda found: f"{found[1]} {MASK}", text)


DEFAULT: Final = Redaction()
