from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ConfigurationError, ConnectError, NotFound, RateLimited
from consona.resilience.retry import Retry, RetryBudget, is_retryable

seconds = st.floats(0, 1e6)


def test_the_ceiling_doubles_until_the_longest_wait():
    retry = Retry(attempts=10, backoff=0.5, max_wait=5.0)
    assert [retry.ceiling(n) for n in (1, 2, 3, 4, 5, 6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@given(seconds, seconds, st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_wait_is_never_below_zero_nor_above_its_ceiling(backoff, max_wait, attempt, chance):
    retry = Retry(backoff=backoff, max_wait=max_wait)
    assert 0 <= retry.wait(attempt, ConnectError(), rng=lambda: chance) <= retry.ceiling(attempt) <= max_wait


def test_the_wait_is_drawn_from_the_whole_range():
    retry = Retry(backoff=1.0)
    assert [retry.wait(3, ConnectError(), rng=lambda c=c: c) for c in (0.0, 0.25, 0.5)] == [0.0, 1.0, 2.0]


def test_an_error_that_says_when_is_believed():
    assert Retry(backoff=1.0).wait(2, RateLimited(retry_after=7), rng=lambda: 0.5) == 7.0


@pytest.mark.parametrize("told", [-5, float("nan")])
def test_a_senseless_retry_after_means_at_once(told):
    assert Retry().wait(2, RateLimited(retry_after=told), rng=lambda: 0.5) == 0.0


def test_errors_say_themselves_whether_they_are_worth_it():
    assert is_retryable(ConnectError())
    assert not is_retryable(NotFound())
    assert not is_retryable(ValueError())


@given(
    share=st.floats(0, 1),
    reserve=st.integers(0, 20),
    steps=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.floats(0, 20)), max_size=50),
)
def test_the_budget_is_never_exceeded(share, reserve, steps):
    budget = RetryBudget(share=share, reserve=reserve, now=0.0)
    calls, retries, time = 0, 0, 0.0
    for new_calls, asked, passed in steps:
        calls += new_calls
        time += passed
        retries += sum(budget.withdraw(calls, time) for _ in range(asked))
        assert retries <= max(reserve, share * calls) + reserve * time / 60 + 1e-6


def test_by_default_a_dead_server_gets_at_most_a_fifth_more():
    budget = RetryBudget.of(Retry(attempts=4), now=0.0)
    retries = 0
    for calls in range(1, 1001):
        retries += sum(budget.withdraw(calls, 0.0) for _ in range(3))
    assert 190 <= retries <= 200


def test_a_program_with_few_calls_gets_its_reserve_again_within_a_minute():
    budget = RetryBudget(share=0.2, reserve=10, now=0.0)
    assert sum(budget.withdraw(1, 0.0) for _ in range(20)) == 10
    assert sum(budget.withdraw(2, 60.0) for _ in range(20)) == 10


def test_a_quiet_time_does_not_save_up_for_a_storm():
    budget = RetryBudget(share=0.2, reserve=10, now=0.0)
    assert sum(budget.withdraw(1_000_000, 1e6) for _ in range(1000)) == 100


def test_without_a_budget_there_is_no_bound():
    assert RetryBudget.of(Retry(budget=None), now=0.0) is None


def test_what_is_left_is_shown():
    budget = RetryBudget(share=0.2, reserve=1, now=0.0)
    budget.withdraw(1, 0.0)
    budget.withdraw(1, 0.0)
    assert budget.show(1, 0.0) == {"left": 0.0, "retries": 1, "refused": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"backoff": -1.0},
        {"max_wait": float("nan")},
        {"reserve": -1},
        {"budget": -0.1},
        {"try_timeout": 0},
    ],
)
def test_senseless_settings_are_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Retry(**wrong)
