"""The catalogue: what the shop sells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import apsw
from msgspec import Meta, Struct

from consona import NotFound
from consona.rest.server.routing import Routes
from storefront.database import Database
from storefront.listing import Id, Money, PageNumber, PageSize, Total, euros

routes = Routes(tags=["catalogue"])

Search = Annotated[str, Meta(max_length=100, description="Words that stand in the name or the description.")]
CategoryName = Annotated[str, Meta(max_length=50, description="Only this category.")]
Euros = Annotated[int, Meta(ge=0, le=1_000_000, description="In whole euros.")]
Sort = Literal["name", "price", "-price"]

ORDER_BY = {"name": "name, id", "price": "cents, id", "-price": "cents DESC, id"}
FIND = "SELECT id, name, category, description, cents, stock FROM products"


class Product(Struct, frozen=True):
    """Something that can be ordered."""

    id: Id
    name: str
    category: str
    description: str
    price: Money
    stock: Annotated[int, Meta(ge=0, description="How many can be delivered now.")]


class ProductPage(Struct, frozen=True):
    """One page of the catalogue."""

    items: list[Product]
    total: Total


class Category(Struct, frozen=True):
    """A group of products."""

    name: str
    products: Annotated[int, Meta(ge=0, description="How many products it has.")]


@routes.get("/products")
async def list_products(
    database: Database,
    *,
    search: Search = "",
    category: CategoryName = "",
    min_price: Euros = 0,
    max_price: Euros = 1_000_000,
    in_stock: bool = False,
    sort: Sort = "name",
    page: PageNumber = 1,
    size: PageSize = 20,
) -> ProductPage:
    """Browse and search the catalogue.

    All filters that are given must hold. With `sort=-price` the most expensive comes first.
    """
    conditions = ["cents BETWEEN ? AND ?"]
    values: list[Any] = [min_price * 100, max_price * 100]
    for word in search.split():
        conditions.append("instr(lower(name || ' ' || description), ?)")
        values.append(word.lower())
    if category:
        conditions.append("category = ?")
        values.append(category)
    if in_stock:
        conditions.append("stock > 0")
    where = " AND ".join(conditions)  # our own words; what the visitor said is in `values`

    def find(connection: apsw.Connection) -> ProductPage:
        total = connection.execute(f"SELECT count(*) FROM products WHERE {where}", values).get  # noqa: S608
        rows = connection.execute(
            f"{FIND} WHERE {where} ORDER BY {ORDER_BY[sort]} LIMIT ? OFFSET ?",
            [*values, size, (page - 1) * size],
        )
        return ProductPage([_product(row) for row in rows], total)

    return await database.read("products", find)


@routes.get("/products/{id}", errors=[NotFound])
async def read_product(id: Id, database: Database) -> Product:
    """One product, by its number."""

    def find(connection: apsw.Connection) -> Product | None:
        row = connection.execute(f"{FIND} WHERE id = ?", (id,)).fetchone()
        return _product(row) if row else None

    product = await database.read("product", find)
    if product is None:
        raise NotFound(f"There is no product {id}.")
    return product


@routes.get("/categories")
async def list_categories(database: Database) -> list[Category]:
    """The categories that the catalogue has, by name."""
    return await database.read(
        "categories",
        lambda connection: [
            Category(*row)
            for row in connection.execute("SELECT category, count(*) FROM products GROUP BY category ORDER BY category")
        ],
    )


def _product(row: Sequence[Any]) -> Product:
    number, name, category, description, cents, stock = row
    return Product(number, name, category, description, euros(cents), stock)
