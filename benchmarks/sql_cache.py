"""What a kept answer costs, against asking the database again: `cache=60` with observation on.

Three questions over 20,000 orders of 200 customers: one row by its key (the least that there is to gain), a
page of 50 rows, and a sum over all of them. On SQLite each hit asks the file whether anybody committed;
what that costs alone is the last row, against its budget of 20 µs.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.table import Row, markdown

from consona import SQLDatabase

ROUNDS = 5
SECONDS = 0.3
ROWS = 20_000
BUDGET_US = 20.0
QUESTIONS = {
    "one row by its key": ("SELECT id, customer, total FROM orders WHERE id = ?", (77,), 1.5),
    "50 rows of one customer": ("SELECT id, customer, total FROM orders WHERE customer = ? LIMIT 50", (7,), 1.5),
    "ten best of all customers": (
        "SELECT customer, COUNT(*), SUM(total) FROM orders GROUP BY customer ORDER BY 3 DESC LIMIT 10",
        (),
        20.0,
    ),
}


async def per_second(db: SQLDatabase, sql: str, values: tuple[int, ...], cache: float | None) -> float:
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


async def sqlite(folder: Path) -> list[Row]:
    ours: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    asked: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    checks: list[float] = []
    async with SQLDatabase(f"sqlite:///{folder / 'orders.db'}") as db:
        await db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, total INTEGER)")
        await db.execute("CREATE INDEX orders_customer ON orders (customer)")
        rows = ((number % 200, number * 7919 % 10_000) for number in range(ROWS))
        await db.execute_many("INSERT INTO orders (customer, total) VALUES (?, ?)", rows)
        for _ in range(ROUNDS):
            for name, (sql, values, _) in QUESTIONS.items():
                ours[name].append(await per_second(db, sql, values, 60))
                asked[name].append(await per_second(db, sql, values, None))
            checks.append(check_us(db))
    table = [
        Row("query cache, SQLite", name, "asked each time", ours[name], asked[name], "answers/s", QUESTIONS[name][2])
        for name in QUESTIONS
    ]
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
    return [*table, budget]


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(sqlite(Path(folder)))


if __name__ == "__main__":
    print(markdown(run()))
