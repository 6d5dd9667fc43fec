"""Signed tokens as text: `header.payload.signature`, each in base64url. Read strictly, before anything is believed.

What RFC 7515 lets a reader choose is chosen closed: a name given twice, a critical extension (none is known here),
text that is not in its one form, numbers that JSON does not have, and whatever is too long are refused.

Source: RFC 7515 (JSON Web Signature), RFC 8725 (best current practices).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Never

from consona.auth.errors import TokenInvalid

__all__ = ["MAX_TOKEN_BYTES", "Compact", "decode", "encode", "read_compact", "read_object"]

MAX_TOKEN_BYTES: Final = 8192
"""The longest token that is looked at. Servers refuse header lines that are longer."""

_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Compact:
    """A token, taken apart. Nothing of it is proven yet."""

    header: dict[str, Any]
    payload: bytes
    signed: bytes
    """What the signature is made of: header and payload as they were written."""
    signature: bytes

    @property
    def algorithm(self) -> Any:
        """What the token says of itself; the key decides whether that counts."""
        return self.header.get("alg")

    @property
    def key_id(self) -> Any:
        return self.header.get("kid")


def read_compact(token: str, *, max_bytes: int = MAX_TOKEN_BYTES) -> Compact:
    """Take a token apart.

    Raises:
        TokenInvalid: It is not in that form, longer than `max_bytes`, or demands an extension.

    Example:
        >>> read_compact("eyJhbGciOiJIUzI1NiJ9.e30.AA").header
        {'alg': 'HS256'}
    """
    if len(token) > max_bytes:
        raise TokenInvalid(f"The token has {len(token)} characters; at most {max_bytes} are looked at.")
    shape = _SHAPE.fullmatch(token)
    if shape is None:
        raise TokenInvalid("This is not a signed token: three parts of base64url, separated by full stops.")
    try:
        written, payload, signature = (decode(part) for part in shape.groups())
    except ValueError:
        raise TokenInvalid("A part of the token is not base64url in its one form.") from None
    header = read_object(written, "header")
    if "crit" in header:  # RFC 7515, section 4.1.11: what is critical and not understood must be refused
        raise TokenInvalid("The token demands an extension (`crit`), and none is known here.")
    return Compact(header, payload, token[: shape.end(2)].encode("ascii"), signature)


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """Decode a JSON object in which each name stands once.

    Raises:
        TokenInvalid: It is something else; `what` names it in the message.
    """
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise TokenInvalid(f"The token's {what} is not JSON, or says something twice.") from None
    if not isinstance(value, dict):
        raise TokenInvalid(f"The token's {what} is not a JSON object.")
    return value


def encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of base64url without padding, where it is written in the one way that they have.

    Raises:
        ValueError: It is not.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:  # bits beyond the last byte would make several texts of one token
        raise ValueError
    return data


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _refuse(_constant: str) -> Never:
    raise ValueError


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_each_name_once, parse_constant=_refuse)  # made once: it is slow
