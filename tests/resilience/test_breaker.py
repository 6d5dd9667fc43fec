from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consona.errors import CircuitOpen, ConfigurationError, ConnectError, DeadlineExceeded, NotFound
from consona.resilience.breaker import Breaker, Circuit, CircuitState, speaks_against


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def breaker(clock, **settings):
    return Breaker(**{"min_calls": 4, "window": 10.0, "open_for": 5.0, **settings}).bind("prices", clock=clock)


async def fail(bound, error=ConnectError, times=1, key=""):
    for _ in range(times):
        with pytest.raises(error):
            async with bound.guard(key):
                raise error("no")


async def succeed(bound, times=1, key=""):
    for _ in range(times):
        async with bound.guard(key):
            pass


def state(bound, key=""):
    return bound.state()["keys"][key]["state"]


async def test_it_opens_when_half_of_enough_calls_failed(clock):
    bound = breaker(clock)
    await succeed(bound, 2)
    await fail(bound)
    assert state(bound) == "closed"
    await fail(bound)
    assert state(bound) == "open"


async def test_few_failures_alone_do_not_open_it(clock):
    bound = breaker(clock)
    await fail(bound, times=3)
    assert state(bound) == "closed"


async def test_an_open_circuit_refuses_at_once_and_says_when_it_is_tried_again(clock):
    bound = breaker(clock)
    await fail(bound, times=4)
    clock.now += 2
    with pytest.raises(CircuitOpen, match=r"prices.*3\.0 s") as caught:
        async with bound.guard():
            pytest.fail("the body was begun")
    assert caught.value.retry_after == pytest.approx(3.0)
    assert not caught.value.retryable
    assert bound.state()["keys"][""]["next_probe_in"] == 3.0


async def test_it_closes_when_the_probe_succeeds(clock):
    bound = breaker(clock)
    await fail(bound, times=4)
    clock.now += 5
    await succeed(bound)
    assert state(bound) == "closed"
    await fail(bound, times=3)
    assert state(bound) == "closed", "the failures from before are forgotten"


async def test_it_opens_again_when_the_probe_fails(clock):
    bound = breaker(clock)
    await fail(bound, times=4)
    clock.now += 5
    await fail(bound)
    assert state(bound) == "open"
    with pytest.raises(CircuitOpen):
        await succeed(bound)


async def test_only_so_many_probes_pass_and_all_must_succeed(clock):
    bound = breaker(clock, probes=2)
    await fail(bound, times=4)
    clock.now += 5
    async with bound.guard():
        async with bound.guard():
            assert state(bound) == "half_open"
            with pytest.raises(CircuitOpen):
                await succeed(bound)
        assert state(bound) == "half_open"
    assert state(bound) == "closed"


async def test_a_cancelled_probe_gives_its_place_back(clock):
    bound = breaker(clock)
    await fail(bound, times=4)
    clock.now += 5
    with pytest.raises(asyncio.CancelledError):
        async with bound.guard():
            raise asyncio.CancelledError
    await succeed(bound)
    assert state(bound) == "closed"


def test_probes_that_never_end_do_not_close_the_door_for_ever():
    circuit = Circuit(Breaker(min_calls=1, open_for=5.0))
    circuit.failed(circuit.admit(0.0), 0.0)
    hanging = circuit.admit(5.0)
    assert hanging >= 0
    assert circuit.admit(9.9) == -1
    second = circuit.admit(10.0)
    assert second >= 0
    circuit.failed(hanging, 11.0)
    assert circuit.state is CircuitState.HALF_OPEN, "the answer of an earlier round says nothing about this one"
    circuit.succeeded(second, 12.0)
    assert circuit.state is CircuitState.CLOSED


def test_a_call_from_before_is_not_taken_for_a_probe():
    circuit = Circuit(Breaker(min_calls=1, open_for=5.0))
    old = circuit.admit(0.0)
    circuit.failed(circuit.admit(0.0), 0.0)
    circuit.admit(5.0)
    circuit.succeeded(old, 6.0)
    assert circuit.state is CircuitState.HALF_OPEN
    circuit.cancelled(old)
    assert circuit.admit(6.0) == -1


async def test_failures_older_than_the_window_are_forgotten(clock):
    bound = breaker(clock)
    await fail(bound, times=3)
    clock.now += 10.1
    await fail(bound, times=3)
    assert state(bound) == "closed"
    assert bound.state()["keys"][""]["failures"] == 3


async def test_failures_within_the_window_add_up(clock):
    bound = breaker(clock)
    for _ in range(3):
        await fail(bound)
        clock.now += 2
    await fail(bound)
    assert state(bound) == "open"


async def test_each_key_has_its_own_circuit(clock):
    bound = breaker(clock)
    await fail(bound, times=4, key="a.example")
    await succeed(bound, key="b.example")
    assert (state(bound, "a.example"), state(bound, "b.example")) == ("open", "closed")


async def test_the_number_of_keys_is_bounded(clock):
    bound = Breaker().bind("prices", clock=clock, max_keys=3)
    for number in range(100):
        await succeed(bound, key=str(number))
    assert list(bound.state()["keys"]) == ["99", "98", "97"]


async def test_errors_that_are_no_fault_of_the_dependency_do_not_count_and_neither_do_cancellations(clock):
    bound = breaker(clock)
    await fail(bound, NotFound, 20)
    await fail(bound, asyncio.CancelledError, 20)
    assert state(bound) == "closed"


async def test_what_counts_can_be_set(clock):
    bound = breaker(clock, counts=lambda error: isinstance(error, NotFound))
    await fail(bound, ConnectError, 10)
    assert state(bound) == "closed"
    await fail(bound, NotFound, 10)
    assert state(bound) == "open"


@pytest.mark.parametrize(
    ("error", "against"),
    [
        (ConnectError(), True),
        (DeadlineExceeded(), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (CircuitOpen(), True),
        (NotFound(), False),
        (ValueError(), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_what_speaks_against_a_dependency(error, against):
    assert speaks_against(error) is against


async def test_the_state_is_plain_values(clock):
    bound = breaker(clock)
    await fail(bound, times=4)
    assert json.loads(json.dumps(bound.state())) == {
        "name": "prices",
        "keys": {"": {"state": "open", "successes": 0, "failures": 0, "opened": 1, "next_probe_in": 5.0}},
    }


@pytest.mark.parametrize(
    "wrong",
    [{"failure_rate": 0}, {"failure_rate": 1.1}, {"min_calls": 0}, {"probes": 0}, {"window": 0}, {"open_for": -1}],
)
def test_senseless_settings_are_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Breaker(**wrong)


class AnyHistory(RuleBasedStateMachine):
    """Whatever calls begin, end, fail, hang or are cancelled: the promises hold."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = Breaker(min_calls=3, window=10.0, open_for=5.0, probes=2)
        self.circuit = Circuit(self.settings)
        self.now = 0.0
        self.running: list[int] = []
        self.probes: list[float] = []

    @rule(seconds=st.floats(0, 6))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def a_call_begins(self):
        before, since = self.circuit.state, self.circuit.since
        round_ = self.circuit.admit(self.now)
        if before is CircuitState.OPEN and self.now < since + self.settings.open_for:
            assert round_ == -1, "an open circuit let a call through"
        if round_ >= 0:
            self.running.append(round_)
            if self.circuit.state is CircuitState.HALF_OPEN:
                self.probes.append(self.now)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 1000), how=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def a_call_ends(self, which, how):
        round_ = self.running.pop(which % len(self.running))
        if how == "cancelled":
            if round_ == self.circuit.round and self.circuit.state is CircuitState.HALF_OPEN:
                self.probes.pop()  # its place is free again
            self.circuit.cancelled(round_)
        else:
            getattr(self.circuit, how)(round_, self.now)
        if self.circuit.state is CircuitState.CLOSED:
            self.probes.clear()

    @invariant()
    def never_more_probes_than_stated(self):
        recent = [at for at in self.probes if at > self.now - self.settings.open_for]
        if self.circuit.state is CircuitState.HALF_OPEN:
            this_round = [at for at in recent if at >= self.circuit.since]
            assert len(this_round) <= self.settings.probes
            assert self.circuit._out <= self.settings.probes

    @invariant()
    def counts_are_never_negative(self):
        assert min(self.circuit.counts()) >= 0
        assert self.circuit._out >= 0


TestAnyHistory = AnyHistory.TestCase
