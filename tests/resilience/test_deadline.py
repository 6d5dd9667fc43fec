from __future__ import annotations

import asyncio
import gc
import pickle
import time
import weakref
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ConfigurationError, DeadlineExceeded
from consona.resilience import deadline as deadlines
from consona.resilience.deadline import check, from_header, remaining, to_header, within
from virtual_time import now, virtual


def test_without_a_deadline_there_is_nothing_to_keep_to():
    assert remaining() is None
    assert to_header() is None
    check("anything")


def test_a_deadline_inside_another_one_only_shortens_it():
    clock = lambda: 50.0
    with within(5.0, clock=clock):
        with within(60.0, clock=clock):
            assert remaining() == 5.0
        with within(2.0, clock=clock):
            assert remaining() == 2.0
        assert remaining() == 5.0
    assert remaining() is None


def test_deadlines_by_different_clocks_still_only_shrink():
    with within(5.0, clock=lambda: 50.0), within(60.0, clock=lambda: 7.0):
        assert remaining() == 5.0


def test_work_past_its_deadline_is_not_begun():
    time_ = [0.0]
    with within(1.0, clock=lambda: time_[0]):
        check("the report")
        time_[0] = 1.0
        with pytest.raises(DeadlineExceeded, match="the report"):
            check("the report")
        assert remaining() == 0.0


@virtual
async def test_work_is_interrupted_at_its_deadline_and_the_cause_shows_where():
    began = now()
    with pytest.raises(DeadlineExceeded, match=r"2\.5 s") as caught:
        async with within(2.5, clock=now):
            await asyncio.sleep(100)
    assert now() - began == pytest.approx(2.5, abs=0.001)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0
    assert remaining() is None


async def test_it_interrupts_by_the_real_clock_too():
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        async with within(0.05):
            await asyncio.Event().wait()
    assert time.monotonic() - began >= 0.049


@virtual
async def test_a_cancellation_from_outside_stays_a_cancellation():
    async def work():
        async with within(5.0, clock=now):
            await asyncio.sleep(100)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual
async def test_a_cancellation_in_the_very_moment_of_the_deadline_is_not_swallowed():
    async def work():
        async with within(5.0, clock=now):
            await asyncio.sleep(100)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    # Made after the deadline's own timer for the same moment, so both happen before the task runs again.
    asyncio.get_running_loop().call_at(now() + 5.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual
async def test_an_outer_timeout_of_asyncio_stays_a_timeout():
    for outer in (1.0, 2.0):  # before the deadline, and in the same moment
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(outer), within(2.0, clock=now):
                await asyncio.sleep(100)
        assert asyncio.current_task().cancelling() == 0


@virtual
async def test_an_inner_timeout_of_asyncio_stays_a_timeout():
    with pytest.raises(TimeoutError):
        async with within(2.0, clock=now), asyncio.timeout(1.0):
            await asyncio.sleep(100)


@virtual
async def test_the_same_moment_for_two_deadlines_is_told_once():
    with pytest.raises(DeadlineExceeded):
        async with within(2.0, clock=now), within(2.0, clock=now), within(9.0, clock=now):
            await asyncio.sleep(100)
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_an_error_of_the_work_itself_passes_also_at_the_deadline():
    async def work():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise ZeroDivisionError from None

    with pytest.raises(ZeroDivisionError):
        async with within(2.0, clock=now):
            await work()
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_tasks_started_inside_inherit_it():
    async def left():
        return remaining()

    async with within(3.0, clock=now):
        await asyncio.sleep(1)
        assert await asyncio.create_task(left()) == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0.01, 50), st.floats(0.01, 50), st.floats(0, 50)), max_size=30))
@virtual
async def test_each_of_many_is_interrupted_at_its_own_time_and_no_other(plans):
    async def work(outer, inner, needed):
        began = now()
        try:
            async with within(outer, clock=now), within(inner, clock=now):
                await asyncio.sleep(needed)
        except DeadlineExceeded:
            assert needed >= min(outer, inner) - 0.001
        else:
            assert needed <= min(outer, inner) + 0.001
        assert now() - began <= min(outer, inner) + 0.001

    async with asyncio.TaskGroup() as group:
        for number, plan in enumerate(plans):
            group.create_task(work(*plan))
            if number % 3 == 0:
                await asyncio.sleep(plan[2] / 2)


@virtual
async def test_a_finished_call_leaves_nothing_behind():
    class Big:
        pass

    variable: ContextVar[Big] = ContextVar("variable")
    big = Big()
    seen = weakref.ref(big)

    async def work(it):
        variable.set(it)
        async with within(1000.0, clock=now):
            await asyncio.sleep(0)

    await asyncio.create_task(work(big))
    del big
    await asyncio.sleep(0)
    gc.collect()
    assert seen() is None


def test_closed_event_loops_are_forgotten():
    async def work():
        async with within(1000.0):
            return asyncio.get_running_loop()

    loops = [asyncio.run(work()) for _ in range(5)]
    assert sum(loop in deadlines._watches for loop in loops) <= 1


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_deadline_that_is_no_time_is_refused(seconds):
    with pytest.raises(ConfigurationError, match="within"):
        within(seconds)


def test_the_header_carries_what_is_left_and_shrinks_at_each_hop():
    time_ = [10.0]
    with within(2.5, clock=lambda: time_[0]):
        assert to_header() == "2.500"
        time_[0] = 11.0
        sent = to_header()
    assert from_header(sent) == 1.5
    time_[0] = 0.0
    with within(1.0, clock=lambda: time_[0]), within(from_header("3600"), clock=lambda: time_[0]):
        assert remaining() == 1.0


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e9", "1,5", "1.5 s", "٣", "9" * 400, "0x10"])
def test_a_header_that_is_no_plain_decimal_is_ignored(text):
    assert from_header(text) is None


@given(st.text())
def test_no_header_of_a_stranger_raises(text):
    value = from_header(text)
    assert value is None or 0 <= value < 1e9


@virtual
async def test_the_error_survives_pickling():
    with pytest.raises(DeadlineExceeded) as caught:
        async with within(1.0, clock=now):
            await asyncio.sleep(100)
    assert pickle.loads(pickle.dumps(caught.value)).context == {"timeout": 1.0}
