"""Tokens that say who somebody is, signed so that any process can check them without asking.

    async with JWTManager("keys.json", issuer="storefront") as tokens:
        token = tokens.issue("user-7", roles=["editor"])
        claims = tokens.verify(token.text)              # Claims, or an error that says why not

Source: RFC 7519 (JSON Web Token), RFC 8725 (best current practices), RFC 9068 (the type `at+jwt`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from consona.auth.claims import RESERVED, Claims, read_claims
from consona.auth.errors import TokenExpired, TokenInvalid, TokenRevoked
from consona.auth.jws import MAX_TOKEN_BYTES, encode, read_compact, read_object
from consona.auth.key_file import Environment, Fixed, KeyFile, KeySource
from consona.auth.key_ring import KeyRing
from consona.auth.keys import DEFAULT_ALGORITHM, SigningKey, named
from consona.auth.revocations import Revocations
from consona.errors import ConfigurationError, ConsonaError, FieldProblem, ValidationError
from consona.part import Health, Part, Status
from consona.telemetry.observer import Observer

__all__ = ["JWTManager", "Token", "TokenSettings"]

LOOK_EVERY_S: Final = 1.0
"""How often it is looked whether the keys were changed by another process."""
TYPE: Final = "at+jwt"
"""What these tokens are for; a token of another type that bears our signature is not taken for one of them."""

log = logging.getLogger("consona.auth")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """Limits and times of tokens, in seconds and bytes.

    Raises:
        ConfigurationError: A number is not sensible.
    """

    leeway: float = 5.0
    """How far the clocks of two machines may be apart: a token counts so much longer, and so much earlier."""
    max_ttl: float = 86_400.0
    """The longest life that a token may be given. After a rotation the old key verifies so much longer."""
    max_bytes: int = MAX_TOKEN_BYTES
    cache: int = 10_000
    """How many verified tokens are remembered (some 1 kB each), so that their signature is checked once; 0 for none."""
    rotation_lead: float = 300.0
    """A new key signs so much later than it is published, so that all who verify have fetched it."""

    def __post_init__(self) -> None:
        times = {"leeway": self.leeway, "max_ttl": self.max_ttl, "rotation_lead": self.rotation_lead}
        for name, value in times.items():
            if not 0 <= value < math.inf:
                raise ConfigurationError(f"TokenSettings({name}={value}): seconds from 0 upwards.")
        if self.leeway > 300:
            raise ConfigurationError(
                f"TokenSettings(leeway={self.leeway}): beyond 300 seconds it is no longer about clocks.",
                hint="Set the machines' clocks (NTP), or give the tokens a longer life.",
            )
        if self.max_bytes < 256 or self.cache < 0:
            raise ConfigurationError("TokenSettings: max_bytes is at least 256, and cache at least 0.")


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was just issued. What is secret of it, its text, is not shown by accident."""

    text: str = field(repr=False)
    """What its owner sends: `Authorization: Bearer TEXT`."""
    claims: Claims

    def __str__(self) -> str:
        return f"<token {self.claims.id}>"


class JWTManager(Part):
    """Issues tokens and verifies them.

    Args:
        keys: Where the keys are: the path of a file (made with a first key where there is none, and for its owner's
            eyes only), `env:NAME` for a variable of the environment that holds such a file's text, or keys.
        issuer: Who issues them: a name or a URL, the same for all processes of the system.
        audience: For whom they are; by default the issuer itself. A token is taken if it names one of these.
        algorithm: Of keys that are made here: `EdDSA` unless it is `ES256`, `RS256`, `PS256` or `HS256`.
        ttl: Seconds that a token lives, unless `issue` says otherwise.
        settings: Limits and times.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: An argument is not sensible.

    Example:
        >>> async def main():
        ...     async with JWTManager(SigningKey.generate(), issuer="shop") as tokens:
        ...         token = tokens.issue("user-7", roles=["editor"], claims={"tenant": "north"})
        ...         claims = tokens.verify(token.text)
        ...         return claims.subject, sorted(claims.roles), claims.get("tenant")
        >>> asyncio.run(main())
        ('user-7', ['editor'], 'north')
    """

    kind: ClassVar[str] = "auth.tokens"

    def __init__(
        self,
        keys: str | Path | SigningKey | Iterable[SigningKey] = "keys.json",
        *,
        issuer: str,
        audience: str | Iterable[str] | None = None,
        algorithm: str = "",
        ttl: float = 900.0,
        settings: TokenSettings | None = None,
        name: str = "tokens",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        self.settings = settings or TokenSettings()
        self.issuer = issuer
        self.audience = (issuer,) if audience is None else _several(audience)
        self.ttl = ttl
        self.revocations = Revocations()
        if not issuer or not all(self.audience) or not self.audience:
            raise ConfigurationError("JWTManager(issuer=…, audience=…) are names, not empty.")
        if algorithm:
            named(algorithm)
        self._check_ttl(ttl)
        self._algorithm = algorithm
        self._source = _source(keys)
        self._clock = clock
        self._remembering = threading.Lock()  # plain handlers verify in threads
        self._verified: dict[str, tuple[Claims, float]] = {}
        self._ring: KeyRing | None = None
        self._mark: object = None
        self._looked = 0.0

    # Its life.

    async def _open(self) -> None:
        mark = self._source.mark()  # taken before: what changes in between is read again
        ring = self._use(await asyncio.to_thread(self._first_ring), mark)
        signing = ring.signing(self._clock()) if any(key.can_sign for key in ring.keys.values()) else None
        if signing is not None and self._algorithm not in {"", signing.algorithm}:
            raise ConfigurationError(
                f"The key that signs is for {signing.algorithm}, and algorithm={self._algorithm!r} was asked for.",
                hint=f"Make a new key: consona keys rotate --algorithm {self._algorithm}.",
            )

    def _first_ring(self) -> KeyRing:
        source = self._source
        if isinstance(source, KeyFile) and not source.path.exists():
            made = source.change(lambda present: present or KeyRing.of([self._new_key()]))
            log.info("%s: the keys are in %s", self.name, source.path)
            return made
        return source.load()

    def _new_key(self) -> SigningKey:
        return SigningKey.generate(self._algorithm or DEFAULT_ALGORITHM, signs_from=self._clock())

    def _use(self, ring: KeyRing, mark: object) -> KeyRing:
        self._ring, self._mark, self._looked = ring, mark, self._clock()
        self._verified.clear()  # a key may be gone, and with it what it signed
        return ring

    async def _close(self) -> None:
        self._ring = None
        self._verified.clear()

    async def check(self) -> Health:
        """Up where there is a key that signs; a manager that only verifies is up with any key."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        try:
            ring = await asyncio.to_thread(self._source.load)
            if any(key.can_sign for key in ring.keys.values()):
                ring.signing(self._clock())
        except ConsonaError as error:
            return Health(Status.DEGRADED, error.message)
        return Health(Status.UP)

    def detail(self) -> dict[str, Any]:
        ring = self._ring
        keys = {} if ring is None else {key.id: key.algorithm for key in ring.keys.values()}
        return {"keys": keys, "remembered": len(self._verified), "revoked": len(self.revocations)}

    # Issuing.

    def issue(
        self,
        subject: str,
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        ttl: float | None = None,
        session: str = "",
        version: int = 0,
        claims: Mapping[str, Any] | None = None,
    ) -> Token:
        """A new token.

        Args:
            subject: Whose it is: the account's id, 1 to 255 characters.
            roles: Their roles.
            scopes: What it is good for, where that is less than everything that its owner may do.
            ttl: Seconds that it lives, at most `settings.max_ttl`.
            session: The id of the session that it belongs to: revoking that revokes it.
            version: How many changes that end older tokens its account has seen.
            claims: What else it says: JSON, readable by whoever has the token.

        Raises:
            ValidationError: A claim is reserved or not JSON, or the token would be too long.
            ConfigurationError: No key signs now, or the life is too long.
            NotStarted: Before `start()`.
        """
        with self.observer.operation("issue"):
            ring = self._keys()
            now = self._clock()
            life = self.ttl if ttl is None else ttl
            self._check_ttl(life)
            payload: dict[str, Any] = {
                "iss": self.issuer,
                "aud": self.audience[0] if len(self.audience) == 1 else list(self.audience),
                "sub": subject,
                "iat": int(now),
                "nbf": int(now),
                "exp": int(now + life),
                "jti": secrets.token_urlsafe(16),
            }
            payload |= _owners(roles, scopes, session, version)
            payload |= _own(claims or {})
            raw = _json(payload)
            key = ring.signing(now)
            text = _signed(key, raw)
            if len(text) > self.settings.max_bytes:
                raise ValidationError(
                    f"The token would have {len(text)} bytes; at most {self.settings.max_bytes} are accepted.",
                    hint="Put less into it: it travels with each request.",
                )
            return Token(text, _checked(payload, raw))

    def _check_ttl(self, ttl: float) -> None:
        if not 1 <= ttl <= self.settings.max_ttl:
            raise ConfigurationError(
                f"A token lives 1 to {self.settings.max_ttl:g} seconds, not {ttl:g}.",
                hint="A longer life: TokenSettings(max_ttl=…). A rotation then keeps the old key for so long.",
            )

    # Verifying.

    def verify(self, token: str) -> Claims:
        """What the token says, if it is ours, meant for us, within its time, and not taken back.

        Raises:
            TokenInvalid: It is not. `TokenExpired` and `TokenRevoked` are special cases.
            NotStarted: Before `start()`.
        """
        with self.observer.operation("verify") as op:
            try:
                return self._verify(token)
            except TokenInvalid as error:
                # Strangers send what they like: that is counted, and not worth a warning each time.
                op.fail(error.code, level=logging.DEBUG)
                refusal = error
        raise refusal

    def _verify(self, token: str) -> Claims:
        ring = self._keys()
        now = self._clock()
        known = self._verified.get(token)
        if known is None:
            claims, until = self._prove(ring, token, now)
            self._remember(token, claims, until)
        else:
            claims, until = known
        if now >= until:
            self._verified.pop(token, None)
            raise TokenExpired("The token's time is over.")
        if claims.not_before > now + self.settings.leeway or claims.issued_at > now + self.settings.leeway:
            raise TokenInvalid("The token is from the future.", hint="Compare the clocks of the machines.")
        if self.revocations.cover(claims):
            raise TokenRevoked("The token was taken back.")
        return claims

    def _prove(self, ring: KeyRing, token: str, now: float) -> tuple[Claims, float]:
        """The claims of a token that is ours and meant for us, and until when it counts."""
        compact = read_compact(token, max_bytes=self.settings.max_bytes)
        key = ring.find(compact.key_id, now)
        if key is None:
            raise TokenInvalid("No key of ours has signed this token.")
        if compact.algorithm != key.algorithm:
            raise TokenInvalid(f"The token is not signed with {key.algorithm}, the one algorithm of its key.")
        if not key.verify(compact.signed, compact.signature):
            raise TokenInvalid("The token's signature is wrong.")
        if compact.header.get("typ") != TYPE:
            raise TokenInvalid("The token is of another type.")
        claims = read_claims(read_object(compact.payload, "payload"), compact.payload)
        if claims.issuer != self.issuer:
            raise TokenInvalid("The token is from another issuer.")
        if not any(each in self.audience for each in claims.audience):
            raise TokenInvalid("The token is meant for somebody else.")
        return claims, min(claims.expires_at + self.settings.leeway, key.verifies_until)

    def _remember(self, token: str, claims: Claims, until: float) -> None:
        if self.settings.cache:
            with self._remembering:
                if len(self._verified) >= self.settings.cache:
                    del self._verified[next(iter(self._verified))]  # the first; it is proven again if need be
                self._verified[token] = claims, until

    def revoke(self, claims: Claims) -> None:
        """Take one token back, in this process, for the rest of its time. (Accounts do it everywhere.)"""
        with self.observer.operation("revoke"):
            self.revocations.token(claims.id, until=claims.expires_at + self.settings.leeway)
            self.revocations.sweep(self._clock())

    # Keys.

    def secret_for(self, purpose: str) -> bytes:
        """A secret of 32 bytes for one purpose, the same in all processes that have the same keys.

        Raises:
            ConfigurationError: Only public keys are here.
        """
        secret = self._keys().secret
        if not secret:
            raise ConfigurationError(f"{self.name} has public keys alone, from which no secret can be made.")
        return hmac.digest(secret, purpose.encode(), hashlib.sha256)

    def jwks(self) -> dict[str, Any]:
        """The public keys, for those who verify: what `/.well-known/jwks.json` answers."""
        return self._keys().jwks(now=self._clock())

    async def rotate(self, algorithm: str = "") -> str:
        """Make a new key, which signs after `settings.rotation_lead`; tokens of the old ones go on to count.

        Other processes with the same key file follow within a second.

        Args:
            algorithm: Of the new key; by default that of the old one.

        Returns:
            The new key's id.

        Raises:
            ConfigurationError: The keys come from the environment, or the file cannot be written.
        """
        self._require_started()
        with self.observer.operation("rotate"):
            ring = await asyncio.to_thread(self._source.change, lambda ring: self._rotated(ring, algorithm))
            self._use(ring, None)
            return next(reversed(ring.keys))

    def _rotated(self, ring: KeyRing | None, algorithm: str) -> KeyRing:
        if ring is None:
            return KeyRing.of([self._new_key()])
        settings = self.settings
        return ring.rotated(
            now=self._clock(),
            lead=settings.rotation_lead,
            keep=settings.max_ttl + settings.leeway,
            algorithm=algorithm,
        )

    def _keys(self) -> KeyRing:
        """The keys as they are now, at most a second late."""
        ring = self._ring
        if ring is None:
            self._require_started()
        now = self._clock()
        if not 0 <= now - self._looked < LOOK_EVERY_S:
            self._looked = now
            mark = self._source.mark()
            if mark != self._mark:
                ring = self._reload(mark)
        assert ring is not None
        return ring

    def _reload(self, mark: object) -> KeyRing:
        try:
            return self._use(self._source.load(), mark)
        except ConfigurationError as error:
            # Somebody is at work on the file, or broke it: go on with what is known, and say so once.
            log.warning("%s: the changed keys cannot be used: %s", self.name, error.message)
            self._mark = mark
            assert self._ring is not None
            return self._ring


def _source(keys: str | Path | SigningKey | Iterable[SigningKey]) -> KeySource:
    if isinstance(keys, SigningKey):
        return Fixed(KeyRing.of([keys]))
    if isinstance(keys, str) and keys.startswith("env:"):
        return Environment(keys.removeprefix("env:"))
    if isinstance(keys, str | Path):
        return KeyFile(keys)
    return Fixed(KeyRing.of(keys))


def _several(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _owners(roles: Iterable[str], scopes: Iterable[str], session: str, version: int) -> dict[str, Any]:
    """The claims about the owner, where there is something to say."""
    if isinstance(roles, str) or isinstance(scopes, str):
        raise ValidationError("roles= and scopes= are several names, not one text.", hint='roles=["editor"]')
    named: dict[str, Any] = {}
    if roles := sorted(set(roles)):
        named["roles"] = roles
    if scopes := sorted(set(scopes)):
        if any(not each or " " in each for each in scopes):
            raise ValidationError("A scope is a name without spaces (RFC 6749, section 3.3).")
        named["scope"] = " ".join(scopes)
    if session:
        named["sid"] = session
    if version:
        named["ver"] = version
    return named


def _own(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """A program's own claims, if they have names of their own."""
    if taken := sorted(RESERVED & claims.keys()):
        raise ValidationError(
            f"These claims are written by Consona: {', '.join(taken)}.",
            fields=[FieldProblem(f"claims.{name}", "is reserved") for name in taken],
            hint="Give your own claims other names.",
        )
    if not all(isinstance(name, str) for name in claims):
        raise ValidationError("The name of a claim is a text.")
    return claims


def _json(payload: dict[str, Any]) -> bytes:
    try:
        return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValidationError(f"The claims cannot be written as JSON: {type(error).__name__}.") from error


def _signed(key: SigningKey, payload: bytes) -> str:
    header = {"alg": key.algorithm, "kid": key.id, "typ": TYPE}
    signed = f"{encode(json.dumps(header, separators=(',', ':')).encode('ascii'))}.{encode(payload)}"
    return f"{signed}.{encode(key.sign(signed.encode('ascii')))}"


def _checked(payload: dict[str, Any], raw: bytes) -> Claims:
    """The claims as a reader of the token will see them: what it would refuse is refused before it is signed."""
    try:
        return read_claims(payload, raw)
    except TokenInvalid as error:
        raise ValidationError(error.message) from None
