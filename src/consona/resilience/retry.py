"""Try again, after a while, and not too often.

Retries help one caller and harm a server that is already dying: with three tries each, its load
triples when it can least bear it. So each key has a budget: retries may add at most a fifth to the
calls. When the budget is used up, the error is raised at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consona.errors import ConfigurationError

__all__ = ["Retry", "RetryBudget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, and after how long, a failed operation is tried again.

    The wait before try *n*, in seconds, is drawn evenly from `[0, min(max_wait, backoff * 2**(n - 1))]`
    ("full jitter"), unless the error itself says when (`retry_after`). A wait that would pass the
    deadline is not begun; without a deadline, nor is a `retry_after` longer than `max_wait`: then the
    last error is raised at once.

    Args:
        attempts: Tries in all, the first one included.
        backoff: Seconds; the unit of the waits.
        max_wait: Seconds that no drawn wait exceeds.
        budget: Retries may be at most this share of the calls (0.2 is 20 % more load), for each key;
            None sets no bound.
        reserve: Retries that are free before the share counts, so that a program with few calls can
            retry too. Once used, they come back within a minute.
        retry_if: Which errors are worth a retry; by default those with `error.retryable`.
        try_timeout: Seconds for one try. One that hangs longer is interrupted, and fails with a `DeadlineExceeded`
            that is worth a retry; the wait for a place or a turn does not count. None leaves a try all the time
            that the call has.

    Raises:
        ConfigurationError: `attempts` is below 1, or a time is negative (`try_timeout` also when it is 0).

    Example:
        >>> Retry(attempts=4, backoff=0.5).ceiling(3)
        2.0

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; budgets as in
    Finagle's RetryBudget and "Handling Overload", Site Reliability Engineering, 2016.
    """

    attempts: int = 3
    backoff: float = 0.1
    max_wait: float = 30.0
    budget: float | None = 0.2
    reserve: int = 10
    retry_if: Callable[[BaseException], bool] | None = None
    try_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"Retry(attempts={self.attempts}): there is at least one try, the first.")
        for name in ("backoff", "max_wait", "reserve"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"Retry({name}={getattr(self, name)}): it cannot be negative.")
        if self.try_timeout is not None and not self.try_timeout > 0:
            raise ConfigurationError(f"Retry(try_timeout={self.try_timeout}): seconds above 0, or None for no limit.")
        if self.budget is not None and not self.budget >= 0:
            raise ConfigurationError(f"Retry(budget={self.budget}): a share of the calls, such as 0.2, or None.")

    def ceiling(self, attempt: int) -> float:
        """The longest wait before try number `attempt` (2 is the first retry), in seconds."""
        return min(self.max_wait, self.backoff * 2.0 ** min(attempt - 1, 62))

    def wait(self, attempt: int, error: BaseException, *, rng: Callable[[], float]) -> float:
        """The seconds to wait before try number `attempt`, after `error`."""
        told = getattr(error, "retry_after", None)
        return max(0.0, float(told)) if told is not None else rng() * self.ceiling(attempt)


def is_retryable(error: BaseException) -> bool:
    """What the error says of itself."""
    return bool(getattr(error, "retryable", False))


class RetryBudget:
    """A token bucket: each retry takes one token, each call brings a share of one.

    It starts with `reserve` tokens, which the first calls pay back, so that the retries of any stretch
    of calls from the start are at most `max(reserve, share * calls)`, plus `reserve` for each minute
    (with which a program of few calls gets its reserve again). It holds at most ten times its reserve.

    What the calls bring is worked out when a retry asks, so that a call that succeeds pays nothing for it.
    """

    __slots__ = ("_counted", "_debt", "_since", "_tokens", "refused", "reserve", "retries", "share")

    def __init__(self, *, share: float, reserve: int, now: float) -> None:
        self.share = share
        self.reserve = reserve
        self.retries = 0
        self.refused = 0
        self._counted = 0
        self._tokens = float(reserve)
        self._debt = float(reserve)
        self._since = now

    @classmethod
    def of(cls, retry: Retry, *, now: float) -> RetryBudget | None:
        """The budget that `retry` asks for."""
        return None if retry.budget is None else cls(share=retry.budget, reserve=retry.reserve, now=now)

    def withdraw(self, calls: int, now: float) -> bool:
        """Take a token for one retry, after `calls` calls in all; False if there is none."""
        self._settle(calls, now)
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        self.retries += 1
        return True

    def _settle(self, calls: int, now: float) -> None:
        earned = self.share * (calls - self._counted)
        self._counted = calls
        paid = min(earned, self._debt)
        self._debt -= paid
        trickle = self.reserve / 60 * max(0.0, now - self._since)
        self._since = now
        self._tokens = min(10.0 * max(1, self.reserve), self._tokens + earned - paid + trickle)

    def show(self, calls: int, now: float) -> dict[str, Any]:
        """What is left, as plain values."""
        self._settle(calls, now)
        return {"left": round(self._tokens, 2), "retries": self.retries, "refused": self.refused}
