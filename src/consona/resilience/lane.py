"""The memory that a policy keeps for one key, and the steps of one try: enter, then one outcome.

`Runner.run` and the loop form (`attempts.py`) both walk these steps; the order is told in `policy.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from consona.errors import DeadlineExceeded
from consona.resilience.breaker import Breaker, Circuit, CircuitState, circuit_open
from consona.resilience.bulkhead import Bulkhead, Compartment
from consona.resilience.deadline import Deadline, remaining
from consona.resilience.rate import BoundRateLimit
from consona.resilience.retry import Retry, RetryBudget, is_retryable

__all__ = ["MUST_WAIT", "Lane", "LaneSettings"]

MUST_WAIT = -1

_FAIR_TIME_S = 1.0
"""A call that had less than this, because its caller was in a hurry, does not speak against the dependency."""


def _always(_: str) -> bool:
    return True


class LaneSettings(Protocol):
    """The part of a `Policy` that a lane reads."""

    @property
    def timeout(self) -> float | None: ...
    @property
    def retry(self) -> Retry | None: ...
    @property
    def breaker(self) -> Breaker | None: ...
    @property
    def bulkhead(self) -> Bulkhead | None: ...


class Lane:
    """Budget, circuit and places of one key, and the figures to show."""

    __slots__ = (
        "_acquire_now",
        "_clock",
        "_fair_s",
        "_rate",
        "_rng",
        "budget",
        "calls",
        "circuit",
        "compartment",
        "failed",
        "gated",
        "key",
        "name",
        "retry",
        "timeouts",
        "try_s",
    )

    def __init__(
        self,
        name: str,
        key: str,
        settings: LaneSettings,
        *,
        rate: BoundRateLimit | None,
        clock: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:
        self.name = name
        self.key = key
        self.calls = self.failed = self.timeouts = 0
        self.retry = retry = settings.retry
        self.circuit = Circuit(settings.breaker) if settings.breaker else None
        self.compartment = Compartment(settings.bulkhead) if settings.bulkhead else None
        self.budget = RetryBudget.of(retry, now=clock()) if retry else None
        self.gated = bool(settings.breaker or settings.bulkhead or rate)
        self._rate = rate
        self._acquire_now = _always if rate is None else rate.acquire_now if rate.shared else rate.turns.take_now
        self._clock = clock
        self._rng = rng
        self.try_s = retry.try_timeout if retry else None
        self._fair_s = 0.9 * min(_FAIR_TIME_S, settings.timeout or _FAIR_TIME_S, self.try_s or _FAIR_TIME_S)

    @property
    def busy(self) -> bool:
        """Whether calls hold its places, so that it cannot be forgotten."""
        return self.compartment is not None and self.compartment.busy

    def enter_now(self) -> int:
        """Pass all gates if nothing has to be waited for or refused.

        Returns:
            The circuit's round, to be given back with the outcome; or `MUST_WAIT`, and nothing was taken.
        """
        circuit, compartment = self.circuit, self.compartment
        if circuit is not None and circuit.state is not CircuitState.CLOSED:
            return MUST_WAIT
        if compartment is not None and compartment.running >= compartment.settings.limit:
            return MUST_WAIT
        if self._rate is not None and not self._acquire_now(self.key):
            return MUST_WAIT
        if compartment is not None:
            compartment.running += 1
        return 0 if circuit is None else circuit.round

    async def enter(self) -> int:
        """Pass all gates, waiting where that is needed; returns the circuit's round.

        Raises:
            CircuitOpen, BulkheadFull, RateLimited: The call is refused, and nothing is held.
        """
        circuit, compartment = self.circuit, self.compartment
        if circuit is not None and (left := circuit.refuses(self._clock())) is not None:
            raise circuit_open(self.name, self.key, left)
        if compartment is not None and not compartment.enter():
            await compartment.wait(self.name, self.key)
        try:
            if self._rate is not None:
                await self._rate.acquire(self.key)
            # Asked again: it may have opened while this call waited.
            return 0 if circuit is None else circuit.admit_or_raise(self.name, self.key, self._clock())
        except BaseException:
            if compartment is not None:
                compartment.leave()
            raise

    def try_deadline(self) -> Deadline | None:
        """The deadline of a try that begins now; None where it has none of its own, or the whole call ends before."""
        if self.try_s is None or ((left := remaining()) is not None and left <= self.try_s):
            return None
        return Deadline(self._clock() + self.try_s, self._clock)

    def try_exceeded(self) -> DeadlineExceeded:
        """The error of a try that was interrupted at its deadline."""
        self.timeouts += 1
        of = f" for {self.key}" if self.key else ""
        return DeadlineExceeded(
            f"{self.name}: a try{of} took longer than {self.try_s:g} s.",
            retryable=True,
            phase="try",
            seconds=self.try_s,
        )

    def succeeded(self, round_: int) -> None:
        if self.circuit is not None:
            self.circuit.succeeded(round_, self._clock())
        if self.compartment is not None:
            self.compartment.leave()

    def raised(self, round_: int, error: Exception, began: float) -> None:
        """The call raised an error of its own."""
        self.failed += 1
        if self.compartment is not None:
            self.compartment.leave()
        circuit = self.circuit
        if circuit is None:
            return
        now = self._clock()
        if isinstance(error, DeadlineExceeded) and now - began < self._fair_s:
            circuit.cancelled(round_)
        else:
            circuit.raised(round_, error, now)

    def interrupted(self, round_: int, began: float, deadline: Deadline | None) -> None:
        """The call was cancelled. If that was for its deadline, it is as if it had raised `DeadlineExceeded`."""
        if deadline is not None and deadline.cut:
            self.timeouts += 1
            self.raised(round_, DeadlineExceeded(), began)
            return
        if self.compartment is not None:
            self.compartment.leave()
        if self.circuit is not None:
            self.circuit.cancelled(round_)

    def wait_before(
        self,
        attempt: int,
        error: Exception,
        deadline: Deadline | None,
        retry_if: Callable[[BaseException], bool] | None,
    ) -> float | None:
        """The seconds to wait before try number `attempt`, or None if there is to be none."""
        retry = self.retry
        if retry is None or attempt > retry.attempts or not (retry_if or retry.retry_if or is_retryable)(error):
            return None
        wait = retry.wait(attempt, error, rng=self._rng)
        if wait > retry.max_wait if deadline is None else wait >= deadline.remaining():
            return None
        if self.budget is not None and not self.budget.withdraw(self.calls, self._clock()):
            return None
        return wait

    def show(self, now: float) -> dict[str, Any]:
        """How it stands, as plain values."""
        shown: dict[str, Any] = {"calls": self.calls, "failed": self.failed, "timeouts": self.timeouts}
        if self.budget is not None:
            shown["retry"] = self.budget.show(self.calls, now)
        if self.circuit is not None:
            shown["breaker"] = self.circuit.show(now)
        if self.compartment is not None:
            shown["bulkhead"] = self.compartment.show()
        return shown
