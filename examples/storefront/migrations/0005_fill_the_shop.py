"""What a new shop begins with."""

from consona.sql.transaction import Transaction
from storefront import seed


async def up(tx: Transaction) -> None:
    await seed.fill(tx)
