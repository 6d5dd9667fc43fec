"""The chapter's accounts, over `consona.auth.authentication_system`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from consona import blocking
from consona.auth.account import Account
from consona.auth.account_settings import AccountSettings
from consona.auth.authentication_system import AuthenticationSystem as Accounts
from consona.auth.errors import AccountLocked
from consona.auth.guesses import Lockout
from consona.auth.password_rules import CHAPTER, PasswordRefused
from consona.auth.passwords import LEAST
from consona.auth.signing_in import Session
from consona.chapter.jwt_manager import JWTManager
from consona.chapter.narration import think
from consona.errors import AuthenticationError, Conflict
from consona.sql.database import SQLDatabase

__all__ = ["AuthenticationSystem"]

T = TypeVar("T")

_SENTENCES: Final = {
    "It needs a special character.": "Password must contain special characters",
    "It needs a number.": "Password must contain at least one number",
    "It needs an uppercase letter.": "Password must contain at least one uppercase letter",
    "It is one that everybody tries first.": "Password is one that everybody tries first",
}
_numbers = itertools.count(1)


class AuthenticationSystem:
    """Accounts with passwords; each method waits until it is done.

    Args:
        jwt_manager: Who makes the tokens.
        address: The database; by default one in memory, of this object alone, which ends with the program.

    Example:
        >>> import secrets
        >>> system = AuthenticationSystem(JWTManager(secrets.token_urlsafe(32)))
        >>> system.register_user("alice", "alice@example.org", "AlicePass123!", ["user"])["roles"]
        ['user']
        >>> system.authenticate_user("alice", "AlicePass123!")["user"]["username"]
        'alice'
    """

    def __init__(self, jwt_manager: JWTManager, address: str = "") -> None:
        self.jwt_manager = jwt_manager
        self.security_settings = {
            "max_login_attempts": 5,
            "lockout_duration": 300,
            "password_min_length": CHAPTER.min_length,
            "require_special_chars": CHAPTER.special,
        }
        self.accounts = Accounts(
            SQLDatabase(address or f"sqlite://chapter-accounts-{next(_numbers)}"),
            jwt_manager.tokens,
            settings=AccountSettings(rules="chapter", lockout=Lockout(hard=True), hash_cost=LEAST, claims=_claims),
        )
        self._starting = threading.Lock()
        think("Authentication System ready")

    def register_user(
        self, username: str, email: str, password: str, roles: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """A new account.

        Returns:
            `user_id`, `username`, `email` and `roles`.

        Raises:
            AuthenticationError: The name or the address is taken, or the password is too weak.
            ValidationError: The name or the address is not well-formed.
        """
        with _as_the_chapter("Password validation failed: "):
            account = self._run(self.accounts.register(username, email, password, roles=roles or ["user"]))
        think("User registered:", username)
        return {"user_id": account.id, "username": account.name, "email": account.email, "roles": sorted(account.roles)}

    def authenticate_user(self, username: str, password: str) -> dict[str, Any]:
        """Sign in.

        Returns:
            `user` (`id`, `username`, `email`, `roles`), `token` and `expires_at`.

        Raises:
            AuthenticationError: Name or password is wrong, the account is disabled, or locked for a while.
        """
        with _as_the_chapter():
            session: Session = self._run(self.accounts.authenticate(username, password))
        return {"user": _user(session.account), **self.jwt_manager.noted(session.access_token)}

    def logout_user(self, token: str) -> dict[str, Any]:
        """End the session of a token.

        Raises:
            AuthenticationError: The token does not count.
        """
        _, claims = self.jwt_manager.verdict(token)
        if claims is None:
            raise AuthenticationError("Invalid token for logout")
        self._run(self.accounts.logout(claims))
        self.jwt_manager.blacklist_token(token)
        return {"success": True, "message": "Logged out successfully"}

    def validate_password(self, password: str) -> dict[str, Any]:
        """Whether a password may be chosen: `valid`, and the first `error` where it may not."""
        problems = CHAPTER.problems(password)
        return {"valid": False, "error": _sentence(problems[0])} if problems else {"valid": True}

    def hash_password(self, password: str) -> str:
        """The hash of a password (Argon2id), with a salt of its own: two of one password differ."""
        return self._run(self.accounts.hashes.make(password))

    def verify_password(self, password: str, password_hash: str) -> bool:
        """Whether a hash was made of this password."""
        return self._run(self.accounts.hashes.verify(password_hash, password))

    def is_user_locked_out(self, username: str) -> bool:
        """Whether no guess at this account is taken now."""
        account = self._find(username)
        return account is not None and self._run(self.accounts.locked(account.id)) > 0

    def get_user_info(self, username: str) -> dict[str, Any] | None:
        """What is known of a user, without the password's hash; None where there is none."""
        account = self._find(username)
        if account is None:
            return None
        times = {"created_at": account.created_at, "last_login": account.last_login, "active": account.active}
        return _user(account) | times

    def change_password(self, username: str, old_password: str, new_password: str) -> dict[str, Any]:
        """Set another password. All sessions of the user end.

        Raises:
            AuthenticationError: There is no such user, the old password is wrong, or the new one too weak.
        """
        account = self._find(username)
        if account is None:
            raise AuthenticationError("User not found")
        with _as_the_chapter("New password validation failed: "):
            self._run(self.accounts.change_password(account.id, old_password, new_password))
        return {"success": True, "message": "Password changed successfully"}

    def close(self) -> None:
        """Close the database now; else that happens when the program ends."""
        blocking.run(self.accounts.stop())

    def _find(self, username: str) -> Account | None:
        return self._run(self.accounts.find(username))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._starting:
            if not self.accounts.started:
                self.jwt_manager.started()
                blocking.enter(self.accounts)
        return blocking.run(coroutine)


def _claims(account: Account) -> dict[str, Any]:
    return {"user_id": account.id, "username": account.name, "email": account.email}


def _user(account: Account) -> dict[str, Any]:
    return {"id": account.id, "username": account.name, "email": account.email, "roles": sorted(account.roles)}


@contextmanager
def _as_the_chapter(prefix: str = "") -> Iterator[None]:
    """The chapter has one error for all of these."""
    try:
        yield
    except (AccountLocked, Conflict) as error:
        raise AuthenticationError(error.message, retry_after=error.retry_after) from error
    except PasswordRefused as error:
        raise AuthenticationError(prefix + _sentence(error.fields[0].message)) from error


def _sentence(problem: str) -> str:
    return "Password too short" if "at least" in problem else _SENTENCES.get(problem, problem)
