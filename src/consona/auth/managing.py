"""What whoever runs a service does with accounts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from consona.auth.account import COLUMNS, Account, Row
from consona.auth.account_core import AccountCore

__all__ = ["AccountOverview", "Managing"]


class AccountOverview(msgspec.Struct, frozen=True):
    """An account, and how it stands now."""

    account: Account
    sessions: int
    """In so many places it is signed in."""
    locked_until: float | None
    """Until then no guess at it is taken, from everywhere or from some address."""


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

    async def unlock(self, account: str, *, actor: str = "") -> None:
        """Take guesses again, whatever happened before."""
        self._require_started()
        with self.observer.operation("unlock"):
            await self._guesses.unlock(account)
            await self.audit.note("unlocked", account=account, actor=actor)

    async def overview(self, *, start: str = "", limit: int = 100) -> list[AccountOverview]:
        """Accounts in the order of their names, with how they stand now.

        Args:
            start: From this name on.
            limit: At most so many.
        """
        self._require_started()
        with self.observer.operation("overview"):
            now, full = self._clock(), await self._guesses.full()
            rows = await self.db.fetch_all(
                f"SELECT {COLUMNS} FROM consona_accounts WHERE name_key >= ? ORDER BY name_key LIMIT ?",  # noqa: S608
                start.casefold(),
                limit,
                into=Row,
            )
            marks = ", ".join("?" * len(rows)) or "NULL"
            counts: list[tuple[str, int]] = await self.db.fetch_all(
                f"SELECT account, count(*) FROM consona_sessions WHERE account IN ({marks})"  # noqa: S608  marks alone
                " AND ended_at IS NULL AND expires_at >= ? GROUP BY account",
                *(row.id for row in rows),
                now,
                into=tuple,
            )
            sessions = dict(counts)
            return [AccountOverview(row.account, sessions.get(row.id, 0), full.get(row.id)) for row in rows]
