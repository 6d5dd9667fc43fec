"""Webhook keys in pairs: who has `whsk_…` signs, who has `whpk_…` can only verify.

Source: RFC 8032 (Ed25519), by the package cryptography.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consona.errors import ConfigurationError
from consona.rest.webhooks.signing import Key

__all__ = ["PrivateKey", "PublicKey", "new_key_pair", "read"]


class PublicKey:
    """Tells whether a signature is right."""

    version = "v1a"

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def sign(self, _content: bytes) -> bytes:
        raise ConfigurationError("A whpk_ key can only verify.", hint="Sign with its other half, whsk_….")

    def fits(self, content: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return "PublicKey(whpk_…)"


class PrivateKey:
    """Signs."""

    version = "v1a"

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = PublicKey(key.public_key())

    def sign(self, content: bytes) -> bytes:
        return self._key.sign(content)

    def fits(self, content: bytes, signature: bytes) -> bool:
        return self._public.fits(content, signature)

    def __repr__(self) -> str:
        return "PrivateKey(***)"


def new_key_pair() -> tuple[str, str]:
    """A new pair: the key that signs (`whsk_…`, keep it), and the one that verifies (`whpk_…`, give it away).

    Example:
        >>> private, public = new_key_pair()
        >>> private[:5], public[:5]
        ('whsk_', 'whpk_')
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    # Seed and public half together, as other implementations write it (libsodium's form).
    whole = key.private_bytes_raw() + public
    return "whsk_" + base64.b64encode(whole).decode("ascii"), "whpk_" + base64.b64encode(public).decode("ascii")


def read(kind: str, raw: bytes, number: int) -> Key:
    """The key of a decoded secret. `kind` is `whsk` (32 bytes of seed, or those and the public half) or `whpk`."""
    if kind == "whpk" and len(raw) == 32:
        return PublicKey(Ed25519PublicKey.from_public_bytes(raw))
    if kind == "whsk" and len(raw) in {32, 64}:
        key = Ed25519PrivateKey.from_private_bytes(raw[:32])
        if len(raw) == 64 and key.public_key().public_bytes_raw() != raw[32:]:
            raise ConfigurationError(f"Webhook secret {number}: its two halves do not belong together.")
        return PrivateKey(key)
    raise ConfigurationError(
        f"Webhook secret {number} has {len(raw)} bytes; {kind}_ wants {'32' if kind == 'whpk' else '32 or 64'}."
    )
