"""A limit that is kept in a store holds for all who share it."""

import asyncio
import subprocess
import sys

import pytest

from consona.errors import RateLimited
from consona.resilience import Policy, RateLimit
from consona.storage.shared_rate import StoredTurns
from consona.storage.store import open_store


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    url = "memory://shared-rate" if request.param == "memory" else f"sqlite:///{tmp_path}/limits.db"
    async with open_store(url) as opened:
        yield opened


async def test_two_users_of_one_store_get_the_burst_once(store):
    limit = RateLimit(rate=0.001, burst=5, max_wait=0.0)
    one, other = (Policy(rate=limit).bind(name, turns=StoredTurns(store)) for name in ("one", "other"))
    done = 0

    async def call():
        nonlocal done
        done += 1

    async def attempt(number):
        try:
            await (one if number % 2 else other).run(call, key="ada")
        except RateLimited as error:
            return error.retry_after
        return None

    refused = [seconds for seconds in await asyncio.gather(*map(attempt, range(40))) if seconds is not None]
    assert (done, len(refused)) == (5, 35)
    assert all(0 < seconds <= 1000 for seconds in refused)


async def test_keys_are_told_apart(store):
    turns = StoredTurns(store)
    limit = RateLimit(rate=0.001, burst=1)
    assert await turns.take("ada", limit=limit, max_wait=0.0) == 0.0
    assert await turns.take("bob", limit=limit, max_wait=0.0) == 0.0
    assert await turns.take("ada", limit=limit, max_wait=0.0) > 0.0


async def test_turns_come_back_at_the_stated_rate(store):
    now = [1000.0]
    turns = StoredTurns(store, clock=lambda: now[0])
    limit = RateLimit(rate=2.0, burst=1)
    waits = [await turns.take("ada", limit=limit, max_wait=10.0) for _ in range(3)]
    assert waits == [0.0, 0.5, 1.0]
    now[0] += 1.5
    assert await turns.take("ada", limit=limit, max_wait=10.0) == 0.0


async def test_a_turn_that_was_refused_was_not_taken(store):
    now = [1000.0]
    turns = StoredTurns(store, clock=lambda: now[0])
    limit = RateLimit(rate=1.0, burst=1)
    assert await turns.take("ada", limit=limit, max_wait=0.0) == 0.0
    for _ in range(5):
        assert await turns.take("ada", limit=limit, max_wait=0.5) == 1.0


PROCESS = """
import asyncio, sys
from consona.resilience import RateLimit
from consona.storage.shared_rate import StoredTurns
from consona.storage.store import open_store

async def main():
    async with open_store(sys.argv[1]) as store:
        turns, limit = StoredTurns(store), RateLimit(rate=0.001, burst=20)
        print(sum([await turns.take("all", limit=limit, max_wait=0.0) == 0.0 for _ in range(30)]))

asyncio.run(main())
"""


def test_processes_together_keep_the_limit(tmp_path):
    url = f"sqlite:///{tmp_path}/limits.db"
    running = [subprocess.Popen([sys.executable, "-c", PROCESS, url], stdout=subprocess.PIPE) for _ in range(3)]
    taken = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(taken) == 20
