"""The customers, who order."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

import apsw
from msgspec import Meta, Struct

from consona import Conflict, NotFound
from consona.rest.server.routing import Routes
from storefront.database import Database
from storefront.listing import Id, PageNumber, PageSize, Total

routes = Routes("/customers", tags=["customers"])

EMAIL = r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,3}$"
Text = Annotated[str, Meta(min_length=1, max_length=100)]
Email = Annotated[str, Meta(pattern=EMAIL, description="Letters, digits and . _ + - before the @.")]


class NewCustomer(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody tells who registers."""

    name: Text
    email: Email
    city: Text


class Customer(Struct, frozen=True):
    """Somebody who may order."""

    id: Id
    name: str
    email: str
    city: str
    since: date


class CustomerPage(Struct, frozen=True):
    """One page of the customers."""

    items: list[Customer]
    total: Total


@routes.get("")
async def list_customers(database: Database, *, page: PageNumber = 1, size: PageSize = 20) -> CustomerPage:
    """All customers, by name."""

    def find(connection: apsw.Connection) -> CustomerPage:
        total = connection.execute("SELECT count(*) FROM customers").get
        rows = connection.execute(
            "SELECT id, name, email, city, since FROM customers ORDER BY name, id LIMIT ? OFFSET ?",
            (size, (page - 1) * size),
        )
        return CustomerPage([_customer(*row) for row in rows], total)

    return await database.read("customers", find)


@routes.post("", status=201, errors=[Conflict])
async def register(customer: NewCustomer, database: Database) -> Customer:
    """Become a customer. An e-mail address belongs to one customer only."""
    today = datetime.now(UTC).date()

    def insert(connection: apsw.Connection) -> Customer:
        if connection.execute("SELECT 1 FROM customers WHERE email = ?", (customer.email,)).fetchone():
            raise Conflict("This e-mail address is registered already.")
        customer_id = connection.execute(
            "INSERT INTO customers (name, email, city, since) VALUES (?, ?, ?, ?) RETURNING id",
            (customer.name, customer.email, customer.city, today.isoformat()),
        ).get
        return Customer(customer_id, customer.name, customer.email, customer.city, today)

    return await database.write("new customer", insert)


@routes.get("/{id}", errors=[NotFound])
async def read_customer(id: Id, database: Database) -> Customer:
    """One customer, by their number."""

    def find(connection: apsw.Connection) -> Customer | None:
        row = connection.execute("SELECT id, name, email, city, since FROM customers WHERE id = ?", (id,)).fetchone()
        return _customer(*row) if row else None

    customer = await database.read("customer", find)
    if customer is None:
        raise NotFound(f"There is no customer {id}.")
    return customer


def _customer(customer_id: int, name: str, email: str, city: str, since: str) -> Customer:
    return Customer(customer_id, name, email, city, date.fromisoformat(since))
