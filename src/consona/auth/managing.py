"""What whoever runs a service does with accounts."""

from __future__ import annotations

from collections.abc import Iterable

from consona.auth.account import Account
from consona.auth.account_core import AccountCore

__all__ = ["Managing"]


class Managing(AccountCore):
    """Roles, disabled accounts, lockouts."""

    async def set_roles(self, account: str, roles: Iterable[str], *, actor: str = "") -> Account:
        """Give an account other roles. Tokens with the old ones count nowhere a second later.

        Raises:
            NotFound: There is no such account.
        """
        self._require_started()
        with self.observer.operation("set_roles"):
            names = " ".join(self._known_roles(roles))
            return await self._change(account, "roles changed", {"roles": names}, actor=actor, roles=names)

    async def disable(self, account: str, *, actor: str = "") -> Account:
        """Let nobody use an account: its tokens count nowhere a second later, and its sessions are over."""
        self._require_started()
        with self.observer.operation("disable"):
            return await self._change(account, "disabled", {"active": 0}, actor=actor, end_sessions=True)

    async def enable(self, account: str, *, actor: str = "") -> Account:
        """Let an account be used again."""
        self._require_started()
        with self.observer.operation("enable"):
            return await self._change(account, "enabled", {"active": 1}, actor=actor)

    async def locked(self, account: str) -> float:
        """For how many seconds no guess at an account's password is taken; 0.0 where one is."""
        self._require_started()
        with self.observer.operation("locked"):
            return await self._guesses.locked(account)

    async def unlock(self, account: str) -> None:
        """Take guesses again, whatever happened before."""
        self._require_started()
        with self.observer.operation("unlock"):
            await self._guesses.unlock(account)
            await self.audit.note("unlocked", account=account)
