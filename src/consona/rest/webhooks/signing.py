"""Signing webhooks, and verifying them, with nothing but bytes, headers and a clock.

    secret = new_secret()                                     # whsec_…, for both sides
    headers = sign(body, secret, id="msg_1")
    seen = verify(headers, body, secret)                      # a Webhook, or an error that says why not

What is signed is `id.timestamp.body`. A secret is shared (`whsec_…`, HMAC-SHA256, signature `v1`), or a
pair: `whsk_…` signs and `whpk_…` verifies (Ed25519, signature `v1a`; needs `consona[webhooks]`). While a
secret is exchanged for another, both are given: a sender signs with each, a receiver takes either.

Source: Standard Webhooks 1.0.0, https://github.com/standard-webhooks/standard-webhooks (spec/standard-webhooks.md).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from consona.errors import ConfigurationError, MissingExtra
from consona.rest.server.problems import BodyTooLarge
from consona.rest.webhooks.rejections import SignatureMissing, SignatureWrong, TimestampRefused
from consona.rest.webhooks.webhook import Webhook

__all__ = ["MAX_BODY_BYTES", "TOLERANCE_S", "Key", "Secrets", "new_secret", "read_keys", "sign", "verify"]

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

TOLERANCE_S: Final = 300.0
"""How far the time of a webhook may be from ours, in seconds, into the past and into the future."""
MAX_BODY_BYTES: Final = 256 * 1024
"""The longest body that is signed or verified; the specification recommends less than 20 kB."""
MAX_SIGNATURES: Final = 16
"""How many signatures of one webhook are looked at; each costs the receiver work."""

Secrets = str | Sequence[str]
"""One secret, or all that are active at the moment."""
Headers = Mapping[str, str] | Iterable[tuple[Any, Any]]
"""A mapping of names to values, or pairs of text or bytes as ASGI has them."""

_ID: Final = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,256}")  # visible, and no full stop, which separates what is signed
_SECONDS: Final = re.compile(r"[0-9]{1,12}")


class Key(Protocol):
    """What signs, or tells whether a signature is right."""

    version: str
    """`v1` or `v1a`."""

    def sign(self, content: bytes) -> bytes:
        """The signature of `content`. Raises ConfigurationError where the key can only verify."""
        ...

    def fits(self, content: bytes, signature: bytes) -> bool:
        """Whether `signature` was made of `content` with this key; takes equally long for each wrong one."""
        ...


class SharedKey:
    """HMAC-SHA256 with a secret that both sides have."""

    version = "v1"

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, content: bytes) -> bytes:
        return hmac.digest(self._secret, content, hashlib.sha256)

    def fits(self, content: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(self.sign(content), signature)

    def __repr__(self) -> str:
        return "SharedKey(***)"


def new_secret(*, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A new shared secret of 32 random bytes.

    Example:
        >>> new_secret().startswith("whsec_"), len(new_secret())
        (True, 50)
    """
    return "whsec_" + base64.b64encode(random_bytes(32)).decode("ascii")


def read_keys(given: Secrets) -> tuple[Key, ...]:
    """The keys of secrets in their written form.

    Raises:
        ConfigurationError: There is none, or one is not well-formed. Its value is not told.
        MissingExtra: An Ed25519 key without the package that it needs.

    Example:
        >>> read_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        (SharedKey(***),)
    """
    given = [given] if isinstance(given, str) else list(given)
    if not given:
        raise ConfigurationError("Webhooks need at least one secret.", hint="Make one with new_secret().")
    return tuple(_key(secret, number) for number, secret in enumerate(given, 1))


def _key(secret: Any, number: int) -> Key:
    if not isinstance(secret, str) or not secret.startswith(("whsec_", "whsk_", "whpk_")):
        raise ConfigurationError(
            f"Webhook secret {number} does not begin with whsec_ (shared), whsk_ (signs) or whpk_ (verifies).",
            hint="Hand it in as the other side shows it, prefix included; strip it when you read it from a file.",
        )
    kind, _, text = secret.partition("_")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"Webhook secret {number} is not base64 after its prefix.") from None
    if kind == "whsec":
        if not 24 <= len(raw) <= 64:
            raise ConfigurationError(
                f"Webhook secret {number} has {len(raw)} bytes; the specification wants 24 to 64.",
                hint="Make one with new_secret().",
            )
        return SharedKey(raw)
    try:
        ed25519 = importlib.import_module("consona.rest.webhooks.ed25519")
    except ImportError as error:
        raise MissingExtra(
            f"Webhook secret {number} is an Ed25519 key, which needs the package cryptography.",
            hint="Run: pip install 'consona[webhooks]'",
        ) from error
    key: Key = ed25519.read(kind, raw, number)
    return key


def sign(
    body: bytes,
    secrets: Secrets | Sequence[Key],
    *,
    id: str,  # noqa: A002 the specification's name
    timestamp: float | None = None,
    clock: Callable[[], float] = time.time,
) -> dict[str, str]:
    """The three headers that go with a body, signed with each secret.

    Args:
        body: What is sent, byte for byte.
        secrets: One or all active secrets (or what `read_keys` made of them).
        id: The webhook's id, the same for each try: visible ASCII without a full stop, at most 256 characters.
        timestamp: When this try is made, in seconds since the epoch; by default now.
        clock: What now is.

    Raises:
        ConfigurationError: A secret or the id is not well-formed, or a key can only verify.
        BodyTooLarge: The body is longer than MAX_BODY_BYTES.

    Example:
        >>> headers = sign(
        ...     b'{"test": 2432232314}',
        ...     "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ...     id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        ...     timestamp=1614265330,
        ... )
        >>> headers["webhook-signature"]
        'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    if not _ID.fullmatch(id):
        raise ConfigurationError("The id of a webhook is 1 to 256 visible ASCII characters without a full stop.")
    if len(body) > MAX_BODY_BYTES:
        raise _too_large(len(body), MAX_BODY_BYTES)
    seconds = str(int(clock() if timestamp is None else timestamp))
    content = _content(id, seconds, body)
    signatures = (f"{key.version},{base64.b64encode(key.sign(content)).decode('ascii')}" for key in _keys(secrets))
    return {ID: id, TIMESTAMP: seconds, SIGNATURE: " ".join(signatures)}


def verify(
    headers: Headers,
    body: bytes,
    secrets: Secrets | Sequence[Key],
    *,
    tolerance: float = TOLERANCE_S,
    max_bytes: int = MAX_BODY_BYTES,
    clock: Callable[[], float] = time.time,
) -> Webhook:
    """Find out whether a webhook was signed with one of our secrets, and lately.

    This tells nothing of repeats: the same bytes are right again until the tolerance is over. `WebhookReceiver`
    remembers what it took.

    Args:
        headers: Those of the request, names in any case.
        body: The request's body, byte for byte as it came.
        secrets: One or all active secrets (or what `read_keys` made of them).
        tolerance: Seconds that its time may be from ours, in both directions.
        max_bytes: The longest body that is looked at.
        clock: Seconds since the epoch.

    Raises:
        BodyTooLarge: The body is longer than `max_bytes`.
        SignatureMissing: A header is missing, given twice, or not well-formed.
        TimestampRefused: It was signed too long ago, or lies in the future.
        SignatureWrong: No signature is right.
        ConfigurationError: A secret is not well-formed.

    Example:
        >>> secret = new_secret()
        >>> verify(sign(b"{}", secret, id="msg_1"), b"{}", secret).id
        'msg_1'
    """
    if len(body) > max_bytes:
        raise _too_large(len(body), max_bytes)
    keys = _keys(secrets)
    found = _three(headers)
    name, seconds = found[ID], found[TIMESTAMP]
    if not _ID.fullmatch(name):
        raise SignatureMissing(f"{ID} is not 1 to 256 visible ASCII characters without a full stop.")
    if not _SECONDS.fullmatch(seconds):
        raise SignatureMissing(f"{TIMESTAMP} is not a whole number of seconds.")
    age = clock() - int(seconds)
    if abs(age) > tolerance:
        when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s in the future"
        raise TimestampRefused(f"The webhook was signed {when}; {tolerance:g} s are tolerated.", age_s=round(age))
    content = _content(name, seconds, body)
    if not _any_fits(keys, content, found[SIGNATURE]):
        raise SignatureWrong("No signature of the webhook fits.", signatures=found[SIGNATURE].count(",") or 0)
    return Webhook(name, datetime.fromtimestamp(int(seconds), UTC), body)


def _keys(given: Secrets | Sequence[Key]) -> Sequence[Key]:
    if isinstance(given, str) or not given or isinstance(given[0], str):
        return read_keys(given)  # type: ignore[arg-type]  # told apart by the line above
    return given  # type: ignore[return-value]  # likewise


def _content(name: str, seconds: str, body: bytes) -> bytes:
    return b"%b.%b.%b" % (name.encode("ascii"), seconds.encode("ascii"), body)


def _three(headers: Headers) -> dict[str, str]:
    """The three headers, each there once."""
    found: dict[str, list[str]] = {ID: [], TIMESTAMP: [], SIGNATURE: []}
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        lower = (name.decode("latin-1") if isinstance(name, bytes) else name).lower()
        if lower in found:
            found[lower].append(value.decode("latin-1") if isinstance(value, bytes) else value)
    for name, values in found.items():
        if len(values) != 1:  # which of two would count is anybody's guess
            raise SignatureMissing(f"The webhook has {'no' if not values else 'more than one'} header {name}.")
    return {name: values[0] for name, values in found.items()}


def _any_fits(keys: Sequence[Key], content: bytes, header: str) -> bool:
    fits = False
    for written in header.split(" ")[:MAX_SIGNATURES]:
        version, comma, text = written.partition(",")
        if not comma:
            continue
        try:
            signature = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        for key in keys:
            fits |= key.version == version and key.fits(content, signature)
    return fits


def _too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The webhook has {size} bytes; at most {limit} are taken.")
