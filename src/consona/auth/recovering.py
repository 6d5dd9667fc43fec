"""What mails are for: to show whose an address is, and to get back into an account without its password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consona.auth.account import Account, Row
from consona.auth.credentials import Credentials
from consona.auth.errors import AccountDisabled, LinkRefused
from consona.auth.letters import Letters
from consona.auth.links import Link, Purpose
from consona.auth.names import email_key
from consona.auth.strangers import asked_by_strangers
from consona.errors import ConfigurationError, Conflict, ConstraintFailed

if TYPE_CHECKING:
    from consona.sql.transaction import Transaction

__all__ = ["Recovering"]


class Recovering(Credentials):
    """E-mail addresses and lost passwords. All of it needs a `Mailer`."""

    async def send_verification(self, account: str) -> None:
        """Send a link to an account's address; who follows it has shown that the address is theirs.

        Raises:
            NotFound: There is no such account.
            Conflict: It has no address, or the address was verified already.
            ConfigurationError: There is no `mailer=`.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "send_verification"):
            letters, row = self._letters(), await self._row(account)
            if not row.email or row.email_verified is not None:
                raise Conflict("There is no address to be verified.", hint="Set one with change_email().")
            letters.link(row, Purpose.VERIFY, row.email, ttl=self.settings.verification_ttl)

    async def change_email(self, account: str, email: str, password: str, *, address: str = "") -> None:
        """Begin to give an account another address: it is set once the link that is sent to it was followed.

        Args:
            account: The account's id.
            email: The new address.
            password: The present password. It is guessed at as little as at a login.
            address: The network address of who asks.

        Raises:
            ValidationError: This is no address.
            LoginFailed: The password is another one.
            AccountLocked: Too many wrong guesses.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "change_email"):
            letters, row = self._letters(), await self._row(account)
            email_key(email)
            await self._check_password(row, password, address=address, event="email change failed")
            letters.link(row, Purpose.VERIFY, email, ttl=self.settings.verification_ttl)

    async def verify_email(self, token: str, *, address: str = "") -> Account:
        """Take a link that was sent to an address as proof that it is its account's.

        Args:
            token: What the link has as `token`.
            address: The network address of who asks.

        Raises:
            LinkRefused: It does not count, or not any more.
            AccountLocked: Too many wrong tokens from this address.
            Conflict: The address is another account's by now.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "verify_email"):
            link = await self._link(token, Purpose.VERIFY, address=address)
            before = await self._row(link.account)

            async def verify(tx: Transaction) -> Row:
                await self._links.spend(tx, link)
                await tx.execute(
                    "UPDATE consona_accounts SET email = ?, email_key = ?, email_verified = ? WHERE id = ?",
                    link.email,
                    email_key(link.email),
                    self._clock(),
                    link.account,
                )
                if link.email != before.email:
                    await self._links.forget(tx, link.account)
                await self.audit.append(tx, "email verified", account=link.account, address=address)
                return await self._row(link.account, tx)

            try:
                row = await self.db.run_in_transaction(verify, name="verify email")
            except ConstraintFailed:
                raise Conflict("There is an account with this e-mail address.", field="email") from None
            if row.email != before.email and before.email_verified is not None:
                self._letters().tell(before, "email_changed")
            return row.account

    async def forgot_password(self, email: str, *, address: str = "") -> None:
        """Send a link with which a new password can be set, if there is such an account. Nobody is told whether.

        An account is sent five such mails in an hour at most.

        Args:
            email: The account's e-mail address, or its name.
            address: The network address of who asks.

        Raises:
            AccountLocked: Too many questions from this network address.
            ConfigurationError: There is no `mailer=`.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "forgot_password"):
            letters = self._letters()
            await self._guesses.ask(address)
            row = await self._named(email)
            await self.audit.note("reset asked", account=row.id if row else "", address=address)
            # To the address that the account has, not to the one that was typed: they may only look the same.
            if row is not None and row.email and row.active:
                letters.link(row, Purpose.RESET, row.email, ttl=self.settings.reset_ttl)

    async def reset_password(self, token: str, new: str, *, address: str = "") -> Account:
        """Set a new password with a link that was sent. All sessions are over; a second factor is asked for as before.

        Where the address had never been verified, whoever made the account may have been somebody else: keys, linked
        services and the second factor are removed then.

        Args:
            token: What the link has as `token`.
            new: A password that the rules allow.
            address: The network address of who asks.

        Raises:
            LinkRefused: The link does not count, or not any more.
            AccountLocked: Too many wrong tokens from this address.
            PasswordRefused: The rules do not allow the password. The link still counts.
            AccountDisabled: The account may not be used.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "reset_password"):
            link = await self._link(token, Purpose.RESET, address=address)
            row = await self._row(link.account)
            if not row.active:
                raise AccountDisabled("Account is disabled.")
            columns = {} if row.email_verified is not None else {"email_verified": self._clock()}

            async def claim(tx: Transaction) -> None:
                await self._links.spend(tx, link)
                if row.email_verified is None:
                    await self._take_over(tx, row)

            changed = await self._set_password(row, new, actor=row.id, address=address, also=claim, columns=columns)
            await self._guesses.unlock(row.id)
            return changed

    async def _take_over(self, tx: Transaction, row: Row) -> None:
        """Remove every other way in of an account that was made with an address that nobody had verified.

        Source: A. Sudhodanan, A. Paverd, "Pre-hijacked accounts", USENIX Security 2022.
        """
        await tx.execute("DELETE FROM consona_api_keys WHERE account = ?", row.id)
        await tx.execute("DELETE FROM consona_identities WHERE account = ?", row.id)
        await tx.execute(
            "UPDATE consona_accounts SET second_factor = NULL, second_factor_step = 0, recovery_codes = '' WHERE id = ?",
            row.id,
        )

    async def _link(self, token: str, purpose: Purpose, *, address: str) -> Link:
        await self._guesses.take_link(address)
        link = await self._links.find(token, purpose)
        if link is None:
            await self.audit.note("link refused", address=address, purpose=purpose.value)
            raise LinkRefused("This link does not count (any more).")
        await self._guesses.forget_link(address)
        return link

    def _letters(self) -> Letters:
        if self.letters is None:
            raise ConfigurationError(
                f"{self.name} has no way to send mails.", hint="AuthenticationSystem(db, tokens, mailer=…, links_to=…)"
            )
        return self.letters
