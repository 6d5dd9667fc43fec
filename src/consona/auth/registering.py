"""Making accounts, finding them, and giving them back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable

from consona.auth.account import COLUMNS, Account, Row
from consona.auth.account_core import AccountCore
from consona.auth.links import Purpose
from consona.auth.names import email_key, name_key
from consona.auth.strangers import asked_by_strangers

__all__ = ["Registering"]


class Registering(AccountCore):
    """Accounts themselves."""

    async def register(self, name: str, email: str, password: str, *, roles: Iterable[str] = ()) -> Account:
        """A new account. Where there is a mailer, its address is sent a link that verifies it.

        Args:
            name: 1 to 64 letters and digits of any script, and `._-`.
            email: An e-mail address; empty where there is none.
            password: One that the rules allow.
            roles: What they are. To be given by the program, never taken from a request.

        Raises:
            ValidationError: Something is not well-formed; `PasswordRefused` for the password.
            Conflict: Name or address is taken, or looks like one that is.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "register"):
            key, address = name_key(name), email_key(email) if email else None
            plain = self.rules.check(password, names=self._names(name, email))
            row = self._new_row(name, email, roles, password=await self.hashes.make(plain))
            await self._insert(row, key, address)
            if self.letters is not None and email:
                self.letters.link(row, Purpose.VERIFY, email, ttl=self.settings.verification_ttl)
            return row.account

    async def find(self, name: str) -> Account | None:
        """The account of a name or an e-mail address; None where there is none."""
        self._require_started()
        with self.observer.operation("find") as op:
            row = await self._named(name)
            op.set(found=row is not None)
            return None if row is None else row.account

    async def get(self, account: str) -> Account:
        """The account of this id.

        Raises:
            NotFound: There is none.
        """
        self._require_started()
        with self.observer.operation("get"):
            return (await self._row(account)).account

    async def all(self) -> AsyncGenerator[Account]:
        """All accounts, in the order of their names."""
        self._require_started()
        with self.observer.operation("all"):
            sql = f"SELECT {COLUMNS} FROM consona_accounts ORDER BY name_key"  # noqa: S608
            async with contextlib.aclosing(self.db.stream(sql, into=Row)) as rows:
                async for row in rows:
                    yield row.account
