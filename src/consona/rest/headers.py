"""The headers of a request or an answer of the server: names in any case, several values each.

They are kept as ASGI has them, pairs of bytes, and are read only when they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

from consona.errors import ConfigurationError

__all__ = ["Headers", "RawHeaders", "encode_header", "vary_on"]

RawHeaders = list[tuple[bytes, bytes]]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def encode_header(name: str, value: str) -> tuple[bytes, bytes]:
    """A pair as ASGI wants it.

    Raises:
        ConfigurationError: The name is no token, or the value holds a line break or another control
            character (which would let who chose it write headers of their own), or a character that
            HTTP headers cannot carry.

    Source: RFC 9110, sections 5.1 and 5.5.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} cannot be the name of a header.")
    if _BAD_VALUE.search(value):
        raise ConfigurationError(f"The value of the header {name} holds a control character.")
    try:
        return name.lower().encode("ascii"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"The value of the header {name} holds a character that a header cannot carry.",
            hint="Percent-encode it first: urllib.parse.quote(value).",
        ) from None


class Headers(MutableMapping[str, str]):
    """A view on pairs of bytes: what is changed here is changed there.

    Example:
        >>> headers = Headers([(b"accept", b"text/html"), (b"accept", b"*/*")])
        >>> headers["Accept"], headers.all("accept")
        ('text/html', ['text/html', '*/*'])
        >>> headers["X-Answer"] = "42"
        >>> headers.raw[-1]
        (b'x-answer', b'42')
    """

    __slots__ = ("_index", "raw")

    def __init__(self, raw: RawHeaders | None = None, index: dict[bytes, bytes] | None = None) -> None:
        self.raw: RawHeaders = [] if raw is None else raw
        self._index = index
        """Somebody's dict of the same pairs, which is kept equal."""

    @classmethod
    def of(cls, headers: Mapping[str, str] | None) -> Headers:
        """New headers from a plain mapping."""
        return cls([encode_header(name, value) for name, value in (headers or {}).items()])

    def all(self, name: str) -> list[str]:
        """Every value of that name, in order."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def add(self, name: str, value: str) -> None:
        """Add a value and keep those that are there (`Set-Cookie`, `Link`, `Vary`)."""
        self.raw.append(encode_header(name, value))
        self._changed()

    def _changed(self) -> None:
        if self._index is not None:
            self._index.clear()
            self._index.update(self.raw)

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1", "replace")
        for key, value in self.raw:
            if key == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        pair = encode_header(name, value)
        self.raw[:] = [kept for kept in self.raw if kept[0] != pair[0]]
        self.raw.append(pair)
        self._changed()

    def __delitem__(self, name: str) -> None:
        wanted = name.lower().encode("latin-1", "replace")
        kept = [pair for pair in self.raw if pair[0] != wanted]
        if len(kept) == len(self.raw):
            raise KeyError(name)
        self.raw[:] = kept
        self._changed()

    def __contains__(self, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        wanted = name.lower().encode("latin-1", "replace")
        return any(key == wanted for key, _ in self.raw)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.decode("latin-1") for key, _ in self.raw))

    def __len__(self) -> int:
        return len({key for key, _ in self.raw})

    def __repr__(self) -> str:
        return f"Headers({[key.decode('latin-1') for key, _ in self.raw]})"  # names only: values may be secrets


def vary_on(headers: Headers, name: str) -> None:
    """Say that the answer depends on a header of the request, beside those that it names already.

    Source: RFC 9110, section 12.5.5.

    Example:
        >>> headers = Headers([(b"vary", b"accept")])
        >>> vary_on(headers, "origin")
        >>> headers["vary"]
        'accept, origin'
    """
    named = [item.strip().lower() for value in headers.all("vary") for item in value.split(",") if item.strip()]
    if "*" not in named and name not in named:
        headers["vary"] = ", ".join([*named, name])
