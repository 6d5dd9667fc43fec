"""The shop's API: one server, with the routes of each noun.

consona run storefront.api:api
"""

from __future__ import annotations

import os

from consona import APIServer
from storefront import customers, orders, products
from storefront.database import Database

DESCRIPTION = """
Browse the catalogue, register as a customer, and order.

- Amounts of money are in euros, as text with two decimal places, so that nothing is lost in rounding.
- Lists come in pages; `total` says how much there is.
- A request that cannot be served is answered with `application/problem+json`, which says why.
"""


def create_api(database: str) -> APIServer:
    """The shop over a database, given as an address: `sqlite:///shop.db`, or `sqlite://` to try things in memory."""
    api = APIServer("shop", parts=[Database(database)], version="1.0.0", description=DESCRIPTION)
    for noun in (products, customers, orders):
        api.include(noun.routes)
    return api


api = create_api(os.environ.get("SHOP_DATABASE", "sqlite:///shop.db"))
