"""The customers, who order."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

from msgspec import Meta, Struct

from consona import Conflict, ConstraintFailed, NotFound, SQLDatabase
from consona.rest.server.routing import Routes
from storefront.listing import ANY_TEXT, Id, PageNumber, PageSize, Total

routes = Routes("/customers", tags=["customers"])

EMAIL = r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,3}$"
Text = Annotated[str, Meta(min_length=1, max_length=100, pattern=ANY_TEXT)]
Email = Annotated[str, Meta(pattern=EMAIL, description="Letters, digits and . _ + - before the @.")]

FIND = "SELECT id, name, email, city, since FROM customers"


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
async def list_customers(db: SQLDatabase, *, page: PageNumber = 1, size: PageSize = 20) -> CustomerPage:
    """All customers, by name."""
    total = await db.fetch_value("SELECT count(*) FROM customers")
    found = await db.fetch_all(f"{FIND} ORDER BY name, id LIMIT ? OFFSET ?", size, (page - 1) * size, into=Customer)
    return CustomerPage(found, total)


@routes.post("", status=201, errors=[Conflict])
async def register(customer: NewCustomer, db: SQLDatabase) -> Customer:
    """Become a customer. An e-mail address belongs to one customer only."""
    email, today = customer.email.lower(), datetime.now(UTC).date()
    taken = Conflict("This e-mail address is registered already.")
    if await db.fetch_value("SELECT id FROM customers WHERE email = ?", email):
        raise taken
    try:
        done = await db.execute(
            "INSERT INTO customers (name, email, city, since) VALUES (?, ?, ?, ?)",
            *(customer.name, email, customer.city, today),
        )
    except ConstraintFailed as error:  # somebody was faster: the column is UNIQUE
        raise taken from error
    return Customer(done.key, customer.name, email, customer.city, today)


@routes.get("/{id}", errors=[NotFound])
async def read_customer(id: Id, db: SQLDatabase) -> Customer:
    """One customer, by their number."""
    customer = await db.fetch_one(f"{FIND} WHERE id = ?", id, into=Customer)
    if customer is None:
        raise NotFound(f"There is no customer {id}.")
    return customer
