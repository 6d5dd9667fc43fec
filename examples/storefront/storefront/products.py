"""The catalogue: what the shop sells."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from consona import NotFound, SQLDatabase
from consona.rest.server.routing import Routes
from storefront.listing import ANY_TEXT, Id, Money, PageNumber, PageSize, Total, euros

routes = Routes(tags=["catalogue"])

Search = Annotated[
    str, Meta(max_length=100, pattern=ANY_TEXT, description="Words that stand in the name or the description.")
]
CategoryName = Annotated[str, Meta(max_length=50, pattern=ANY_TEXT, description="Only this category.")]
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
    db: SQLDatabase,
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
    for word in search.lower().split():
        conditions.append("(lower(name) LIKE ? ESCAPE '!' OR lower(description) LIKE ? ESCAPE '!')")
        values += [_anywhere(word)] * 2
    if category := category.strip():
        conditions.append("category = ?")
        values.append(category)
    if in_stock:
        conditions.append("stock > 0")
    where = " AND ".join(conditions)  # our own words; what the visitor said is in `values`
    total = await db.fetch_value(f"SELECT count(*) FROM products WHERE {where}", *values)  # noqa: S608
    found = await db.fetch_all(
        f"{FIND} WHERE {where} ORDER BY {ORDER_BY[sort]} LIMIT ? OFFSET ?", *values, size, (page - 1) * size
    )
    return ProductPage([_product(row) for row in found], total)


@routes.get("/products/{id}", errors=[NotFound])
async def read_product(id: Id, db: SQLDatabase) -> Product:
    """One product, by its number."""
    found = await db.fetch_one(f"{FIND} WHERE id = ?", id)
    if found is None:
        raise NotFound(f"There is no product {id}.")
    return _product(found)


@routes.get("/categories")
async def list_categories(db: SQLDatabase) -> list[Category]:
    """The categories that the catalogue has, by name."""
    return await db.fetch_all(
        "SELECT category AS name, count(*) AS products FROM products GROUP BY category ORDER BY category",
        into=Category,
    )


def _product(row: dict[str, Any]) -> Product:
    return Product(price=euros(row.pop("cents")), **row)


def _anywhere(word: str) -> str:
    """A pattern that finds a word wherever it stands, also one with the signs of patterns in it.

    >>> _anywhere("50%")
    '%50!%%'
    """
    for sign in "!%_":
        word = word.replace(sign, f"!{sign}")
    return f"%{word}%"
