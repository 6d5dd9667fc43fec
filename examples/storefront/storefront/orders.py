"""The orders: what customers bought, and what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from operator import attrgetter
from typing import Annotated, Any

from msgspec import Meta, Struct

from consona import Conflict, EventBus, NotFound, SQLDatabase
from consona.rest.server.routing import Routes
from consona.sql.queries import Queries
from consona.sql.transaction import Transaction
from storefront.events import OrderCancelled, OrderPlaced
from storefront.listing import Id, Money, PageNumber, PageSize, Total, euros

routes = Routes("/orders", tags=["orders"])

by_product = attrgetter("product_id")
"""All transactions change the products in this order, so that no two of them wait for each other (a deadlock)."""

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


class Head(Struct):
    """What an order says about itself."""

    id: Id
    customer_id: Id
    status: Status
    placed_at: datetime


class Order(Head):
    """An order, as it stands."""

    lines: list[Line]
    total: Money


class OrderPage(Struct, frozen=True):
    """One page of orders."""

    items: list[Order]
    total: Total


@routes.get("")
async def list_orders(
    db: SQLDatabase, *, customer_id: OfCustomer = 0, page: PageNumber = 1, size: PageSize = 20
) -> OrderPage:
    """The orders, newest first."""
    where, values = ("WHERE customer_id = ?", [customer_id]) if customer_id else ("", [])
    total = await db.fetch_value(f"SELECT count(*) FROM orders {where}", *values)  # noqa: S608  our own words
    return OrderPage(
        await _orders(db, f"{where} ORDER BY id DESC LIMIT ? OFFSET ?", *values, size, (page - 1) * size), total
    )


@routes.get("/{id}", errors=[NotFound])
async def read_order(id: Id, db: SQLDatabase) -> Order:
    """One order, by its number."""
    return await _order(db, id)


@routes.post("", status=201, errors=[NotFound, Conflict])
async def place_order(order: NewOrder, db: SQLDatabase, bus: EventBus) -> Order:
    """Order. Everything is delivered, or nothing is taken: if one product is short, the answer is 409."""
    return await db.run_in_transaction(partial(_place, order, bus), name="new order")


@routes.post("/{id}/cancel", errors=[NotFound, Conflict])
async def cancel_order(id: Id, db: SQLDatabase, bus: EventBus) -> Order:
    """Take an order back; its goods return to the stock. What was shipped cannot be cancelled."""
    return await db.run_in_transaction(partial(_cancel, id, bus), name="cancelled order")


async def _place(order: NewOrder, bus: EventBus, tx: Transaction) -> Order:
    """One transaction: an error that is raised here undoes all of it, and nobody hears of it."""
    if not await tx.fetch_value("SELECT id FROM customers WHERE id = ?", order.customer_id):
        raise NotFound(f"There is no customer {order.customer_id}.")
    lines = [await _take(tx, line) for line in sorted(order.lines, key=by_product)]
    now = datetime.now(UTC).replace(microsecond=0)
    placed = await tx.execute(
        "INSERT INTO orders (customer_id, status, placed_at) VALUES (?, ?, ?)", order.customer_id, Status.PLACED, now
    )
    await tx.execute_many(
        "INSERT INTO order_lines (order_id, position, product_id, name, quantity, cents) VALUES (?, ?, ?, ?, ?, ?)",
        [(placed.key, position, *line) for position, line in enumerate(lines)],
    )
    made = await _order(tx, placed.key)
    told = OrderPlaced(made.id, made.customer_id, made.placed_at, made.total)
    await bus.publish(told, subject=f"orders/{made.id}", key=f"order-{made.id}", tx=tx)
    return made


async def _take(tx: Transaction, line: NewLine) -> tuple[int, str, int, int]:
    """Take the goods of a line from the stock. One statement looks and takes, so nobody can come in between."""
    taken = await tx.execute(
        "UPDATE products SET stock = stock - ? WHERE id = ? AND stock >= ?",
        *(line.quantity, line.product_id, line.quantity),
    )
    product = await tx.fetch_one("SELECT name, cents, stock FROM products WHERE id = ?", line.product_id)
    if product is None:
        raise NotFound(f"There is no product {line.product_id}.")
    if not taken.rows:
        raise Conflict(
            f"Of {product['name']!r} there are {product['stock']} left, and {line.quantity} were ordered.",
            hint="Order fewer.",
        )
    return line.product_id, product["name"], line.quantity, product["cents"]


async def _cancel(order_id: int, bus: EventBus, tx: Transaction) -> Order:
    cancelled = await tx.execute(
        "UPDATE orders SET status = ? WHERE id = ? AND status = ?", Status.CANCELLED, order_id, Status.PLACED
    )
    order = await _order(tx, order_id)
    if order.status is Status.SHIPPED:
        raise Conflict(f"Order {order_id} was shipped already.", hint="Send it back instead.")
    if cancelled.rows:  # not where it was cancelled before
        for line in sorted(order.lines, key=by_product):
            await tx.execute("UPDATE products SET stock = stock + ? WHERE id = ?", line.quantity, line.product_id)
        told = OrderCancelled(order.id, order.customer_id)
        await bus.publish(told, subject=f"orders/{order.id}", key=f"order-{order.id}", tx=tx)
    return order


async def _order(queries: Queries, order_id: int) -> Order:
    """One order, as a database or an open transaction (`queries`) sees it."""
    found = await _orders(queries, "WHERE id = ?", order_id)
    if not found:
        raise NotFound(f"There is no order {order_id}.")
    return found[0]


async def _orders(queries: Queries, which: str, *values: Any) -> list[Order]:
    """Some orders with their lines, in two questions however many there are."""
    heads = await queries.fetch_all(
        f"SELECT id, customer_id, status, placed_at FROM orders {which}",  # noqa: S608  our own words
        *values,
        into=Head,
    )
    marks = ", ".join("?" * len(heads)) or "NULL"
    lines = await queries.fetch_all(
        f"SELECT order_id, product_id, name, quantity, cents FROM order_lines WHERE order_id IN ({marks})"  # noqa: S608
        " ORDER BY order_id, position",
        *(head.id for head in heads),
    )
    orders = {head.id: Order(head.id, head.customer_id, head.status, head.placed_at, [], euros(0)) for head in heads}
    for line in lines:
        order, price = orders[line["order_id"]], euros(line["cents"])
        order.lines.append(Line(line["product_id"], line["name"], line["quantity"], price))
        order.total += price * line["quantity"]
    return list(orders.values())
