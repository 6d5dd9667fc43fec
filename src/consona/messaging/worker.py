"""Handling the messages of a queue: so many at a time, with their leases kept alive, and what fails tried again."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import typing
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from consona.errors import CommitUnknown, ConfigurationError, ConsonaError, LeaseLost, ValidationError
from consona.messaging.bodies import encoded
from consona.messaging.message import Message, described
from consona.messaging.results import Outcome, Results
from consona.messaging.schedule import NAME as SCHEDULE
from consona.messaging.schedule import run_all
from consona.resilience.deadline import within
from consona.resilience.retry import Retry
from consona.telemetry.trace import extract

if TYPE_CHECKING:  # the queue makes its worker, so the import can only go one way
    from consona.messaging.queue import MessageQueue

__all__ = ["Worker"]

log = logging.getLogger("consona.queue")

WAIT_S: Final = 5.0
PAUSE_AFTER_FAILURE_S: Final = 1.0


class Worker:
    """One handler of one queue. Made by `MessageQueue.worker`.

    Attributes:
        name: What the dashboard calls it.
        handler: The function.
    """

    def __init__(
        self,
        queue: MessageQueue,
        handler: Callable[..., Any],
        *,
        concurrency: int,
        retry: Retry,
        timeout_s: float | None,
        name: str,
        rng: Callable[[], float] = random.random,
    ) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"worker(concurrency={concurrency}): expected at least 1.")
        self.queue = queue
        self.handler = handler
        self.name = name or getattr(handler, "__name__", "handler")
        self.concurrency = concurrency
        self.retry = retry
        self.timeout_s = timeout_s
        self._into, self._wants_message = _signature(handler, self.name)
        self._rng = rng
        self._handling: dict[asyncio.Task[None], Message] = {}
        self._interruptible: dict[str, asyncio.Task[Any]] = {}
        self._cancelled: set[str] = set()

    async def run(self, *, drain_s: float, until_empty: bool) -> None:
        """See `MessageQueue.work`."""
        beside = [asyncio.create_task(self._keep_leases(), name=f"{self.name} leases")]
        try:
            if self.queue.results is not None:
                hearing = self._hear_cancels(self.queue.results)
                beside.append(asyncio.create_task(hearing, name=f"{self.name} cancels"))
            if self.queue.schedules:
                beside.append(await self._begin_schedules())
            await self._take(until_empty=until_empty)
            await self._finish(None)
        except BaseException:
            await self._finish(drain_s)
            raise
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)

    async def _take(self, *, until_empty: bool) -> None:
        while True:
            if len(self._handling) >= self.concurrency:
                await asyncio.wait(self._handling, return_when=asyncio.FIRST_COMPLETED)
                continue
            free = self.concurrency - len(self._handling)
            try:
                messages = await self.queue.get_many(free, wait=0.0 if until_empty else WAIT_S)
            except ConsonaError as error:
                # What may have been taken without our knowing comes back when its lease ends.
                if not (error.retryable or isinstance(error, CommitUnknown)):
                    raise
                log.warning("%s: no message could be taken (it is tried again): %s", self.queue.name, error.message)
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
                continue
            for message in messages:
                task = asyncio.create_task(self._handle(message), name=f"{self.name} {message.id}")
                self._handling[task] = message
                task.add_done_callback(self._handling.pop)
            if not messages and until_empty:
                if not self._handling:
                    return
                await asyncio.wait(self._handling, return_when=asyncio.FIRST_COMPLETED)

    async def _finish(self, patience_s: float | None) -> None:
        """Let what is being handled end; what has not after `patience_s` is interrupted, and given back."""
        if not self._handling:
            return
        _, late = await asyncio.wait(set(self._handling), timeout=patience_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("%s: %d messages were not handled in time and are given back", self.queue.name, len(late))
            await asyncio.wait(late)

    async def _handle(self, message: Message) -> None:
        parent = extract(message.headers.get("traceparent"), message.headers.get("baggage"), trusted=True)
        try:
            with self.queue.observer.operation("handle", self.name, parent=parent) as op:
                op.set(message=message.id, attempt=message.attempt)
                if not await self._is_missed(message):
                    await self._call_and_tell(message)
                await message.ack()
        except LeaseLost as error:
            log.warning("%s: %s", self.queue.name, error)
        except asyncio.CancelledError:
            if message.id in self._cancelled:
                await self._end_cancelled(message)
                return
            with suppress(LeaseLost):
                await message.release()
            raise
        except Exception as error:  # noqa: BLE001  whatever a handler raises is a failed attempt; it was logged above
            await self._failed(message, error)

    async def _begin_schedules(self) -> asyncio.Task[None]:
        put, clock = self.queue.put_scheduled, self.queue.clock
        due = [(schedule, await schedule.ensure(put, clock())) for schedule in self.queue.schedules.values()]
        return asyncio.create_task(run_all(due, put, clock), name=f"{self.name} schedules")

    async def _is_missed(self, message: Message) -> bool:
        """Whether a schedule put it for a time that is to be left out; others that were missed are put."""
        schedule = self.queue.schedules.get(message.headers.get(SCHEDULE, ""))
        if schedule is None or message.attempt > 1:
            return False
        now = self.queue.clock()
        following = schedule.to_catch_up(message.lease, now)
        if following is not None:
            await self.queue.put_scheduled(following)
        missed = schedule.is_missed(message.headers, now)
        if missed:
            log.warning("%s: a time of the schedule %s was missed and is left out", self.queue.name, schedule.name)
        return missed

    async def _call_and_tell(self, message: Message) -> None:
        """Handle it, and keep what became of it where the queue keeps results; not where it was cancelled."""
        results = self.queue.results
        if results is None:
            await self._call(message)
            return
        task = asyncio.current_task()
        assert task is not None
        self._interruptible[message.id] = task  # here alone: what settles a message is not to be interrupted
        try:
            wanted = await results.begin(message.id)
            value = await self._call(message) if wanted else None
        finally:
            del self._interruptible[message.id]
        self._cancelled.discard(message.id)  # its handler went on to the end all the same
        outcome = Outcome("cancelled")
        if wanted:
            body, headers = encoded(value)
            outcome = Outcome("done", 1.0, body=body, headers=headers)
        await results.write(message.id, outcome)

    async def _end_cancelled(self, message: Message) -> None:
        self._cancelled.discard(message.id)
        with suppress(LeaseLost):
            await message.ack()
        await self._tell(message, Outcome("cancelled"))
        log.info("%s: message %s was cancelled", self.queue.name, message.id)

    async def _tell(self, message: Message, outcome: Outcome) -> None:
        """Note what became of it; the message itself is settled already."""
        try:
            if self.queue.results is not None:
                await self.queue.results.write(message.id, outcome)
        except ConsonaError as error:
            log.warning("%s: what became of message %s was not noted: %s", self.queue.name, message.id, error.message)

    async def _hear_cancels(self, results: Results) -> None:
        while True:
            try:
                async for name in results.cancelled():
                    if name in self._interruptible:
                        self._cancelled.add(name)
                        self._interruptible[name].cancel()
            except ConsonaError as error:
                log.warning("%s: nobody can be cancelled now (it is tried again): %s", self.queue.name, error.message)
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def _call(self, message: Message) -> Any:
        if message.attempt > self.retry.attempts:  # each of them died without a word
            raise _WornOutError(f"The worker died, or its lease ended, in each of {self.retry.attempts} attempts.")
        arguments = (message.data(self._into), message)[: 2 if self._wants_message else 1]
        if inspect.iscoroutinefunction(self.handler):
            if self.timeout_s is None:
                return await self.handler(*arguments)
            async with within(self.timeout_s):
                return await self.handler(*arguments)
        return await asyncio.to_thread(self.handler, *arguments)

    async def _failed(self, message: Message, error: Exception) -> None:
        poison = isinstance(error, ValidationError | _WornOutError)  # trying again cannot help
        refused = self.retry.retry_if is not None and not self.retry.retry_if(error)
        dead = poison or refused or message.attempt >= self.retry.attempts
        delay = 0.0 if dead else self.retry.wait(message.attempt + 1, error, rng=self._rng)
        if dead:
            log.error("%s: message %s goes to the dead letters: %s", self.queue.name, message.id, type(error).__name__)
        with suppress(LeaseLost):  # then another worker has it, and will fail or not by itself
            await message.release(delay=delay, error=described(error), dead=dead)
            await self._tell(message, Outcome("failed" if dead else "waiting", error=described(error)[:500]))

    async def _keep_leases(self) -> None:
        """Extend what is being handled before its lease ends; interrupt what is somebody else's by now."""
        while True:
            await asyncio.sleep(self.queue.lease / 3)
            for task, message in list(self._handling.items()):
                try:
                    await message.extend()
                except LeaseLost:
                    task.cancel()
                except ConsonaError as error:
                    log.warning("%s: a lease could not be extended: %s", self.queue.name, error.message)


class _WornOutError(Exception):
    """All attempts ended without an answer."""


def _signature(handler: Callable[..., Any], name: str) -> tuple[Any, bool]:
    """The type of the handler's first parameter, and whether it takes the message too."""
    parameters = [
        parameter
        for parameter in inspect.signature(handler).parameters.values()
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    if not parameters or len(parameters) > 2:
        raise ConfigurationError(
            f"The handler {name!r} takes {len(parameters)} arguments.",
            hint="It takes what was put, and (if it likes) the message: async def send(email: Email, message).",
        )
    hints = typing.get_type_hints(handler)
    return hints.get(parameters[0].name, Any), len(parameters) == 2
