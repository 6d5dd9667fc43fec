"""The shop's database: one SQLite file, made and filled with goods at the first start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from consona import Part
from consona.storage.sqlite_engine import SQLiteEngine, open_sqlite
from storefront import seed

T = TypeVar("T")

TABLES = """
CREATE TABLE IF NOT EXISTS products (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    category TEXT NOT NULL,
    description TEXT NOT NULL,
    cents INTEGER NOT NULL CHECK (cents > 0),
    stock INTEGER NOT NULL CHECK (stock >= 0)
) STRICT;
CREATE INDEX IF NOT EXISTS products_by_category ON products (category, name);

CREATE TABLE IF NOT EXISTS customers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL UNIQUE COLLATE NOCASE,
    city TEXT NOT NULL,
    since TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    status TEXT NOT NULL,
    placed_at TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS orders_by_customer ON orders (customer_id);

CREATE TABLE IF NOT EXISTS lines (
    order_id INTEGER NOT NULL REFERENCES orders (id),
    position INTEGER NOT NULL,
    product_id INTEGER NOT NULL REFERENCES products (id),
    name TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    cents INTEGER NOT NULL,
    PRIMARY KEY (order_id, position)
) STRICT, WITHOUT ROWID;
"""


class Database(Part):
    """The tables of the shop. Functions that are given to `read` and `write` get a connection, in another thread.

    Args:
        url: `sqlite:///shop.db`, or `sqlite://` for a database in memory.
    """

    kind = "sql"

    def __init__(self, url: str) -> None:
        super().__init__("database")
        self._url = url
        self._engine: SQLiteEngine | None = None

    async def _open(self) -> None:
        self._engine = await open_sqlite(self._url)
        await self.write("tables and goods", _prepare, started=False)

    async def _close(self) -> None:
        if self._engine is not None:
            await self._engine.close()

    async def read(self, what: str, function: Callable[[apsw.Connection], T]) -> T:
        """The result of `function(connection)`; everything that it reads is of one moment."""
        self._require_started()
        assert self._engine is not None
        with self.observer.operation("read", what):
            return await self._engine.read(function)

    async def write(self, what: str, function: Callable[[apsw.Connection], T], *, started: bool = True) -> T:
        """The result of `function(connection)`, once it is safe on disk; if it raises, nothing has changed."""
        if started:
            self._require_started()
        assert self._engine is not None
        with self.observer.operation("write", what):
            return await self._engine.write(function)

    def detail(self) -> dict[str, Any]:
        return self._engine.stats() if self._engine is not None else {}


def _prepare(connection: apsw.Connection) -> None:
    """Make what is missing; the first process that starts fills the shop, the others find it full."""
    connection.execute(TABLES)
    if connection.execute("SELECT count(*) FROM products").get == 0:
        seed.fill(connection)
