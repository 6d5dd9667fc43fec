"""Where a request goes: paths are resolved against the client's base, and cannot leave it by accident.

With the base `https://api.example.com/v1`, `/users/me` is `https://api.example.com/v1/users/me`, with
or without its first slash. A path may hold a query. `..` in a path is refused, since it comes from an
id that was put there unchecked; an absolute URL is taken as it is, and gets no credentials unless it
is of the base's origin.

Source: RFC 3986; WHATWG URL (special schemes).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from enum import Enum
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from consona.errors import ConfigurationError
from consona.rest.client.errors import BadAnswer

__all__ = ["Base", "Params", "Place", "encode_params", "flat"]

Params = Mapping[str, Any] | Iterable[tuple[str, Any]]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
PATH_SAFE: Final = "/%:@!$&'()*+,;=~"
QUERY_SAFE: Final = PATH_SAFE + "?"
MAX_CACHED: Final = 1000

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ID = re.compile(
    r"\d+|[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=.*\d)[\w-]{20,}|.*(@|%40).*"
)


class Place(NamedTuple):
    """Where one request goes."""

    url: str
    """Absolute and percent-encoded, without a fragment."""
    origin: str
    """`https://api.example.com`, with the port where it is not the scheme's own."""
    own: bool
    """Whether it is of the base's origin, so that credentials may go with it."""
    target: str
    """What stands in figures and history: the path with its ids collapsed (`/users/{id}`), and the host
    before it where that is not the base's."""


class Base:
    """The address that a client's paths are resolved against.

    Raises:
        ConfigurationError: It is no http:// or https:// URL, or holds credentials, a query or a fragment.

    Example:
        >>> base = Base("https://api.example.com/v1")
        >>> base.place("/users/7?full=1")[0]
        'https://api.example.com/v1/users/7?full=1'
        >>> base.place("/users/7").target
        '/v1/users/{id}'
    """

    def __init__(self, url: str) -> None:
        parts = _split(url, "The base")
        if parts.query or parts.fragment:
            raise ConfigurationError(
                f"The base of a client has no query and no fragment: {_origin(parts)}{parts.path}.",
                hint="Give parameters with each call: `params=`.",
            )
        self.origin = _origin(parts)
        self.path = _encode(parts.path.rstrip("/"), PATH_SAFE)
        self.host = self.origin.partition("://")[2]
        self.name = parts.hostname or ""
        self._places: dict[str, Place] = {}

    def place(self, path: str) -> Place:
        """Resolve a path or an absolute URL.

        Raises:
            ConfigurationError: It climbs with `..`, or is an absolute URL that is not http:// or https://.
        """
        place = self._places.get(path)
        if place is None:
            place = self._absolute(path) if _ABSOLUTE.match(path) else self._relative(path)
            if len(self._places) >= MAX_CACHED:
                self._places.clear()
            self._places[path] = place
        return place

    def follow(self, here: str, link: str) -> Place:
        """Resolve a link that a server gave with the answer from `here`, by the rules of RFC 3986.

        Raises:
            BadAnswer: It is not http:// or https://, or cannot be read.
        """
        try:
            return self._absolute(urljoin(here, link.strip()))
        except (ValueError, ConfigurationError) as error:
            why = error.args[0] if isinstance(error, ConfigurationError) else f"It cannot be read: {error}."
            raise BadAnswer(f"The server's link leads nowhere. {why}") from None

    def _relative(self, path: str) -> Place:
        path, _, query = path.partition("#")[0].partition("?")
        for segment in path.split("/"):
            if unquote(segment) in {".", ".."} or "/../" in f"/{unquote(unquote(segment))}/":
                raise ConfigurationError(
                    f"The path {path!r} holds {segment!r}, which would lead out of where it seems to go.",
                    hint="Encode what you put into a path: urllib.parse.quote(value, safe='').",
                )
        full = self.path
        if path:
            full += "/" + _encode(path.removeprefix("/"), PATH_SAFE)
        full = full or "/"
        tail = "?" + _encode(query, QUERY_SAFE) if query else ""
        return Place(self.origin + full + tail, self.origin, own=True, target=collapse(full))

    def _absolute(self, url: str) -> Place:
        parts = _split(url, "The URL")
        origin = _origin(parts)
        path = _encode(parts.path, PATH_SAFE) or "/"
        tail = "?" + _encode(parts.query, QUERY_SAFE) if parts.query else ""
        own = origin == self.origin
        target = collapse(path)
        return Place(
            origin + path + tail, origin, own=own, target=target if own else origin.partition("://")[2] + target
        )


def collapse(path: str) -> str:
    """The path with what looks like an id replaced, so that figures are kept for routes, not for each id.

    Numbers, UUIDs, long hexadecimal and random words, and e-mail addresses count as ids.

    Example:
        >>> collapse("/users/7/posts/0b8e7a3e-7c7c-4d0e-9d39-3a6b0c1d2e3f")
        '/users/{id}/posts/{id}'
    """
    return "/".join("{id}" if segment and _ID.fullmatch(segment) else segment for segment in path.split("/"))


def encode_params(params: Params) -> str:
    """A query string: lists repeat their name, None is left out, truth is `true` or `false`.

    Example:
        >>> encode_params({"tag": ["a", "b c"], "draft": False, "page": None})
        'tag=a&tag=b%20c&draft=false'
    """
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in flat(params)])


def flat(params: Params) -> Iterator[tuple[str, str]]:
    """Each parameter as a name and a text: lists repeat their name, None is left out, truth is `true` or `false`."""
    for name, value in params.items() if isinstance(params, Mapping) else params:
        if type(value) is str or type(value) is int:  # by far the most
            yield name, str(value)
            continue
        for item in value if isinstance(value, list | tuple | set | frozenset) else (value,):
            if item is not None:
                yield name, _as_text(name, item)


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, Enum):
        return _as_text(name, value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, str | int | float):
        return str(value)
    kind: Any = type(value)
    if kind is bytes or kind.__str__ is object.__str__:  # what Python shows of it is not its value
        raise ConfigurationError(
            f"The parameter {name!r} is a {kind.__name__}, which has no form in a query or a form.",
            hint="Text, numbers, dates, UUIDs, and lists of those. Write anything else as text first.",
        )
    return str(value)


@functools.lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return quote(text, safe="")


def with_params(url: str, params: Params | None) -> str:
    """The URL with further parameters behind those that it has."""
    query = encode_params(params) if params else ""
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _split(url: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{what} cannot be read: {error}.") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise ConfigurationError(
            f"{what} is no http:// or https:// URL with a host (its scheme is {parts.scheme!r}).",
            hint="Write it in full: https://api.example.com/v1.",
        )
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{what} holds a user name or password, which would be seen wherever the URL is.",
            hint="Give them apart: `auth=Basic(username, password)`.",
        )
    return parts


def _origin(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    elif not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ConfigurationError(f"The host {host!r} is no name that can be looked up.") from None
    elif not re.fullmatch(r"[a-z0-9._~-]+", host):
        raise ConfigurationError(f"The host {host!r} is no name that can be looked up.")
    port = parts.port
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != DEFAULT_PORTS[parts.scheme] else "")


def _encode(text: str, safe: str) -> str:
    return _STRAY_PERCENT.sub("%25", quote(text, safe=safe))
