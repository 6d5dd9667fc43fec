"""What a kept answer costs, against asking the database again: `cache=60` with observation on.

Three questions over 20,000 orders of 200 customers: one row by its key (the least that there is to gain), a
page of 50 rows, and a sum over all of them. On SQLite each hit asks the file whether anybody committed;
what that costs alone is the last row, against its budget of 20 µs. The same on PostgreSQL, where one is on
loopback (or `CONSONA_POSTGRESQL` names one): with triggers and a beat, and with `Strict`, which asks.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from benchmarks.table import Row, markdown

from consona import SQLDatabase, Strict

ROUNDS = 5
SECONDS = 0.3
ROWS = 20_000
BUDGET_US = 20.0
QUESTIONS = {
    "one row by its key": ("SELECT id, customer, total FROM orders WHERE id = ?", (77,)),
    "50 rows of one customer": ("SELECT id, customer, total FROM orders WHERE customer = ? LIMIT 50", (7,)),
    "ten best of all customers": (
        "SELECT customer, COUNT(*), SUM(total) FROM orders GROUP BY customer ORDER BY 3 DESC LIMIT 10",
        (),
    ),
}
GOALS_SQLITE = (1.5, 1.5, 20.0)
GOALS_POSTGRESQL = (5.0, 0.2, 2.0, 0.2, 5.0, 5.0)
"""Each question kept by time, then with `Strict`, which asks the database: worth it for dear questions only."""


async def per_second(db: SQLDatabase, sql: str, values: tuple[int, ...], cache: Any) -> float:
    await db.fetch_all(sql, *values, cache=cache)
    done, begin = 0, time.perf_counter()
    end = begin + SECONDS
    while time.perf_counter() < end:
        await db.fetch_all(sql, *values, cache=cache)
        done += 1
    return done / (time.perf_counter() - begin)


def check_us(db: SQLDatabase) -> float:
    """What one look at the file's version takes, in microseconds."""
    stamp = db.native.version_now
    begin = time.perf_counter()
    for _ in range(2000):
        stamp()
    return (time.perf_counter() - begin) / 2000 * 1e6


async def measured(db: SQLDatabase, area: str, goals: Sequence[float], caches: Sequence[Any]) -> list[Row]:
    """Each question asked each time, and kept in each way, in turn."""
    await db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, total INTEGER)")
    await db.execute("CREATE INDEX orders_customer ON orders (customer)")
    rows = ((number + 1, number % 200, number * 7919 % 10_000) for number in range(ROWS))
    await db.execute_many("INSERT INTO orders (id, customer, total) VALUES (?, ?, ?)", rows)
    await db.watch_tables("orders", strict=True)
    kept: dict[tuple[str, Any], list[float]] = {}
    asked: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, (sql, values) in QUESTIONS.items():
            asked.setdefault(name, []).append(await per_second(db, sql, values, None))
            for cache in caches:
                kept.setdefault((name, cache), []).append(await per_second(db, sql, values, cache))
    goal = dict(zip(((name, cache) for name in QUESTIONS for cache in caches), goals, strict=True))
    return [
        Row(area, f"{name}, cache={cache}", "asked each time", speeds, asked[name], "answers/s", goal[name, cache])
        for (name, cache), speeds in kept.items()
    ]


async def sqlite(folder: Path) -> list[Row]:
    async with SQLDatabase(f"sqlite:///{folder / 'orders.db'}") as db:
        rows = await measured(db, "query cache, SQLite", GOALS_SQLITE, [60])
        checks = [check_us(db) for _ in range(ROUNDS)]
    budget = Row(
        "query cache, SQLite",
        "check that a kept answer holds",
        "its budget",
        checks,
        [BUDGET_US] * ROUNDS,
        "µs",
        1.0,
        higher_is_better=False,
    )
    return [*rows, budget]


async def postgresql(server: str) -> list[Row]:
    name = f"consona_bench_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {name}")
    try:
        async with SQLDatabase(urlsplit(server)._replace(path=f"/{name}").geturl()) as db:
            return await measured(db, "query cache, PostgreSQL", GOALS_POSTGRESQL, [60, Strict(60)])
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(sqlite(Path(folder)))
    server = os.environ.get("CONSONA_POSTGRESQL", "postgresql://postgres@127.0.0.1/postgres")
    try:
        return rows + asyncio.run(postgresql(server))
    except OSError:
        return rows


if __name__ == "__main__":
    print(markdown(run()))
