"""What follows from what happened: mails to customers, and the sales of each five minutes.

consona worker storefront.notices:app
"""

from __future__ import annotations

import os

from consona import App, EventBus, SQLDatabase
from consona.events.aggregates import count, total
from consona.events.stream import View
from consona.mail import Mail, Mailer
from storefront.events import OrderCancelled, OrderPlaced, create_bus

SENDER = "The shop <shop@example.org>"


def create_app(database: str, mail: str) -> tuple[App, EventBus, View]:
    """The worker of the shop in this database, which sends its mails to `mail` (`smtp://…`, `file:///folder`)."""
    db = SQLDatabase(database, name="database")
    mailer = Mailer(mail, sender=SENDER)
    bus = create_bus(db)

    @bus.on(OrderPlaced, OrderCancelled, durable="confirmations", start="beginning")
    async def confirm(told: OrderPlaced | OrderCancelled) -> None:
        """At least once: after a crash at the wrong moment a customer gets the same mail twice, rather than none."""
        name, email = await customer(told.customer_id)
        if isinstance(told, OrderPlaced):
            subject, text = f"Your order {told.id}", f"we have your order {told.id} of {told.total} euros."
        else:
            subject, text = f"Your order {told.id} is cancelled", f"order {told.id} is cancelled, as you wished."
        await mailer.send(Mail(to=email, subject=subject, text=f"Dear {name},\n\n{text}\n\nThe shop"))

    async def customer(number: int) -> tuple[str, str]:
        found = await db.fetch_one("SELECT name, email FROM customers WHERE id = ?", number)
        if found is None:
            raise LookupError(f"there is no customer {number}")
        return found["name"], found["email"]

    sales = (
        bus.stream(OrderPlaced)
        .window(minutes=5)
        .aggregate("sales", start="beginning", orders=count(), revenue=total(lambda order: order.total))
    )
    return App("notices", parts=[db, mailer, bus]), bus, sales


app, *_ = create_app(
    os.environ.get("CONSONA_DATABASE", "sqlite:///shop.db"), os.environ.get("SHOP_MAIL", "file:///mail")
)
