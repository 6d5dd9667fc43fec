"""The keys of one issuer: the one that signs now, those that come, and those whose tokens still count."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from joserfc.jwk import OctKey

from consona.auth.jws import decode, encode
from consona.auth.keys import DEFAULT_ALGORITHM, SigningKey
from consona.errors import ConfigurationError

__all__ = ["KeyRing"]

FORMAT: Final = 1
"""Of the file. A file of a later format is refused, and says so."""
MAX_KEYS: Final = 50


@dataclass(frozen=True, slots=True, eq=False)
class KeyRing:
    """Keys by their ids. Never changed: a rotation gives a new ring.

    Written down, a ring is a JSON Web Key Set (RFC 7517) with two more members for each key, `signs_from` and
    `verifies_until`, so that any other program can read it too.

    Example:
        >>> ring = KeyRing.of([SigningKey.generate()])
        >>> [key["alg"] for key in ring.jwks(now=0.0)["keys"]]
        ['EdDSA']
    """

    keys: dict[str, SigningKey]
    secret: bytes = b""
    """What other secrets are made from (refresh tokens, what is encrypted at rest): it stays when keys change."""

    @classmethod
    def of(cls, keys: Iterable[SigningKey], *, secret: bytes = b"") -> Self:
        """A ring of these keys.

        Args:
            keys: One or more.
            secret: 32 bytes or more; by default made from the private half of the first key.

        Raises:
            ConfigurationError: There is none, too many, or two of one id.
        """
        given = list(keys)
        found = {key.id: key for key in given}
        if not found or len(given) > MAX_KEYS:
            raise ConfigurationError(f"Tokens need 1 to {MAX_KEYS} keys; here are {len(given)}.")
        if len(found) != len(given):
            raise ConfigurationError("Two keys have the same id.", hint="Give each key an id of its own.")
        return cls(found, secret or _derived(given[0]))

    @classmethod
    def from_jwks(cls, document: Any) -> Self:
        """Read a written ring, or any other JSON Web Key Set.

        Raises:
            ConfigurationError: It is something else, of a later format, or a key in it is not good.
        """
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ConfigurationError('Keys are written as a JSON Web Key Set: {"keys": [...]}.')
        version = document.get("version", FORMAT)
        if version != FORMAT:
            raise ConfigurationError(
                f"These keys are written in format {version}; this version of Consona reads {FORMAT}.",
                hint="Update Consona, or go back to the file that it wrote.",
            )
        if not all(isinstance(each, dict) for each in document["keys"]):
            raise ConfigurationError("A key in a JSON Web Key Set is an object.")
        return cls.of((SigningKey.from_jwk(each) for each in document["keys"]), secret=_read(document.get("secret")))

    def written(self) -> dict[str, Any]:
        """The ring with its private halves, for a file that nobody else reads."""
        return {
            "version": FORMAT,
            "secret": encode(self.secret),
            "keys": [key.jwk(private=True) for key in self.keys.values()],
        }

    def jwks(self, *, now: float) -> dict[str, Any]:
        """The public halves of all keys whose tokens count, or will: the document that verifiers fetch."""
        return {
            "keys": [
                key.jwk() for key in self.keys.values() if now <= key.verifies_until and not isinstance(key.key, OctKey)
            ]
        }

    def signing(self, now: float) -> SigningKey:
        """The key that signs now: of those that may, the one that began last.

        Raises:
            ConfigurationError: None of them may.
        """
        able = [key for key in self.keys.values() if key.can_sign and key.signs_from <= now < key.verifies_until]
        if not able:
            raise ConfigurationError(
                "None of the keys signs at this time.", hint="Make a new one: consona keys rotate. Check the clock."
            )
        return max(able, key=lambda key: key.signs_from)

    def find(self, key_id: Any, now: float) -> SigningKey | None:
        """The key of this id, if what it signed still counts."""
        key = self.keys.get(key_id) if isinstance(key_id, str) else None
        return key if key is not None and now <= key.verifies_until else None

    def rotated(self, *, now: float, lead: float, keep: float, algorithm: str = "") -> KeyRing:
        """With one more key, which signs after `lead` seconds; what the others signed counts `keep` seconds longer.

        Keys whose time is over are left out.

        Args:
            now: Seconds since the epoch.
            lead: Seconds in which everybody who verifies hears of the new key.
            keep: The longest life of a token, in seconds.
            algorithm: Of the new key; by default that of the one that signs now.
        """
        begin = now + lead
        kept = [key for key in self.keys.values() if now <= key.verifies_until]
        before = [replace(key, verifies_until=begin + keep) if key.verifies_until == math.inf else key for key in kept]
        if not algorithm:
            signing = [key for key in kept if key.can_sign]
            algorithm = max(signing, key=lambda key: key.signs_from).algorithm if signing else DEFAULT_ALGORITHM
        return KeyRing.of([*before, SigningKey.generate(algorithm, signs_from=begin)], secret=self.secret)

    def without(self, key_id: str) -> KeyRing:
        """Without one key, at once: it became known to somebody. Its tokens do not count from now on.

        Raises:
            ConfigurationError: There is no such key, or no other one.
        """
        if key_id not in self.keys:
            raise ConfigurationError(f"There is no key {key_id!r}.")
        return KeyRing.of((key for key in self.keys.values() if key.id != key_id), secret=self.secret)


def _derived(key: SigningKey) -> bytes:
    """A secret for keys that came without one; nothing where only public halves are here."""
    if not key.can_sign:
        return b""
    private = json.dumps(key.key.as_dict(private=True), sort_keys=True).encode()
    return hashlib.blake2b(private, person=b"consona secret").digest()


def _read(text: Any) -> bytes:
    if text is None:
        return b""
    try:
        secret = decode(text)
    except (ValueError, TypeError):
        secret = b""
    if len(secret) < 32:
        raise ConfigurationError("The secret beside the keys is not base64url of 32 bytes or more.")
    return secret
