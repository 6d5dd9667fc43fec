"""Signing in and out: what proves who somebody is, and the session that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from consona.auth.account import Account, Row
from consona.auth.account_core import AccountCore
from consona.auth.claims import Claims
from consona.auth.errors import AccountDisabled, LoginFailed, RefreshRefused, SecondFactorNeeded
from consona.auth.sessions import ReusedError, SessionInfo
from consona.auth.strangers import asked_by_strangers
from consona.errors import NotFound

if TYPE_CHECKING:
    from consona.sql.transaction import Transaction

__all__ = ["Session", "SigningIn"]

HALF_S: Final = 300.0
"""So long somebody may look for the phone after the password was right."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a sign-in gives. What is secret of it is not shown by accident."""

    account: Account
    id: str
    access_token: str = field(repr=False)
    """For each request, `Authorization: Bearer …`; it lives some minutes."""
    refresh_token: str = field(repr=False)
    """For `refresh`, which gives the next two. It counts once."""
    expires_in: float
    """Seconds until the access token's time is over."""
    device: str = field(default="", repr=False)
    """For `authenticate(device=…)` next time: a device that is known is not shut out by others' wrong guesses."""


class SigningIn(AccountCore):
    """Sessions."""

    async def authenticate(
        self, name: str, password: str, *, code: str = "", address: str = "", agent: str = "", device: str = ""
    ) -> Session:
        """Sign in with a password.

        Args:
            name: The account's name or e-mail address.
            password: As it was typed.
            code: Of the second factor, where the account has one: of the app, or a recovery code.
            address: The network address of who asks (`request.client_address`).
            agent: What device it is, for the list of sessions (`User-Agent`).
            device: What an earlier session gave as `device`.

        Raises:
            LoginFailed: No such account, or another password: the same in both cases, and after the same time.
            SecondFactorNeeded: The password is right, and a code is asked for.
            AccountLocked: Too many wrong guesses; `retry_after` says when the next is taken.
            AccountDisabled: The password is right, and the account may not be used.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "authenticate"):
            row = await self._named(name)
            known = self._devices.read(device, row.id) if row is not None else ""
            await self._guesses.take(row.id if row else None, name, address=address, device=known)
            right = await self.hashes.verify(row.password if row else None, password)
            if row is None or not right:
                await self.audit.note("login failed", account=row.id if row else "", address=address)
                raise LoginFailed("Invalid username or password.")
            if row.second_factor is not None and not code:
                raise SecondFactorNeeded("A code is needed, too.", note=self._half(row))
            if row.second_factor is not None:
                await self._check_second_factor(row, code, address=address)
            await self._welcome(row, address=address, device=known)
            again = await self.hashes.make(password) if self.hashes.outdated(row.password or "") else None
            return await self._signed_in(row, address=address, agent=agent, new_hash=again, guessed=known)

    async def authenticate_code(
        self, note: str, code: str, *, address: str = "", agent: str = "", device: str = ""
    ) -> Session:
        """Sign in with a code, where the password was right already.

        Args:
            note: What `SecondFactorNeeded` has as `note`. It counts five minutes.
            code: Of the app, or a recovery code.
            address: The network address of who asks.
            agent: What device it is, for the list of sessions.
            device: What an earlier session gave as `device`.

        Raises:
            LoginFailed: The code is wrong, or the note is none or too old.
            AccountLocked: Too many wrong guesses.
            AccountDisabled: The account may not be used.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "authenticate_code"):
            row = await self._other_half(note)
            known = self._devices.read(device, row.id)
            await self._guesses.take(row.id, row.name, address=address, device=known)
            await self._check_second_factor(row, code, address=address)
            await self._welcome(row, address=address, device=known)
            return await self._signed_in(row, address=address, agent=agent, guessed=known)

    def _half(self, row: Row) -> str:
        told = msgspec.json.encode((row.id, row.version, self._clock() + HALF_S))
        return self._seal.close(told, "half a sign-in")

    async def _other_half(self, note: str) -> Row:
        """The account of a note, if nothing was changed since."""
        try:
            sealed = self._seal.open(note, "half a sign-in")
            account, version, until = msgspec.json.decode(sealed, type=tuple[str, int, float])
            row = await self._row(account)
        except (ValueError, msgspec.DecodeError, NotFound):
            raise LoginFailed("This did not begin here.") from None
        if row.version != version or until < self._clock() or row.second_factor is None:
            raise LoginFailed("This took too long. Sign in again.")
        return row

    async def _welcome(self, row: Row, *, address: str, device: str) -> None:
        """All was right: whoever may not use the account is told so. (Else the guess is forgotten with the sign-in.)"""
        if not row.active:
            await self._guesses.forget(row.id, address=address, device=device)
            await self.audit.note("login refused", account=row.id, address=address, why="disabled")
            raise AccountDisabled("Account is disabled.")

    async def _check_second_factor(self, row: Row, code: str, *, address: str) -> None:
        """Go on only with a right code. The guess that was taken stays taken until then."""
        if not await self._second_factors.check(row, code):
            await self.audit.note("second factor failed", account=row.id, address=address)
            raise LoginFailed("The code is wrong, or was used before.")

    async def _signed_in(
        self,
        row: Row,
        *,
        address: str,
        agent: str,
        new_hash: str | None = None,
        how: str = "password",
        claims: Mapping[str, Any] | None = None,
        guessed: str | None = None,
    ) -> Session:
        """A new session. `guessed` is the known device (or empty) whose guess was right; None where none was taken."""
        now = self._clock()

        async def begin(tx: Transaction) -> tuple[str, str]:
            if guessed is not None:
                await self._guesses.forget(row.id, address=address, device=guessed, tx=tx)
            await tx.execute("UPDATE consona_accounts SET last_login = ? WHERE id = ?", now, row.id)
            if new_hash is not None:
                await tx.execute(
                    "UPDATE consona_accounts SET password = ? WHERE id = ? AND password = ?",
                    new_hash,
                    row.id,
                    row.password,
                )
            begun = await self._sessions.begin(tx, row.id, device=agent, address=address)
            await self.audit.append(tx, "login", account=row.id, address=address, session=begun[0], how=how)
            return begun

        session, refresh = await self.db.run_in_transaction(begin, name="login")
        row.last_login = now
        return self._session(row, session, refresh, device=self._devices.issue(row.id), claims=claims)

    def _session(
        self, row: Row, session: str, refresh: str, *, device: str = "", claims: Mapping[str, Any] | None = None
    ) -> Session:
        token = self.tokens.issue(
            row.id,
            roles=row.role_names,
            session=session,
            version=row.version,
            claims={**self.settings.claims(row.account), **(claims or {})},
        )
        return Session(row.account, session, token.text, refresh, self.tokens.ttl, device)

    async def sign_in(
        self, account: str, *, how: str, address: str = "", agent: str = "", claims: Mapping[str, Any] | None = None
    ) -> Session:
        """Sign in somebody whose identity was proven in another way than by a password.

        Args:
            account: The account's id.
            how: The way, for the audit log: a provider's name.
            address: The network address of who asks.
            agent: What device it is.
            claims: What else the first access token says.

        Raises:
            AccountDisabled: The account may not be used.
            NotFound: There is no such account.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "sign_in"):
            row = await self._row(account)
            if not row.active:
                raise AccountDisabled("Account is disabled.")
            return await self._signed_in(row, address=address, agent=agent, how=how, claims=claims)

    async def refresh(self, refresh_token: str, *, address: str = "") -> Session:
        """Exchange a refresh token for the next one, and a new access token. Account and roles are read anew.

        Args:
            refresh_token: It counts once. Who lost the answer may ask again within some seconds.
            address: The network address of who asks.

        Raises:
            RefreshRefused: It does not count. If it was used before, its session is ended everywhere.
            AccountDisabled: The account may not be used any more.
        """
        self._require_started()
        with asked_by_strangers(self.observer, "refresh"):
            try:
                session, token = await self._sessions.rotate(refresh_token)
            except ReusedError as error:
                await self._end(error.session.account, [error.session.id], "refresh token reused", address=address)
                raise
            try:
                row = await self._row(session.account)
            except NotFound:
                raise RefreshRefused("The session has ended.") from None
            if not row.active:
                raise AccountDisabled("Account is disabled.")
            return self._session(row, session.id, token)

    async def logout(self, session: str | Claims) -> bool:
        """End a session, in every process within a second.

        Args:
            session: Its id, or the claims of one of its access tokens.

        Returns:
            Whether it went on until now.
        """
        self._require_started()
        with self.observer.operation("logout"):
            id_ = session if isinstance(session, str) else session.session
            found = await self._sessions.get(id_)
            return found is not None and bool(await self._end(found.account, [id_], "logout"))

    async def logout_everywhere(self, account: str, *, but: str = "", actor: str = "") -> int:
        """End all sessions of an account, save perhaps one (its id). Returns how many went on until now."""
        self._require_started()
        with self.observer.operation("logout_everywhere"):
            going_on = [each.id for each in await self._sessions.of(account) if each.id != but]
            return await self._end(account, going_on, "logout everywhere", actor=actor) if going_on else 0

    async def _end(
        self, account: str, sessions: Iterable[str], event: str, *, address: str = "", actor: str = ""
    ) -> int:
        async def end(tx: Transaction) -> int:
            ended = [session for session in sessions if await self._sessions.end(tx, session)]
            for session in ended:
                await self.feed.write(tx, "session", session, until=self._last_token())
            if ended:
                await self.audit.append(tx, event, account=account, actor=actor, address=address, sessions=len(ended))
            return len(ended)

        return await self.db.run_in_transaction(end, name=event)

    async def sessions(self, account: str) -> list[SessionInfo]:
        """The sessions of an account that go on, the one used last first."""
        self._require_started()
        with self.observer.operation("sessions"):
            return await self._sessions.of(account)
