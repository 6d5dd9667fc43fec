"""No kept answer is staler than promised, while another process, one that is not ours, writes at random.

A foreign process (Python's own `sqlite3`; `asyncpg`; `asyncmy`) counts a number up in random transactions, and says after
each commit what is committed. Whoever asks then, however often and however kept, must not get less; on
PostgreSQL not less than what was committed before the bound that it promises.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import pytest

from consona import SQLDatabase, Strict
from consona.sql.cache.postgresql import BOUND_S
from database_servers import empty_mysql, empty_postgresql

FOREIGN = """
import random, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
rng = random.Random(int(sys.argv[2]))
for number in range(1, int(sys.argv[3]) + 1):
    db.execute("BEGIN IMMEDIATE")
    for _ in range(rng.randint(1, 3)):
        db.execute("UPDATE foreign_numbers SET n = n + 0 WHERE id = ?", (rng.randint(1, 5),))
    db.execute("UPDATE foreign_numbers SET n = ? WHERE id = 1", (number,))
    if rng.random() < 0.2:
        db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE foreign_numbers SET n = ? WHERE id = 1", (number,))
    db.execute("COMMIT")
    print(number, flush=True)
    time.sleep(rng.random() * 0.004)
"""
ROUNDS = 300


@pytest.mark.parametrize("cache", [60, Strict(60)], ids=str)
async def test_nobody_gets_less_than_was_committed_before_they_asked(tmp_path, cache):
    path = tmp_path / "shop.db"
    rng = random.Random(7)
    async with SQLDatabase(f"sqlite:///{path}") as db:
        await db.execute("CREATE TABLE foreign_numbers (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        await db.execute("CREATE TABLE ours (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        await db.execute_many("INSERT INTO foreign_numbers VALUES (?, 0)", [(number,) for number in range(1, 6)])
        await db.execute("INSERT INTO ours VALUES (1, 0)")
        foreign = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FOREIGN, path, "3", str(ROUNDS), stdout=asyncio.subprocess.PIPE
        )
        committed = {"foreign_numbers": 0, "ours": 0}
        asked = 0

        async def listen() -> None:
            assert foreign.stdout is not None
            async for line in foreign.stdout:
                committed["foreign_numbers"] = int(line)

        async def write() -> None:
            while committed["foreign_numbers"] < ROUNDS:
                number = committed["ours"] + 1
                if rng.random() < 0.5:
                    await db.execute("UPDATE ours SET n = ?", number)
                else:
                    async with db.transaction() as tx:
                        await tx.execute("UPDATE ours SET n = ?", number)
                        await asyncio.sleep(rng.random() * 0.002)
                committed["ours"] = number
                await asyncio.sleep(rng.random() * 0.004)

        async def read() -> None:
            nonlocal asked
            while committed["foreign_numbers"] < ROUNDS:
                table = rng.choice(["foreign_numbers", "ours"])
                at_least = committed[table]
                sql = f"SELECT n FROM {table} WHERE id = ?"
                found = await db.fetch_value(sql, 1, cache=cache)
                assert found >= at_least, f"{table}: {found} is older than {at_least}, committed before the question"
                asked += 1
                await asyncio.sleep(0)

        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            group.create_task(listen())
            group.create_task(write())
            for _ in range(4):
                group.create_task(read())
        assert await foreign.wait() == 0
        figures = db.stats.detail["cache"]
        assert figures["hits"] > 0
        assert figures["changed"] > 0
        assert asked > ROUNDS


FOREIGN_POSTGRESQL = """
import asyncio, asyncpg, random, sys

async def main():
    db = await asyncpg.connect(sys.argv[1])
    rng = random.Random(int(sys.argv[2]))
    for number in range(1, int(sys.argv[3]) + 1):
        await db.execute("BEGIN")
        for _ in range(rng.randint(0, 2)):
            await db.execute("UPDATE foreign_numbers SET n = n + 0 WHERE id = $1", rng.randint(2, 5))
        if rng.random() < 0.2:
            await db.execute("SAVEPOINT s; UPDATE foreign_numbers SET n = 0; ROLLBACK TO s")
        await db.execute("UPDATE foreign_numbers SET n = $1 WHERE id = 1", number)
        if rng.random() < 0.2:
            await db.execute("ROLLBACK")
            await db.execute("UPDATE foreign_numbers SET n = $1 WHERE id = 1", number)
        else:
            await db.execute("COMMIT")
        print(number, flush=True)
        await asyncio.sleep(rng.random() * 0.004)

asyncio.run(main())
"""


FOREIGN_MARIADB = """
import asyncio, asyncmy, random, sys
from urllib.parse import urlsplit

async def main():
    at = urlsplit(sys.argv[1])
    db = await asyncmy.connect(host=at.hostname, port=at.port or 3306, user=at.username, password=at.password or "",
                               db=at.path[1:], autocommit=True)
    cursor = db.cursor()
    execute = cursor.execute
    rng = random.Random(int(sys.argv[2]))
    for number in range(1, int(sys.argv[3]) + 1):
        await execute("BEGIN")
        for _ in range(rng.randint(0, 2)):
            await execute("UPDATE foreign_numbers SET n = n + 1 WHERE id = %s", (rng.randint(2, 5),))
        if rng.random() < 0.2:
            await execute("SAVEPOINT s")
            await execute("UPDATE foreign_numbers SET n = 0")
            await execute("ROLLBACK TO s")
        await execute("UPDATE foreign_numbers SET n = %s WHERE id = 1", (number,))
        if rng.random() < 0.2:
            await execute("ROLLBACK")
            await execute("UPDATE foreign_numbers SET n = %s WHERE id = 1", (number,))
        else:
            await execute("COMMIT")
        if rng.random() < 0.01:
            await execute("TRUNCATE foreign_numbers")
            await execute("INSERT INTO foreign_numbers VALUES (1, %s), (2, 0), (3, 0), (4, 0), (5, 0)", (number,))
        print(number, flush=True)
        await asyncio.sleep(rng.random() * 0.004)
    await cursor.close()
    await db.ensure_closed()

asyncio.run(main())
"""


@pytest.mark.servers
@pytest.mark.parametrize(
    ("server", "foreign_program", "cache"),
    [
        pytest.param(empty_postgresql, FOREIGN_POSTGRESQL, 60, id="postgresql"),
        pytest.param(empty_postgresql, FOREIGN_POSTGRESQL, Strict(60), id="postgresql strict"),
        pytest.param(empty_mysql, FOREIGN_MARIADB, Strict(60), id="mariadb strict"),
    ],
)
async def test_nothing_is_staler_than_the_bound_on_a_server(server, foreign_program, cache):
    with server() as url:
        await _ask_while_others_write(url, foreign_program, cache)


async def _ask_while_others_write(url: str, foreign_program: str, cache: float | Strict) -> None:
    rng = random.Random(7)
    bound = 0.0 if isinstance(cache, Strict) else BOUND_S
    async with SQLDatabase(url) as db:
        await db.execute("CREATE TABLE foreign_numbers (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        await db.execute("CREATE TABLE ours (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        await db.execute_many("INSERT INTO foreign_numbers VALUES (?, 0)", [(number,) for number in range(1, 6)])
        await db.execute("INSERT INTO ours VALUES (1, 0)")
        await db.watch_tables("foreign_numbers", "ours", strict=True)
        foreign = await asyncio.create_subprocess_exec(
            sys.executable, "-c", foreign_program, url, "3", str(ROUNDS), stdout=asyncio.subprocess.PIPE
        )
        heard: list[tuple[float, int]] = [(0.0, 0)]
        ours = asked = 0

        async def listen() -> None:
            assert foreign.stdout is not None
            async for line in foreign.stdout:
                heard.append((time.perf_counter(), int(line)))

        async def write() -> None:
            nonlocal ours
            while heard[-1][1] < ROUNDS:
                number = ours + 1
                if rng.random() < 0.5:
                    await db.execute("UPDATE ours SET n = ?", number)
                else:
                    async with db.transaction() as tx:
                        await tx.execute("UPDATE ours SET n = ?", number)
                        if rng.random() < 0.3:
                            async with tx.transaction() as inner:
                                await inner.execute("UPDATE ours SET n = ?", number)
                ours = number
                await asyncio.sleep(rng.random() * 0.004)

        async def read() -> None:
            nonlocal asked
            while heard[-1][1] < ROUNDS:
                mine = rng.random() < 0.5
                at_least = ours if mine else max(n for at, n in heard if at <= time.perf_counter() - bound)
                found = await db.fetch_value(
                    f"SELECT n FROM {'ours' if mine else 'foreign_numbers'} WHERE id = 1", cache=cache
                )
                if found is None:  # between its TRUNCATE and its INSERT
                    assert not mine
                    continue
                assert found >= at_least, f"{found} is older than {at_least}"
                asked += 1
                await asyncio.sleep(0)

        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            group.create_task(listen())
            group.create_task(write())
            for _ in range(4):
                group.create_task(read())
        assert await foreign.wait() == 0
        assert db.stats.detail["cache"]["hits"] > 0
        assert asked > ROUNDS
