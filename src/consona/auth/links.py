"""Links that are sent by mail: who follows one has read the mail. Each counts once, for a while, for one purpose.

A link's token is `cml_ID_SECRET`. The database holds its hash alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from consona.auth.errors import LinkRefused

if TYPE_CHECKING:
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["Link", "Links", "Purpose"]

_TOKEN: Final = re.compile(r"cml_([A-Za-z0-9-]{22})_([A-Za-z0-9_-]{43})")


class Purpose(StrEnum):
    """What a link is good for."""

    VERIFY = "verify"
    """To show that the address is its account's, or becomes it."""
    RESET = "reset"
    """To set a new password."""


class Link(msgspec.Struct):
    """A link as it is kept."""

    id: str
    account: str
    purpose: str
    email: str
    hash: str
    expires_at: float


class Links:
    """The links of all accounts that were sent and not followed."""

    def __init__(self, db: SQLDatabase, *, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    async def issue(self, account: str, purpose: Purpose, email: str, *, ttl: float) -> str:
        """A new link's token. Earlier ones of this account and purpose do not count any more."""
        link = secrets.token_urlsafe(16).replace("_", "-")
        token = f"cml_{link}_{secrets.token_urlsafe(32)}"

        async def insert(tx: Transaction) -> None:
            await tx.execute("DELETE FROM consona_links WHERE account = ? AND purpose = ?", account, purpose.value)
            row = Link(link, account, purpose.value, email, _hash(token), self._clock() + ttl)
            await tx.execute("INSERT INTO consona_links VALUES (?, ?, ?, ?, ?, ?)", *msgspec.structs.astuple(row))

        await self._db.run_in_transaction(insert, name="link")
        return token

    async def find(self, token: str, purpose: Purpose) -> Link | None:
        """The link of a token; None where it is none of ours, was followed, is too old, or is for something else."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        link = await self._db.fetch_one("SELECT * FROM consona_links WHERE id = ?", parts[1], into=Link)
        if link is None or not hmac.compare_digest(link.hash, _hash(token)):
            return None
        return link if link.purpose == purpose and link.expires_at >= self._clock() else None

    async def spend(self, tx: Transaction, link: Link) -> None:
        """Let it not count any more.

        Raises:
            LinkRefused: Somebody else was faster.
        """
        done = await tx.execute("DELETE FROM consona_links WHERE id = ?", link.id)
        if not done.rows:
            raise LinkRefused("This link was used before.")

    async def forget(self, tx: Transaction, account: str) -> None:
        """Let none of an account's links count any more."""
        await tx.execute("DELETE FROM consona_links WHERE account = ?", account)

    async def sweep(self) -> int:
        """Remove those whose time is over. Returns how many."""
        return (await self._db.execute("DELETE FROM consona_links WHERE expires_at < ?", self._clock())).rows


def _hash(token: str) -> str:
    # 256 bits of chance need no slow hash.
    return hashlib.sha256(token.encode()).hexdigest()
