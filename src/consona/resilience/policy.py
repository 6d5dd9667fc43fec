"""One policy over a call: how long, how often, how many at once, how fast, and when to leave it alone.

    policy = Policy(timeout=5.0, retry=Retry(attempts=4), breaker=Breaker())
    prices = policy.bind("prices")                      # the memory: budgets, circuits, places, turns
    answer = await prices.run(lambda: fetch(url), key=url.host)

What happens, in this order:

1. `timeout` begins: one deadline over everything below, shortened by the deadline that the caller has.
2. Is the circuit open? Then `CircuitOpen`, at once.
3. A place in the `bulkhead` is waited for, then a turn of the `rate`, both within the deadline.
4. The `breaker` is asked once more, and the call is made. Its outcome is noted in the breaker, and the
   place is given back.
5. If the call failed with an error that is worth a retry, `retry` waits and goes on at 2, while tries,
   budget and deadline allow; else the error is raised as it is.

Only what the call itself raised is retried. A refusal of the policy's own (`CircuitOpen`,
`BulkheadFull`, `RateLimited`, `DeadlineExceeded`) ends it: waiting would have been done already.
Everything is kept for each key apart; keys that were not used for longest are forgotten.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from consona.errors import ConfigurationError, DeadlineExceeded
from consona.resilience import deadline as deadlines
from consona.resilience.breaker import Breaker, Circuit, circuit_open
from consona.resilience.bulkhead import Bulkhead, Compartment
from consona.resilience.deadline import Deadline, Watch, shorter, watch_of
from consona.resilience.keyed import MAX_KEYS, Keyed
from consona.resilience.rate import BoundRateLimit, RateLimit, Turns
from consona.resilience.retry import Retry, RetryBudget, is_retryable

__all__ = ["Policy", "Runner"]

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

_FAIR_TIME_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a call is given and what it is spared. Each part is optional; a policy is a value without memory.

    Args:
        timeout: Seconds for everything: waiting, all tries, and the waits between them.
        retry: How often, and after how long, it is tried again.
        breaker: When a failing dependency is left alone.
        rate: How many calls may begin in a second.
        bulkhead: How many calls may run at once.

    Example:
        >>> policy = Policy(timeout=5.0, retry=Retry(attempts=2, backoff=0.0))
        >>> @policy
        ... async def answer() -> int:
        ...     return 42
        >>> asyncio.run(answer())
        42
    """

    timeout: float | None = None
    retry: Retry | None = None
    breaker: Breaker | None = None
    rate: RateLimit | None = None
    bulkhead: Bulkhead | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigurationError(
                f"Policy(timeout={self.timeout}): seconds above 0.", hint="Leave it out for no timeout."
            )

    def bind(
        self,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        turns: Turns | None = None,
        max_keys: int = MAX_KEYS,
    ) -> Runner:
        """The policy with its memory. Bind it once for each dependency and event loop.

        Args:
            name: What errors and the dashboard call it.
            clock: Seconds that only grow.
            rng: Numbers in `[0, 1)`, for the jitter.
            sleep: How to wait between tries and for a turn.
            turns: Where the turns of `rate` are kept when several processes share it.
            max_keys: So many keys are remembered.
        """
        return Runner(self, name, clock=clock, rng=rng, sleep=sleep, turns=turns, max_keys=max_keys)

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> PolicyFunction[P, T]:
        """Decorate a coroutine function. The memory is the function's: `function.runner`, `function.policy_state()`."""
        return self.bind(getattr(function, "__qualname__", repr(function)))(function)


class Lane:
    """The memory of one key."""

    __slots__ = ("budget", "calls", "circuit", "compartment", "failed", "timeouts")

    def __init__(self, policy: Policy, now: float) -> None:
        retry = policy.retry
        self.calls = self.failed = self.timeouts = 0
        self.circuit = Circuit(policy.breaker) if policy.breaker else None
        self.compartment = Compartment(policy.bulkhead) if policy.bulkhead else None
        self.budget = (
            RetryBudget(share=retry.budget, reserve=retry.reserve, now=now)
            if retry is not None and retry.budget is not None
            else None
        )

    @property
    def busy(self) -> bool:
        return self.compartment is not None and self.compartment.busy


class Runner:
    """A policy with its memory; `Policy.bind` makes it. One event loop at a time."""

    def __init__(
        self,
        policy: Policy,
        name: str,
        *,
        clock: Callable[[], float],
        rng: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        turns: Turns | None,
        max_keys: int,
    ) -> None:
        self.policy = policy
        self.name = name
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._retry = policy.retry or Retry(attempts=1)
        self._rate: BoundRateLimit | None = (
            policy.rate.bind(name, clock=clock, sleep=sleep, shared=turns) if policy.rate else None
        )
        self._gated = policy.breaker is not None or policy.rate is not None or policy.bulkhead is not None
        self._lanes: Keyed[Lane] = Keyed(lambda: Lane(policy, clock()), max_keys=max_keys, busy=lambda lane: lane.busy)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: Watch | None = None

    async def run(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        key: str = "",
        retry_if: Callable[[BaseException], bool] | None = None,
    ) -> T:
        """Make the call under the policy.

        Args:
            call: A function without arguments that begins one try, each time it is called.
            key: What tells dependencies apart, such as the host.
            retry_if: Which errors are worth a retry, for this call; by default what `Retry` says.

        Returns:
            What the call returned.

        Raises:
            DeadlineExceeded: The time was over; its cause shows where.
            CircuitOpen, BulkheadFull, RateLimited: It was refused, and not tried.
            Exception: Whatever the last try raised.
        """
        lane = self._lanes.get(key)
        deadline = shorter(self.policy.timeout, self._clock)
        if deadline is None:
            return await self._tries(call, lane, key, None, retry_if)
        watch, task = self._watching()
        if deadline.at <= self._clock():
            raise self._exceeded(key, "before it began")
        token = deadlines._current.set(deadline)
        watch.add(deadline, task)
        try:
            return await self._tries(call, lane, key, deadline, retry_if)
        except asyncio.CancelledError as error:
            if deadline.finish(error):
                raise self._exceeded(key, "and was interrupted") from error
            raise
        finally:
            watch.remove(deadline)
            deadlines._current.reset(token)
            deadline.finish(None)

    async def _tries(
        self,
        call: Callable[[], Awaitable[T]],
        lane: Lane,
        key: str,
        deadline: Deadline | None,
        retry_if: Callable[[BaseException], bool] | None,
    ) -> T:
        lane.calls += 1
        number = 1
        while True:
            round_ = await self._enter(lane, key) if self._gated else 0
            began = self._clock()
            try:
                result = await call()
            except Exception as error:
                self._failed(lane, round_, error)
                wait = self._wait(lane, number, error, deadline, retry_if)
                if wait is None:
                    raise
            except BaseException:
                self._cut(lane, round_, began, deadline)
                raise
            else:
                if lane.circuit is not None:
                    lane.circuit.succeeded(round_, self._clock())
                return result
            finally:
                if lane.compartment is not None:
                    lane.compartment.leave()
            if wait > 0:
                await self._sleep(wait)
            number += 1

    async def _enter(self, lane: Lane, key: str) -> int:
        """Pass the gates, in order; returns the circuit's round, with a place in the bulkhead taken."""
        circuit, compartment = lane.circuit, lane.compartment
        if circuit is not None and (left := circuit.refuses(self._clock())) is not None:
            raise circuit_open(self.name, key, left)
        if compartment is not None and not compartment.enter():
            await compartment.wait(self.name, key)
        try:
            if self._rate is not None:
                await self._rate.acquire(key)
            if circuit is None:
                return 0
            round_ = circuit.admit(self._clock())
            if round_ < 0:
                raise circuit_open(self.name, key, circuit.refuses(self._clock()) or 0.0)
            return round_
        except BaseException:
            if compartment is not None:
                compartment.leave()
            raise

    def _failed(self, lane: Lane, round_: int, error: Exception) -> None:
        lane.failed += 1
        circuit = lane.circuit
        if circuit is None:
            return
        if circuit.settings.counts(error):
            circuit.failed(round_, self._clock())
        else:
            circuit.succeeded(round_, self._clock())

    def _cut(self, lane: Lane, round_: int, began: float, deadline: Deadline | None) -> None:
        """The call was interrupted. That speaks against the dependency if it had its time."""
        circuit = lane.circuit
        timed_out = deadline is not None and deadline.ours_alone()
        lane.timeouts += timed_out
        if circuit is None:
            return
        lasted = self._clock() - began
        fair = min(_FAIR_TIME_S, self.policy.timeout or _FAIR_TIME_S) * 0.9
        if timed_out and lasted >= fair and circuit.settings.counts(DeadlineExceeded()):
            circuit.failed(round_, self._clock())
        else:
            circuit.cancelled(round_)

    def _wait(
        self,
        lane: Lane,
        number: int,
        error: Exception,
        deadline: Deadline | None,
        retry_if: Callable[[BaseException], bool] | None,
    ) -> float | None:
        """The seconds until the next try, or None if there is to be none."""
        retry = self._retry
        if number >= retry.attempts or not (retry_if or retry.retry_if or is_retryable)(error):
            return None
        wait = retry.wait(number + 1, error, rng=self._rng)
        if wait > retry.max_wait if deadline is None else wait >= deadline.remaining():
            return None
        if lane.budget is not None:
            lane.budget.calls = lane.calls
            if not lane.budget.withdraw(self._clock()):
                return None
        return wait

    def _watching(self) -> tuple[Watch, asyncio.Task[Any]]:
        loop = asyncio.get_running_loop()
        if loop is not self._loop or self._watch is None:
            self._loop, self._watch = loop, watch_of(loop, self._clock)
        task = asyncio.current_task()
        assert task is not None, "async code runs in a task"
        return self._watch, task

    def _exceeded(self, key: str, how: str) -> DeadlineExceeded:
        of = f" for {key}" if key else ""
        return DeadlineExceeded(f"{self.name}: the time of the call{of} was over {how}.", name=self.name, key=key)

    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> PolicyFunction[P, T]:
        """Decorate a coroutine function; several may share one runner.

        Raises:
            ConfigurationError: `function` is not a coroutine function.
        """
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"A policy decorates coroutine functions, and {function!r} is none.", hint="Write `async def`."
            )

        async def under_policy(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.run(lambda: function(*args, **kwargs))

        wrapped: Any = update_wrapper(under_policy, function)
        wrapped.runner = self
        wrapped.policy_state = self.state
        return cast("PolicyFunction[P, T]", wrapped)

    def state(self, *, limit: int = 20) -> dict[str, Any]:
        """How it stands, as plain values: for the `limit` keys used last."""
        now = self._clock()
        state: dict[str, Any] = {"name": self.name, "timeout": self.policy.timeout, "keys_total": len(self._lanes)}
        state["keys"] = {key: self._show(lane, now) for key, lane in self._lanes.latest(limit)}
        if self._rate is not None:
            state["rate"] = self._rate.state(limit=limit)
        return state

    def _show(self, lane: Lane, now: float) -> dict[str, Any]:
        shown: dict[str, Any] = {"calls": lane.calls, "failed": lane.failed, "timeouts": lane.timeouts}
        if lane.budget is not None:
            lane.budget.calls = lane.calls
            shown["retry"] = lane.budget.state(now)
        if lane.circuit is not None:
            shown["breaker"] = lane.circuit.show(now)
        if lane.compartment is not None:
            shown["bulkhead"] = lane.compartment.show()
        return shown


class PolicyFunction(Protocol[P, R_co]):
    """A coroutine function under a policy."""

    runner: Runner

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...

    def policy_state(self, *, limit: int = 20) -> dict[str, Any]: ...
