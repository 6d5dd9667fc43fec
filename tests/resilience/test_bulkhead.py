from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consona.errors import BulkheadFull, ConfigurationError, DeadlineExceeded
from consona.resilience.bulkhead import Bulkhead
from consona.resilience.deadline import within
from virtual_time import now, virtual


@virtual
async def test_only_so_many_run_and_the_others_wait_their_turn_in_order():
    bound = Bulkhead(limit=2, queue=10).bind("prices")
    order, running, most = [], 0, 0

    async def call(number):
        nonlocal running, most
        async with bound.place():
            running += 1
            most = max(most, running)
            order.append(number)
            await asyncio.sleep(1)
            running -= 1

    began = now()
    await asyncio.gather(*(call(number) for number in range(6)))
    assert (order, most, now() - began) == ([0, 1, 2, 3, 4, 5], 2, pytest.approx(3.0))


@virtual
async def test_beyond_the_queue_a_call_is_refused_at_once():
    bound = Bulkhead(limit=1, queue=1).bind("prices")
    release = asyncio.Event()

    async def call():
        async with bound.place("eu"):
            await release.wait()

    tasks = [asyncio.ensure_future(call()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull, match="for eu") as caught:
        async with bound.place("eu"):
            pytest.fail("the body was begun")
    assert caught.value.retryable
    async with bound.place("us"):  # each key has places of its own
        pass
    assert json.loads(json.dumps(bound.state()["keys"]["eu"])) == {"running": 1, "limit": 1, "waiting": 1, "queue": 1}
    release.set()
    await asyncio.gather(*tasks)
    assert bound.state()["keys"]["eu"]["running"] == 0


@virtual
async def test_waiting_ends_at_the_deadline():
    bound = Bulkhead(limit=1, queue=5).bind("prices")
    async with bound.place():
        began = now()
        with pytest.raises(DeadlineExceeded):
            async with within(2.0, clock=now), bound.place():
                pytest.fail("the body was begun")
        assert now() - began == pytest.approx(2.0, abs=0.001)
    assert bound.state()["keys"][""] == {"running": 0, "limit": 1, "waiting": 0, "queue": 5}


@virtual
async def test_the_deadline_is_for_the_waiting_only_where_the_caller_does_not_enforce_it():
    bound = Bulkhead(limit=1, queue=5).bind("prices")

    async def hold():
        async with bound.place():
            await asyncio.sleep(5)

    holder = asyncio.ensure_future(hold())
    await asyncio.sleep(0)
    with within(2.0, clock=now), pytest.raises(DeadlineExceeded):
        async with bound.place():
            pytest.fail("the body was begun")
    await holder


@virtual
async def test_a_waiter_cancelled_as_it_is_given_a_place_passes_it_on():
    bound = Bulkhead(limit=1, queue=5).bind("prices")
    entered = []

    async def call(number):
        async with bound.place():
            entered.append(number)

    async with bound.place():
        first, second = (asyncio.ensure_future(call(number)) for number in (1, 2))
        await asyncio.sleep(0)
    first.cancel()  # its place was handed over a moment ago, and it has not run since
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert entered == [2]
    assert bound.state()["keys"][""]["running"] == 0


@virtual
async def test_a_key_in_use_is_never_forgotten():
    bound = Bulkhead(limit=1, queue=0).bind("prices", max_keys=2)
    async with bound.place("busy"):
        for number in range(50):
            async with bound.place(str(number)):
                pass
        with pytest.raises(BulkheadFull):
            async with bound.place("busy"):
                pytest.fail("the limit was broken")
    assert len(bound.state(limit=100)["keys"]) <= 3


@settings(deadline=None)
@given(
    st.integers(1, 4),
    st.integers(0, 4),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.none() | st.floats(0, 5)), max_size=30),
)
@virtual
async def test_no_history_of_cancellations_breaks_the_limits(limit, queue, plans):
    bound = Bulkhead(limit=limit, queue=queue).bind("prices")
    running = 0

    async def call(start, needs):
        nonlocal running
        await asyncio.sleep(start)
        async with bound.place():
            running += 1
            assert running <= limit
            try:
                await asyncio.sleep(needs)
            finally:
                running -= 1

    def watch():
        shown = bound.state()["keys"].get("")
        if shown:
            assert shown["running"] <= limit
            assert shown["waiting"] <= queue
            assert shown["waiting"] == 0 or shown["running"] == limit

    tasks = []
    for start, needs, cancel_at in plans:
        task = asyncio.ensure_future(call(start, needs))
        tasks.append(task)
        if cancel_at is not None:
            asyncio.get_running_loop().call_later(cancel_at, task.cancel)
    for _ in range(40):
        await asyncio.sleep(0.2)
        watch()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, BulkheadFull | asyncio.CancelledError), result
    async with bound.place():  # nothing was lost
        assert bound.state()["keys"][""]["running"] == 1
    assert bound.state()["keys"][""]["running"] == 0


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"queue": -1}])
def test_senseless_settings_are_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Bulkhead(**wrong)
