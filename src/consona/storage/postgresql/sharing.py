"""What the parts that keep tables in one PostgreSQL database share: its transactions, its clock, its doorbell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from consona.errors import ConfigurationError
from consona.storage.postgresql.doorbell import CHANNEL
from consona.storage.postgresql.engine import PostgreSQLEngine
from consona.storage.postgresql.transaction import PostgreSQLTransaction
from consona.storage.transaction import SharedTransaction

__all__ = ["NOW", "joined", "now", "ring"]

NOW: Final = "coalesce({}::float8, extract(epoch FROM clock_timestamp())::float8)"
"""SQL for the time: the server's clock, so that processes on several machines agree; a test hands in its own."""


def now(clock: Callable[[], float]) -> float | None:
    """What to give for the parameter of `NOW`: None takes the server's clock."""
    return None if clock is time.time else clock()


def joined(engine: PostgreSQLEngine, tx: SharedTransaction, part: str) -> PostgreSQLTransaction:
    """The transaction, if it is one of this engine.

    Raises:
        ConfigurationError: It is another database's.
    """
    native = tx.native
    if not isinstance(native, PostgreSQLTransaction) or native.engine is not engine:
        raise ConfigurationError(
            f"The transaction is not one of {engine.name}, where this {part} is.",
            hint="One transaction spans the parts that name the same database.",
        )
    return native


async def ring(engine: PostgreSQLEngine, bell: str, tx: PostgreSQLTransaction | None) -> None:
    """Tell who waits: now, or when the transaction commits."""
    if tx is None:
        engine.doorbell.ring(bell)
    else:
        await tx.ask("SELECT pg_notify($1, $2)", [CHANNEL, engine.doorbell.payload(bell)])
