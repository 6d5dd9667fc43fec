"""A deadline: the moment when the answer is no longer wanted. It travels with the call.

    async with within(2.0):             # cut after two seconds: DeadlineExceeded
        await shop.get("/prices")       # sends `x-deadline-remaining: 1.998`

    with within(2.0):                   # only announced: what is called inside keeps to it
        check("price list")             # raises before work that would come too late

The deadline lives in a context variable, so tasks and threads started inside inherit it, and a
deadline inside another one can only shorten it.

Source: gRPC, "Deadlines" (https://grpc.io/docs/guides/deadlines/); the rules of cancellation are those
of `asyncio.timeout` (PEP 789 and the asyncio documentation, "Timeouts").
"""

from __future__ import annotations

import asyncio
import heapq
import math
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import Context, ContextVar, Token
from itertools import count
from types import TracebackType
from typing import Any, Self

from consona.errors import ConfigurationError, DeadlineExceeded

__all__ = ["HEADER", "Deadline", "Within", "check", "from_header", "remaining", "to_header", "within"]

HEADER = "x-deadline-remaining"
"""The header of requests and messages that carries the seconds that are left, as a decimal."""

_HEADER_VALUE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_TOLERANCE_S = 0.0001
"""A timer of the event loop may fire this much early, by rounding."""

_current: ContextVar[Deadline | None] = ContextVar("consona_deadline", default=None)
_order = count()


class Deadline:
    """One moment, by one clock, and the task that is to be interrupted then, if any."""

    __slots__ = ("_cancelling", "_task", "_token", "_watch", "at", "clock", "cut")

    _token: Token[Deadline | None]
    _watch: Watch

    def __init__(self, at: float, clock: Callable[[], float]) -> None:
        self.at = at
        self.clock = clock
        self.cut = False
        """Whether the time ran out and the task was interrupted for it."""
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0

    def remaining(self) -> float:
        """Seconds left; below zero when it has passed."""
        return self.at - self.clock()

    def finish(self, error: BaseException | None) -> bool:
        """Take back our own cancellation. True if `error` is nothing but that: then it was the deadline.

        As in `asyncio.timeout`: when somebody else cancelled the task too, theirs goes on.
        """
        task, self._task = self._task, None
        if not self.cut or task is None:
            return False
        return task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)

    def leave(self) -> None:
        """Undo `Watch.enter`: the surrounding deadline is the current one again.

        A deadline that is in the watch's heap already stays there, without its task, until its time.
        """
        _current.reset(self._token)
        self._watch._young.discard(self)
        if self.cut:
            self.finish(None)
        self._task = None


class Watch:
    """All deadlines of one event loop and clock, on one timer.

    `asyncio.timeout` makes a timer for each call, though nearly all are cancelled unused. Here a call
    that ends in time costs one insertion into a set and one removal. When the one timer fires, the
    deadlines that are still there move to a heap; each moves once, so the cost stays logarithmic.
    """

    __slots__ = ("_armed", "_clock", "_context", "_heap", "_loop", "_timer", "_young")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._young: set[Deadline] = set()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._armed = math.inf
        self._timer: asyncio.TimerHandle | None = None
        # The timer outlives the call that set it, and must not keep that call's variables alive.
        self._context = Context()

    def enter(self, deadline: Deadline, task: asyncio.Task[Any]) -> None:
        """Make it the current deadline, and interrupt the task at its time, unless it `leave`s before."""
        deadline._watch = self
        deadline._task = task
        deadline._cancelling = task.cancelling()
        deadline._token = _current.set(deadline)
        self._young.add(deadline)
        if deadline.at < self._armed:
            self._arm(deadline.at)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = at
        self._timer = self._loop.call_later(max(0.0, at - self._clock()), self._fire, context=self._context)

    def _fire(self) -> None:
        for deadline in self._young:
            heapq.heappush(self._heap, (deadline.at, next(_order), deadline))
        self._young.clear()
        now = self._clock() + _TOLERANCE_S
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2]._task is None):
            deadline = heapq.heappop(self._heap)[2]
            if deadline._task is not None and not deadline.cut:  # one that was entered again may be here twice
                deadline.cut = True
                deadline._task.cancel()
        self._armed, self._timer = math.inf, None
        if self._heap:
            self._arm(self._heap[0][0])


_watches: dict[asyncio.AbstractEventLoop, dict[Callable[[], float], Watch]] = {}


def watch_of(loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> Watch:
    """The watch of this loop for deadlines by this clock."""
    by_clock = _watches.get(loop)
    if by_clock is None:
        for closed in [other for other in list(_watches) if other.is_closed()]:
            _watches.pop(closed, None)
        by_clock = _watches[loop] = {}
    watch = by_clock.get(clock)
    if watch is None:
        watch = by_clock[clock] = Watch(loop, clock)
    return watch


def shorter(seconds: float | None, clock: Callable[[], float]) -> Deadline | None:
    """A new deadline in `seconds`, or at the surrounding one's time if that comes first; None if there is neither."""
    outer = _current.get()
    if outer is None:
        return None if seconds is None else Deadline(clock() + seconds, clock)
    now = clock()
    at = outer.at if outer.clock is clock else now + outer.remaining()
    return Deadline(at if seconds is None else min(at, now + seconds), clock)


def within(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> Within:
    """Everything inside has at most `seconds`.

    `async with` interrupts it when the time is over, and raises `DeadlineExceeded`, whose cause shows
    where. Plain `with` interrupts nothing: it announces the deadline to what is called inside (policies,
    clients, `check()`), also in synchronous code.

    Raises:
        ConfigurationError: `seconds` is negative or not a number.

    Example:
        >>> with within(5.0):
        ...     with within(60.0):
        ...         remaining() <= 5.0
        True
    """
    return Within(seconds, clock=clock)


def enforced() -> Within | nullcontext[None]:
    """Interrupt what is inside at the deadline of the work under way, which may only have been announced."""
    deadline = _current.get()
    return nullcontext() if deadline is None else Within(max(0.0, deadline.remaining()), clock=deadline.clock)


class Within:
    """What `within()` gives."""

    __slots__ = ("_clock", "_deadline", "_seconds", "_token")

    def __init__(self, seconds: float, *, clock: Callable[[], float]) -> None:
        if not seconds >= 0:
            raise ConfigurationError(f"within() takes seconds from 0 upwards, not {seconds!r}.")
        self._seconds = seconds
        self._clock = clock
        self._deadline: Deadline | None = None
        self._token: Token[Deadline | None] | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(shorter(self._seconds, self._clock))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self._token is not None
        _current.reset(self._token)

    async def __aenter__(self) -> Self:
        deadline, task = shorter(self._seconds, self._clock), asyncio.current_task()
        assert deadline is not None
        assert task is not None, "async code runs in a task"
        watch_of(asyncio.get_running_loop(), self._clock).enter(deadline, task)
        self._deadline = deadline
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        deadline = self._deadline
        assert deadline is not None
        ours = deadline.finish(error)
        deadline.leave()
        if ours:
            raise DeadlineExceeded(f"Not done within {self._seconds:g} s.", timeout=self._seconds) from error


def exceeded(name: str, key: str, how: str) -> DeadlineExceeded:
    of = f" for {key}" if key else ""
    return DeadlineExceeded(f"{name}: the time of the call{of} was over {how}.", name=name, key=key)


def remaining() -> float | None:
    """Seconds until the deadline of the work under way, at least 0.0; None if it has none."""
    deadline = _current.get()
    return None if deadline is None else max(0.0, deadline.remaining())


def check(what: str) -> None:
    """Call before work begins: work past its deadline is not begun.

    Args:
        what: What would have been done, in a few words, for the error.

    Raises:
        DeadlineExceeded: The deadline of the work under way has passed.
    """
    deadline = _current.get()
    if deadline is not None and deadline.remaining() <= 0:
        raise DeadlineExceeded(f"The deadline passed before this began: {what}.", what=what)


def to_header() -> str | None:
    """The value of `HEADER` for a call that goes out now: seconds with three decimals; None without a deadline."""
    left = remaining()
    return None if left is None else f"{left:.3f}"


def from_header(text: str | None) -> float | None:
    """The seconds that a header grants; None if there is none, or it is not a plain decimal number.

    What comes from outside is only ever used with `within()`, so it can shorten a deadline, not lengthen it.

    Example:
        >>> from_header("1.5"), from_header("-1"), from_header("1e9"), from_header(None)
        (1.5, None, None, None)
    """
    if text is None or _HEADER_VALUE.fullmatch(text.strip()) is None:
        return None
    return float(text)
