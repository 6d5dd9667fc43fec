"""What a policy costs when all goes well, beside the libraries that do one part of it.

A call that returns at once is made through each; figures are microseconds over the bare call. The
peer of the first two is the goal itself. `pybreaker` has no breaker for asyncio without Tornado, so
its plain one is measured, around a plain function, which is to its advantage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.table import Row, markdown

from consona.resilience import Breaker, Bulkhead, Policy, RateLimit, Retry
from consona.resilience.deadline import within

ROUNDS = 7
TIMES = 10_000

Work = Callable[[], Awaitable[object]]


async def answer() -> int:
    return 42


async def microseconds(work: Work) -> float:
    begin = time.perf_counter()
    for _ in range(TIMES):
        await work()
    return (time.perf_counter() - begin) / TIMES * 1e6


def under(policy: Policy) -> Work:
    runner = policy.bind("bench")
    return lambda: runner.run(answer, key="a.example")


WIDE = RateLimit(rate=1e9, burst=1_000_000)


def timeout_and_retry() -> Work:
    return under(Policy(timeout=30.0, retry=Retry()))


def everything() -> Work:
    return under(Policy(timeout=30.0, retry=Retry(), breaker=Breaker(), rate=WIDE, bulkhead=Bulkhead()))


async def through_within() -> None:
    async with within(30.0):
        await answer()


async def through_asyncio_timeout() -> None:
    async with asyncio.timeout(30.0):
        await answer()


def stamina_with_timeout() -> Work:
    import stamina

    retried = stamina.retry(on=ConnectionError, attempts=3)(answer)

    async def work() -> None:
        async with asyncio.timeout(30.0):
            await retried()

    return work


def tenacity_with_timeout() -> Work:
    import tenacity

    retried = tenacity.retry(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(),
    )(answer)

    async def work() -> None:
        async with asyncio.timeout(30.0):
            await retried()

    return work


def pybreaker_alone() -> Work:
    import pybreaker

    breaker = pybreaker.CircuitBreaker()

    async def work() -> None:
        breaker.call(int)

    return work


def aiolimiter_alone() -> Work:
    import aiolimiter

    limiter = aiolimiter.AsyncLimiter(1_000_000, 0.001)

    async def work() -> None:
        async with limiter:
            await answer()

    return work


def semaphore_alone() -> Work:
    semaphore = asyncio.Semaphore(100)

    async def work() -> None:
        async with semaphore:
            await answer()

    return work


async def side_by_side(ours: Work, peer: Work | float) -> tuple[list[float], list[float]]:
    """Microseconds over the bare call, in turn."""
    samples: tuple[list[float], list[float]] = [], []
    for _ in range(ROUNDS):
        bare = await microseconds(answer)
        samples[0].append(await microseconds(ours) - bare)
        samples[1].append(peer if isinstance(peer, float) else await microseconds(peer) - bare)
    return samples


async def measure() -> list[Row]:
    claims: list[tuple[str, Work, str, Work | float]] = [
        ("a call with timeout and retry", timeout_and_retry(), "the goal", 3.0),
        ("a call with all five", everything(), "the goal", 5.0),
        ("a call with timeout and retry", timeout_and_retry(), "stamina, asyncio.timeout", stamina_with_timeout()),
        ("a call with timeout and retry", timeout_and_retry(), "tenacity, asyncio.timeout", tenacity_with_timeout()),
        ("a deadline alone", through_within, "asyncio.timeout", through_asyncio_timeout),
        ("a breaker alone", under(Policy(breaker=Breaker())), "pybreaker (plain)", pybreaker_alone()),
        ("a rate alone", under(Policy(rate=WIDE)), "aiolimiter", aiolimiter_alone()),
        ("a bulkhead alone", under(Policy(bulkhead=Bulkhead())), "asyncio.Semaphore", semaphore_alone()),
    ]
    rows = []
    for work, ours, peer_name, peer in claims:
        samples = await side_by_side(ours, peer)
        rows.append(Row("resilience", work, peer_name, *samples, "µs", goal=1.0, higher_is_better=False))
    return rows


def run() -> list[Row]:
    return asyncio.run(measure())


if __name__ == "__main__":
    print(markdown(run()))
