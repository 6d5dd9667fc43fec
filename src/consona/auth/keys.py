"""Keys that sign tokens, and tell whether a signature is right. One key has one algorithm, whatever a token says.

The cryptography is joserfc's and, below it, that of the package cryptography.

Source: RFC 7517 (JSON Web Key), RFC 7518 (algorithms), RFC 8037 (EdDSA), RFC 8725, section 3.1.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from consona.auth.jws import decode, encode
from consona.errors import ConfigurationError

__all__ = ["ALGORITHMS", "DEFAULT_ALGORITHM", "MIN_SECRET_BYTES", "Algorithm", "SigningKey", "named"]

DEFAULT_ALGORITHM: Final = "EdDSA"
MIN_SECRET_BYTES: Final = 32
"""Of a shared secret (HS256): as long as its hash (RFC 7518, section 3.2)."""
MIN_RSA_BITS: Final = 2048

PUBLISHED: Final = frozenset({"your-super-secret-key-change-in-production", "your-256-bit-secret-that-is-32-bytes"})
"""Secrets that stand in books. Whoever can read can sign with them."""


_HOW_TO_MAKE_ONE: Final = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'."


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A way to sign, and the one kind of key that is for it."""

    name: str
    make: Callable[[], Key]
    fits: Callable[[Key], bool]

    @property
    def model(self) -> Any:
        """What signs and verifies: `sign(data, key)`, `verify(data, signature, key)`, `check_key(key)`."""
        return JWSRegistry.algorithms[self.name]


def _is_rsa(key: Key) -> bool:
    return isinstance(key, RSAKey)


ALGORITHMS: Final[dict[str, Algorithm]] = {
    each.name: each
    for each in (
        Algorithm(
            "EdDSA",
            lambda: OKPKey.generate_key("Ed25519"),
            lambda key: isinstance(key, OKPKey) and key.curve_name == "Ed25519",
        ),
        Algorithm(
            "ES256",
            lambda: ECKey.generate_key("P-256"),
            lambda key: isinstance(key, ECKey) and key.curve_name == "P-256",
        ),
        Algorithm("RS256", lambda: RSAKey.generate_key(3072), _is_rsa),
        Algorithm("PS256", lambda: RSAKey.generate_key(3072), _is_rsa),
        Algorithm("HS256", lambda: OctKey.generate_key(256), lambda key: isinstance(key, OctKey)),
    )
}
"""What may be named. `none` is not among them, and nothing adds to them."""
_KINDS: Final[dict[str, Any]] = {"OKP": OKPKey, "EC": ECKey, "RSA": RSAKey, "oct": OctKey}


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """One key with its name and its one algorithm.

    Make one with `generate`, or read one with `from_secret`, `from_pem` or `from_jwk`.

    Example:
        >>> key = SigningKey.generate()
        >>> key.algorithm, key.verify(b"text", key.sign(b"text")), key.verify(b"other", key.sign(b"text"))
        ('EdDSA', True, False)
    """

    id: str
    """The `kid` of its tokens: a name, and nothing that is looked up anywhere but among the keys at hand."""
    algorithm: str
    key: Key
    signs_from: float = 0.0
    """From when on it signs, in seconds since the epoch: after all who verify have had time to hear of it."""
    verifies_until: float = math.inf
    """Until when its signatures count."""

    def __post_init__(self) -> None:
        algorithm = named(self.algorithm)
        if not algorithm.fits(self.key):
            raise ConfigurationError(f"A key of the kind {self.key.key_type} is none for {self.algorithm}.")
        if not self.id or len(self.id) > 128 or not self.id.isprintable():
            raise ConfigurationError("A key's id is 1 to 128 printable characters.")
        try:
            algorithm.model.check_key(self.key)
        except JoseError as error:  # its own `use`, `alg` or `key_ops` say otherwise
            raise ConfigurationError(f"The key {self.id} cannot be used for {self.algorithm}: {error}.") from None
        self._check_strength()

    def _check_strength(self) -> None:
        if isinstance(self.key, OctKey):
            secret = _long_enough(self.key.raw_value)
            if any(hmac.compare_digest(secret, known.encode()) for known in PUBLISHED) or len(set(secret)) < 8:
                raise ConfigurationError(
                    "This secret stands in a book, or is a few letters many times: anybody could sign with it.",
                    hint=_HOW_TO_MAKE_ONE,
                )
        if isinstance(self.key, RSAKey):
            raw = self.key.raw_value
            assert isinstance(raw, RSAPrivateKey | RSAPublicKey)
            if raw.key_size < MIN_RSA_BITS:
                raise ConfigurationError(f"An RSA key has at least {MIN_RSA_BITS} bits; this one has {raw.key_size}.")

    @classmethod
    def generate(cls, algorithm: str = DEFAULT_ALGORITHM, *, signs_from: float | None = None) -> Self:
        """A new key.

        Args:
            algorithm: `EdDSA`, `ES256`, `RS256`, `PS256` or `HS256`.
            signs_from: Seconds since the epoch; by default now.

        Raises:
            ConfigurationError: There is no such algorithm.
        """
        begin = time.time() if signs_from is None else signs_from
        return cls(secrets.token_urlsafe(9), algorithm, named(algorithm).make(), signs_from=begin)

    @classmethod
    def from_secret(cls, secret: str | bytes, *, id: str = "") -> Self:  # noqa: A002 the name of the attribute
        """The key of a shared secret, for HS256. Everybody who can verify with it can sign with it.

        Args:
            secret: At least 32 bytes; text counts in UTF-8.
            id: Its name; by default made from the secret, so that all who have the secret agree on it.

        Raises:
            ConfigurationError: It is too short, or one that stands in a book.
        """
        raw = _long_enough(secret.encode() if isinstance(secret, str) else secret)
        name = id or encode(hmac.digest(raw, b"consona key id", hashlib.sha256)[:9])
        return cls(name, "HS256", OctKey.import_key(raw))

    @classmethod
    def from_pem(cls, pem: str | bytes, *, algorithm: str, id: str = "") -> Self:  # noqa: A002 see above
        """The key of a PEM file: private to sign, or public to verify alone.

        Raises:
            ConfigurationError: It is no such file, or the algorithm is for another kind of key.
        """
        kind = {"EdDSA": "OKP", "ES256": "EC", "RS256": "RSA", "PS256": "RSA"}.get(algorithm)
        if kind is None:
            raise ConfigurationError(
                f"There are no PEM keys for {algorithm!r}.", hint="Use EdDSA, ES256, RS256, PS256."
            )
        try:
            key = _KINDS[kind].import_key(pem)
        except (JoseError, ValueError, TypeError):
            raise ConfigurationError(f"This is not a key for {algorithm} in a PEM file.") from None
        return cls(id or key.thumbprint(), algorithm, key)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any], *, algorithm: str = "") -> Self:
        """The key of a JSON Web Key. Its `alg`, or `algorithm` where it has none, is what it signs with.

        Raises:
            ConfigurationError: It is not well-formed, too weak, or for something else.
        """
        members = {name: value for name, value in jwk.items() if name not in {"signs_from", "verifies_until"}}
        try:
            if members["kty"] == "oct":
                _long_enough(decode(members["k"]))
            key = _KINDS[members["kty"]].import_key(members)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            raise ConfigurationError("This is not a JSON Web Key.") from None
        made = cls(str(members.get("kid") or key.thumbprint()), members.get("alg") or algorithm, key)
        begin, end = jwk.get("signs_from", 0.0), jwk.get("verifies_until", math.inf)
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in (begin, end)):
            raise ConfigurationError(f"The times of the key {made.id} are not seconds since the epoch.")
        return replace(made, signs_from=float(begin), verifies_until=float(end))

    @property
    def can_sign(self) -> bool:
        return self.key.is_private

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`.

        Raises:
            ConfigurationError: This is only the public half.
        """
        if not self.can_sign:
            raise ConfigurationError(f"The key {self.id} can only verify.", hint="Sign with its private half.")
        signature: bytes = ALGORITHMS[self.algorithm].model.sign(data, self.key)
        return signature

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` was made of `data` with this key and its algorithm."""
        try:
            return bool(ALGORITHMS[self.algorithm].model.verify(data, signature, self.key))
        except (JoseError, ValueError):  # not even of the right form
            return False

    def jwk(self, *, private: bool = False) -> dict[str, Any]:
        """As a JSON Web Key; the public half unless asked otherwise.

        Raises:
            ConfigurationError: There is no public half (HS256), or the private one is not here.
        """
        if private and not self.can_sign:
            raise ConfigurationError(f"The private half of the key {self.id} is not here.")
        if not private and isinstance(self.key, OctKey):
            raise ConfigurationError(f"The key {self.id} is a shared secret: it has no half that may be shown.")
        members: dict[str, Any] = dict(self.key.as_dict(private=private))
        members |= {"kid": self.id, "alg": self.algorithm, "use": "sig"}
        if private:
            members["signs_from"] = self.signs_from
            if self.verifies_until < math.inf:
                members["verifies_until"] = self.verifies_until
        return members

    def __repr__(self) -> str:
        return f"SigningKey({self.id!r}, {self.algorithm!r}, {'private' if self.can_sign else 'public'})"


def named(algorithm: Any) -> Algorithm:
    """The algorithm of this name.

    Raises:
        ConfigurationError: There is none.
    """
    found = ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
    if found is None:
        raise ConfigurationError(
            f"There is no algorithm {algorithm!r} for tokens.", hint=f"Known: {', '.join(ALGORITHMS)}."
        )
    return found


def _long_enough(secret: bytes) -> bytes:
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"A shared secret has at least {MIN_SECRET_BYTES} bytes; this one has {len(secret)}.", hint=_HOW_TO_MAKE_ONE
        )
    if secret.lstrip().startswith(b"-----BEGIN"):
        raise ConfigurationError("This is a key in a PEM file, not a shared secret.", hint="Use SigningKey.from_pem.")
    return secret
