"""How many guesses are taken: of a password, a code, a reset token. Counted before it is looked whether one is right.

So however many come at once, from however many processes, no more than the limit are ever compared.

Source: OWASP Authentication Cheat Sheet (device cookies); NIST SP 800-63B-4, section 3.2.2 (rate limiting).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from consona.auth.errors import AccountLocked
from consona.auth.names import address_key
from consona.errors import ConfigurationError

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["Guesses", "Lockout"]

_WITH_UPSERT: Final = frozenset({"sqlite", "postgresql"})
_UPSERT: Final = (
    "INSERT INTO consona_guesses AS g (name, guesses, until) VALUES (:name, 1, :until)"
    " ON CONFLICT (name) DO UPDATE"
    " SET guesses = CASE WHEN g.until < :now THEN 1 ELSE g.guesses + 1 END, until = :until"
    " WHERE g.until < :now OR g.guesses < :most"
)
_MORE: Final = (
    "UPDATE consona_guesses SET guesses = guesses + 1, until = :until"
    " WHERE name = :name AND guesses < :most AND until >= :now"
)
_ANEW: Final = "UPDATE consona_guesses SET guesses = 1, until = :until WHERE name = :name AND until < :now"
_FIRST: Final = "INSERT IGNORE INTO consona_guesses (name, guesses, until) VALUES (:name, 1, :until)"
MAILS: Final = 5
MAILS_S: Final = 3600.0
"""So many mails with links an account is sent in so many seconds."""
UNKNOWN_NAMES: Final = 4096
"""Guesses at names that do not exist share so many counters, so that inventing names fills no table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockout:
    """How many wrong guesses are taken, and for how long none are taken after that.

    Three counters: for an account from one address, for an address, and for an account from all addresses. After the
    last one, guesses are taken from known devices alone, so that guessing ends and the owner is not shut out.
    """

    guesses: int = 5
    seconds: float = 300.0
    address_guesses: int = 100
    """From one address, at all accounts together."""
    account_guesses: int = 50
    """At one account, from all addresses together."""
    account_seconds: float = 3600.0
    hard: bool = False
    """Count an account's guesses from all addresses together from the first one on, as the chapter does."""

    def __post_init__(self) -> None:
        if min(self.guesses, self.address_guesses, self.account_guesses) < 1 or self.seconds <= 0:
            raise ConfigurationError("Lockout: at least one guess, and a time above 0 seconds.")


class Guesses:
    """The counters, in the database that all processes share."""

    def __init__(
        self, db: SQLDatabase, lockout: Lockout, *, secret: Callable[[], bytes], clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._lockout = lockout
        self._secret = secret
        self._clock = clock

    async def take(self, account: str | None, name: str, *, address: str, device: str = "") -> None:
        """Take one guess; to be called before anything is compared.

        Args:
            account: The account's id, None where there is no such account.
            name: What was typed, for accounts that do not exist.
            address: Where it comes from; empty where that is not known.
            device: The id of a device that has signed in to this account before; empty where it has not.

        Raises:
            AccountLocked: There are none left now.
        """
        lockout = self._lockout
        who = account or self._unknown(name)
        if lockout.hard:
            counters = [(f"a:{who}", lockout.guesses, lockout.seconds)]
        elif device and account:
            counters = [(self._device(account, device), lockout.guesses, lockout.seconds)]
        else:
            counters = [
                (f"i:{address_key(address)}", lockout.address_guesses, lockout.seconds),
                (self._pair(who, address), lockout.guesses, lockout.seconds),
                (f"a:{who}", lockout.account_guesses, lockout.account_seconds),
            ][0 if address else 1 :]
        await self._take(counters)

    async def forget(self, account: str, *, address: str, device: str = "", tx: Transaction | None = None) -> None:
        """A guess was right: the counter of the account there begins anew, the others forget this one guess.

        `tx` is the transaction of what the guess was for: both happen, or neither.
        """
        where = self._db if tx is None else tx
        if self._lockout.hard:
            await where.execute("DELETE FROM consona_guesses WHERE name = ?", f"a:{account}")
            return
        if device:
            await where.execute("DELETE FROM consona_guesses WHERE name = ?", self._device(account, device))
            return
        # In the order in which they are taken, so that no two transactions wait for each other (a deadlock).
        if address:
            await self._forget_one(where, f"i:{address_key(address)}")
        await where.execute("DELETE FROM consona_guesses WHERE name = ?", self._pair(account, address))
        await self._forget_one(where, f"a:{account}")

    async def _forget_one(self, where: SQLDatabase | Transaction, name: str) -> None:
        await where.execute("UPDATE consona_guesses SET guesses = guesses - 1 WHERE name = ? AND guesses > 0", name)

    async def take_link(self, address: str) -> None:
        """Take one guess at the links of mails. There are 2^256 of each, so it is counted by address alone.

        Raises:
            AccountLocked: This address has none left now.
        """
        if address:
            lockout = self._lockout
            known = address_key(address)
            await self._take(
                [
                    (f"i:{known}", lockout.address_guesses, lockout.seconds),
                    (f"l:{known}", lockout.guesses, lockout.seconds),
                ]
            )

    async def forget_link(self, address: str) -> None:
        """That guess was right."""
        if address:
            await self._db.execute("DELETE FROM consona_guesses WHERE name = ?", f"l:{address_key(address)}")
            await self._forget_one(self._db, f"i:{address_key(address)}")

    async def ask(self, address: str) -> None:
        """Count a question for a mail.

        Raises:
            AccountLocked: This address asks too often.
        """
        if address:
            await self._take([(f"q:{address_key(address)}", self._lockout.address_guesses, self._lockout.seconds)])

    async def mail(self, account: str) -> bool:
        """Whether an account may be sent one more mail with a link now; it is counted."""
        try:
            await self._take([(f"m:{account}", MAILS, MAILS_S)])
        except AccountLocked:
            return False
        return True

    async def locked(self, account: str) -> float:
        """For how many seconds no guess at this account is taken from anywhere unknown; 0.0 where one is."""
        limit = self._lockout.guesses if self._lockout.hard else self._lockout.account_guesses
        until = await self._db.fetch_value(
            "SELECT until FROM consona_guesses WHERE name = ? AND guesses >= ?", f"a:{account}", limit
        )
        return 0.0 if until is None else max(0.0, until - self._clock())

    async def full(self) -> dict[str, float]:
        """The accounts at which no guess is taken now, from everywhere or from some address: id, and until when."""
        lockout = self._lockout
        rows = await self._db.fetch_all(
            "SELECT name, until FROM consona_guesses WHERE until >= ? AND"
            " ((name LIKE 'a:%' AND guesses >= ?) OR (name LIKE 'p:%' AND guesses >= ?)) ORDER BY until LIMIT 1000",
            self._clock(),
            lockout.guesses if lockout.hard else lockout.account_guesses,
            lockout.guesses,
            into=tuple,
        )
        return {name.split(":")[1]: until for name, until in rows}

    async def unlock(self, account: str) -> None:
        """Take guesses again, whatever happened: for whoever runs the service."""
        marks = (f"a:{account}", f"p:{account}:%", f"d:{account}:%")
        await self._db.execute("DELETE FROM consona_guesses WHERE name = ? OR name LIKE ? OR name LIKE ?", *marks)

    async def sweep(self) -> int:
        """Remove counters whose time is over. Returns how many."""
        done = await self._db.execute("DELETE FROM consona_guesses WHERE until < ?", self._clock())
        return done.rows

    async def _take(self, counters: Sequence[tuple[str, int, float]]) -> None:
        """Take one guess from each counter (name, limit, seconds), in one transaction, up to the first that is full."""

        async def count(tx: Transaction) -> float | None:
            for name, limit, seconds in counters:
                full_until = await self._count(tx, name, limit, seconds)
                if full_until is not None:
                    return full_until  # no error: those before it stay counted
            return None

        until = await self._db.run_in_transaction(count, name="guess")
        if until is not None:
            raise AccountLocked(
                "Account temporarily locked due to failed login attempts.",
                retry_after=max(1.0, until - self._clock()),
            )

    async def _count(self, tx: Transaction, name: str, limit: int, seconds: float) -> float | None:
        """Take one guess; if there is none left, until when."""
        now = self._clock()
        values = {"name": name, "now": now, "until": now + seconds, "most": limit}
        # Each statement is atomic by itself: whoever changes the row has taken that guess.
        if tx.dialect.name in _WITH_UPSERT:
            done = await tx.execute(_UPSERT, values)
        else:
            done = await tx.execute(_MORE, values)
            for statement in (_ANEW, _FIRST):
                done = done if done.rows else await tx.execute(statement, values)
        if done.rows:
            return None
        until: float | None = await tx.fetch_value("SELECT until FROM consona_guesses WHERE name = ?", name)
        return now if until is None else until

    def _device(self, account: str, device: str) -> str:
        return f"d:{account}:{device}"[:80]

    def _pair(self, who: str, address: str) -> str:
        digest = hashlib.sha256(address_key(address).encode()).hexdigest()[:16]
        return f"p:{who}:{digest}"

    def _unknown(self, name: str) -> str:
        """One of a bounded number of counters. Keyed, so that nobody can choose whose it is."""
        digest = hmac.digest(self._secret(), name.encode("utf-8", "replace"), hashlib.sha256)
        return f"?{int.from_bytes(digest[:4]) % UNKNOWN_NAMES}"
