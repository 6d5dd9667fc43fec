"""Accounts for tests: a real database, hashes of the least cost, and a clock that is moved by hand."""

from __future__ import annotations

from consona.auth.account_settings import AccountSettings
from consona.auth.authentication_system import AuthenticationSystem
from consona.auth.jwt_manager import JWTManager
from consona.auth.keys import SigningKey
from consona.auth.passwords import LEAST
from consona.sql.database import SQLDatabase

PASSWORD = "correct horse battery staple"
NEW_PASSWORD = "a sentence that I keep in mind"


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


KEY = SigningKey.generate(signs_from=0)


def accounts_at(
    url: str, clock: Clock | None = None, *, keys=None, roles=None, mailer=None, links_to="", theme=None, **settings
) -> AuthenticationSystem:
    """Accounts at an address; two of them at one address are like two processes (each has its own revocations)."""
    settings.setdefault("hash_cost", LEAST)
    settings.setdefault("hash_workers", 2)
    more = {} if clock is None else {"clock": clock}
    tokens = JWTManager(KEY if keys is None else keys, issuer="shop", **more)
    more |= {"mailer": mailer, "links_to": links_to, "theme": theme}
    return AuthenticationSystem(SQLDatabase(url), tokens, roles=roles, settings=AccountSettings(**settings), **more)
