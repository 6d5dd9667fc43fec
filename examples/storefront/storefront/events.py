"""What happens in the shop, for all who want to know: see `notices.py` for who does."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from consona import Address, EventBus, SQLDatabase, event


@event("order.placed")
class OrderPlaced(Struct, frozen=True):
    """Somebody ordered something."""

    id: int
    customer_id: int
    placed_at: datetime
    total: Decimal
    """In euros."""


@event("order.cancelled")
class OrderCancelled(Struct, frozen=True):
    """Somebody took an order back."""

    id: int
    customer_id: int


def create_bus(db: SQLDatabase) -> EventBus:
    """The shop's bus. It lies in the shop's own database where that can hold one; else in a file beside the program.

    Either way an event is published with the transaction that it tells of, or not at all.
    """
    address = db.address
    assert address is not None
    own = address.scheme in {"sqlite", "postgresql", "postgres"}
    return EventBus(address if own else Address.parse("sqlite:///bus.db"), source="/shop", outbox=[db])
