"""A saga: steps that belong together and cannot share a transaction; what is done is undone where a later step fails.

    fulfil = bus.saga("fulfil", OrderPlaced)

    @fulfil.step
    async def reserve(order: OrderPlaced): ...

    @fulfil.undo(reserve)
    async def release(order: OrderPlaced): ...

    @fulfil.step(retry=Retry(attempts=3))
    async def charge(order: OrderPlaced): ...

Each event begins a run. What is done is kept after each step, so a killed program goes on where it was.
Then the step that was under way runs again: make it harmless to repeat, or give it `once=db`.

Source: H. Garcia-Molina, K. Salem, "Sagas", SIGMOD 1987.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import random
import time
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from consona.errors import ConfigurationError, DeliveryError, ValidationError
from consona.events import inbox
from consona.events.cloudevents import CloudEvent
from consona.events.records import Received
from consona.messaging.message import described
from consona.resilience.retry import Retry
from consona.sql.transaction import Transaction

if TYPE_CHECKING:  # the bus makes sagas, so the import can only go one way
    from consona.events.bus import EventBus
    from consona.sql.database import SQLDatabase

__all__ = ["Saga", "SagaRun", "StepRun"]

log = logging.getLogger("consona.events")

Step = TypeVar("Step", bound=Callable[..., Any])
MAX_ID_BYTES: Final = 200
KEEP_S: Final = 30 * 86_400.0
PATIENCE: Final = Retry(attempts=10, backoff=0.5, max_wait=60.0)


class StepRun(msgspec.Struct):
    """What became of one step."""

    name: str
    status: Literal["done", "failed", "undone"]
    at: float
    """Seconds since the epoch."""
    error: str = ""
    """Of its last failed attempt."""


class SagaRun(msgspec.Struct):
    """One run; a step gets it where a parameter has this type."""

    id: str
    """That of the event that began it."""
    saga: str
    began_at: float
    status: Literal["running", "undoing", "done", "undone", "stuck"] = "running"
    """`stuck`: something could not be undone; the event lies among the dead letters, and redriven it is tried again."""
    steps: list[StepRun] = msgspec.field(default_factory=list)
    """Those that ended, in that order."""
    values: dict[str, Any] = msgspec.field(default_factory=dict)
    """What the steps returned, by their names, as plain data."""

    def key(self, step: str) -> str:
        """The same text in each attempt of a step: an idempotency key for those whom it calls."""
        return f"{self.saga}/{self.id}/{step}"


@dataclass(frozen=True, slots=True)
class _Action:
    """A step, or what undoes one."""

    name: str
    call: Callable[..., Any]
    extra: dict[str, type]
    retry: Retry
    once: SQLDatabase | None


class Saga:
    """Steps for each event of a type. Made by `bus.saga`; it runs where the bus works.

    Attributes:
        name: Its own; its consumer is called `saga.` and the name.
    """

    def __init__(
        self,
        bus: EventBus,
        name: str,
        event: type,
        *,
        concurrency: int,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.bus = bus
        self.name = name
        self.consumer = f"saga.{name}"
        self._steps: list[_Action] = []
        self._undo: dict[str, _Action] = {}
        self._clock = clock
        self._rng = rng

        async def drive(event: Any, received: Received) -> None:
            await self._drive(event, received)

        # Its own patience is in the steps: an event that comes out of here with an error is stuck.
        bus.on(event, durable=self.consumer, concurrency=concurrency, retry=Retry(attempts=1))(drive)

    @typing.overload
    def step(self, function: Step, /) -> Step: ...
    @typing.overload
    def step(self, *, retry: Retry = ..., once: SQLDatabase | None = None) -> Callable[[Step], Step]: ...
    def step(self, function: Any = None, /, *, retry: Retry = PATIENCE, once: SQLDatabase | None = None) -> Any:  # type: ignore[misc]  # it does accept them: the first has a default
        """Register the next step: it takes the event, and where it likes a `SagaRun`.

        What it returns is kept in `run.values`.

        Args:
            function: The step.
            retry: How often it is tried; then what was done before is undone. `retry_if` tells which errors are
                worth it; others end the run at once.
            once: What it writes through a `tx: Transaction` that it takes happens exactly once. Such a step
                returns nothing.

        Raises:
            ConfigurationError: It takes something unknown, or there is a step of its name.
        """

        def register(function: Step) -> Step:
            action = self._action(function, retry, once)
            if any(each.name == action.name for each in self._steps):
                raise ConfigurationError(f"The saga {self.name!r} has a step {action.name!r} already.")
            self._steps.append(action)
            return function

        return register if function is None else register(function)

    def undo(
        self, step: Callable[..., Any], *, retry: Retry = PATIENCE, once: SQLDatabase | None = None
    ) -> Callable[[Step], Step]:
        """Register what undoes a step that was done, where a later one fails. It takes what steps take.

        Raises:
            ConfigurationError: That is no step of this saga, or it has such a function already.
        """

        def register(function: Step) -> Step:
            undone = getattr(step, "__name__", "")
            if not any(each.name == undone for each in self._steps) or undone in self._undo:
                raise ConfigurationError(
                    f"{undone!r} is no step of the saga {self.name!r} that could be undone by {function.__name__}.",
                    hint="Register the step first, and one function that undoes it.",
                )
            self._undo[undone] = self._action(function, retry, once)
            return function

        return register

    async def run(self, id: str) -> SagaRun | None:  # noqa: A002  the event's id
        """The run that the event with this id began, if there was one in the last 30 days."""
        item = await self.bus.store.get(self._key(id))
        return None if item is None else msgspec.msgpack.decode(item.value, type=SagaRun)

    async def runs(self) -> AsyncIterator[SagaRun]:
        """All runs of the last 30 days, by their ids."""
        async for item in self.bus.store.scan(self._key("")):
            yield msgspec.msgpack.decode(item.value, type=SagaRun)

    def databases(self) -> Iterator[SQLDatabase]:
        """Those of its steps."""
        for action in (*self._steps, *self._undo.values()):
            if action.once is not None:
                yield action.once

    async def _drive(self, event: Any, received: Received) -> None:
        run = await self.run(received.event.id) or SagaRun(received.event.id, self.name, self._clock())
        if run.status == "running":
            await self._forward(run, event, received.event)
        if run.status in {"undoing", "stuck"}:
            await self._back(run, event, received.event)

    async def _forward(self, run: SagaRun, event: Any, source: CloudEvent) -> None:
        ended = {each.name for each in run.steps}
        for step in self._steps:
            if step.name in ended:
                continue
            error = await self._try(step, run, event, source)
            if error is not None:
                run.steps.append(StepRun(step.name, "failed", self._clock(), described(error)[:500]))
                run.status = "undoing"
                await self._save(run)
                return
            run.steps.append(StepRun(step.name, "done", self._clock()))
            await self._save(run)
        run.status = "done"
        await self._save(run)

    async def _back(self, run: SagaRun, event: Any, source: CloudEvent) -> None:
        for step in reversed(run.steps):
            undo = self._undo.get(step.name)
            if step.status != "done" or undo is None:
                continue
            error = await self._try(undo, run, event, source)
            if error is not None:
                step.error = described(error)[:500]
                run.status = "stuck"
                await self._save(run)
                raise DeliveryError(
                    f"The step {step.name!r} of the saga {self.name!r} could not be undone.",
                    hint="Mend the cause, then redrive the dead letter: consona events redrive",
                ) from error
            step.status, step.at, step.error = "undone", self._clock(), ""
            await self._save(run)
        run.status = "undone"
        await self._save(run)

    async def _try(self, action: _Action, run: SagaRun, event: Any, source: CloudEvent) -> Exception | None:
        """Run an action until it succeeds, or is not worth another try: then its error."""
        attempt = 0
        while True:
            attempt += 1
            try:
                with self.bus.observer.operation("step", f"{self.name}.{action.name}") as op:
                    op.set(attempt=attempt)
                    await self._call(action, run, event, source)
            except Exception as error:  # noqa: BLE001  whatever a step raises is its failure; it was logged above
                refused = action.retry.retry_if is not None and not action.retry.retry_if(error)
                if isinstance(error, ValidationError) or refused or attempt >= action.retry.attempts:
                    return error
                await asyncio.sleep(action.retry.wait(attempt + 1, error, rng=self._rng))
            else:
                return None

    async def _call(self, action: _Action, run: SagaRun, event: Any, source: CloudEvent) -> None:
        if action.once is None:
            found = action.call(event, **dict.fromkeys(action.extra, run))
            value = await found if inspect.isawaitable(found) else found
            if value is not None:
                run.values[action.name] = msgspec.to_builtins(value)
            return
        with suppress(inbox.HandledBefore):
            async with action.once.transaction(name=f"{self.name}.{action.name}") as tx:
                consumer = f"{self.bus.name}/{self.consumer}.{action.name}"[:200]
                await inbox.enter(tx, consumer, source, now=self._clock())
                await action.call(
                    event, **{name: tx if kind is Transaction else run for name, kind in action.extra.items()}
                )

    def _action(self, function: Callable[..., Any], retry: Retry, once: SQLDatabase | None) -> _Action:
        name = getattr(function, "__name__", "step")
        parameters = list(inspect.signature(function).parameters)
        hints = typing.get_type_hints(function)
        extra = {each: Transaction if each == "tx" else hints.get(each, Any) for each in parameters[1:]}
        allowed: Sequence[Any] = (SagaRun, Transaction) if once is not None else (SagaRun,)
        if not parameters or any(kind not in allowed for kind in extra.values()):
            raise ConfigurationError(
                f"{name} takes what the saga {self.name!r} does not know.",
                hint="A step takes the event, and where it likes a SagaRun and (with once=db) tx: Transaction.",
            )
        return _Action(name, function, extra, retry, once)

    async def _save(self, run: SagaRun) -> None:
        await self.bus.store.put(self._key(run.id), msgspec.msgpack.encode(run), ttl=KEEP_S)

    def _key(self, id: str) -> str:  # noqa: A002  the event's id
        named = id if len(id.encode()) <= MAX_ID_BYTES else hashlib.blake2b(id.encode(), digest_size=16).hexdigest()
        return f"saga/{self.name}/{named}"
