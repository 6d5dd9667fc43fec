"""What all that is done with accounts stands on: the tables, the parts that are started with them, one account's row."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from consona.auth.account import COLUMNS, Account, Row
from consona.auth.account_settings import AccountSettings
from consona.auth.api_keys import APIKeys
from consona.auth.audit import AuditLog
from consona.auth.browser_sessions import BrowserSessions
from consona.auth.devices import Devices
from consona.auth.guesses import Guesses
from consona.auth.jwt_manager import JWTManager
from consona.auth.letters import Letters
from consona.auth.links import Links
from consona.auth.names import email_key, name_key
from consona.auth.oauth.handshake import Seal
from consona.auth.oauth.oauth2 import checked_url
from consona.auth.password_rules import password_rules
from consona.auth.passwords import HashCost, PasswordHashes
from consona.auth.postman import Postman
from consona.auth.revocation_feed import RevocationFeed
from consona.auth.roles import Roles
from consona.auth.schema import prepare
from consona.auth.second_factors import SecondFactors
from consona.auth.sessions import Sessions
from consona.auth.theme import Theme
from consona.errors import ConfigurationError, Conflict, ConstraintFailed, FieldProblem, NotFound, ValidationError
from consona.mail import Mailer
from consona.part import Health, Part, Status
from consona.storage.sweeping import Sweeper
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["AccountCore"]

SWEEP_EVERY_S: Final = 300.0


class AccountCore(Part):
    """Opens and closes what accounts need, reads their rows and changes them."""

    kind: ClassVar[str] = "auth.accounts"

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
        mailer: Mailer | None = None,
        links_to: str = "",
        theme: Theme | None = None,
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
        self._seal = Seal(self._secret("half sign-ins"), clock=clock)
        self.mailer = mailer
        self.theme = theme or Theme()
        self.postman = Postman(self.observer)
        self._links = Links(db, clock=clock)
        self.letters = None if mailer is None else self._write_with(mailer, links_to)
        self._opened: contextlib.AsyncExitStack | None = None
        self._sweeper = Sweeper(self.sweep, pause_s=SWEEP_EVERY_S)

    def _secret(self, purpose: str) -> Callable[[], bytes]:
        def secret() -> bytes:
            if purpose not in self._secrets:
                self._secrets[purpose] = self.tokens.secret_for(f"consona accounts: {purpose}")
            return self._secrets[purpose]

        return secret

    def _write_with(self, mailer: Mailer, links_to: str) -> Letters:
        if not links_to:
            raise ConfigurationError(
                "Mails with links need to know where the links lead.", hint='links_to="https://shop.example/account"'
            )
        return Letters(
            mailer,
            self.postman,
            self._links,
            self._guesses,
            links_to=checked_url(links_to).rstrip("/"),
            service=self.tokens.issuer,
            theme=self.theme,
        )

    async def _open(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for part in (self.db, self.tokens, self.hashes):
                await stack.enter_async_context(part)
            if self.mailer is not None:
                await stack.enter_async_context(self.mailer)
            await prepare(self.db)
            await self.hashes.use(await self._agreed_cost())
            await self.feed.look()
            self.feed.start()
            stack.push_async_callback(self.feed.stop)
            self._sweeper.start()
            stack.push_async_callback(self._sweeper.stop)
            self.postman.start()
            stack.push_async_callback(self.postman.stop)
            self._opened = stack.pop_all()

    async def _close(self) -> None:
        opened, self._opened = self._opened, None
        assert opened is not None
        await opened.aclose()
        self._secrets.clear()

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

    async def sweep(self) -> int:
        """Remove what is over: sessions, counters, revocations. It is done by itself every five minutes."""
        self._require_started()
        with self.observer.operation("sweep") as op:
            removed = await self._sessions.sweep(keep=86_400.0) + await self._guesses.sweep() + await self.feed.sweep()
            removed += await self._links.sweep()
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

    # Rows.

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
        also: Callable[[Transaction], Awaitable[None]] | None = None,
        **detail: Any,
    ) -> Account:
        """A change after which older tokens of the account do not count; `also` is done in the same transaction."""
        changes = ", ".join(f"{column} = :{column}" for column in columns)

        async def change(tx: Transaction) -> Row:
            if also is not None:
                await also(tx)
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

    def _last_token(self) -> float:
        """When the last access token that was issued until now ends by itself."""
        return self._clock() + self.tokens.ttl + self.tokens.settings.leeway + 1
