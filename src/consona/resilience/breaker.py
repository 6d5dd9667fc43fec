"""A circuit breaker: a dependency that keeps failing is left alone for a while, then tried with care.

    closed      calls pass; successes and failures of the last `window` seconds are counted
    open        calls are refused at once with `CircuitOpen`, for `open_for` seconds
    half_open   `probes` calls may pass: all succeed, and it closes; one fails, and it opens again

Source: M. Nygard, "Release It!", 2007; M. Fowler, "CircuitBreaker", 2014.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from consona.errors import CircuitOpen, ConfigurationError, DeadlineExceeded
from consona.resilience.keyed import MAX_KEYS, Keyed

__all__ = ["BoundBreaker", "Breaker", "CircuitState", "speaks_against"]

_SLICES = 10


def speaks_against(error: BaseException) -> bool:
    """Whether the error says that the dependency is in trouble, rather than that the call was wrong.

    Errors that are worth a retry, timeouts, broken connections and open circuits further down do; a
    cancellation never does.
    """
    if isinstance(error, asyncio.CancelledError):
        return False
    return bool(getattr(error, "retryable", False)) or isinstance(
        error, (DeadlineExceeded, CircuitOpen, TimeoutError, ConnectionError)
    )


class CircuitState(StrEnum):
    """How a circuit stands, in one word."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When a failing dependency is left alone, and for how long. Each key (host) has a circuit of its own.

    Args:
        failure_rate: It opens when this share of the calls in the window failed.
        min_calls: But not before the window holds so many calls.
        window: Seconds that are looked back on (counted in ten slices, the oldest of which is dropped whole).
        open_for: Seconds for which calls are refused; and the most that one round of probes may take.
        probes: Calls that may pass after that, in each `open_for` seconds, until it closes or opens again.
        counts: Which errors count as failures; by default `speaks_against`. Other errors count as
            successes (the dependency answered), cancellations not at all.

    Example:
        >>> breaker = Breaker(failure_rate=0.5, min_calls=10).bind("prices")
        >>> breaker.state()["keys"]
        {}
    """

    failure_rate: float = 0.5
    min_calls: int = 10
    window: float = 30.0
    open_for: float = 10.0
    probes: int = 1
    counts: Callable[[BaseException], bool] = speaks_against

    def __post_init__(self) -> None:
        if not 0 < self.failure_rate <= 1:
            raise ConfigurationError(f"Breaker(failure_rate={self.failure_rate}): a share above 0, up to 1.")
        for name in ("min_calls", "probes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"Breaker({name}={getattr(self, name)}): at least 1.")
        for name in ("window", "open_for"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"Breaker({name}={getattr(self, name)}): seconds above 0.")

    def bind(self, name: str, *, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> BoundBreaker:
        """The breaker with its memory, for use alone; a policy binds its own."""
        return BoundBreaker(self, name, clock=clock, max_keys=max_keys)


class Circuit:
    """The state of one key. `admit` before the call, then exactly one of `succeeded`, `raised`, `cancelled`."""

    __slots__ = (
        "_failures",
        "_good",
        "_out",
        "_slice",
        "_slices",
        "_successes",
        "_width",
        "opened",
        "round",
        "settings",
        "since",
        "state",
    )

    def __init__(self, settings: Breaker) -> None:
        self.settings = settings
        self.state = CircuitState.CLOSED
        self.since = 0.0
        self.opened = 0
        self.round = 0
        """Grows with each change, so that calls begun before it are not taken for its probes."""
        self._width = settings.window / _SLICES
        self._out = 0
        self._good = 0
        self._reset()

    def _reset(self) -> None:
        self._slice = 0
        self._slices: list[tuple[int, int, int]] = []
        self._successes = 0
        self._failures = 0

    def refuses(self, now: float) -> float | None:
        """The seconds until the next probe if a call would be refused now, else None. Changes nothing."""
        if self.state is CircuitState.CLOSED:
            return None
        left = self.since + self.settings.open_for - now
        if left <= 0 or (self.state is CircuitState.HALF_OPEN and self._out < self.settings.probes):
            return None
        return left

    def admit(self, now: float) -> int:
        """Let one call pass.

        Returns:
            The round it belongs to, which is given back with its outcome; -1 if it is refused.
        """
        if self.state is CircuitState.CLOSED:
            return self.round
        if self.refuses(now) is not None:
            return -1
        if self.state is CircuitState.OPEN or now >= self.since + self.settings.open_for:
            self._change(CircuitState.HALF_OPEN, now)
        self._out += 1
        return self.round

    def admit_or_raise(self, name: str, key: str, now: float) -> int:
        """`admit`, with `CircuitOpen` where it refuses."""
        round_ = self.admit(now)
        if round_ < 0:
            raise circuit_open(name, key, self.refuses(now) or 0.0)
        return round_

    def succeeded(self, round_: int, now: float) -> None:
        if round_ != self.round:
            return
        if self.state is CircuitState.CLOSED:
            index = int(now / self._width)
            if index != self._slice:
                self._turn(index)
            self._successes += 1
            return
        self._good += 1
        if self._good >= self.settings.probes:
            self._change(CircuitState.CLOSED, now)

    def failed(self, round_: int, now: float) -> None:
        if round_ != self.round:
            return
        if self.state is not CircuitState.CLOSED:
            self._open(now)
            return
        index = int(now / self._width)
        if index != self._slice:
            self._turn(index)
        self._failures += 1
        successes, failures = self.counts()
        calls = successes + failures
        if calls >= self.settings.min_calls and failures >= self.settings.failure_rate * calls:
            self._open(now)

    def raised(self, round_: int, error: BaseException, now: float) -> None:
        """It failed, or the dependency answered with an error that is no fault of its own."""
        if self.settings.counts(error):
            self.failed(round_, now)
        else:
            self.succeeded(round_, now)

    def cancelled(self, round_: int) -> None:
        """It ended without an answer: a probe gives its place back."""
        if round_ == self.round and self.state is CircuitState.HALF_OPEN:
            self._out -= 1

    def counts(self) -> tuple[int, int]:
        """Successes and failures within the window."""
        return (
            self._successes + sum(good for _, good, _ in self._slices),
            self._failures + sum(bad for _, _, bad in self._slices),
        )

    def _turn(self, index: int) -> None:
        if self._successes or self._failures:
            self._slices.append((self._slice, self._successes, self._failures))
        self._slices = [entry for entry in self._slices if entry[0] > index - _SLICES]
        self._slice, self._successes, self._failures = index, 0, 0

    def _open(self, now: float) -> None:
        self.opened += 1
        self._change(CircuitState.OPEN, now)

    def _change(self, state: CircuitState, now: float) -> None:
        self.state = state
        self.since = now
        self.round += 1
        self._out = 0
        self._good = 0
        self._reset()

    def show(self, now: float) -> dict[str, Any]:
        """How it stands, as plain values."""
        if self.state is CircuitState.CLOSED:
            index = int(now / self._width)
            if index != self._slice:
                self._turn(index)
        successes, failures = self.counts()
        next_probe = self.refuses(now)
        return {
            "state": str(self.state),
            "successes": successes,
            "failures": failures,
            "opened": self.opened,
            "next_probe_in": None if next_probe is None else round(next_probe, 3),
        }


def circuit_open(name: str, key: str, wait: float) -> CircuitOpen:
    of = f" for {key}" if key else ""
    return CircuitOpen(
        f"{name}: the circuit{of} is open; it is tried again in {wait:.1f} s.", retry_after=wait, name=name, key=key
    )


class BoundBreaker:
    """A breaker with its memory: `async with breaker.guard("host"): ...`"""

    def __init__(self, settings: Breaker, name: str, *, clock: Callable[[], float], max_keys: int) -> None:
        self.settings = settings
        self.name = name
        self._clock = clock
        self._circuits: Keyed[Circuit] = Keyed(lambda _: Circuit(settings), max_keys=max_keys)

    @asynccontextmanager
    async def guard(self, key: str = "") -> AsyncIterator[None]:
        """Let the body run if the circuit is closed, and note how it ended.

        Raises:
            CircuitOpen: The body was not begun.
        """
        circuit = self._circuits.get(key)
        round_ = circuit.admit_or_raise(self.name, key, self._clock())
        try:
            yield
        except Exception as error:
            circuit.raised(round_, error, self._clock())
            raise
        except BaseException:
            circuit.cancelled(round_)
            raise
        else:
            circuit.succeeded(round_, self._clock())

    def state(self, *, limit: int = 20) -> dict[str, Any]:
        """The circuits used last, by key."""
        now = self._clock()
        return {"name": self.name, "keys": {key: circuit.show(now) for key, circuit in self._circuits.latest(limit)}}
