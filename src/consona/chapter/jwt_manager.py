"""The chapter's tokens, over `consona.auth.jwt_manager`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from consona import blocking
from consona.auth.claims import Claims
from consona.auth.errors import TokenInvalid
from consona.auth.jws import read_compact, read_object
from consona.auth.jwt_manager import JWTManager as Manager
from consona.auth.jwt_manager import TokenSettings
from consona.auth.keys import SigningKey
from consona.chapter.narration import think
from consona.errors import AuthenticationError, ConfigurationError, FieldProblem, ValidationError
from consona.telemetry.observer import Stats

__all__ = ["JWTManager"]

OWN: Final = ("user_id", "username", "email")
MAX_HOURS: Final = 24 * 366
REMEMBERED: Final = 10_000


class JWTManager:
    """Makes tokens and verifies them; each method waits until it is done.

    Args:
        secret_key: For HS256, a secret of 32 bytes or more; for the other algorithms None, and a key is made.
        algorithm: `HS256`, `EdDSA`, `ES256`, `RS256` or `PS256`.
        expiration_hours: How long a token lives.
        issuer: Who issues the tokens.

    Raises:
        ConfigurationError: The secret is too short or stands in a book, or a setting is not possible.

    Example:
        >>> import secrets
        >>> tokens = JWTManager(secrets.token_urlsafe(32), "HS256", 1)
        >>> made = tokens.generate_token({"id": 7, "username": "ada"})
        >>> tokens.verify_token(made["token"])["username"]
        'ada'
    """

    def __init__(
        self,
        secret_key: str | None = None,
        algorithm: str | None = None,
        expiration_hours: float | None = None,
        *,
        issuer: str = "SonaApp",
    ) -> None:
        self.algorithm = algorithm or "HS256"
        self.expiration_hours = expiration_hours or 24
        self.tokens = Manager(
            _key(secret_key, self.algorithm),
            issuer=issuer,
            ttl=self.expiration_hours * 3600,
            settings=TokenSettings(max_ttl=MAX_HOURS * 3600.0),
        )
        self._issued: dict[str, float] = {}
        self._starting = threading.Lock()
        think("JWT Manager with", self.algorithm)

    def generate_token(
        self,
        user_data: Mapping[str, Any],
        custom_claims: Mapping[str, Any] | None = None,
        expires_in: float | None = None,
    ) -> dict[str, Any]:
        """A token for a user.

        Args:
            user_data: `id` and `username`; `email` and `roles` where there are any.
            custom_claims: What else it says; the names above and the reserved ones are taken.
            expires_in: Hours that it lives, if not as usual.

        Returns:
            `token`, `expires_at` (seconds since the epoch), `expires_in` (seconds).

        Raises:
            ValidationError: A claim has a name that is taken, or is not JSON.
        """
        custom = dict(custom_claims or {})
        if taken := sorted(set(OWN) & custom.keys()):
            raise ValidationError(
                f"These claims are written by the manager: {', '.join(taken)}.",
                fields=[FieldProblem(f"custom_claims.{name}", "is taken") for name in taken],
            )
        seconds = (expires_in or self.expiration_hours) * 3600
        who = {"user_id": user_data["id"], "username": user_data["username"], "email": user_data.get("email", "")}
        token = self.started().issue(
            str(user_data["id"]), roles=user_data.get("roles", []), ttl=seconds, claims=who | custom
        )
        think("Generated a token for", user_data["username"])
        return self.noted(token.text) | {"expires_in": seconds}

    def verify_token(self, token: str) -> dict[str, Any]:
        """Whether a token counts, and what it says.

        Returns:
            `valid`, `payload`, `user_id`, `username` and `roles`; or `valid` (False) and `error`.
        """
        return self.verdict(token)[0]

    def verdict(self, token: str) -> tuple[dict[str, Any], Claims | None]:
        """The same, and the claims where it counts."""
        try:
            claims = self.started().verify(token)
        except TokenInvalid as error:
            return {"valid": False, "error": error.message}, None
        payload = claims.all
        told = {"payload": payload, **{name: payload.get(name) for name in ("user_id", "username")}}
        return {"valid": True, **told, "roles": payload.get("roles", [])}, claims

    def refresh_token(self, old_token: str) -> dict[str, Any]:
        """A new token in the place of one that counts; the old one is taken back.

        Raises:
            AuthenticationError: The old one does not count.
        """
        verdict, claims = self.verdict(old_token)
        if claims is None:
            raise AuthenticationError("Cannot refresh invalid token")
        payload = verdict["payload"]
        self.blacklist_token(old_token)
        token = self.started().issue(
            claims.subject,
            roles=claims.roles,
            session=claims.session,
            version=claims.version,
            claims={name: payload.get(name, "") for name in OWN},
        )
        return self.noted(token.text) | {"expires_in": self.tokens.ttl}

    def blacklist_token(self, token: str) -> None:
        """Take a token back, in this program. What is no token is left alone."""
        try:
            said = read_object(read_compact(token).payload, "payload")
            id_, until = str(said["jti"]), float(said["exp"])
        except (TokenInvalid, KeyError, TypeError, ValueError):
            return
        self.started().revocations.token(id_, until=until + self.tokens.settings.leeway)
        self._issued.pop(id_, None)
        think("Token blacklisted")

    def cleanup_expired_tokens(self) -> None:
        """Forget tokens whose time is over. It is done by itself, too."""
        now = time.time()
        self._issued = {id_: until for id_, until in self._issued.items() if until > now}
        self.started().revocations.sweep(now)

    def get_token_stats(self) -> dict[str, int]:
        """How often what was done."""
        operations = self.started().stats.operations
        verified = operations.get("verify", Stats())
        return {
            "total_generated": operations.get("issue", Stats()).succeeded,
            "total_verified": verified.total,
            "failed_verifications": verified.failed,
            "blacklisted_attempts": verified.errors.get("auth.token_revoked", 0),
        }

    def get_active_tokens(self) -> list[str]:
        """The ids of the tokens that this manager made and that count; of the last 10,000."""
        self.cleanup_expired_tokens()
        return list(self._issued)

    def started(self) -> Manager:
        """The real manager underneath."""
        with self._starting:
            if not self.tokens.started:
                blocking.enter(self.tokens)
        return self.tokens

    def noted(self, token: str) -> dict[str, Any]:
        """Count a new token among the active ones: `token` and `expires_at`."""
        said = read_object(read_compact(token).payload, "payload")
        if len(self._issued) >= REMEMBERED:
            del self._issued[next(iter(self._issued))]
        self._issued[said["jti"]] = said["exp"]
        return {"token": token, "expires_at": said["exp"]}


def _key(secret_key: str | None, algorithm: str) -> SigningKey:
    if algorithm == "HS256":
        if secret_key is None:
            raise ConfigurationError("HS256 needs a secret.", hint="Make one: secrets.token_urlsafe(32).")
        return SigningKey.from_secret(secret_key)
    if secret_key is not None:
        raise ConfigurationError(f"{algorithm} has a pair of keys, and no secret.", hint="Leave the secret out: None.")
    return SigningKey.generate(algorithm)
