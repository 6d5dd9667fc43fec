"""Accounts: who may sign in, what they may do, and what they are doing.

    accounts = AuthenticationSystem(db, tokens)
    async with db, accounts:
        await accounts.register("alice", "alice@example.org", password, roles=["admin"])
        session = await accounts.authenticate("alice", password)
        session = await accounts.refresh(session.refresh_token)

It is the guard of a server, too: `api.secure(accounts)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec

from consona.auth.account import COLUMNS, Account, Row
from consona.auth.account_guard import AccountGuard
from consona.auth.api_keys import APIKeyInfo, APIKeys
from consona.auth.audit import AuditLog
from consona.auth.browser_sessions import BrowserSessions
from consona.auth.claims import Claims
from consona.auth.devices import Devices
from consona.auth.errors import AccountDisabled, LoginFailed, RefreshRefused, SecondFactorNeeded
from consona.auth.guesses import Guesses, Lockout
from consona.auth.jwt_manager import JWTManager
from consona.auth.names import email_key, name_key
from consona.auth.password_rules import PasswordRules, password_rules
from consona.auth.passwords import HashCost, PasswordHashes
from consona.auth.revocation_feed import RevocationFeed
from consona.auth.roles import Roles
from consona.auth.schema import prepare
from consona.auth.second_factors import Enrolment, SecondFactors
from consona.auth.sessions import ReusedError, SessionInfo, Sessions
from consona.auth.strangers import asked_by_strangers
from consona.errors import ConfigurationError, Conflict, ConstraintFailed, FieldProblem, NotFound, ValidationError
from consona.part import Health, Part, Status
from consona.rest.server.guards import Identity
from consona.rest.server.requests import Request
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["AccountSettings", "AuthenticationSystem", "Session"]

SWEEP_EVERY_S: Final = 300.0


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


class AuthenticationSystem(Part):
    """Accounts in a database, with sessions that can be ended everywhere within a second.

    Args:
        db: Where they are kept, in tables of its own (`consona_…`). It is started with this part.
        tokens: Who makes access tokens. It is started with this part.
        roles: What each role may do.
        settings: Limits and habits.
        clock: Seconds since the epoch.

    Example:
        >>> from consona import JWTManager, SigningKey, SQLDatabase
        >>> async def main():
        ...     tokens = JWTManager(SigningKey.generate(), issuer="shop")
        ...     async with AuthenticationSystem(SQLDatabase("sqlite://accounts-example"), tokens) as accounts:
        ...         await accounts.register("alice", "alice@example.org", "correct horse battery staple")
        ...         session = await accounts.authenticate("alice", "correct horse battery staple")
        ...         return session.account.name, accounts.tokens.verify(session.access_token).session == session.id
        >>> asyncio.run(main())
        ('alice', True)
    """

    kind: ClassVar[str] = "auth.accounts"
    challenge = "Bearer"

    def __init__(
        self,
        db: SQLDatabase,
        tokens: JWTManager,
        *,
        roles: Roles | None = None,
        settings: AccountSettings | None = None,
        name: str = "accounts",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        self.db = db
        self.tokens = tokens
        self.roles = roles or Roles()
        self.settings = settings or AccountSettings()
        self.rules = password_rules(self.settings.rules)
        self.closed = self.settings.closed
        self._clock = clock
        self._secrets: dict[str, bytes] = {}
        self.hashes = PasswordHashes(
            cost=self.settings.hash_cost, workers=self.settings.hash_workers, name=f"{name}: passwords"
        )
        self.audit = AuditLog(db, secret=self._secret("audit"), clock=clock)
        self.feed = RevocationFeed(db, tokens.revocations, clock=clock)
        self._guesses = Guesses(db, self.settings.lockout, secret=self._secret("guesses"), clock=clock)
        self._devices = Devices(self._secret("devices"), clock=clock)
        self._sessions = Sessions(
            db,
            secret=self._secret("refresh"),
            ttl=self.settings.session_ttl,
            grace=self.settings.refresh_grace,
            clock=clock,
        )
        self.browsers = BrowserSessions(
            db,
            tokens.revocations,
            issuer=tokens.issuer,
            secret=self._secret("browsers"),
            ttl=self.settings.session_ttl,
            secure=self.settings.secure_cookies,
            clock=clock,
        )
        self.keys = APIKeys(db, tokens.revocations, self.feed, self.audit, issuer=tokens.issuer, clock=clock)
        self._second_factors = SecondFactors(
            db, self.audit, issuer=tokens.issuer, secret=self._secret("second factors"), clock=clock
        )
        self._guard = AccountGuard(self)
        self._opened: contextlib.AsyncExitStack | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _secret(self, purpose: str) -> Callable[[], bytes]:
        def secret() -> bytes:
            if purpose not in self._secrets:
                self._secrets[purpose] = self.tokens.secret_for(f"consona accounts: {purpose}")
            return self._secrets[purpose]

        return secret

    # Its life.

    async def _open(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for part in (self.db, self.tokens, self.hashes):
                await stack.enter_async_context(part)
            await prepare(self.db)
            await self.hashes.use(await self._agreed_cost())
            await self.feed.look()
            self._tasks = [asyncio.create_task(self.feed.follow()), asyncio.create_task(self._sweep())]
            self._opened = stack.pop_all()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._secrets.clear()
        opened, self._opened = self._opened, None
        assert opened is not None
        await opened.aclose()

    async def _agreed_cost(self) -> HashCost:
        """The cost of hashes that all processes use: the one in the database, unless this machine can do far more."""
        mine = self.hashes.cost

        async def agree(tx: Transaction) -> HashCost:
            kept = await tx.fetch_value("SELECT value FROM consona_auth_settings WHERE name = 'hash_cost'")
            agreed = mine
            if kept is not None:
                known = msgspec.json.decode(kept, type=HashCost)
                if self.settings.hash_cost is None and mine.work < 1.5 * known.work:
                    agreed = known
                if agreed == known:
                    return agreed
            await tx.execute("DELETE FROM consona_auth_settings WHERE name = 'hash_cost'")
            told = msgspec.json.encode(agreed).decode()
            await tx.execute("INSERT INTO consona_auth_settings VALUES ('hash_cost', ?)", told)
            return agreed

        try:
            return await self.db.run_in_transaction(agree, name="cost of hashes")
        except ConstraintFailed:  # another process was first
            return await self.db.run_in_transaction(agree, name="cost of hashes")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            with contextlib.suppress(Exception):  # what was not removed now is removed the next time
                await self.sweep()

    async def sweep(self) -> int:
        """Remove what is over: sessions, counters, revocations. It is done by itself every five minutes."""
        self._require_started()
        with self.observer.operation("sweep") as op:
            removed = await self._sessions.sweep(keep=86_400.0) + await self._guesses.sweep() + await self.feed.sweep()
            op.set(removed=removed)
            return removed

    async def check(self) -> Health:
        """Up where the database answers and revocations are heard in time."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        if self.feed.stale:
            return Health(Status.DEGRADED, "It is not known which tokens were taken back lately.")
        return await self.db.check()

    def detail(self) -> dict[str, Any]:
        return {"revocations": len(self.tokens.revocations), "stale": self.started and self.feed.stale}

    # Accounts.

    async def register(self, name: str, email: str, password: str, *, roles: Iterable[str] = ()) -> Account:
        """A new account.

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
            return row.account

    def _new_row(
        self,
        name: str,
        email: str,
        roles: Iterable[str],
        *,
        password: str | None = None,
        email_verified: float | None = None,
    ) -> Row:
        return Row(
            id=secrets.token_urlsafe(12).replace("_", "-"),
            name=name,
            email=email,
            email_verified=email_verified,
            password=password,
            roles=" ".join(self._known_roles(roles)),
            version=0,
            active=1,
            second_factor=None,
            second_factor_step=0,
            recovery_codes="",
            created_at=self._clock(),
            last_login=None,
        )

    async def _insert(
        self, row: Row, key: str, address: str | None, *, also: Callable[[Transaction], Awaitable[None]] | None = None
    ) -> None:
        values = {"name_key": key, "email_key": address, **msgspec.structs.asdict(row)}
        columns, marks = ", ".join(values), ", ".join(f":{column}" for column in values)

        async def insert(tx: Transaction) -> None:
            await tx.execute(f"INSERT INTO consona_accounts ({columns}) VALUES ({marks})", values)  # noqa: S608
            await self.audit.append(tx, "registered", account=row.id, roles=row.roles)
            if also is not None:
                await also(tx)

        try:
            await self.db.run_in_transaction(insert, name="register")
        except ConstraintFailed:
            taken = await self.db.fetch_value("SELECT 1 FROM consona_accounts WHERE name_key = ?", key)
            which = "name" if taken else "email"
            raise Conflict(
                "Username already exists." if taken else "There is an account with this e-mail address.", field=which
            ) from None

    def _known_roles(self, roles: Iterable[str]) -> list[str]:
        if isinstance(roles, str):
            raise ValidationError("roles= is several names, not one text.", hint='roles=["editor"]')
        names = sorted(set(roles))
        for role in names:
            if not role or len(role) > 64 or not role.isprintable() or " " in role:
                raise ValidationError(
                    "A role is a name without spaces.", fields=[FieldProblem("roles", "has a bad name")]
                )
        return names

    def _names(self, *names: str) -> list[str]:
        return [*names, self.tokens.issuer, *self.tokens.audience]

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

    async def _row(self, account: str, tx: Transaction | None = None) -> Row:
        where = self.db if tx is None else tx
        row = await where.fetch_one(f"SELECT {COLUMNS} FROM consona_accounts WHERE id = ?", account, into=Row)  # noqa: S608
        if row is None:
            raise NotFound("There is no such account.")
        return row

    async def _named(self, name: str) -> Row | None:
        try:
            column, key = ("email_key", email_key(name)) if "@" in name else ("name_key", name_key(name))
        except ValidationError:
            return None
        return await self.db.fetch_one(f"SELECT {COLUMNS} FROM consona_accounts WHERE {column} = ?", key, into=Row)  # noqa: S608

    # Signing in and out.

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
            if row.second_factor is not None:
                await self._check_second_factor(row, code, address=address)
            await self._guesses.forget(row.id, address=address, device=known)
            if not row.active:
                await self.audit.note("login refused", account=row.id, address=address, why="disabled")
                raise AccountDisabled("Account is disabled.")
            again = await self.hashes.make(password) if self.hashes.outdated(row.password or "") else None
            return await self._signed_in(row, address=address, agent=agent, new_hash=again)

    async def _check_second_factor(self, row: Row, code: str, *, address: str) -> None:
        """Go on only with a right code. The guess that was taken stays taken until then."""
        if not code:
            raise SecondFactorNeeded("A code is needed, too.")
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
    ) -> Session:
        now = self._clock()

        async def begin(tx: Transaction) -> tuple[str, str]:
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

    async def logout_everywhere(self, account: str, *, but: str = "") -> int:
        """End all sessions of an account, save perhaps one (its id). Returns how many went on until now."""
        self._require_started()
        with self.observer.operation("logout_everywhere"):
            going_on = [each.id for each in await self._sessions.of(account) if each.id != but]
            return await self._end(account, going_on, "logout everywhere") if going_on else 0

    async def _end(self, account: str, sessions: Iterable[str], event: str, *, address: str = "") -> int:
        async def end(tx: Transaction) -> int:
            ended = [session for session in sessions if await self._sessions.end(tx, session)]
            for session in ended:
                await self.feed.write(tx, "session", session, until=self._last_token())
            if ended:
                await self.audit.append(tx, event, account=account, address=address, sessions=len(ended))
            return len(ended)

        return await self.db.run_in_transaction(end, name=event)

    def _last_token(self) -> float:
        """When the last access token that was issued until now ends by itself."""
        return self._clock() + self.tokens.ttl + self.tokens.settings.leeway + 1

    async def sessions(self, account: str) -> list[SessionInfo]:
        """The sessions of an account that go on, the one used last first."""
        self._require_started()
        with self.observer.operation("sessions"):
            return await self._sessions.of(account)

    # Second factors.

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

    # API keys.

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

    # Changing accounts.

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
            await self._guesses.take(row.id, row.name, address=address)
            if not await self.hashes.verify(row.password, old):
                await self.audit.note("password change failed", account=row.id, address=address)
                raise LoginFailed("Current password is incorrect.")
            await self._guesses.forget(row.id, address=address)
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

    async def _set_password(self, row: Row, new: str, *, actor: str, session: str = "", address: str = "") -> Account:
        plain = self.rules.check(new, names=self._names(row.name, row.email), second_factor=bool(row.second_factor))
        kept = await self.hashes.make(plain)
        return await self._change(
            row.id, "password changed", {"password": kept}, actor=actor, address=address, end_sessions=True, but=session
        )

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

    async def delete(self, account: str, *, actor: str = "") -> None:
        """Remove an account with its sessions. Its entries in the audit log stay, with its id.

        Raises:
            NotFound: There is no such account.
        """
        self._require_started()
        with self.observer.operation("delete"):
            await self._change(account, "deleted", {"active": 0}, actor=actor, end_sessions=True)
            await self.db.execute("DELETE FROM consona_sessions WHERE account = ?", account)
            await self.db.execute("DELETE FROM consona_identities WHERE account = ?", account)
            await self.db.execute("DELETE FROM consona_api_keys WHERE account = ?", account)
            await self.db.execute("DELETE FROM consona_accounts WHERE id = ?", account)

    async def _change(
        self,
        account: str,
        event: str,
        columns: dict[str, Any],
        *,
        actor: str = "",
        address: str = "",
        end_sessions: bool = False,
        but: str = "",
        **detail: Any,
    ) -> Account:
        """A change after which older tokens of the account do not count."""
        changes = ", ".join(f"{column} = :{column}" for column in columns)

        async def change(tx: Transaction) -> Row:
            await tx.execute(
                f"UPDATE consona_accounts SET version = version + 1, {changes} WHERE id = :id",  # noqa: S608
                columns | {"id": account},
            )
            row = await self._row(account, tx)
            ended = await self._sessions.end_all(tx, account, but=but) if end_sessions else []
            await self.feed.write(tx, "account", account, version=row.version, until=self._last_token())
            await self.audit.append(
                tx, event, account=account, actor=actor, address=address, sessions=len(ended), **detail
            )
            return row

        return (await self.db.run_in_transaction(change, name=event)).account

    # As the guard of a server; see `AccountGuard`.

    def attach(self, api: APIServer) -> None:
        """Start with the server, and add the routes of accounts; called by `api.secure(accounts)`."""
        self._guard.attach(api)

    async def identify(self, request: Request) -> Identity | None:
        """Who a request's credentials belong to."""
        return await self._guard.identify(request)

    def allows(self, identity: Identity, roles: frozenset[str], scopes: frozenset[str]) -> bool:
        """Whether they have one of `roles` and all of `scopes`."""
        return self._guard.allows(identity, roles, scopes)

    async def user(self, identity: Identity, kind: type[Any]) -> Any:
        """The account, as the type that a handler declares."""
        return await self._guard.user(identity, kind)

    def security_schemes(self) -> dict[str, Any]:
        """For the OpenAPI document."""
        return self._guard.security_schemes()
