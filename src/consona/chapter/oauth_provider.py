"""The chapter's OAuth provider, over `consona.auth.oauth`."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from consona import blocking
from consona.auth.errors import ProviderFailed, SignInRefused
from consona.auth.oauth.handshake import Handshake
from consona.auth.oauth.oauth2 import Grant, OAuth2, Profile, ProviderTokens
from consona.auth.oauth.oidc import OIDC
from consona.chapter.errors import OAuthError
from consona.chapter.narration import think
from consona.errors import AuthenticationError, ConfigurationError, Conflict, NotFound
from consona.telemetry.observer import Stats

__all__ = ["OAuthProvider"]

T = TypeVar("T")

MAX_WAITING: Final = 1000
"""So many questions wait for their answer at most; the oldest is forgotten first."""


class OAuthProvider:
    """A service to sign in with; each method waits until it is done.

    Args:
        provider_name: What it is called: letters, digits and `-`; in any case.
        client_id: Who this application is there.
        client_secret: The proof.
        config: `authorization_endpoint`, `token_endpoint`, `user_info_endpoint`, perhaps `revocation_endpoint` and
            `mapping` (see `OAuth2`); or `issuer` alone, of a service that speaks OpenID Connect.

    Raises:
        ConfigurationError: An address is missing, or is not HTTPS (plain HTTP is for this machine alone).

    Example:
        >>> provider = OAuthProvider("Forge", "shop", "…", {
        ...     "authorization_endpoint": "https://forge.example/authorize",
        ...     "token_endpoint": "https://forge.example/token",
        ...     "user_info_endpoint": "https://forge.example/me",
        ... })
        >>> provider.get_oauth_stats()["token_exchanges"]
        0
    """

    def __init__(self, provider_name: str, client_id: str, client_secret: str, config: Mapping[str, Any]) -> None:
        self.provider_name = provider_name
        self.client_id = client_id
        self.provider = _provider(provider_name.lower(), client_id, client_secret, config)
        self._waiting: dict[str, Handshake] = {}
        self._starting = threading.Lock()
        think("OAuth Provider", provider_name)

    def generate_authorization_url(
        self, redirect_uri: str, scope: str | None = None, state: None = None
    ) -> dict[str, str]:
        """Where to send the browser.

        Returns:
            `authorization_url` and `state`, which the browser brings back.

        Raises:
            ConfigurationError: A state is given: it is made here, so that nobody can guess it.
            OAuthError: The service does not answer.
        """
        if state is not None:
            raise ConfigurationError("The state is made here, so that nobody can guess it.", hint="Leave it out.")
        scopes = None if scope is None else scope.split()
        with as_oauth_errors("Authorization failed: "):
            url, handshake = self.run(self.provider.begin(redirect_uri, scopes=scopes))
        while len(self._waiting) >= MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        self._waiting[handshake.state] = handshake
        return {"authorization_url": url, "state": handshake.state}

    def exchange_code_for_token(
        self, authorization_code: str, redirect_uri: str, state: str, iss: str | None = None
    ) -> dict[str, Any]:
        """Exchange the code that the browser brought back.

        Args:
            authorization_code: The code.
            redirect_uri: Where the browser was sent back to.
            state: What it brought back with the code.
            iss: Likewise, where the service sends it.

        Returns:
            `access_token`, `token_type`, `expires_in`, `refresh_token`, `scope` and `user_id`.

        Raises:
            OAuthError: The service refused, or nobody asked for this.
        """
        with as_oauth_errors("Token exchange failed: "):
            handshake = self._waiting.pop(state, None)
            if handshake is None or handshake.redirect_uri != redirect_uri:
                raise SignInRefused("Nobody asked for this (`state`).")
            answer = {"code": authorization_code, "state": state, **({"iss": iss} if iss else {})}
            grant: Grant = self.run(self.provider.finish(handshake, answer))
        return _tokens(grant.tokens) | {"user_id": grant.profile.subject}

    def get_user_info(self, access_token: str) -> dict[str, Any]:
        """Who the owner of an access token is: `id`, `username`, `name`, `email`, `email_verified`, `picture`.

        Raises:
            OAuthError: The token does not count.
        """
        with as_oauth_errors("Failed to get user info: "):
            return user_info(self.run(self.provider.userinfo(access_token)))

    def refresh_access_token(self, refresh_token: str) -> dict[str, Any]:
        """New tokens: `access_token`, `token_type`, `expires_in`, `refresh_token` and `scope`.

        Raises:
            OAuthError: The refresh token does not count.
        """
        with as_oauth_errors("Token refresh failed: "):
            return _tokens(self.run(self.provider.refresh(refresh_token)))

    def revoke_token(self, token: str) -> dict[str, Any]:
        """Give a token back.

        Raises:
            OAuthError: The service refused.
            ConfigurationError: It has no way to give tokens back.
        """
        with as_oauth_errors("Revocation failed: "):
            self.run(self.provider.revoke(token))
        return {"success": True, "message": "Token revoked"}

    def generate_random_state(self) -> str:
        """A text that nobody can guess."""
        return secrets.token_urlsafe(32)

    def get_oauth_stats(self) -> dict[str, int]:
        """How often what was done."""
        done = self.provider.stats.operations
        finished = done.get("finish", Stats())
        return {
            "authorization_requests": done.get("begin", Stats()).total,
            "token_exchanges": finished.total,
            "successful_logins": finished.succeeded,
            "failed_logins": finished.failed,
        }

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a call of the real provider to its end."""
        with self._starting:
            if not self.provider.started:
                blocking.enter(self.provider)
        return blocking.run(coroutine)


def _provider(name: str, client_id: str, client_secret: str, config: Mapping[str, Any]) -> OAuth2:
    if "issuer" in config:
        return OIDC(config["issuer"], client_id=client_id, client_secret=client_secret, name=name)
    try:
        addresses = [config[f"{what}_endpoint"] for what in ("authorization", "token", "user_info")]
    except KeyError as error:
        raise ConfigurationError(f"The configuration of {name} lacks {error.args[0]}.") from None
    return OAuth2(
        name,
        client_id=client_id,
        client_secret=client_secret,
        authorize=addresses[0],
        token=addresses[1],
        userinfo=addresses[2],
        revoke=config.get("revocation_endpoint", ""),
        mapping=config.get("mapping", MAPPING),
    )


MAPPING: Final = {
    "subject": "id",
    "username": "login",
    "name": "name",
    "email": "email",
    "email_verified": "verified_email",
    "picture": "picture",
}
"""What the chapter's services call the fields."""


def user_info(profile: Profile) -> dict[str, Any]:
    """A profile as the chapter gives it."""
    told = msgspec.structs.asdict(profile)
    return {"id": profile.subject} | {n: told[n] for n in ("username", "name", "email", "email_verified", "picture")}


def _tokens(tokens: ProviderTokens) -> dict[str, Any]:
    names = ("access_token", "token_type", "expires_in", "refresh_token", "scope")
    return {name: getattr(tokens, name) for name in names}


@contextmanager
def as_oauth_errors(prefix: str) -> Iterator[None]:
    """The chapter has one error for all of these."""
    try:
        yield
    except (AuthenticationError, Conflict, NotFound, ProviderFailed) as error:
        raise OAuthError(prefix + error.message) from error
