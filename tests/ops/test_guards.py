"""The breakers and limits of a part are found in its detail, as the policies really state them."""

from __future__ import annotations

import pytest

from consona.errors import CircuitOpen, ConnectError
from consona.ops.guards import guards
from consona.resilience import Breaker, Bulkhead, Policy, RateLimit


async def fails():
    raise ConnectError("It is down.")


async def works():
    return 1


async def test_a_breaker_that_opened_is_trouble():
    runner = Policy(breaker=Breaker(min_calls=3, open_for=30)).bind("pay", clock=lambda: 100.0)
    for _ in range(3):
        with pytest.raises(ConnectError):
            await runner.run(fails, key="pay.example")
    with pytest.raises(CircuitOpen):
        await runner.run(fails, key="pay.example")
    [guard] = guards({"base": "https://pay.example", "policy": runner.state()})
    assert (guard.kind, guard.of, guard.state, guard.trouble) == ("breaker", "pay.example", "open", True)
    assert guard.words == "breaker for pay.example: open, opened once, tried again in 30 s"


async def test_a_breaker_that_is_closed_is_not():
    runner = Policy(breaker=Breaker()).bind("pay")
    await runner.run(works, key="pay.example")
    [guard] = guards({"policy": runner.state()})
    assert (guard.state, guard.trouble) == ("closed", False)


async def test_limits_and_bulkheads_are_found_too():
    runner = Policy(rate=RateLimit(rate=5), bulkhead=Bulkhead(limit=2, queue=0)).bind("pay")
    await runner.run(works, key="pay.example")
    found = guards({"policy": runner.state()})
    assert {guard.kind for guard in found} == {"rate limit", "bulkhead"}
    assert not any(guard.trouble for guard in found)
    assert "0 of 2 places taken" in next(guard.words for guard in found if guard.kind == "bulkhead")


def test_a_detail_without_any_has_none():
    assert guards({"open": 3, "state": "closed", "pool": {"free": 2, "limit": 5}}) == []
    assert guards({}) == []


def test_a_detail_of_any_depth_ends():
    deep: dict = {}
    for _ in range(100):
        deep = {"deeper": deep}
    assert guards(deep) == []
