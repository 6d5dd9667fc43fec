"""The shop's API: one server, with the routes of each noun.

consona run storefront.api:api
"""

from __future__ import annotations

import os
from pathlib import Path

from consona import APIServer, SQLDatabase
from storefront import customers, orders, products
from storefront.events import create_bus

MIGRATIONS = Path(__file__).parents[1] / "migrations"

DESCRIPTION = """
Browse the catalogue, register as a customer, and order.

- Amounts of money are in euros, as text with two decimal places, so that nothing is lost in rounding.
- Lists come in pages; `total` says how much there is.
- A request that cannot be served is answered with `application/problem+json`, which says why.
"""


def create_api(database: str) -> APIServer:
    """The shop over a database: `sqlite:///shop.db`, `postgresql://…`, `mysql://…`; `sqlite://` to try in memory."""
    db = SQLDatabase(database, name="database")
    bus = create_bus(db)
    api = APIServer("shop", parts=[db, bus], version="1.0.0", description=DESCRIPTION)
    for noun in (products, customers, orders):
        api.include(noun.routes)

    @api.on_start
    async def bring_up_to_date() -> None:
        """Make the tables, and fill a new shop. Of several processes one does it, and the others wait for it."""
        await db.migrate(MIGRATIONS)

    return api


api = create_api(os.environ.get("CONSONA_DATABASE", "sqlite:///shop.db"))
