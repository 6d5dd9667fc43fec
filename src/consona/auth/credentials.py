"""What somebody signs in with, and how its owner changes it: password, second factor, API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from consona.auth.account import Account, Row
from consona.auth.account_core import AccountCore
from consona.auth.api_keys import APIKeyInfo
from consona.auth.errors import LoginFailed
from consona.auth.second_factors import Enrolment
from consona.auth.strangers import asked_by_strangers

if TYPE_CHECKING:
    from consona.sql.transaction import Transaction

__all__ = ["Credentials"]


class Credentials(AccountCore):
    """Passwords, second factors and keys."""

    async def change_password(
        self, account: str, old: str, new: str, *, address: str = "", session: str = ""
    ) -> Account:
        """Set another password; all other sessions are over.

        Args:
            account: The account's id.
            old: The present password. It is guessed at as little as at a login.
            new: One that the rules allow.
            address: The network address of who asks.
            session: The id of the session that goes on.

        Raises:
            LoginFailed: The present password is another one.
            AccountLocked: Too many wrong guesses.
            PasswordRefused: The rules do not allow the new one.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "change_password"):
            row = await self._row(account)
            await self._check_password(row, old, address=address, event="password change failed")
            return await self._set_password(row, new, session=session, actor=row.id, address=address)

    async def set_password(self, account: str, new: str, *, actor: str = "") -> Account:
        """Set a password without knowing the old one: for whoever runs the service. All sessions are over.

        Raises:
            NotFound: There is no such account.
            PasswordRefused: The rules do not allow it.
        """
        self._require_started()
        with self.observer.operation("set_password"):
            return await self._set_password(await self._row(account), new, actor=actor)

    async def _check_password(self, row: Row, password: str, *, address: str, event: str) -> None:
        """Go on only with the present password."""
        await self._guesses.take(row.id, row.name, address=address)
        if not await self.hashes.verify(row.password, password):
            await self.audit.note(event, account=row.id, address=address)
            raise LoginFailed("Current password is incorrect.")
        await self._guesses.forget(row.id, address=address)

    async def _set_password(
        self,
        row: Row,
        new: str,
        *,
        actor: str,
        session: str = "",
        address: str = "",
        also: Callable[[Transaction], Awaitable[None]] | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> Account:
        plain = self.rules.check(new, names=self._names(row.name, row.email), second_factor=bool(row.second_factor))
        kept = await self.hashes.make(plain)

        async def with_it(tx: Transaction) -> None:
            if also is not None:
                await also(tx)
            await self._links.forget(tx, row.id)

        changed = await self._change(
            row.id,
            "password changed",
            {"password": kept, **(columns or {})},
            actor=actor,
            address=address,
            end_sessions=True,
            but=session,
            also=with_it,
        )
        if self.letters is not None:
            self.letters.tell(row, "password_changed")
        return changed

    async def begin_second_factor(self, account: str) -> Enrolment:
        """What an app needs, so that it can make codes. Codes are asked for after `confirm_second_factor`.

        Raises:
            NotFound: There is no such account.
            Conflict: It has a second factor already.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "begin_second_factor"):
            return self._second_factors.begin(await self._row(account))

    async def confirm_second_factor(self, account: str, note: str, code: str, *, address: str = "") -> list[str]:
        """Ask for codes at each sign-in from now on.

        Args:
            account: The account's id.
            note: What `begin_second_factor` gave as `note`.
            code: The first one that the app shows.
            address: The network address of who asks.

        Returns:
            Ten recovery codes, for when the app is lost. They are shown this once; each counts once.

        Raises:
            LoginFailed: The code is wrong.
            AccountLocked: Too many wrong guesses.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "confirm_second_factor"):
            row = await self._row(account)
            await self._guesses.take(row.id, row.name, address=address)
            codes = await self._second_factors.confirm(row, note, code)
            await self._guesses.forget(row.id, address=address)
            return codes

    async def remove_second_factor(self, account: str, code: str, *, address: str = "") -> None:
        """Ask for codes no more; it takes a right one.

        Raises:
            LoginFailed: The code is wrong, or the account has no second factor.
            AccountLocked: Too many wrong guesses.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "remove_second_factor"):
            row = await self._row(account)
            await self._guesses.take(row.id, row.name, address=address)
            if row.second_factor is None or not await self._second_factors.check(row, code):
                raise LoginFailed("The code is wrong, or was used before.")
            await self._guesses.forget(row.id, address=address)
            await self._second_factors.remove(row)

    async def make_key(
        self, account: str, name: str, scopes: Iterable[str], *, ttl: float | None = None
    ) -> tuple[APIKeyInfo, str]:
        """A key for a program that acts in an account's name, and its text, which is shown this once.

        Args:
            account: The account's id.
            name: What its owner calls it.
            scopes: What it is good for, at least one permission or pattern; never more than its owner may do.
            ttl: Seconds that it lives; None for ever.

        Raises:
            NotFound: There is no such account.
            ValidationError: Something is not well-formed, or there are too many keys.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "make_key"):
            await self._row(account)
            return await self.keys.make(account, name, scopes, ttl=ttl)

    async def list_keys(self, account: str) -> list[APIKeyInfo]:
        """The keys of an account, the newest first; not their texts, which nobody has."""
        self._require_started()
        with self.observer.operation("list_keys"):
            return await self.keys.of(account)

    async def remove_key(self, account: str, key: str) -> None:
        """Let a key count no more, in every process within a second.

        Raises:
            NotFound: The account has no such key.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "remove_key"):
            await self.keys.remove(account, key)
