"""Single-row committed writes on SQLite, and what a store's get and put cost.

64 tasks each write one row after the other, and each waits until its row is committed. The peers do
the same: apsw with one commit each on one thread (what the engine would be without group commit),
and aiosqlite, where it is installed. The cost of a sync decides such figures, so it is measured and
printed with them: `FULL` waits for one at each commit, `NORMAL` for none.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
from benchmarks.table import Row, markdown

from consona.storage.sqlite_engine import open_sqlite
from consona.storage.store import open_store

try:
    import aiosqlite
except ModuleNotFoundError:
    aiosqlite = None  # type: ignore[assignment]

ROUNDS = 5
SECONDS = 0.4
TASKS = 64
TABLE = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total INTEGER)"
INSERT = "INSERT INTO orders (customer, total) VALUES (?, ?)"


async def per_second(call: Callable[[int], Awaitable[object]], tasks: int = TASKS) -> float:
    """How often a second `tasks` tasks together get through `call`."""
    done = [0] * tasks
    begin = time.perf_counter()
    end = begin + SECONDS

    async def task(number: int) -> None:
        while time.perf_counter() < end:
            await call(done[number] * tasks + number)
            done[number] += 1

    await asyncio.gather(*(task(number) for number in range(tasks)))
    return sum(done) / (time.perf_counter() - begin)


def alone_per_second(call: Callable[[int], object]) -> float:
    done = 0
    begin = time.perf_counter()
    end = begin + SECONDS
    while time.perf_counter() < end:
        call(done)
        done += 1
    return done / (time.perf_counter() - begin)


async def engine_writes(path: Path, synchronous: str, tasks: int = TASKS) -> float:
    engine = await open_sqlite(f"sqlite:///{path}?synchronous={synchronous}")
    await engine.write(lambda db: db.execute(TABLE))
    speed = await per_second(lambda n: engine.write(lambda db: db.execute(INSERT, ("Ada", n))), tasks)
    await engine.close()
    return speed


async def bare_writes(path: Path, synchronous: str) -> float:
    """One thread, one commit a row, nobody waiting for anybody: no event loop in it at all."""

    def work() -> float:
        db = apsw.Connection(str(path))
        db.pragma("journal_mode", "wal")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(TABLE)
        speed = alone_per_second(lambda n: db.execute(INSERT, ("Ada", n)))
        db.close()
        return speed

    return await asyncio.to_thread(work)


async def aiosqlite_writes(path: Path, synchronous: str, tasks: int = TASKS) -> float:
    async with aiosqlite.connect(path, isolation_level=None) as db:
        await db.execute("PRAGMA journal_mode = wal")
        await db.execute(f"PRAGMA synchronous = {synchronous}")
        await db.execute(TABLE)
        return await per_second(lambda n: db.execute(INSERT, ("Ada", n)), tasks)


async def store_puts(url: str) -> float:
    async with open_store(url) as store:
        return await per_second(lambda n: store.put(f"key {n % 5000}", b"x" * 100))


async def store_gets(url: str) -> float:
    async with open_store(url) as store:
        await asyncio.gather(*(store.put(f"key {n}", b"x" * 100) for n in range(5000)))
        return await per_second(lambda n: store.get(f"key {n % 5000}"))


async def bare_gets(path: Path) -> float:
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE items (key TEXT PRIMARY KEY, value BLOB)")
    with db:
        db.executemany("INSERT INTO items VALUES (?, ?)", ((f"key {n}", b"x" * 100) for n in range(5000)))
    look_up = "SELECT value FROM items WHERE key = ?"
    speed = alone_per_second(lambda n: db.execute(look_up, (f"key {n % 5000}",)).fetchone())
    db.close()
    return speed


def sync_ms(folder: Path) -> float:
    """Milliseconds that one small write with a sync takes on this disk."""
    with (folder / "sync").open("wb") as file:
        begin = time.perf_counter()
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        return (time.perf_counter() - begin) / 50 * 1e3


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        return asyncio.run(measure(Path(folder)))


async def measure(folder: Path) -> list[Row]:
    rows: list[Row] = []
    number = iter(range(10_000))

    def new() -> Path:
        return folder / f"{next(number)}.db"

    async def compare(
        work: str, peer: str, goal: float, ours: Callable[[], Awaitable[float]], theirs: Callable[[], Awaitable[float]]
    ) -> None:
        pairs = [(await ours(), await theirs()) for _ in range(ROUNDS)]
        rows.append(Row("storage", work, peer, [a for a, _ in pairs], [b for _, b in pairs], "rows/s", goal))

    for mode, bare_goal, aio_goal in (("NORMAL", 1.0, 4.0), ("FULL", 4.0, 8.0)):
        sync = f", one sync {sync_ms(folder):.2f} ms" if mode == "FULL" else ""
        work = f"single-row commits from 64 tasks, {mode}{sync}"

        async def ours(mode: str = mode) -> float:
            return await engine_writes(new(), mode)

        async def bare(mode: str = mode) -> float:
            return await bare_writes(new(), mode)

        await compare(work, "apsw, one commit each, no event loop", bare_goal, ours, bare)
        if aiosqlite is not None:

            async def theirs(mode: str = mode) -> float:
                return await aiosqlite_writes(new(), mode)

            await compare(work, "aiosqlite", aio_goal, ours, theirs)
    if aiosqlite is not None:
        await compare(
            "synced commits of one task",
            "aiosqlite",
            0.9,
            lambda: engine_writes(new(), "FULL", 1),
            lambda: aiosqlite_writes(new(), "FULL", 1),
        )
    await compare(
        "store get by key, observed",
        "a bare apsw look-up",
        0.3,
        lambda: store_gets(f"sqlite:///{new()}?synchronous=NORMAL"),
        lambda: bare_gets(new()),
    )
    await compare(
        "store put from 64 tasks, observed, FULL",
        "apsw, one commit each, no event loop",
        4.0,
        lambda: store_puts(f"sqlite:///{new()}"),
        lambda: bare_writes(new(), "FULL"),
    )
    return rows


if __name__ == "__main__":
    print(markdown(run()))
