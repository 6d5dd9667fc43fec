"""The orders: what customers bought, and what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import apsw
from msgspec import Meta, Struct

from consona import Conflict, NotFound
from consona.rest.server.routing import Routes
from storefront.database import Database
from storefront.listing import Id, Money, PageNumber, PageSize, Total, euros

routes = Routes("/orders", tags=["orders"])

Quantity = Annotated[int, Meta(ge=1, le=100)]
OfCustomer = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Only those of this customer; 0 for all.")]


class Status(StrEnum):
    """What became of an order."""

    PLACED = "placed"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class NewLine(Struct, frozen=True, forbid_unknown_fields=True):
    """So many of one product."""

    product_id: Id
    quantity: Quantity


class NewOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """What a customer wants to buy."""

    customer_id: Id
    lines: Annotated[list[NewLine], Meta(min_length=1, max_length=20)]


class Line(Struct, frozen=True):
    """One product of an order, with the name and the price that it had then."""

    product_id: Id
    name: str
    quantity: Quantity
    price: Money


class Order(Struct, frozen=True):
    """An order, as it stands."""

    id: Id
    customer_id: Id
    status: Status
    placed_at: datetime
    lines: list[Line]
    total: Money


class OrderPage(Struct, frozen=True):
    """One page of orders."""

    items: list[Order]
    total: Total


@routes.get("")
async def list_orders(
    database: Database, *, customer_id: OfCustomer = 0, page: PageNumber = 1, size: PageSize = 20
) -> OrderPage:
    """The orders, newest first."""

    def find(connection: apsw.Connection) -> OrderPage:
        total = connection.execute("SELECT count(*) FROM orders WHERE ?1 IN (0, customer_id)", (customer_id,)).get
        numbers: Any = connection.execute(
            "SELECT id FROM orders WHERE ?1 IN (0, customer_id) ORDER BY id DESC LIMIT ?2 OFFSET ?3",
            (customer_id, size, (page - 1) * size),
        ).fetchall()
        return OrderPage([_order(connection, number) for (number,) in numbers], total)

    return await database.read("orders", find)


@routes.get("/{id}", errors=[NotFound])
async def read_order(id: Id, database: Database) -> Order:
    """One order, by its number."""
    return await database.read("order", lambda connection: _order(connection, id))


@routes.post("", status=201, errors=[NotFound, Conflict])
async def place_order(order: NewOrder, database: Database) -> Order:
    """Order. Everything is delivered, or nothing is taken: if one product is short, the answer is 409."""
    now = datetime.now(UTC)
    return await database.write("new order", lambda connection: _place(connection, order, now))


@routes.post("/{id}/cancel", errors=[NotFound, Conflict])
async def cancel_order(id: Id, database: Database) -> Order:
    """Take an order back; its goods return to the stock. What was shipped cannot be cancelled."""
    return await database.write("cancelled order", lambda connection: _cancel(connection, id))


def _place(connection: apsw.Connection, order: NewOrder, now: datetime) -> Order:
    """One transaction: an error that is raised here undoes all of it."""
    if not connection.execute("SELECT 1 FROM customers WHERE id = ?", (order.customer_id,)).fetchone():
        raise NotFound(f"There is no customer {order.customer_id}.")
    order_id = connection.execute(
        "INSERT INTO orders (customer_id, status, placed_at) VALUES (?, ?, ?) RETURNING id",
        (order.customer_id, Status.PLACED, now.isoformat(timespec="seconds")),
    ).get
    for position, line in enumerate(order.lines):
        _take(connection, order_id, position, line)
    return _order(connection, order_id)


def _take(connection: apsw.Connection, order_id: int, position: int, line: NewLine) -> None:
    product = connection.execute("SELECT name, cents, stock FROM products WHERE id = ?", (line.product_id,)).fetchone()
    if product is None:
        raise NotFound(f"There is no product {line.product_id}.")
    name, cents, stock = product
    if stock < line.quantity:
        raise Conflict(f"Of {name!r} there are {stock} left, and {line.quantity} were ordered.", hint="Order fewer.")
    connection.execute("UPDATE products SET stock = stock - ? WHERE id = ?", (line.quantity, line.product_id))
    connection.execute(
        "INSERT INTO lines (order_id, position, product_id, name, quantity, cents) VALUES (?, ?, ?, ?, ?, ?)",
        (order_id, position, line.product_id, name, line.quantity, cents),
    )


def _cancel(connection: apsw.Connection, order_id: int) -> Order:
    order = _order(connection, order_id)
    if order.status is Status.SHIPPED:
        raise Conflict(f"Order {order_id} was shipped already.", hint="Send it back instead.")
    if order.status is Status.PLACED:
        connection.execute("UPDATE orders SET status = ? WHERE id = ?", (Status.CANCELLED, order_id))
        for line in order.lines:
            connection.execute("UPDATE products SET stock = stock + ? WHERE id = ?", (line.quantity, line.product_id))
    return _order(connection, order_id)


def _order(connection: apsw.Connection, order_id: int) -> Order:
    row = connection.execute("SELECT customer_id, status, placed_at FROM orders WHERE id = ?", (order_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no order {order_id}.")
    customer_id, status, placed_at = row
    rows: Any = connection.execute(
        "SELECT product_id, name, quantity, cents FROM lines WHERE order_id = ? ORDER BY position", (order_id,)
    ).fetchall()
    lines = [Line(product_id, name, quantity, euros(cents)) for product_id, name, quantity, cents in rows]
    total = euros(sum(quantity * cents for _, _, quantity, cents in rows))
    return Order(order_id, customer_id, Status(status), datetime.fromisoformat(placed_at), lines, total)
