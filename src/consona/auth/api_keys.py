"""API keys: for programs that act in somebody's name, limited to some scopes. Kept as hashes, shown once.

A key is `cak_ID_SECRET`: the beginning tells people and scanners what it is, the id names it in lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from consona.auth.claims import Claims
from consona.auth.errors import TokenExpired, TokenInvalid, TokenRevoked
from consona.auth.revocations import Revocations
from consona.auth.roles import check_pattern
from consona.errors import FieldProblem, NotFound, ValidationError

if TYPE_CHECKING:
    from consona.auth.audit import AuditLog
    from consona.auth.revocation_feed import RevocationFeed
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["APIKeyInfo", "APIKeys", "is_api_key"]

PREFIX: Final = "cak_"
REMEMBER_S: Final = 30.0
REMEMBERED: Final = 10_000
USED_EVERY_S: Final = 60.0
MAX_KEYS: Final = 100
_KEY: Final = re.compile(r"cak_([A-Za-z0-9-]{12})_([A-Za-z0-9_-]{43})")


class APIKeyInfo(msgspec.Struct, frozen=True):
    """What is known of a key; not the key."""

    id: str
    name: str
    scopes: list[str]
    created_at: float
    expires_at: float | None
    last_used: float | None
    """Within a minute."""


class _Row(msgspec.Struct):
    id: str
    account: str
    hash: str
    scopes: str
    expires_at: float | None
    last_used: float | None
    roles: str
    version: int
    active: int


class APIKeys:
    """The keys of all accounts."""

    def __init__(
        self,
        db: SQLDatabase,
        revocations: Revocations,
        feed: RevocationFeed,
        audit: AuditLog,
        *,
        issuer: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._revocations = revocations
        self._feed = feed
        self._audit = audit
        self._issuer = issuer
        self._clock = clock
        self._known: OrderedDict[str, tuple[Claims, float]] = OrderedDict()

    async def make(
        self, account: str, name: str, scopes: Iterable[str], *, ttl: float | None = None
    ) -> tuple[APIKeyInfo, str]:
        """A new key, and its text, which is nowhere kept.

        Args:
            account: In whose name it acts.
            name: What its owner calls it.
            scopes: What it is good for: permissions or patterns, at least one; `*` for all that its owner may do.
            ttl: Seconds that it lives; None for ever.

        Raises:
            ValidationError: A scope or the name is not well-formed, or there are 100 keys already.
        """
        named = [] if isinstance(scopes, str) else sorted(set(scopes))
        if not named or len(named) > 50 or not all(check_pattern(scope) for scope in named):
            raise ValidationError(
                "A key has one scope or more.", fields=[FieldProblem("scopes", "expected permissions like posts:read")]
            )
        if not 1 <= len(name) <= 100 or not name.isprintable():
            raise ValidationError("A key has a name.", fields=[FieldProblem("name", "1 to 100 printable characters")])
        if ttl is not None and not 1 <= ttl <= 10 * 366 * 86_400:
            raise ValidationError("A key lives 1 second to ten years.", fields=[FieldProblem("ttl", "is out of range")])
        now = self._clock()
        id_ = secrets.token_urlsafe(9).replace("_", "-")
        text = f"{PREFIX}{id_}_{secrets.token_urlsafe(32)}"
        info = APIKeyInfo(id_, name, named, now, None if ttl is None else now + ttl, None)

        async def insert(tx: Transaction) -> None:
            if await tx.fetch_value("SELECT count(*) FROM consona_api_keys WHERE account = ?", account) >= MAX_KEYS:
                raise ValidationError(f"An account has at most {MAX_KEYS} keys.", hint="Remove one that is not used.")
            await tx.execute(
                "INSERT INTO consona_api_keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                id_,
                account,
                name,
                _hash(text),
                " ".join(named),
                now,
                info.expires_at,
            )
            await self._audit.append(tx, "key made", account=account, key=id_, scopes=" ".join(named))

        await self._db.run_in_transaction(insert, name="key")
        return info, text

    async def of(self, account: str) -> list[APIKeyInfo]:
        """The keys of an account, the newest first."""
        rows = await self._db.fetch_all(
            "SELECT id, name, scopes, created_at, expires_at, last_used FROM consona_api_keys"
            " WHERE account = ? ORDER BY created_at DESC",
            account,
        )
        return [APIKeyInfo(**(row | {"scopes": row["scopes"].split()})) for row in rows]

    async def remove(self, account: str, key: str) -> None:
        """Let a key count no more, in every process within a second.

        Raises:
            NotFound: The account has no such key.
        """

        async def delete(tx: Transaction) -> None:
            done = await tx.execute("DELETE FROM consona_api_keys WHERE id = ? AND account = ?", key, account)
            if not done.rows:
                raise NotFound("There is no such key.")
            await self._feed.write(tx, "token", key, until=self._clock() + 2 * REMEMBER_S)
            await self._audit.append(tx, "key removed", account=account, key=key)

        await self._db.run_in_transaction(delete, name="key")

    async def identify(self, text: str) -> Claims:
        """Whose key it is, and what for.

        Raises:
            TokenInvalid: It is none of ours; `TokenExpired` and `TokenRevoked` are special cases.
        """
        now = self._clock()
        known = self._known.get(text)
        if known is None or not 0 <= now - known[1] < REMEMBER_S:
            known = await self._look(text, now)
        if self._revocations.cover(known[0]):
            known = await self._look_again(text, now)
        claims = known[0]
        if now >= claims.expires_at:
            raise TokenExpired("The key's time is over.")
        return claims

    async def _look_again(self, text: str, now: float) -> tuple[Claims, float]:
        """The key was removed, or its account was changed and it goes on with what holds now."""
        with contextlib.suppress(TokenInvalid):
            known = await self._look(text, now)
            if not self._revocations.cover(known[0]):
                return known
        raise TokenRevoked("The key was removed, or its account was disabled.")

    async def _look(self, text: str, now: float) -> tuple[Claims, float]:
        parts = _KEY.fullmatch(text)
        row = None
        if parts is not None:
            row = await self._db.fetch_one(
                "SELECT k.id, k.account, k.hash, k.scopes, k.expires_at, k.last_used, a.roles, a.version, a.active"
                " FROM consona_api_keys k JOIN consona_accounts a ON a.id = k.account WHERE k.id = ?",
                parts[1],
                into=_Row,
            )
        if row is None or not hmac.compare_digest(row.hash, _hash(text)) or not row.active:
            raise TokenInvalid("This key is not one of ours.")
        if row.last_used is None or now - row.last_used >= USED_EVERY_S:
            await self._db.execute("UPDATE consona_api_keys SET last_used = ? WHERE id = ?", now, row.id)
        claims = Claims(
            subject=row.account,
            id=row.id,
            issuer=self._issuer,
            audience=(self._issuer,),
            issued_at=now,
            not_before=now,
            expires_at=float("inf") if row.expires_at is None else row.expires_at,
            roles=frozenset(row.roles.split()),
            scopes=frozenset(row.scopes.split()),
            version=row.version,
            _payload=msgspec.json.encode({"sub": row.account, "jti": row.id, "scope": row.scopes}),
        )
        self._known[text] = claims, now
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return claims, now


def is_api_key(text: str) -> bool:
    """Whether credentials are a key rather than a token."""
    return text.startswith(PREFIX)


def _hash(text: str) -> str:
    # 256 bits of chance need no slow hash.
    return hashlib.sha256(text.encode()).hexdigest()
