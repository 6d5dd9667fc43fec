"""What a token says, checked.

Source: RFC 7519 (JSON Web Token), section 4.1; RFC 9068 (`scope`, `roles`, the type `at+jwt`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from consona.auth.errors import TokenInvalid

__all__ = ["RESERVED", "Claims", "read_claims"]

RESERVED: Final = frozenset({"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "roles", "scope", "sid", "ver"})
"""What Consona writes into a token; a program's own claims have other names."""

MAX_SUBJECT: Final = 255
LAST_TIME: Final = 2.0**43
"""Seconds since the epoch beyond which a time is nonsense (some 280,000 years), and no longer exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says. It cannot be changed, since the next caller may get the same one."""

    subject: str
    """Whose it is: the account's id (`sub`)."""
    id: str
    """The token's own (`jti`)."""
    issuer: str
    audience: tuple[str, ...]
    issued_at: float
    """Seconds since the epoch, as all times here."""
    not_before: float
    expires_at: float
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    session: str = ""
    """The session that it belongs to (`sid`); empty where there is none."""
    version: int = 0
    """How many changes that end older tokens its account had seen (`ver`)."""
    _payload: bytes = field(default=b"{}", repr=False)

    @property
    def all(self) -> dict[str, Any]:
        """Everything that the token says, a program's own claims among it; decoded anew each time."""
        decoded: dict[str, Any] = msgspec.json.decode(self._payload)
        return decoded

    def get(self, name: str, default: Any = None) -> Any:
        """One claim by its name on the wire."""
        return self.all.get(name, default)


def read_claims(payload: dict[str, Any], raw: bytes) -> Claims:
    """The claims of a token whose signature is right.

    Args:
        payload: The decoded payload.
        raw: The same, as bytes.

    Raises:
        TokenInvalid: One that must be there is missing, or one is of another kind.
    """
    issued = _time(payload, "iat")
    return Claims(
        subject=_text(payload, "sub"),
        id=_text(payload, "jti"),
        issuer=_text(payload, "iss"),
        audience=_audience(payload.get("aud")),
        issued_at=issued,
        not_before=_time(payload, "nbf") if "nbf" in payload else issued,
        expires_at=_time(payload, "exp"),
        roles=_words(payload, "roles"),
        scopes=_scopes(payload.get("scope", "")),
        session=_text(payload, "sid") if "sid" in payload else "",
        version=_version(payload.get("ver", 0)),
        _payload=raw,
    )


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SUBJECT:
        raise TokenInvalid(f"The token's `{name}` is missing, or is no text of 1 to {MAX_SUBJECT} characters.")
    return value


def _time(payload: dict[str, Any], name: str) -> float:
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenInvalid(f"The token's `{name}` is missing, or is no number of seconds.")
    # Compared before it is made a float, which a number of a thousand digits cannot be.
    if not 0 <= value <= LAST_TIME or math.isnan(value):
        raise TokenInvalid(f"The token's `{name}` is no time.")
    return float(value)


def _audience(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(each, str) and each for each in values):
        raise TokenInvalid("The token's `aud` is missing, or names nobody.")
    return tuple(values)


def _words(payload: dict[str, Any], name: str) -> frozenset[str]:
    values = payload.get(name, [])
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise TokenInvalid(f"The token's `{name}` is not a list of names.")
    return frozenset(values)


def _scopes(value: Any) -> frozenset[str]:
    if not isinstance(value, str):
        raise TokenInvalid("The token's `scope` is not a text of names.")
    return frozenset(value.split())


def _version(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise TokenInvalid("The token's `ver` is not a count.")
    return value
