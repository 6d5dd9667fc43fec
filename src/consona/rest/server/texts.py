"""What arrives as text (path, query, headers, cookies), made into the declared types in one step."""

from __future__ import annotations

import copy
import decimal
import functools
from collections.abc import Callable
from typing import Any, Final, get_args
from urllib.parse import unquote_to_bytes

import msgspec

from consona.rest.server.parameters import Parameter

__all__ = ["REPEATED", "codec_of", "finite", "holds_decimal", "query_reader", "texts_struct"]


def texts_struct(texts: list[Parameter]) -> type[msgspec.Struct]:
    """One Struct of everything that arrives as text, so that it is checked in one call."""
    required = [(f"p{i}", p.type) for i, p in enumerate(texts) if p.required]
    optional = [
        (f"p{i}", p.type, msgspec.field(default_factory=functools.partial(copy.copy, p.default)))
        if isinstance(p.default, list | dict | set)
        else (f"p{i}", p.type, p.default)
        for i, p in enumerate(texts)
        if not p.required
    ]
    return msgspec.defstruct("Texts", [*required, *optional], kw_only=True)


def query_reader(wanted: dict[str, tuple[str, bool]]) -> Callable[[bytes, dict[str, Any]], None]:
    """A reader of query strings that takes what is wanted: name -> (key to store it under, whether it repeats)."""
    names: dict[bytes, tuple[str, bool]] = {name.encode(): place for name, place in wanted.items()}
    get = names.get

    def read_query(query: bytes, raw: dict[str, Any]) -> None:
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            place = get(name) or get(_unquoted(name))
            if place is None:
                continue
            key, many = place
            text = (_unquoted(value) if b"%" in value or b"+" in value else value).decode()
            if many:
                raw.setdefault(key, []).append(text)
            elif key in raw:
                raise msgspec.ValidationError(REPEATED)
            else:
                raw[key] = text

    return read_query


def holds_decimal(declared: Any) -> bool:
    return declared is decimal.Decimal or any(holds_decimal(member) for member in get_args(declared))


def finite(value: Any) -> None:
    """Refuse `NaN` and `Infinity`, which are decimals to Python, and numbers to nobody.

    Raises:
        msgspec.ValidationError: It is one of them, or holds one.
    """
    members = value if isinstance(value, list | tuple | set | frozenset) else [value]
    if any(isinstance(member, decimal.Decimal) and not member.is_finite() for member in members):
        raise msgspec.ValidationError("Expected a finite number")


def codec_of(header: str) -> str:
    """How a header is read: the one that browsers write in UTF-8 (WHATWG HTML, section 9.2.4) as such."""
    return "utf-8" if header == "last-event-id" else "latin-1"


REPEATED: Final = "given more than once"


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
