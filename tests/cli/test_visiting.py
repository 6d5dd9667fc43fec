"""Made-up visitors make real requests, at a bounded rate."""

from __future__ import annotations

import asyncio
import time

import pytest

from consona.cli.loading import TargetError
from consona.cli.serving import Visiting
from consona.cli.visiting import visit
from http_origin import Asked, Origin, Said
from processes import until

WALK = """
async def walk(api, rng):
    await api.get(f"/{rng.randint(1, 1000)}")


async def hurry(api, rng):
    while True:
        await api.get("/")


async def trip(api, rng):
    await api.get("/")
    raise ZeroDivisionError
"""


@pytest.fixture
async def shop(tmp_path):
    (tmp_path / "made_up_visits.py").write_text(WALK, "utf-8")

    def answer(_asked: Asked) -> Said:
        return Said(200)

    async with Origin(answer) as origin:
        origin.folder = str(tmp_path)
        yield origin


def visiting(shop, walk: str, **more) -> Visiting:
    return Visiting(walk=f"made_up_visits:{walk}", url=shop.url, folder=shop.folder, **{"count": 2, **more})


async def visit_until(shop, wish: Visiting, requests: int, *, seed: int = 1) -> list[str]:
    stop = asyncio.Event()
    task = asyncio.create_task(visit(wish, stop, seed=seed))
    await until(lambda: len(shop.asked) >= requests or task.done())
    stop.set()
    await task
    return [asked.target for asked in shop.asked]


async def test_each_visitor_makes_choices_of_their_own(shop):
    seen = await visit_until(shop, visiting(shop, "walk", count=4, requests_per_second=1000), 4)
    assert len(set(seen[:4])) == 4


async def test_no_more_is_sent_than_was_said_however_much_the_walk_wants(shop):
    wish = visiting(shop, "hurry", count=2, requests_per_second=20)
    began = time.monotonic()
    await visit_until(shop, wish, 30)
    took = time.monotonic() - began
    assert len(shop.asked) <= 2 + 40 * took + 2, "burst, rate, and what was under way at the end"


async def test_a_walk_that_fails_is_told_and_the_others_go_on(shop, caplog):
    await visit_until(shop, visiting(shop, "trip"), 2)
    assert "ZeroDivisionError" in caplog.text


async def test_a_shop_that_is_away_is_waited_for(shop, caplog):
    caplog.set_level("INFO", "consona.visitors")
    stop = asyncio.Event()
    wish = Visiting(walk="made_up_visits:walk", url="http://127.0.0.1:9", count=1, folder=shop.folder)
    task = asyncio.create_task(visit(wish, stop))
    await until(lambda: "a visit ended early" in caplog.text)
    assert not task.done()
    stop.set()
    await task


async def test_a_walk_that_does_not_exist_is_refused(shop):
    with pytest.raises(TargetError, match="no 'wlk'"):
        await visit(visiting(shop, "wlk"), asyncio.Event())
