"""A pipeline killed again and again leaves the same as one that nobody killed."""

import json
import random
import sqlite3
import subprocess
import sys

import pytest

ROWS = 2_000
KILLS = 5
PROGRAM = """
import asyncio, sys
import msgspec
from consona.pipelines.pipeline import Pipeline
from consona.pipelines.sql_source import SQLSource
from consona.pipelines.sql_target import SQLTarget
from consona.pipelines.file_target import FileTarget

class Order(msgspec.Struct):
    id: int
    total: float

kind, folder = sys.argv[1:]
target = (
    FileTarget(f"{folder}/lake", mode="append") if kind == "files"
    else SQLTarget(f"sqlite:///{folder}/warehouse.db", "orders", mode=kind, key="id" if kind == "upsert" else ())
)
pipeline = (
    Pipeline("orders", batch_rows=40)
    .extract(SQLSource(f"sqlite:///{folder}/shop.db", "SELECT id, total FROM orders", cursor="id"))
    .validate(Order, quarantine=f"{folder}/rejected.jsonl")
    .load(target)
)
asyncio.run(pipeline.run(progress=lambda progress: print(progress.read, flush=True)))
print("done", flush=True)
"""


def run(kind, folder, *, lines=None):
    """Run it to the end, or kill it after so many batches. Whether it came to its end."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, kind, str(folder)], stdout=subprocess.PIPE, text=True)
    with process:
        for number, line in enumerate(process.stdout, 1):
            if line.strip() == "done":
                return True
            if number == lines:
                process.kill()
                break
    return False


@pytest.mark.parametrize("kind", ["append", "upsert", "replace", "files"])
def test_killed_again_and_again_each_row_is_there_once(tmp_path, kind):
    chance = random.Random(kind)
    shop = sqlite3.connect(tmp_path / "shop.db")
    shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, total)")
    shop.executemany(
        "INSERT INTO orders VALUES (?, ?)", [(n, "bad" if n % 10 == 0 else n / 2) for n in range(1, ROWS + 1)]
    )
    shop.commit()
    shop.close()
    for _ in range(KILLS):
        if run(kind, tmp_path, lines=chance.randint(1, 12)):
            break
    assert run(kind, tmp_path)
    if kind == "files":
        texts = [path.read_text() for path in (tmp_path / "lake").rglob("part-*")]
        found = sorted((each["id"], each["total"]) for text in texts for each in map(json.loads, text.splitlines()))
    else:
        warehouse = sqlite3.connect(tmp_path / "warehouse.db")
        found = warehouse.execute("SELECT id, total FROM orders ORDER BY id").fetchall()
        warehouse.close()
    assert found == [(n, n / 2) for n in range(1, ROWS + 1) if n % 10]
    kept = [json.loads(line)["original"]["id"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert kept == list(range(10, ROWS + 1, 10))
