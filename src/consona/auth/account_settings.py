"""What can be set about accounts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from consona.auth.account import Account
from consona.auth.guesses import Lockout
from consona.auth.password_rules import PasswordRules
from consona.auth.passwords import HashCost
from consona.errors import ConfigurationError

__all__ = ["AccountSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """Limits and habits of accounts. Times in seconds."""

    rules: PasswordRules | Literal["nist", "chapter"] = "nist"
    """Which passwords may be chosen."""
    lockout: Lockout = field(default_factory=Lockout)
    session_ttl: float = 30 * 86_400.0
    """A session ends when it was not used for so long."""
    refresh_grace: float = 10.0
    """For so long an exchanged refresh token gives the same successor again, for a client that lost the answer."""
    hash_cost: HashCost | None = None
    """How much work a password's hash is; by default found out on the first start, and kept in the database."""
    hash_workers: int | None = None
    verification_ttl: float = 86_400.0
    """For so long a link counts that shows whose an e-mail address is."""
    reset_ttl: float = 3600.0
    """For so long a link counts with which a new password can be set."""
    claims: Callable[[Account], Mapping[str, Any]] = field(default=lambda account: {"name": account.name})
    """What an access token says beside what it must; whoever has the token can read it."""
    registration: bool = True
    """Whether strangers may make themselves an account at `/auth/register`."""
    new_roles: tuple[str, ...] = ()
    """What an account gets that made itself."""
    secure_cookies: bool = True
    """Cookies over HTTPS only. Off for development on plain HTTP, where a browser insists on it."""
    closed: bool = True
    """Whether all routes of a server need a login, unless they say `public=True`."""

    def __post_init__(self) -> None:
        if not 0 <= self.refresh_grace <= 60 or not self.session_ttl >= 60:
            raise ConfigurationError("AccountSettings: refresh_grace is 0 to 60 seconds, session_ttl 60 or more.")
        if not (60 <= self.reset_ttl <= 86_400 and 60 <= self.verification_ttl <= 30 * 86_400):
            raise ConfigurationError(
                "AccountSettings: reset_ttl is a minute to a day, verification_ttl a minute to thirty days."
            )
