"""The inbox: which events a consumer has handled, noted in the transaction that holds their effects.

An event may arrive twice. What its handler writes through the transaction it is given happens once, since
the note of the second delivery is refused, and with it everything else.

Source: P. Helland, "Life beyond Distributed Transactions", CIDR 2007 (remembering messages that were seen).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from consona.errors import ConstraintFailed
from consona.sql import own_tables

if TYPE_CHECKING:
    from consona.events.cloudevents import CloudEvent
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["HandledBefore", "enter", "forget", "prepare"]

STEPS: Final = (
    (
        """CREATE TABLE IF NOT EXISTS consona_inbox (
            consumer VARCHAR(200) NOT NULL,
            event VARCHAR(64) NOT NULL,
            handled_at DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (consumer, event))""",
        "CREATE INDEX consona_inbox_handled ON consona_inbox (handled_at)",
    ),
)


class HandledBefore(Exception):
    """The event's effects are in the database already."""


async def prepare(db: SQLDatabase) -> None:
    await own_tables.prepare(db, "inbox", STEPS)


async def enter(tx: Transaction, consumer: str, event: CloudEvent, *, now: float) -> None:
    """Note in `tx` that the consumer handles the event.

    Raises:
        HandledBefore: It is noted already; leave the transaction with it, so that it is rolled back.
    """
    name = hashlib.blake2b(f"{event.source}\n{event.id}".encode(), digest_size=32).hexdigest()
    try:
        await tx.execute("INSERT INTO consona_inbox VALUES (?, ?, ?)", consumer, name, now)
    except ConstraintFailed as error:
        raise HandledBefore from error


async def forget(db: SQLDatabase, *, before: float) -> int:
    """Remove notes that are older than what the bus keeps, so that no event of theirs can come again."""
    return (await db.execute("DELETE FROM consona_inbox WHERE handled_at < ?", before)).rows
