from __future__ import annotations

import asyncio
import inspect
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consona.errors import (
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    ConnectError,
    ConsonaError,
    DeadlineExceeded,
    NotFound,
    RateLimited,
)
from consona.resilience import Breaker, Bulkhead, Policy, RateLimit, Retry
from consona.resilience.deadline import remaining, within
from virtual_time import now, virtual


class Dependency:
    """Fails as often as told, then answers; counts what reaches it."""

    def __init__(self, failures=0, error=ConnectError, takes=0.0):
        self.failures = failures
        self.error = error
        self.takes = takes
        self.times = []

    async def __call__(self):
        self.times.append(now())
        if self.takes:
            await asyncio.sleep(self.takes)
        if len(self.times) <= self.failures:
            raise self.error("not now") if isinstance(self.error, type) else self.error
        return "answer"

    @property
    def tries(self):
        return len(self.times)


def bind(*, rng=lambda: 0.5, max_keys=10, **parts):
    return Policy(**parts).bind("prices", clock=now, rng=rng, max_keys=max_keys)


async def through_run(runner, call, **options):
    return await runner.run(call, **options)


async def through_the_loop(runner, call, **options):
    answer = None
    async for attempt in runner.attempts(**options):
        async with attempt:
            answer = await call()
    return answer


@pytest.fixture(params=[through_run, through_the_loop])
def through(request):
    """Both forms keep the same promises."""
    return request.param


# Retries.


@virtual
async def test_a_failed_call_is_tried_again_until_it_succeeds(through):
    call = Dependency(failures=2)
    assert await through(bind(retry=Retry(attempts=3, backoff=1.0)), call) == "answer"
    assert [time - call.times[0] for time in call.times] == pytest.approx([0.0, 1.0, 3.0])


@virtual
async def test_after_the_last_try_its_error_is_raised_as_it_is(through):
    error = ConnectError("not now")
    with pytest.raises(ConnectError) as caught:
        await through(bind(retry=Retry(attempts=3)), call := Dependency(99, error))
    assert caught.value is error
    assert call.tries == 3


@virtual
async def test_without_a_retry_there_is_one_try(through):
    with pytest.raises(ConnectError):
        await through(bind(timeout=5.0), call := Dependency(99))
    assert call.tries == 1


@virtual
async def test_an_error_that_is_not_worth_it_is_not_retried(through):
    with pytest.raises(NotFound):
        await through(bind(retry=Retry()), call := Dependency(99, NotFound))
    assert call.tries == 1


@virtual
async def test_what_is_worth_a_retry_can_be_set_for_all_calls_and_for_one(through):
    runner = bind(retry=Retry(retry_if=lambda error: isinstance(error, ValueError)))
    assert await through(runner, Dependency(1, ValueError)) == "answer"
    with pytest.raises(ValueError):
        await through(runner, Dependency(1, ValueError), retry_if=lambda error: False)


@virtual
async def test_retry_after_is_honoured(through):
    call = Dependency(1, RateLimited("slow down", retry_after=7.0))
    await through(bind(timeout=60.0, retry=Retry(max_wait=1.0)), call)
    assert call.times[1] - call.times[0] == pytest.approx(7.0)


@virtual
async def test_a_wait_beyond_the_deadline_is_not_begun(through):
    began = now()
    with pytest.raises(RateLimited):
        await through(bind(timeout=5.0, retry=Retry()), Dependency(9, RateLimited("slow down", retry_after=6.0)))
    assert now() == began


@virtual
async def test_without_a_deadline_a_stranger_cannot_make_us_wait_for_ever(through):
    with pytest.raises(RateLimited):
        await through(bind(retry=Retry(max_wait=30.0)), Dependency(9, RateLimited("slow down", retry_after=1e9)))


@virtual
async def test_an_open_circuit_further_down_is_not_retried(through):
    with pytest.raises(CircuitOpen):
        await through(bind(retry=Retry()), call := Dependency(9, CircuitOpen))
    assert call.tries == 1


@virtual
async def test_a_dying_server_gets_at_most_a_fifth_more_load(through):
    runner = bind(retry=Retry(attempts=4, backoff=0.0))
    call = Dependency(10**9)
    for _ in range(200):
        with pytest.raises(ConnectError):
            await through(runner, call)
    assert call.tries <= 240
    budget = runner.state()["keys"][""]["retry"]
    assert budget["retries"] == call.tries - 200
    assert budget["refused"] > 0


@virtual
async def test_each_key_has_its_own_budget(through):
    runner = bind(retry=Retry(attempts=100, backoff=0.0))
    with pytest.raises(ConnectError):
        await through(runner, Dependency(10**9), key="dying.example")
    assert await through(runner, Dependency(5), key="well.example") == "answer"


# The deadline.


@virtual
async def test_one_deadline_is_over_all_tries(through):
    began = now()
    with pytest.raises(DeadlineExceeded, match=r"prices.*for eu") as caught:
        await through(bind(timeout=5.0, retry=Retry(attempts=9, backoff=0.0)), Dependency(99, takes=2.0), key="eu")
    assert now() - began == pytest.approx(5.0, abs=0.001)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0
    assert remaining() is None


@virtual
async def test_the_callers_deadline_shortens_the_timeout(through):
    began = now()
    with within(1.0, clock=now), pytest.raises(DeadlineExceeded):
        await through(bind(timeout=5.0), Dependency(takes=100.0))
    assert now() - began == pytest.approx(1.0, abs=0.001)


@virtual
async def test_the_callers_deadline_holds_without_a_timeout(through):
    with within(1.0, clock=now), pytest.raises(DeadlineExceeded):
        await through(bind(retry=Retry()), Dependency(takes=100.0))


@virtual
async def test_one_call_can_have_a_timeout_of_its_own_or_none():
    runner = bind(timeout=5.0)
    began = now()
    with pytest.raises(DeadlineExceeded):
        await runner.run(Dependency(takes=100.0), timeout=2.0)
    assert now() - began == pytest.approx(2.0, abs=0.001)
    assert await runner.run(Dependency(takes=100.0), timeout=None) == "answer"
    with pytest.raises(DeadlineExceeded, match="before it began"):
        await runner.run(call := Dependency(), timeout=0.0)
    assert call.tries == 0


@virtual
async def test_the_call_sees_its_deadline(through):
    async def call():
        return remaining()

    assert await through(bind(timeout=5.0), call) == 5.0


@virtual
async def test_work_past_its_deadline_is_not_begun(through):
    call = Dependency()
    with within(0.0, clock=now), pytest.raises(DeadlineExceeded, match="before it began"):
        await through(bind(timeout=5.0), call)
    assert call.tries == 0


@virtual
async def test_an_error_of_the_call_itself_passes_also_at_the_deadline(through):
    async def call():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise ConnectError("lost") from None

    with pytest.raises(ConnectError):
        await through(bind(timeout=5.0, retry=Retry(backoff=0.0)), call)
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_a_cancellation_from_outside_stays_one(through):
    call = Dependency(takes=100.0)
    task = asyncio.ensure_future(through(bind(timeout=5.0, retry=Retry()), call))
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.tries == 1


@virtual
async def test_an_outer_timeout_stays_one_also_in_the_same_moment(through):
    for outer in (1.0, 5.0):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(outer):
                await through(bind(timeout=5.0, retry=Retry()), Dependency(takes=100.0))
        assert asyncio.current_task().cancelling() == 0


@settings(deadline=None)
@given(
    timeout=st.floats(0.1, 20),
    outer=st.none() | st.floats(0.1, 20),
    takes=st.floats(0, 5),
    failures=st.integers(0, 10),
    told=st.none() | st.floats(0, 10),
    chance=st.floats(0, 1, exclude_max=True),
)
@virtual
async def test_the_whole_never_takes_longer_than_the_deadline(timeout, outer, takes, failures, told, chance):
    runner = bind(
        timeout=timeout,
        retry=Retry(attempts=8, backoff=0.5),
        rate=RateLimit(rate=2, burst=2),
        bulkhead=Bulkhead(limit=2, queue=3),
        breaker=Breaker(min_calls=5),
        rng=lambda: chance,
    )
    most = timeout if outer is None else min(outer, timeout)

    async def one():
        began = now()
        try:
            if outer is None:
                await runner.run(Dependency(failures, ConnectError("no", retry_after=told), takes))
            else:
                with within(outer, clock=now):
                    await runner.run(Dependency(failures, ConnectError("no", retry_after=told), takes))
        except ConsonaError:
            pass
        assert now() - began <= most + 0.001

    await asyncio.gather(*(one() for _ in range(5)))
    assert runner.state()["keys"][""]["bulkhead"]["running"] == 0


# The time of one try.


class Hanging:
    """Each try takes as long as told, and notes whether it was cut."""

    def __init__(self, *takes):
        self.takes = takes
        self.times = []
        self.cut = 0

    async def __call__(self):
        self.times.append(now())
        try:
            await asyncio.sleep(self.takes[min(len(self.times), len(self.takes)) - 1])
        except asyncio.CancelledError:
            self.cut += 1
            raise
        return "answer"


@virtual
async def test_a_try_that_hangs_is_cut_and_tried_again(through):
    call = Hanging(100.0, 100.0, 0.5)
    runner = bind(timeout=30.0, retry=Retry(attempts=3, backoff=1.0, try_timeout=2.0))
    assert await through(runner, call) == "answer"
    assert [time - call.times[0] for time in call.times] == pytest.approx([0.0, 3.0, 7.0])
    assert (call.cut, runner.state()["keys"][""]["timeouts"]) == (2, 2)
    assert (asyncio.current_task().cancelling(), remaining()) == (0, None)


@virtual
async def test_after_the_last_try_its_time_is_told(through):
    runner = bind(timeout=30.0, retry=Retry(attempts=2, backoff=0.0, try_timeout=2.0))
    with pytest.raises(DeadlineExceeded, match=r"prices: a try for eu took longer than 2 s") as caught:
        await through(runner, call := Hanging(100.0), key="eu")
    assert (len(call.times), caught.value.context["phase"], caught.value.retryable) == (2, "try", True)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0


@virtual
async def test_the_whole_call_ends_by_its_deadline_however_long_a_try_may_take(through):
    began = now()
    runner = bind(timeout=5.0, retry=Retry(attempts=9, backoff=0.0, try_timeout=2.0))
    with pytest.raises(DeadlineExceeded, match="the time of the call was over"):
        await through(runner, call := Hanging(100.0))
    assert (now() - began, len(call.times)) == (pytest.approx(5.0, abs=0.001), 3)


@virtual
async def test_a_try_sees_its_own_deadline(through):
    async def call():
        return remaining()

    assert await through(bind(timeout=5.0, retry=Retry(try_timeout=2.0)), call) == 2.0
    assert await through(bind(timeout=1.0, retry=Retry(try_timeout=2.0)), call) == 1.0
    assert await through(bind(retry=Retry(try_timeout=2.0)), call) == 2.0


@virtual
async def test_waiting_for_a_place_is_no_part_of_a_try(through):
    runner = bind(retry=Retry(attempts=1, try_timeout=2.0), bulkhead=Bulkhead(limit=1))
    calls = [through(runner, Hanging(1.5)) for _ in range(3)]
    assert await asyncio.gather(*calls) == ["answer"] * 3


@virtual
async def test_a_cancellation_from_outside_is_not_taken_for_the_end_of_a_try(through):
    for after in (1.0, 2.0):  # the second falls into the same moment
        task = asyncio.ensure_future(through(bind(retry=Retry(try_timeout=2.0)), call := Hanging(100.0)))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(call.times) == 1


@virtual
async def test_short_tries_that_hang_open_the_circuit(through):
    runner = bind(timeout=30.0, retry=Retry(attempts=1, try_timeout=0.2), breaker=Breaker(min_calls=3))
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await through(runner, Hanging(100.0))
    with pytest.raises(CircuitOpen):
        await through(runner, Hanging(0.0))


@virtual
async def test_who_asks_for_no_retry_of_it_gets_none(through):
    runner = bind(retry=Retry(try_timeout=2.0, retry_if=lambda error: isinstance(error, ConnectError)))
    with pytest.raises(DeadlineExceeded):
        await through(runner, call := Hanging(100.0))
    assert len(call.times) == 1


@settings(deadline=None)
@given(
    timeout=st.none() | st.integers(1, 40),
    try_timeout=st.integers(1, 10),
    attempts=st.integers(1, 6),
    takes=st.lists(st.integers(0, 12).map(lambda n: n + 0.5), min_size=6, max_size=6),
    form=st.sampled_from([through_run, through_the_loop]),
)
@virtual
async def test_tries_and_the_whole_take_the_time_that_a_model_foretells(timeout, try_timeout, attempts, takes, form):
    runner = bind(timeout=timeout, retry=Retry(attempts=attempts, backoff=0.0, try_timeout=try_timeout, budget=None))
    whole = float("inf") if timeout is None else timeout
    at, expected = 0.0, "try"
    for spent in takes[:attempts]:
        if at + min(spent, try_timeout) >= whole:
            at, expected = whole, "whole"
            break
        at += min(spent, try_timeout)
        if spent < try_timeout:
            expected = "answer"
            break
        if at >= whole:
            break
    began = now()
    try:
        got = await form(runner, Hanging(*takes))
    except DeadlineExceeded as error:
        got = error.context.get("phase", "whole")
    assert now() - began == pytest.approx(at, abs=0.001)
    assert got == expected
    assert (asyncio.current_task().cancelling(), remaining()) == (0, None)


# Breaker, bulkhead and rate under the policy.


@virtual
async def test_a_dead_dependency_opens_the_circuit_and_its_recovery_closes_it(through):
    runner = bind(breaker=Breaker(min_calls=5, open_for=10.0))
    call = Dependency(failures=5)
    for _ in range(5):
        with pytest.raises(ConnectError):
            await through(runner, call, key="a.example")
    with pytest.raises(CircuitOpen, match=r"a\.example"):
        await through(runner, call, key="a.example")
    assert call.tries == 5
    assert await through(runner, Dependency(), key="b.example") == "answer"
    await asyncio.sleep(10)
    assert await through(runner, call, key="a.example") == "answer"
    assert runner.state()["keys"]["a.example"]["breaker"]["state"] == "closed"


@virtual
async def test_timeouts_open_the_circuit(through):
    runner = bind(timeout=2.0, breaker=Breaker(min_calls=3))
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await through(runner, Dependency(takes=100.0))
    shown = runner.state()["keys"][""]
    assert (shown["breaker"]["state"], shown["timeouts"]) == ("open", 3)


@virtual
async def test_a_hanging_dependency_opens_the_circuit_though_the_callers_deadline_comes_first(through):
    runner = bind(timeout=2.0, breaker=Breaker(min_calls=3))
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            async with within(1.9, clock=now):
                await through(runner, Dependency(takes=100.0))
    assert runner.state()["keys"][""]["breaker"]["state"] == "open"


@virtual
async def test_callers_in_a_hurry_do_not_open_the_circuit(through):
    runner = bind(timeout=30.0, breaker=Breaker(min_calls=3))
    for _ in range(20):
        with within(0.01, clock=now), pytest.raises(DeadlineExceeded):
            await through(runner, Dependency(takes=0.5))
    assert runner.state()["keys"][""]["breaker"]["state"] == "closed"


@virtual
async def test_errors_that_are_no_fault_of_the_dependency_do_not_open_the_circuit(through):
    runner = bind(breaker=Breaker(min_calls=1))
    for _ in range(5):
        with pytest.raises(NotFound):
            await through(runner, Dependency(9, NotFound))
    assert runner.state()["keys"][""]["breaker"]["successes"] == 5


@virtual
async def test_cancelled_calls_do_not_open_the_circuit(through):
    runner = bind(breaker=Breaker(min_calls=1))
    for _ in range(5):
        task = asyncio.ensure_future(through(runner, Dependency(takes=100.0)))
        await asyncio.sleep(50)
        task.cancel()
        await asyncio.wait([task])
    assert runner.state()["keys"][""]["breaker"]["state"] == "closed"


@virtual
async def test_a_refusal_of_the_policys_own_is_not_retried(through):
    runner = bind(retry=Retry(attempts=5), bulkhead=Bulkhead(limit=1, queue=0))
    holder = asyncio.ensure_future(through(runner, Dependency(takes=1.0)))
    await asyncio.sleep(0)
    began = now()
    with pytest.raises(BulkheadFull):
        await through(runner, Dependency())
    assert now() == began
    await holder


@virtual
async def test_a_place_is_free_while_a_call_waits_for_its_next_try(through):
    runner = bind(retry=Retry(attempts=2, backoff=10.0), bulkhead=Bulkhead(limit=1, queue=0))
    waiting = asyncio.ensure_future(through(runner, Dependency(failures=1)))
    await asyncio.sleep(1)
    assert await through(runner, Dependency()) == "answer"
    assert await waiting == "answer"


@virtual
async def test_waiting_for_a_place_ends_at_the_deadline(through):
    runner = bind(timeout=2.0, bulkhead=Bulkhead(limit=1))
    other = bind(bulkhead=Bulkhead(limit=1))
    runner._lanes = other._lanes  # the same places, for a holder without a timeout
    holder = asyncio.ensure_future(other.run(Dependency(takes=50.0)))
    await asyncio.sleep(0)
    call = Dependency()
    with pytest.raises(DeadlineExceeded):
        await through(runner, call)
    assert call.tries == 0
    await holder


@virtual
async def test_the_rate_holds_over_retries_too(through):
    call = Dependency(failures=3)
    await through(bind(retry=Retry(attempts=4, backoff=0.0), rate=RateLimit(rate=1)), call)
    assert [time - call.times[0] for time in call.times] == pytest.approx([0.0, 1.0, 2.0, 3.0])


@virtual
async def test_a_circuit_that_opens_while_a_call_waits_stops_it(through):
    runner = bind(bulkhead=Bulkhead(limit=1), breaker=Breaker(min_calls=1))
    first = asyncio.ensure_future(through(runner, Dependency(9, takes=1.0)))
    await asyncio.sleep(0)
    call = Dependency()
    with pytest.raises(CircuitOpen):
        await through(runner, call)
    assert call.tries == 0
    with pytest.raises(ConnectError):
        await first
    assert runner.state()["keys"][""]["bulkhead"]["running"] == 0


# The loop form, the decorator, and what is shown.


@virtual
async def test_the_loop_tells_the_number_of_the_try():
    numbers = []
    async for attempt in Policy(retry=Retry(attempts=3, backoff=0.0)).attempts():
        async with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise ConnectError
    assert numbers == [1, 2, 3]


@virtual
async def test_an_attempt_that_is_not_entered_is_a_clear_error():
    with pytest.raises(ConfigurationError, match="async with attempt"):
        async for _ in bind(retry=Retry()).attempts():
            pass


def test_the_loop_without_memory_refuses_what_needs_one():
    with pytest.raises(ConfigurationError, match="Bind the policy once"):
        Policy(breaker=Breaker()).attempts()


@virtual
async def test_as_a_decorator_it_keeps_the_functions_face_and_shows_its_state():
    policy = Policy(retry=Retry(attempts=3, backoff=0.0))
    call = Dependency(failures=1)

    @policy
    async def fetch(name: str, *, loud: bool = False) -> str:
        """Fetch it."""
        return f"{await call()} for {name}{'!' if loud else ''}"

    assert await fetch("Ada", loud=True) == "answer for Ada!"
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch it.")
    assert list(inspect.signature(fetch).parameters) == ["name", "loud"]
    assert inspect.iscoroutinefunction(fetch)
    assert fetch.policy_state()["keys"][""]["failed"] == 1


@virtual
async def test_as_a_decorator_it_works_on_methods_and_a_runner_can_be_shared():
    runner = bind(retry=Retry(attempts=2, backoff=0.0))

    class Shop:
        @runner
        async def name(self):
            return type(self).__name__

        @runner
        async def twice(self, number):
            return number * 2

    assert (await Shop().name(), await Shop().twice(4)) == ("Shop", 8)
    assert runner.state()["keys"][""]["calls"] == 2


def test_a_decorated_plain_function_is_a_clear_error():
    with pytest.raises(ConfigurationError, match="async def"):

        @Policy(timeout=1.0)
        def fetch():
            return 1


def test_one_function_works_in_one_event_loop_after_the_other():
    @Policy(timeout=5.0, bulkhead=Bulkhead(limit=1))
    async def fetch():
        await asyncio.sleep(0)
        return 1

    async def twice():
        return sum(await asyncio.gather(fetch(), fetch()))

    assert [asyncio.run(twice()) for _ in range(3)] == [2, 2, 2]


@virtual
async def test_the_state_is_plain_values_of_a_bounded_number_of_keys():
    runner = bind(
        timeout=5.0, retry=Retry(), breaker=Breaker(), rate=RateLimit(rate=10), bulkhead=Bulkhead(), max_keys=30
    )
    for number in range(100):
        await runner.run(Dependency(), key=str(number))
    state = json.loads(json.dumps(runner.state()))
    assert (state["name"], state["timeout"], state["keys_total"], len(state["keys"])) == ("prices", 5.0, 30, 20)
    assert set(state["keys"]["99"]) == {"calls", "failed", "timeouts", "retry", "breaker", "bulkhead"}
    assert set(state["rate"]) == {"name", "waiting", "refused", "keys"}


def test_a_senseless_timeout_is_refused():
    with pytest.raises(ConfigurationError, match="timeout"):
        Policy(timeout=0.0)


def test_a_policy_is_a_value():
    assert Policy(timeout=5.0, retry=Retry()) == Policy(timeout=5.0, retry=Retry())
    assert hash(Policy(rate=RateLimit(rate=1))) == hash(Policy(rate=RateLimit(rate=1)))
