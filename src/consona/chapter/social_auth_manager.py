"""The chapter's sign-in with other services, over `consona.auth.social`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

from consona import blocking
from consona.auth.account_settings import AccountSettings
from consona.auth.authentication_system import AuthenticationSystem as Accounts
from consona.auth.passwords import LEAST
from consona.auth.social import SocialAuthManager as Social
from consona.auth.social import SocialSession
from consona.chapter.errors import OAuthError
from consona.chapter.jwt_manager import JWTManager
from consona.chapter.narration import think
from consona.chapter.oauth_provider import OAuthProvider, as_oauth_errors, user_info
from consona.sql.database import SQLDatabase
from consona.telemetry.observer import Stats

__all__ = ["SocialAuthManager"]

T = TypeVar("T")

HERE: Final = "http://localhost"
_numbers = itertools.count(1)


class SocialAuthManager:
    """Signs people in with other services; each method waits until it is done.

    Args:
        jwt_manager: Who makes the tokens.
        address: The database of the accounts; by default one in memory, which ends with the program.

    Example:
        >>> import secrets
        >>> social = SocialAuthManager(JWTManager(secrets.token_urlsafe(32)))
        >>> social.get_auth_stats()["total_social_logins"]
        0
    """

    def __init__(self, jwt_manager: JWTManager, address: str = "") -> None:
        self.jwt_manager = jwt_manager
        self.providers: dict[str, OAuthProvider] = {}
        accounts = Accounts(
            SQLDatabase(address or f"sqlite://chapter-social-{next(_numbers)}"),
            jwt_manager.tokens,
            settings=AccountSettings(
                new_roles=("user",),
                hash_cost=LEAST,
                claims=lambda account: {"user_id": account.id, "username": account.name, "email": account.email},
            ),
        )
        self.social = Social(accounts, [], base_url=HERE)
        self._starting = threading.Lock()
        think("Social Auth Manager ready")

    def register_provider(
        self, provider_name: str, client_id: str, client_secret: str, config: Mapping[str, Any]
    ) -> OAuthProvider:
        """Add a service; see `OAuthProvider`.

        Raises:
            ConfigurationError: Its configuration is not possible.
        """
        made = OAuthProvider(provider_name, client_id, client_secret, config)
        self.providers[provider_name] = made
        self.social.providers[made.provider.name] = made.provider
        return made

    def initiate_social_login(
        self, provider_name: str, redirect_uri: str, scope: str | None = None, state: None = None, user_id: str = ""
    ) -> dict[str, str]:
        """Where to send the browser, and what to keep for it.

        Args:
            provider_name: The service.
            redirect_uri: Where it sends the browser back to.
            scope: What is asked for, names with spaces between them.
            state: Not to be given: it is made here.
            user_id: The user who is to be linked with the service; empty for signing in.

        Returns:
            `authorization_url`, `state`, and `note`: keep it with this browser, in a cookie for example.

        Raises:
            OAuthError: There is no such service, or it does not answer.
        """
        if state is not None:
            raise OAuthError("The state is made here, so that nobody can guess it.")
        provider = self._provider(provider_name)
        scopes = None if scope is None else scope.split()
        begin = self.social.begin(provider.provider.name, account=user_id, redirect_uri=redirect_uri, scopes=scopes)
        with as_oauth_errors("Social login failed: "):
            url, note = self._run(provider, begin)
        return {"authorization_url": url, "state": self.social.seal.open_handshake(note).state, "note": note}

    def complete_social_login(
        self,
        provider_name: str,
        authorization_code: str,
        redirect_uri: str,
        state: str,
        note: str,
        iss: str | None = None,
    ) -> dict[str, Any]:
        """Sign in whom the service sent back.

        Args:
            provider_name: The service.
            authorization_code: The code that the browser brought back.
            redirect_uri: Where it was sent back to.
            state: What it brought back with the code.
            note: What was kept with this browser.
            iss: What it brought back, where the service sends it.

        Returns:
            `user`, `token`, `expires_at`, `provider` and `social_user_info`.

        Raises:
            OAuthError: The service refused, or the answer belongs to another question or browser, or the e-mail
                address is that of a user who is there.
        """
        provider = self._provider(provider_name)
        answer = _answer(authorization_code, state, iss)
        with as_oauth_errors("Social login failed: "):
            self._same_place(note, redirect_uri)
            done: SocialSession = self._run(provider, self.social.complete(provider.provider.name, answer, note))
        account = done.session.account
        user = {
            "id": account.id,
            "username": account.name,
            "email": account.email,
            "name": done.profile.name,
            "roles": sorted(account.roles),
            "created_at": account.created_at,
            "last_login": account.last_login,
        }
        return {
            "user": user,
            **self.jwt_manager.noted(done.session.access_token),
            "provider": provider_name,
            "social_user_info": user_info(done.profile),
        }

    def link_social_account(
        self,
        user_id: str,
        provider_name: str,
        authorization_code: str,
        redirect_uri: str,
        state: str,
        note: str,
        iss: str | None = None,
    ) -> dict[str, Any]:
        """Let a user sign in with another service, too; begun with `initiate_social_login(…, user_id=user_id)`.

        Raises:
            OAuthError: As for `complete_social_login`; or somebody else is linked with that identity.
        """
        provider = self._provider(provider_name)
        answer = _answer(authorization_code, state, iss)
        with as_oauth_errors("Account linking failed: "):
            self._same_place(note, redirect_uri)
            self._run(provider, self.social.link(provider.provider.name, answer, note, account=user_id))
        return {"success": True, "message": "Social account linked successfully", "provider": provider_name}

    def get_user_social_accounts(self, user_id: str) -> list[dict[str, Any]]:
        """The services that a user is linked with: `provider`, `social_id`, `name`, `email`, `linked_at` of each."""
        known = {provider.provider.name: name for name, provider in self.providers.items()}
        return [
            {
                "provider": known.get(each.provider, each.provider),
                "social_id": each.subject,
                "name": each.name,
                "email": each.email,
                "linked_at": each.linked_at,
            }
            for each in self._run(None, self.social.identities(user_id))
        ]

    def get_auth_stats(self) -> dict[str, int]:
        """How many sign-ins there were."""
        done = self.social.stats.operations.get("complete", Stats())
        return {
            "total_social_logins": done.total,
            "successful_social_logins": done.succeeded,
            "failed_social_logins": done.failed,
        }

    def close(self) -> None:
        """Close the database now; else that happens when the program ends."""
        blocking.run(self.social.stop())

    def _same_place(self, note: str, redirect_uri: str) -> None:
        if self.social.seal.open_handshake(note).redirect_uri != redirect_uri:
            raise OAuthError("The browser was sent back to another place.")

    def _provider(self, name: str) -> OAuthProvider:
        if name not in self.providers:
            raise OAuthError(f"Provider not registered: {name}")
        return self.providers[name]

    def _run(self, provider: OAuthProvider | None, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._starting:
            if not self.social.started:
                self.jwt_manager.started()
                blocking.enter(self.social)
        return blocking.run(coroutine) if provider is None else provider.run(coroutine)


def _answer(code: str, state: str, iss: str | None) -> dict[str, str]:
    return {"code": code, "state": state, **({"iss": iss} if iss else {})}
