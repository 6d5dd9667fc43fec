"""However much a database is asked, the event loop is never held up for long.

What counts is the processor's time of each single step of the loop, so a busy machine changes nothing. The drivers
of servers make all rows of one answer in one step, and that of MariaDB the text of a whole batch: there `stream` is
for long answers.
"""

import asyncio
import gc
import time

import msgspec
import pytest

import sql_engines
from consona.sql.database import SQLDatabase

ROWS = 60_000
LIMIT_S = 0.025
USUAL_S = 0.005


class Order(msgspec.Struct):
    id: int
    customer: str
    total: int


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def db(engine, tmp_path):
    async with engine.new(tmp_path) as url, SQLDatabase(url) as db:
        await db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer VARCHAR(50), total INTEGER)")
        yield db


@pytest.fixture
def steps(monkeypatch):
    """The processor's seconds of each step of the loop from now on."""
    taken = []
    run = asyncio.Handle._run

    def timed(handle):
        began = time.thread_time()
        run(handle)
        taken.append(time.thread_time() - began)

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    gc.collect()
    gc.freeze()  # what the other tests left behind is not looked through in this one's steps
    yield taken
    gc.unfreeze()


@pytest.fixture(scope="module")
def orders():
    return [(number, f"customer {number}", number % 1000) for number in range(ROWS)]


def only(*names):
    return [each for each in sql_engines.PARAMETERS if each.id in names]


def fits(steps):
    assert max(steps) <= LIMIT_S, f"one step took {max(steps) * 1e3:.1f} ms"
    longer = [step for step in steps if step > USUAL_S]
    assert len(longer) <= max(2, len(steps) // 100), f"{len(longer)} of {len(steps)} steps took more than 5 ms"
    steps.clear()


@pytest.mark.parametrize("engine", only("sqlite file", "sqlite memory"), indirect=True)
async def test_writing_and_reading_many_rows(db, orders, steps):
    await db.execute_many("INSERT INTO orders VALUES (?, ?, ?)", orders)
    fits(steps)
    found = await db.fetch_all("SELECT * FROM orders", into=Order)
    fits(steps)
    assert len(found) == ROWS
    steps.clear()
    assert len(await db.fetch_all("SELECT * FROM orders")) == ROWS
    assert len(await db.fetch_column("SELECT customer FROM orders", into=str)) == ROWS
    fits(steps)


@pytest.mark.parametrize("engine", only("sqlite file", "sqlite memory", "postgresql"), indirect=True)
async def test_loading_many_rows(db, orders, steps):
    columns = ["id", "customer", "total"]
    assert await db.insert_many("orders", orders, columns=columns) == ROWS
    fits(steps)


async def test_streaming_many_rows_in_large_batches(db, orders, steps):
    await db.insert_many("orders", orders, columns=["id", "customer", "total"])
    steps.clear()
    total = 0
    async for order in db.stream("SELECT * FROM orders", into=Order, batch=ROWS // 2):
        total += order.total >= 0
        if total % 100 == 0:
            await asyncio.sleep(0)  # what the caller does is not the database's
    assert total == ROWS
    fits(steps)
