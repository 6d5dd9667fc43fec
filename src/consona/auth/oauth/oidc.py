"""A service to sign in with, by OpenID Connect: it tells its endpoints and signs who somebody is.

Source: OpenID Connect Core 1.0 (section 3.1.3.7, what is checked of an id_token), OpenID Connect Discovery 1.0.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from consona.auth.errors import ProviderFailed, SignInRefused, TokenInvalid
from consona.auth.jws import encode, read_compact, read_object
from consona.auth.keys import ALGORITHMS, SigningKey
from consona.auth.oauth.handshake import Handshake
from consona.auth.oauth.oauth2 import Mapper, OAuth2, Profile, ProviderTokens, checked_url
from consona.errors import ConfigurationError

__all__ = ["OIDC"]

LEEWAY_S: Final = 60.0
DISCOVER_EVERY_S: Final = 3600.0
KEYS_EVERY_S: Final = 10.0
"""A key that is not known is looked for anew so often, whatever tokens strangers send."""
MAX_ID_TOKEN: Final = 16_384
ASYMMETRIC: Final = frozenset(ALGORITHMS) - {"HS256"}

CLAIMS: Final[Mapper] = {
    "subject": "sub",
    "email": "email",
    "email_verified": "email_verified",
    "username": "preferred_username",
    "name": "name",
    "picture": "picture",
}


class OIDC(OAuth2):
    """Any service that speaks OpenID Connect, by its issuer.

    Args:
        issuer: Its name, a URL: `https://login.example.org`.
        client_id: Who this application is there.
        client_secret: The proof.
        name: What this application calls it; by default the first part of the issuer's host.
        scopes: What is asked for; `openid` is always among it.
        more: As for `OAuth2`: `send`, `extra`, `mapping`, `transport`, …

    Raises:
        ConfigurationError: The issuer is no HTTPS URL.

    Example:
        >>> OIDC("https://login.example.org", client_id="shop", client_secret="…").name
        'login'
    """

    needs_nonce: ClassVar[bool] = True

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        client_secret: str = "",
        name: str = "",
        scopes: Iterable[str] = ("openid", "profile", "email"),
        mapping: Mapper | None = None,
        **more: Any,
    ) -> None:
        checked_url(issuer)
        host = issuer.partition("://")[2]
        super().__init__(
            name or host.partition("/")[0].partition(".")[0].partition(":")[0],
            client_id=client_id,
            client_secret=client_secret,
            authorize=issuer,
            token=issuer,
            userinfo="",
            issuer=issuer,
            scopes=dict.fromkeys(["openid", *scopes]),
            mapping=CLAIMS if mapping is None else mapping,
            **more,
        )
        self._told: Mapping[str, Any] = {}
        self._told_at = float("-inf")
        self._keys: dict[str, dict[str, Any]] = {}
        self._keys_at = float("-inf")
        self._fetching = asyncio.Lock()

    def issuers(self) -> frozenset[str]:
        """What may stand in an id_token as its issuer."""
        return frozenset({self.issuer})

    async def discover(self) -> None:
        """Read the service's own description, at most once an hour."""
        now = time.monotonic()
        if now - self._told_at < DISCOVER_EVERY_S:
            return
        told = await self._call("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if not isinstance(told, dict) or told.get("issuer") != self.issuer:
            raise ProviderFailed(f"{self.name} describes another issuer than {self.issuer}.")
        try:
            self.authorize_url = checked_url(told["authorization_endpoint"])
            self.token_url = checked_url(told["token_endpoint"])
            self.userinfo_url = checked_url(told.get("userinfo_endpoint", ""))
            self.revoke_url = checked_url(told.get("revocation_endpoint", ""))
            checked_url(told["jwks_uri"])
        except (KeyError, TypeError, ValueError, AttributeError, ConfigurationError):
            raise ProviderFailed(
                f"The description of {self.name} lacks an endpoint, or has one that is no URL."
            ) from None
        self.needs_issuer_in_answer = told.get("authorization_response_iss_parameter_supported") is True
        self._told, self._told_at = told, now

    async def _profile(self, tokens: ProviderTokens, handshake: Handshake) -> Profile:
        claims = await self.check_id_token(tokens.id_token, nonce=handshake.nonce, access_token=tokens.access_token)
        if self.userinfo_url:
            told = await self._get(self.userinfo_url, tokens.access_token)
            if told.get("sub") != claims["sub"]:  # section 5.3.2: else the tokens of two people were mixed
                raise SignInRefused(f"{self.name} tells of another person than it signed for.")
            claims = told | claims
        return self.profile_of(claims)

    async def check_id_token(self, token: str, *, nonce: str, access_token: str = "") -> dict[str, Any]:
        """What an id_token says, if it is the service's, for this application, of this question, and of now.

        Raises:
            SignInRefused: It is not.
            ProviderFailed: The keys of the service cannot be had.
        """
        try:
            compact = read_compact(token, max_bytes=MAX_ID_TOKEN)
            key = await self._key(compact.key_id, compact.algorithm)
            if not key.verify(compact.signed, compact.signature):
                raise TokenInvalid("its signature is wrong")
            claims = read_object(compact.payload, "payload")
            self._check_claims(claims, nonce)
        except TokenInvalid as error:
            raise SignInRefused(f"The id_token of {self.name} does not count: {error.message}") from None
        half = claims.get("at_hash")
        if half is not None and access_token and half != encode(hashlib.sha256(access_token.encode()).digest()[:16]):
            raise SignInRefused(f"The tokens of {self.name} do not belong together.")
        return claims

    def _check_claims(self, claims: dict[str, Any], nonce: str) -> None:
        now = self._clock()
        audience = claims.get("aud")
        several = isinstance(audience, list) and len(audience) > 1
        times = [claims.get("exp"), claims.get("iat")]
        if claims.get("iss") not in self.issuers():
            raise TokenInvalid("it is from another issuer")
        if self.client_id not in (audience if isinstance(audience, list) else [audience]):
            raise TokenInvalid("it is meant for somebody else")
        if claims.get("azp", None if several else self.client_id) != self.client_id:
            raise TokenInvalid("it was given to somebody else")
        if not all(isinstance(each, int | float) and not isinstance(each, bool) and 0 < each < 2**43 for each in times):
            raise TokenInvalid("its times are missing")
        if claims["exp"] <= now - LEEWAY_S or claims["iat"] > now + LEEWAY_S:
            raise TokenInvalid("it is not of now")
        if not isinstance(claims.get("nonce"), str) or not hmac.compare_digest(
            claims["nonce"].encode(), nonce.encode()
        ):
            raise TokenInvalid("it belongs to another question (`nonce`)")
        if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255:
            raise TokenInvalid("it does not say who it is")

    async def _key(self, key_id: Any, algorithm: Any) -> SigningKey:
        """The service's key of that id, for that algorithm, if it is meant for that."""
        if algorithm not in ASYMMETRIC:
            raise TokenInvalid("it is signed in a way that is not accepted")
        async with self._fetching:  # who comes meanwhile waits for the same answer
            if self._find(key_id) is None and time.monotonic() - self._keys_at >= KEYS_EVERY_S:
                told = await self._call("GET", self._told["jwks_uri"])
                keys = told.get("keys") if isinstance(told, dict) else None
                if not isinstance(keys, list):
                    raise ProviderFailed(f"{self.name} did not give its keys.")
                self._keys = {str(key.get("kid", "")): key for key in keys[:100] if isinstance(key, dict)}
                self._keys_at = time.monotonic()
        found = self._find(key_id)
        if found is None or found.get("alg", algorithm) != algorithm:
            raise TokenInvalid("no key of the service has signed it")
        try:
            return SigningKey.from_jwk({name: found[name] for name in found if name != "kid"}, algorithm=algorithm)
        except ConfigurationError:
            raise TokenInvalid("its key cannot be used for that") from None

    def _find(self, key_id: Any) -> dict[str, Any] | None:
        if key_id is None and len(self._keys) == 1:  # an only key needs no name
            return next(iter(self._keys.values()))
        return self._keys.get(key_id) if isinstance(key_id, str) else None
