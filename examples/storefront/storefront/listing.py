"""What all lists of the shop have in common: they come in pages."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta

Id = Annotated[int, Meta(ge=1, le=2**53 - 1, description="The number that it was given.")]
PageNumber = Annotated[int, Meta(ge=1, le=1_000_000, description="Which page, counted from 1.")]
PageSize = Annotated[int, Meta(ge=1, le=100, description="How many a page has.")]
Total = Annotated[int, Meta(ge=0, description="How many there are on all pages together.")]
Money = Annotated[Decimal, Meta(description="Euros, with two decimal places.")]

ANY_TEXT = r"^[^\x00]*$"
"""Whatever a database can keep as text: no NUL character."""


def euros(cents: int) -> Decimal:
    """Money is kept as whole cents, and shown as euros.

    >>> euros(1290)
    Decimal('12.90')
    """
    return Decimal(cents).scaleb(-2)
