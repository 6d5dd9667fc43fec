from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ConfigurationError, RateLimited
from consona.resilience.deadline import within
from consona.resilience.rate import LocalTurns, RateLimit, next_turn
from virtual_time import now, virtual


def admitted_too_many(times, limit):
    """Whether any stretch of time saw more than burst + rate * its length."""
    return any(
        last - first + 1 > limit.burst + limit.rate * (times[last] - times[first]) + 1e-4
        for first in range(len(times))
        for last in range(first, len(times))
    )


limits = st.builds(RateLimit, rate=st.floats(0.1, 100), burst=st.integers(1, 10))


@given(limits, st.lists(st.tuples(st.floats(0, 3), st.floats(0, 5)), max_size=60))
def test_no_stretch_of_time_sees_more_than_the_burst_and_the_rate(limit, arrivals):
    clock = [0.0]
    turns = LocalTurns(limit, clock=lambda: clock[0], max_keys=10)
    begun = []
    for passed, max_wait in arrivals:
        clock[0] += passed
        wait = turns.take("", max_wait=max_wait)
        if wait <= max_wait:
            begun.append(clock[0] + wait)
    assert not admitted_too_many(sorted(begun), limit)


def test_a_key_that_was_forgotten_does_not_begin_with_a_new_burst():
    turns = LocalTurns(RateLimit(rate=1, burst=2), clock=lambda: 0.0, max_keys=2)
    assert [turns.take_now("ada") for _ in range(3)] == [True, True, False]
    assert [turns.take_now(key) for key in ("b", "c", "d")] == [True, True, False]
    assert "ada" not in turns.latest(10)
    assert not turns.take_now("ada")


@given(limits, st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1)), max_size=60))
def test_nobody_gets_more_by_making_the_table_forget(limit, arrivals):
    clock = [0.0]
    turns = LocalTurns(limit, clock=lambda: clock[0], max_keys=2)
    begun: dict[int, list[float]] = {}
    for key, passed in arrivals:
        clock[0] += passed
        if turns.take(str(key), max_wait=0.0) <= 0.0:
            begun.setdefault(key, []).append(clock[0])
    assert len(turns.latest(100)) <= 2
    assert not any(admitted_too_many(times, limit) for times in begun.values())


@given(limits, st.lists(st.floats(0, 3), max_size=40))
def test_one_step_and_the_local_table_agree(limit, passed):
    clock, kept = [0.0], None
    turns = LocalTurns(limit, clock=lambda: clock[0], max_keys=2)
    for seconds in passed:
        clock[0] += seconds
        kept, wait = next_turn(kept, clock[0], limit=limit, max_wait=1.0)
        if not turns.take_now(""):
            assert wait > 0
            assert turns.take("", max_wait=1.0) == pytest.approx(wait)


@virtual
async def test_calls_beyond_the_burst_wait_for_their_turns():
    bound = RateLimit(rate=2, burst=3).bind("search", clock=now)
    began, times = now(), []
    for _ in range(6):
        async with bound.turn("ada"):
            times.append(now() - began)
    assert times == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5])


@virtual
async def test_each_key_has_its_own_rate():
    bound = RateLimit(rate=1).bind("search", clock=now)
    began = now()
    await bound.acquire("ada")
    await bound.acquire("grace")
    assert now() == began


@virtual
async def test_a_turn_that_comes_too_late_is_refused_at_once_and_takes_nothing():
    bound = RateLimit(rate=1, max_wait=0.0).bind("search", clock=now)
    await bound.acquire("ada")
    for _ in range(3):
        with pytest.raises(RateLimited, match=r"search.*for ada") as caught:
            await bound.acquire("ada")
        assert caught.value.retry_after == pytest.approx(1.0)
    await asyncio.sleep(1.0)
    await bound.acquire("ada")
    assert bound.state()["refused"] == 3


@virtual
async def test_a_wait_beyond_the_deadline_is_not_begun():
    bound = RateLimit(rate=1).bind("search", clock=now)
    await bound.acquire()
    began = now()
    async with within(0.5, clock=now):
        with pytest.raises(RateLimited):
            await bound.acquire()
    assert now() == began


@virtual
async def test_many_at_once_are_spread_out_and_some_are_cancelled():
    limit = RateLimit(rate=10, burst=5)
    bound = limit.bind("search", clock=now)
    times = []

    async def call():
        await bound.acquire()
        times.append(now())

    tasks = [asyncio.ensure_future(call()) for _ in range(50)]
    await asyncio.sleep(0.45)
    assert bound.state()["waiting"] > 0
    for task in tasks[::3]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not admitted_too_many(sorted(times), limit)
    assert bound.state()["waiting"] == 0


class OneTable:
    """A shared place for turns, as small as one can be."""

    def __init__(self) -> None:
        self.kept: dict[str, float | None] = {}

    async def take(self, key, *, limit, max_wait):
        self.kept[key], wait = next_turn(self.kept.get(key), now(), limit=limit, max_wait=max_wait)
        return wait


@virtual
async def test_two_that_share_their_turns_have_one_rate():
    limit, table = RateLimit(rate=4, burst=2), OneTable()
    one, other = (limit.bind("search", clock=now, shared=table) for _ in range(2))
    times = []
    for _ in range(5):
        await one.acquire("ada")
        times.append(now())
        await other.acquire("ada")
        times.append(now())
    assert not admitted_too_many(times, limit)
    assert not one.acquire_now("ada"), "only the shared table knows"


def test_what_is_left_is_shown_as_plain_values():
    clock = [0.0]
    bound = RateLimit(rate=2, burst=3).bind("search", clock=lambda: clock[0])
    assert bound.acquire_now("ada")
    assert bound.acquire_now("ada")
    clock[0] = 0.25
    assert json.loads(json.dumps(bound.state())) == {
        "name": "search",
        "waiting": 0,
        "refused": 0,
        "keys": {"ada": {"left": 1.5}},
    }


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"rate": float("inf")}, {"rate": float("nan")}, {"rate": 1, "burst": 0}, {"rate": 1, "max_wait": -1}],
)
def test_senseless_settings_are_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=list(wrong)[-1]):
        RateLimit(**wrong)
