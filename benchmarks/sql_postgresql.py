"""SQL on PostgreSQL, observed: one row by its key, a single-row insert, and 10,000 rows into Structs.

The peers do the same work on the same server: asyncpg's own pool, without anything around it and without the reset
of the session that it would do after each statement, and SQLAlchemy's async core over asyncpg, a connection of its
pool for each statement. One task asks, then eight at once. Ours checks the
type of each value of the 10,000 rows; the peers only make the Structs.

The server is the one on loopback, or `CONSONA_POSTGRESQL`. There a database is made and removed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
from benchmarks.storage import per_second
from benchmarks.table import Row, markdown
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from consona import SQLDatabase

ROUNDS = 5
FETCHED = 10_000
SERVER = os.environ.get("CONSONA_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/postgres")
TABLE = "CREATE TABLE orders (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer TEXT, total BIGINT)"
POOL = 10
"""Connections of each."""


class Order(msgspec.Struct):
    id: int
    customer: str
    total: int


Call = Callable[[int], Awaitable[object]]


class Ours:
    def __init__(self, db: SQLDatabase) -> None:
        self.db = db

    async def select(self, number: int) -> object:
        sql = "SELECT id, customer, total FROM orders WHERE id = ?"
        return await self.db.fetch_one(sql, number % FETCHED + 1, into=Order)

    async def insert(self, number: int) -> object:
        return await self.db.execute("INSERT INTO written (customer, total) VALUES (?, ?)", "Ada", number)

    async def all(self) -> list[Order]:
        return await self.db.fetch_all("SELECT id, customer, total FROM orders", into=Order)


class Asyncpg:
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def select(self, number: int) -> object:
        sql = "SELECT id, customer, total FROM orders WHERE id = $1"
        return Order(*await self.pool.fetchrow(sql, number % FETCHED + 1))

    async def insert(self, number: int) -> object:
        sql = "INSERT INTO written (customer, total) VALUES ($1, $2) RETURNING id"
        return await self.pool.fetchval(sql, "Ada", number)

    async def all(self) -> list[Order]:
        return [Order(*row) for row in await self.pool.fetch("SELECT id, customer, total FROM orders")]


async def no_reset(connection: object) -> None:
    """Ours resets a session only where a statement changed it, so the peer is spared it too."""


class SQLAlchemy:
    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._select = text("SELECT id, customer, total FROM orders WHERE id = :id")
        self._insert = text("INSERT INTO written (customer, total) VALUES (:customer, :total) RETURNING id")
        self._all = text("SELECT id, customer, total FROM orders")

    async def select(self, number: int) -> object:
        async with self.engine.connect() as connection:
            return Order(*(await connection.execute(self._select, {"id": number % FETCHED + 1})).one())

    async def insert(self, number: int) -> object:
        async with self.engine.begin() as connection:
            return (await connection.execute(self._insert, {"customer": "Ada", "total": number})).scalar_one()

    async def all(self) -> list[Order]:
        async with self.engine.connect() as connection:
            return [Order(*row) for row in await connection.execute(self._all)]


async def fetched_per_second(fetch: Callable[[], Awaitable[list[Order]]], times: int = 7) -> float:
    """Rows a second, of the best of several: what it takes where nobody else had the processor meanwhile."""
    taken = []
    for _ in range(times):
        gc.collect()
        begin = time.perf_counter()
        rows = await fetch()
        taken.append(time.perf_counter() - begin)
        assert len(rows) == FETCHED
        assert type(rows[0]) is Order
    return FETCHED / min(taken)


async def compare(ours: Ours, peers: dict[str, Any], goals: dict[str, float]) -> list[Row]:
    rows: list[Row] = []
    for work in ("select", "insert"):
        for tasks in (1, 8):
            for name, peer in peers.items():
                pairs = []
                for _ in range(ROUNDS):
                    mine = await per_second(getattr(ours, work), tasks)
                    pairs.append((mine, await per_second(getattr(peer, work), tasks)))
                label = f"{'one row by its key' if work == 'select' else 'single-row insert'}, {tasks} task(s)"
                rows.append(_row(label, name, pairs, "statements/s", goals[name]))
    for name, peer in peers.items():
        pairs = [(await fetched_per_second(ours.all), await fetched_per_second(peer.all)) for _ in range(ROUNDS)]
        rows.append(_row("10,000 rows into Structs, checked", name, pairs, "rows/s", goals[name]))
    return rows


def _row(work: str, peer: str, pairs: list[tuple[float, float]], unit: str, goal: float) -> Row:
    return Row("SQL, PostgreSQL", work, peer, [a for a, _ in pairs], [b for _, b in pairs], unit, goal)


async def measure() -> list[Row]:
    name = f"consona_bench_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(SERVER)
    await admin.execute(f"CREATE DATABASE {name}")
    url = urlsplit(SERVER)._replace(path=f"/{name}").geturl()
    try:
        async with (
            SQLDatabase(f"{url}?max_size={POOL}") as db,
            asyncpg.create_pool(url, min_size=1, max_size=POOL, reset=no_reset) as pool,
        ):
            engine = create_async_engine(
                url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=POOL, max_overflow=0
            )
            await db.execute(TABLE)
            await db.execute(TABLE.replace("orders", "written"))
            await db.insert_many("orders", ({"customer": f"customer {n}", "total": n * 7919} for n in range(FETCHED)))
            await db.execute("VACUUM ANALYZE orders")
            peers = {"bare asyncpg": Asyncpg(pool), "SQLAlchemy async": SQLAlchemy(engine)}
            rows = await compare(Ours(db), peers, {"bare asyncpg": 0.85, "SQLAlchemy async": 2.5})
            await engine.dispose()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()
    return rows


def run() -> list[Row]:
    try:
        return asyncio.run(measure())
    except OSError as error:
        print(f"sql_postgresql: no PostgreSQL at hand ({error}); CONSONA_POSTGRESQL names one.")
        return []


if __name__ == "__main__":
    print(markdown(run()))
