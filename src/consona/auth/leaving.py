"""What is kept of somebody, for them to have; and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from consona.auth.credentials import Credentials
from consona.auth.strangers import asked_by_strangers

if TYPE_CHECKING:
    from consona.sql.transaction import Transaction

__all__ = ["Leaving"]

TABLES: Final = ("consona_sessions", "consona_identities", "consona_api_keys", "consona_links")


class Leaving(Credentials):
    """Export and deletion."""

    async def export(self, account: str) -> dict[str, Any]:
        """All that is known of an account: itself, its sessions, keys, linked services, and what happened. No secrets.

        Returns:
            Plain values, ready to become JSON.

        Raises:
            NotFound: There is no such account.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "export"):
            row = await self._row(account)
            identities = await self.db.fetch_all(
                "SELECT provider, issuer, subject, email, name, linked_at, last_login FROM consona_identities"
                " WHERE account = ?",
                account,
            )
            events = [
                {"at": e.happened_at, "event": e.event, "address": e.address, "detail": e.detail}
                async for e in self.audit.entries(account=account)
            ]
            told: dict[str, Any] = msgspec.to_builtins(
                {
                    "account": row.account,
                    "sessions": await self._sessions.of(account),
                    "keys": await self.keys.of(account),
                    "identities": identities,
                    "events": events,
                }
            )
            return told

    async def leave(self, account: str, password: str, *, address: str = "") -> None:
        """Remove an account at its owner's wish, who shows the password.

        Raises:
            LoginFailed: The password is another one.
            AccountLocked: Too many wrong guesses.
            NotFound: There is no such account.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "leave"):
            row = await self._row(account)
            await self._check_password(row, password, address=address, event="deletion failed")
            await self._delete(account, actor=account, address=address)

    async def delete(self, account: str, *, actor: str = "") -> None:
        """Remove an account with all that belongs to it. Its entries in the audit log stay, with its id.

        Raises:
            NotFound: There is no such account.
        """
        self._require_started()
        with self.observer.operation("delete"):
            await self._delete(account, actor=actor)

    async def _delete(self, account: str, *, actor: str, address: str = "") -> None:
        async def remove(tx: Transaction) -> None:
            row = await self._row(account, tx)
            ended = await self._sessions.end_all(tx, account)
            await self.feed.write(tx, "account", account, version=row.version + 1, until=self._last_token())
            for table in TABLES:
                await tx.execute(f"DELETE FROM {table} WHERE account = ?", account)  # noqa: S608  constants of ours
            await tx.execute("DELETE FROM consona_accounts WHERE id = ?", account)
            await self.audit.append(tx, "deleted", account=account, actor=actor, address=address, sessions=len(ended))

        await self.db.run_in_transaction(remove, name="deleted")
