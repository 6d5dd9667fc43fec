"""SQL on a SQLite file, observed: single-row inserts of many tasks and of one, and 10,000 rows into Structs.

The peers do the same work on a file of their own: aiosqlite, one connection for all tasks (its fastest way), and
SQLAlchemy's async core over aiosqlite, a connection of its pool for each insert. All wait until their row is
committed. The cost of a sync decides such figures, so it is measured and printed with them: `FULL` waits for one
at each commit, `NORMAL` for none. The task alone runs without anybody beside it, so no commit is shared.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite
import msgspec
from benchmarks.storage import per_second, sync_ms
from benchmarks.table import Row, markdown
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from consona import SQLDatabase

ROUNDS = 5
TASKS = 64
FETCHED = 10_000
TABLE = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total INTEGER)"
INSERT = "INSERT INTO orders (customer, total) VALUES (?, ?)"
SELECT = "SELECT id, customer, total FROM orders"


class Order(msgspec.Struct):
    id: int
    customer: str
    total: int


async def our_inserts(path: Path, synchronous: str, tasks: int) -> float:
    async with SQLDatabase(f"sqlite:///{path}?synchronous={synchronous}") as db:
        await db.execute(TABLE)
        return await per_second(lambda n: db.execute(INSERT, "Ada", n), tasks)


async def aiosqlite_inserts(path: Path, synchronous: str, tasks: int) -> float:
    async with aiosqlite.connect(path, isolation_level=None) as db:
        await db.execute("PRAGMA journal_mode = wal")
        await db.execute(f"PRAGMA synchronous = {synchronous}")
        await db.execute(TABLE)
        return await per_second(lambda n: db.execute(INSERT, ("Ada", n)), tasks)


async def sqlalchemy_inserts(path: Path, synchronous: str, tasks: int) -> float:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 60})

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: object, record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode = wal")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.close()

    insert = text("INSERT INTO orders (customer, total) VALUES (:customer, :total)")

    async def one(number: int) -> None:
        async with engine.begin() as connection:
            await connection.execute(insert, {"customer": "Ada", "total": number})

    async with engine.begin() as connection:
        await connection.execute(text(TABLE))
    speed = await per_second(one, tasks)
    await engine.dispose()
    return speed


async def best_ms(fetch: Callable[[], Awaitable[list[Order]]], times: int = 7) -> float:
    """The best of several: what it takes where nobody else had the processor meanwhile."""
    taken = []
    for _ in range(times):
        gc.collect()
        begin = time.perf_counter()
        rows = await fetch()
        taken.append((time.perf_counter() - begin) * 1e3)
        assert len(rows) == FETCHED
        assert type(rows[0]) is Order
    return min(taken)


async def fetches(path: Path) -> tuple[list[float], list[float]]:
    """Milliseconds for 10,000 rows as Structs: ours checks each value's type, theirs only makes them."""
    async with SQLDatabase(f"sqlite:///{path}") as db:
        await db.execute(TABLE)
        await db.execute_many(INSERT, [(f"customer {n}", n * 7919 % 10_000) for n in range(FETCHED)])
        async with aiosqlite.connect(path) as peer:

            async def theirs() -> list[Order]:
                async with peer.execute(SELECT) as cursor:
                    return [Order(*row) for row in await cursor.fetchall()]

            pairs = [
                (await best_ms(lambda: db.fetch_all(SELECT, into=Order)), await best_ms(theirs)) for _ in range(ROUNDS)
            ]
    return [1e3 / ours * FETCHED for ours, _ in pairs], [1e3 / theirs * FETCHED for _, theirs in pairs]


async def measure(folder: Path) -> list[Row]:
    rows: list[Row] = []
    number = iter(range(10_000))

    async def compare(
        work: str, peer: str, goal: float, theirs: Callable[..., Awaitable[float]], mode: str, tasks: int
    ) -> None:
        pairs = []
        for _ in range(ROUNDS):
            files = [folder / f"{next(number)}.db" for _ in range(2)]
            pairs.append((await our_inserts(files[0], mode, tasks), await theirs(files[1], mode, tasks)))
        rows.append(Row("SQL, SQLite", work, peer, [a for a, _ in pairs], [b for _, b in pairs], "rows/s", goal))

    sync = f", one sync {sync_ms(folder):.2f} ms"
    many = "single-row inserts from 64 tasks"
    await compare(f"{many}, NORMAL", "aiosqlite", 4.0, aiosqlite_inserts, "NORMAL", TASKS)
    await compare(f"{many}, FULL{sync}", "aiosqlite", 8.0, aiosqlite_inserts, "FULL", TASKS)
    await compare(f"{many}, NORMAL", "SQLAlchemy async", 40.0, sqlalchemy_inserts, "NORMAL", TASKS)
    await compare(f"{many}, FULL{sync}", "SQLAlchemy async", 40.0, sqlalchemy_inserts, "FULL", TASKS)
    await compare(f"inserts of one task, FULL{sync}", "aiosqlite", 0.9, aiosqlite_inserts, "FULL", 1)
    ours, theirs = await fetches(folder / "fetched.db")
    rows.append(Row("SQL, SQLite", "10,000 rows into Structs, checked", "aiosqlite", ours, theirs, "rows/s", 1.4))
    return rows


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    print(markdown(run()))
