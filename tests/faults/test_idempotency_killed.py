"""Two processes share the keys of idempotent requests in a SQLite file; one of them is killed in its middle."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from processes import Command, free_port, until

PATIENT = Policy(timeout=30, retry=Retry(attempts=10, backoff=0.1))

SHOP = '''
import asyncio, os, pathlib

import msgspec

from consona import APIServer
from consona.rest.server import idempotency
from consona.rest.server.idempotency import IdempotencyKey
from consona.sql.database import SQLDatabase

idempotency.MARGIN_S = 0.5  # a killed process counts as dead soon
db = SQLDatabase("sqlite:///shop.db")
api = APIServer("shop", parts=[db])


class Order(msgspec.Struct):
    id: int
    pid: int


async def stop_here(place: str) -> None:
    """Where the test wants it, wait to be killed."""
    if pathlib.Path(f"stop-{place}").exists():
        pathlib.Path(f"here-{os.getpid()}").touch()
        await asyncio.Event().wait()


@api.on_start
async def prepare() -> None:
    await db.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)")


@api.post("/plain", idempotent=True, timeout=1.0)
async def plain() -> Order:
    done = await db.execute("INSERT INTO orders DEFAULT VALUES")
    await stop_here("after")
    return Order(done.key, os.getpid())


@api.post("/kept", idempotent=True, timeout=1.0)
async def kept(key: IdempotencyKey) -> Order:
    async with db.transaction() as tx:
        done = await tx.execute("INSERT INTO orders DEFAULT VALUES")
        order = Order(done.key, os.getpid())
        await key.keep(order, tx=tx)
        await stop_here("before")
    await stop_here("after")
    return order
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


class Process:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.command = Command("run", "shop:api", "--port", self.port, folder=folder)

    async def __aenter__(self) -> Process:
        await asyncio.to_thread(self.command.line, "Serving")
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.command.__exit__)

    async def post(self, path: str, key: str, **options):
        async with APIClient(f"http://127.0.0.1:{self.port}", policy=PATIENT) as client:
            return await client.post(path, headers={"Idempotency-Key": key}, raise_for_status=False, **options)


def orders(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "shop.db")) as db, db:
        return int(db.execute("SELECT count(*) FROM orders").fetchone()[0])


async def killed_at(folder: Path, place: str, path: str) -> None:
    """Begin a request in a process of its own, and kill that process while it is there."""
    (folder / f"stop-{place}").touch()
    async with Process(folder) as process:
        request = asyncio.create_task(process.post(path, "k-1"))
        await until(lambda: bool(list(folder.glob("here-*"))))
        process.command.send(signal.SIGKILL)
        await asyncio.gather(request, return_exceptions=True)
    (folder / f"stop-{place}").unlink()


async def test_a_repeat_that_another_process_gets_is_answered_the_same(folder):
    async with Process(folder) as one, Process(folder) as other:
        answers = await asyncio.gather(*(each.post("/plain", "k-1", idempotent=True) for each in [one, other] * 10))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
        assert orders(folder) == 1
        pids = {(await each.post("/plain", f"k-{number}")).json()["pid"] for number, each in enumerate([one, other], 2)}
        assert len(pids) == 2


async def test_where_nobody_knows_what_was_done_it_is_not_done_again(folder):
    await killed_at(folder, "after", "/plain")
    async with Process(folder) as other:
        first = await other.post("/plain", "k-1")
        assert first.status == 409
        while (answer := await other.post("/plain", "k-1")).json()["code"] == "http.idempotency.in_progress":
            assert answer.headers["retry-after"] == "1"
            await asyncio.sleep(0.05)
        assert (answer.status, answer.json()["code"]) == (409, "http.idempotency.unknown")
        assert orders(folder) == 1
        assert (await other.post("/plain", "k-2")).status == 200


@pytest.mark.parametrize("place", ["before", "after"])
async def test_an_answer_that_is_kept_in_the_transaction_makes_it_happen_exactly_once(folder, place):
    await killed_at(folder, place, "/kept")
    assert orders(folder) == (0 if place == "before" else 1)
    async with Process(folder) as other:
        answer = await other.post("/kept", "k-1", idempotent=True)
        assert answer.status == 200
        assert ("idempotency-replayed" in answer.headers) == (place == "after")
        assert orders(folder) == 1
        assert (await other.post("/kept", "k-1")).content == answer.content
