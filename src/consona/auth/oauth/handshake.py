"""What is kept between the question to another service and its answer: in the browser that asked, sealed.

So an answer counts in the browser that asked, once within ten minutes, and nobody can read or make such a note.

Source: RFC 7636 (PKCE), RFC 6749 section 10.12 (state), OpenID Connect Core section 3.1.2.1 (nonce), RFC 9700.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consona.auth.errors import SignInRefused
from consona.auth.jws import decode, encode

__all__ = ["Handshake", "Seal", "challenge_of"]

LIFE_S: Final = 600.0


class Handshake(msgspec.Struct):
    """One question, and what its answer must fit."""

    provider: str
    redirect_uri: str
    state: str
    verifier: str
    """Of PKCE: who has the code alone cannot exchange it."""
    nonce: str
    expires_at: float
    next: str = "/"
    """Where in this application the browser goes afterwards."""
    account: str = ""
    """Whose account it is to be linked with; empty for signing in."""

    @classmethod
    def new(cls, provider: str, redirect_uri: str, *, now: float, next: str = "/", account: str = "") -> Handshake:  # noqa: A002 the field
        """A new one, of fresh random values (43 characters each, 256 bits)."""
        state, verifier, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(provider, redirect_uri, state, verifier, nonce, now + LIFE_S, next, account)


def challenge_of(verifier: str) -> str:
    """What is sent of the verifier before (`S256`).

    Example:
        >>> challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")  # RFC 7636, appendix B
        'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    return encode(hashlib.sha256(verifier.encode("ascii")).digest())


class Seal:
    """Encrypts what is kept elsewhere, so that nobody can read or change it (AES-256-GCM)."""

    def __init__(self, secret: Callable[[], bytes], *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def close(self, data: bytes, purpose: str) -> str:
        """The data, encrypted, as text. It opens for the same purpose only."""
        nonce = secrets.token_bytes(12)
        return encode(nonce + AESGCM(self._secret()).encrypt(nonce, data, purpose.encode()))

    def open(self, text: str, purpose: str) -> bytes:
        """What was sealed.

        Raises:
            ValueError: It was sealed elsewhere, for something else, or changed.
        """
        raw = decode(text)
        try:
            return AESGCM(self._secret()).decrypt(raw[:12], raw[12:], purpose.encode())
        except InvalidTag:
            raise ValueError("not sealed by us") from None

    def close_handshake(self, handshake: Handshake) -> str:
        return self.close(msgspec.json.encode(handshake), "handshake")

    def open_handshake(self, text: str) -> Handshake:
        """A handshake whose time is not over.

        Raises:
            SignInRefused: It is none, or too old.
        """
        try:
            handshake = msgspec.json.decode(self.open(text, "handshake"), type=Handshake)
        except (ValueError, msgspec.DecodeError):
            raise SignInRefused("This browser did not begin to sign in here, or did so long ago.") from None
        if handshake.expires_at < self._clock():
            raise SignInRefused("Signing in took too long.")
        return handshake
