"""No kept answer is staler than promised, while another process, one that is not ours, writes at random.

A foreign process (Python's own `sqlite3`) counts a number up and down in random transactions, and says after
each commit what is committed. Whoever asks then, however often and however kept, must not get less.
"""

from __future__ import annotations

import asyncio
import random
import sys

import pytest

from consona import SQLDatabase, Strict

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
