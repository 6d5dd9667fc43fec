"""Every part, from code that does not know `async`: scripts, notebooks, threads, older frameworks.

    from consona import blocking

    api = blocking.enter(APIClient("https://api.example.com"))       # stopped when the program ends
    user = blocking.run(api.get("/users/me", into=User))             # the type stays: a User
    for post in blocking.iterate(api.pages("/posts", into=Post)):
        print(post.title)
    with blocking.entered(SQLDatabase("sqlite:///shop.db")) as db:   # stopped at the end of the block
        blocking.run(db.execute("DELETE FROM carts"))

All coroutines of a process run on one event loop in a background thread, which begins with the first
call. Any number of threads may call. Context variables, the deadline among them, travel with the call
(`with within(2.0): blocking.run(...)` is cut after two seconds); changes that it makes to them do not
come back. Ctrl-C cancels the coroutine, waits for it to clean up, and is raised as always.

When the main thread ends, calls of other threads have ten seconds to finish (those of daemon threads
none), then all parts that were entered are stopped, the last one first. After a fork the child begins
anew; a part that was started before the fork says so when it is used.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # its exit hook must be there before ours, which then runs first
import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import copy_context
from typing import Any, Final, Generic, TypeVar

from consona.errors import ConfigurationError
from consona.part import Part
from consona.resilience.deadline import check, enforced

__all__ = ["enter", "entered", "iterate", "run"]

T = TypeVar("T")
P = TypeVar("P", bound=Part)

_log = logging.getLogger("consona.blocking")

PATIENCE_S: Final = 10.0
"""Seconds that the end of the program, or a second Ctrl-C, waits for calls and parts to finish."""

# A wait for a lock cannot be interrupted by Ctrl-C on Windows, so there it is cut into slices.
_SLICE_S: Final = 0.1 if sys.platform == "win32" else None


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine to its end, and return what it returns.

    Raises:
        ConfigurationError: The caller is inside a running event loop, or the program is ending.
        DeadlineExceeded: The deadline of the calling code has passed.
        BaseException: Whatever the coroutine raises.

    Example:
        >>> async def answer() -> int:
        ...     return 42
        >>> run(answer())
        42
    """
    if not asyncio.iscoroutine(coroutine):
        raise ConfigurationError(
            f"run() takes a coroutine, not {type(coroutine).__name__}.", hint="Call the function: run(work())."
        )

    async def body(guest: _Guest[T]) -> None:
        async with enforced():
            result = await coroutine
        guest.say(result)

    try:
        check("a blocking call")
        guest = _Guest(_background_loop("run"), body)
    except BaseException:
        coroutine.close()
        raise
    return guest.hear()


def enter(part: P) -> P:
    """Start a part for the rest of the program: it is stopped when the main thread ends.

    Raises:
        ConfigurationError: As for `run`.
        BaseException: Whatever its `start` raises.
    """
    background = _background_loop("enter")
    run(part.start())
    background.parts.append(part)
    return part


@contextmanager
def entered(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Use a part, a transaction, or anything else made for `async with`, in a `with` block.

    It is entered and left in one and the same task, and is told the error with which the block ended.

    Raises:
        ConfigurationError: As for `run`.

    Example:
        >>> import contextlib
        >>> with entered(contextlib.nullcontext("open")) as state:
        ...     state
        'open'
    """

    async def body(guest: _Guest[T]) -> None:
        async with manager as value:
            error = await guest.ask(value)
            if error is not None:
                raise error

    guest = _Guest(_background_loop("entered"), body)
    value = guest.hear()
    try:
        yield value
    except BaseException as error:  # noqa: BLE001 - hear() raises it again, unless the manager swallowed it
        guest.answer(error)
        with contextlib.suppress(_EndedError):
            guest.hear()
    else:
        guest.answer(None)
        with contextlib.suppress(_EndedError):
            guest.hear()


def iterate(async_iterable: AsyncIterable[T]) -> Iterator[T]:
    """Go through what is made for `async for`, one item when it is asked for, in one task.

    Leaving the loop early closes the asynchronous generator; so does `close()` of the iterator.

    Raises:
        ConfigurationError: As for `run`.

    Example:
        >>> async def numbers():
        ...     for number in range(3):
        ...         yield number
        >>> list(iterate(numbers()))
        [0, 1, 2]
    """
    _background_loop("iterate")
    return _steps(async_iterable)


def _steps(async_iterable: AsyncIterable[T]) -> Iterator[T]:
    async def body(guest: _Guest[T]) -> None:
        iterator = aiter(async_iterable)
        try:
            async with enforced():
                async for item in iterator:
                    await guest.ask(item)
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    guest = _Guest(_background_loop("iterate"), body)
    try:
        while True:
            try:
                item = guest.hear()
            except _EndedError:
                return
            yield item
            _outside_of_loops("iterate")
            guest.answer(None)
    finally:
        guest.leave()


class _EndedError(Exception):
    """A guest came to its end without anything more to say."""


class _Guest(Generic[T]):
    """A coroutine in one task of the background loop, and the thread that listens to it.

    The coroutine says values, or asks: then it waits for the thread's answer.
    """

    def __init__(self, background: _Background, body: Callable[[_Guest[T]], Coroutine[Any, Any, None]]) -> None:
        self._thread = threading.current_thread()
        self.ended = threading.Event()
        self.task: asyncio.Task[None] | None = None
        self._background = background
        self._said: queue.SimpleQueue[tuple[T] | BaseException] = queue.SimpleQueue()
        self._answer: asyncio.Future[BaseException | None] | None = None
        self.begun = False
        try:
            background.begin(self, body)
        except BaseException:  # Ctrl-C may arrive when the loop has it already: then it ends there first
            if self.begun:
                self.leave()
            raise

    @property
    def may_finish(self) -> bool:
        """Whether the end of the program waits for it: its listener is a thread for which Python waits too."""
        return not self._thread.daemon and self._thread is not threading.main_thread() and self._thread.is_alive()

    # In the task.

    async def live(self, body: Callable[[_Guest[T]], Coroutine[Any, Any, None]]) -> None:
        """Run the body. Its errors go to the listener, also those that would end an event loop."""
        try:
            await body(self)
        except BaseException as error:  # noqa: BLE001 - the listener raises it
            self.end(error)
        else:
            self.end(_EndedError())

    def end(self, error: BaseException) -> None:
        self._background.guests.discard(self)
        self.ended.set()
        self._said.put(error)

    def say(self, value: T) -> None:
        self._said.put((value,))

    async def ask(self, value: T) -> BaseException | None:
        self._answer = asyncio.get_running_loop().create_future()
        self.say(value)
        return await self._answer

    # In the listening thread.

    def answer(self, error: BaseException | None) -> None:
        def resolve() -> None:
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(error)

        self._background.call(resolve)

    def hear(self) -> T:
        """Wait for the next value; raises what the coroutine raised, `_EndedError` at its end."""
        try:
            said = self._next()
        except BaseException:
            self.leave()
            raise
        if isinstance(said, BaseException):
            try:
                raise said
            finally:
                del said  # or the error would hold this frame, which holds the error
        return said[0]

    def _next(self) -> tuple[T] | BaseException:
        while True:
            try:
                return self._said.get(timeout=_SLICE_S)
            except queue.Empty:
                continue

    def leave(self) -> None:
        """Cancel it if it still runs, and wait until it has cleaned up."""
        if self.ended.is_set():
            return
        self._background.soon(self._cancel)
        if _running_loop():
            return  # a forgotten iterator, collected as garbage inside a loop: nobody may wait there
        if not self.ended.wait(PATIENCE_S):
            _log.warning("A cancelled coroutine did not end within %g s: %r", PATIENCE_S, self.task)

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


class _Background:
    """The event loop of this process, in a thread of its own."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.guests: set[_Guest[Any]] = set()
        self.closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="consona-blocking", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._loop.is_closed():
            try:
                self._loop.run_forever()
                return
            except (KeyboardInterrupt, SystemExit):
                # Raised by a task that nobody waits for; asyncio ends the loop for it. The others go on.
                _log.exception("A task on the background event loop tried to end the program.")

    def call(self, function: Callable[[], object]) -> None:
        """Call it in the loop's thread, soon; not at all if the loop has ended, and everything with it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def begin(self, guest: _Guest[T], body: Callable[[_Guest[T]], Coroutine[Any, Any, None]]) -> None:
        context = copy_context()

        def make_task() -> None:
            guest.task = self._loop.create_task(guest.live(body), context=context)

        with _making:  # so that whoever begins before the end is seen by `close`
            if self.closing:
                raise _ending()
            self.guests.add(guest)
            guest.begun = True
            self._loop.call_soon_threadsafe(make_task)

    def soon(self, function: Callable[[], object]) -> None:
        """Call it in the loop's thread after the first step of the tasks that were made until now."""
        self.call(lambda: self._loop.call_soon(function))

    def close(self) -> None:
        """Let the calls of other threads finish, stop the parts, the last one first, and end the loop."""
        with _making:
            self.closing = True
        until = time.monotonic() + PATIENCE_S
        for guest in [guest for guest in self.guests.copy() if guest.may_finish]:
            guest.ended.wait(max(0.0, until - time.monotonic()))
        ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with contextlib.suppress(TimeoutError, concurrent.futures.TimeoutError):
            ending.result(3 * PATIENCE_S)
        self.call(self._loop.stop)
        self._thread.join(PATIENCE_S)
        for guest in self.guests.copy():
            guest.end(asyncio.CancelledError())
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        await _cancel_all([guest.task for guest in self.guests.copy() if guest.task is not None])
        while self.parts:
            part = self.parts.pop()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await part.stop()
            except Exception:  # noqa: BLE001 - the other parts are to be stopped too
                _log.exception("%s could not be stopped at the end of the program.", part.name)
        await _cancel_all([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


async def _cancel_all(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        _, hanging = await asyncio.wait(tasks, timeout=PATIENCE_S)
        for task in hanging:
            _log.warning("A task did not end within %g s of its cancellation: %r", PATIENCE_S, task)


_background: _Background | None = None
_making = threading.Lock()
_hooked = False
_left_by_fork: list[_Background] = []


def _background_loop(function: str) -> _Background:
    """The background loop of this process, made if this is the first call."""
    global _background, _hooked  # noqa: PLW0603 - one loop for each process is what this module is
    _outside_of_loops(function)
    with _making:
        if _background is None:
            if not _hooked:
                # Exit handlers run after the thread pools have closed, and parts may need those to stop. The
                # hook of `threading` runs before; it is what `concurrent.futures` itself uses.
                try:
                    getattr(threading, "_register_atexit", atexit.register)(_at_exit)
                except RuntimeError:
                    raise _ending() from None
                _hooked = True
            _background = _Background()
        return _background


def _ending() -> ConfigurationError:
    return ConfigurationError(
        "consona.blocking was called while the program is ending.",
        hint="Join your threads before the main thread ends.",
    )


def _outside_of_loops(function: str) -> None:
    if _running_loop():
        raise ConfigurationError(
            f"blocking.{function}() was called inside a running event loop, which it would bring to a stand.",
            hint="Use `await`, `async for` or `async with` there.",
        )


def _running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _at_exit() -> None:
    if _background is not None:
        _background.close()


def _after_fork() -> None:
    """The child has neither the thread nor its calls."""
    global _background, _making
    if _background is not None:
        # Kept, as collecting its loop would take the sockets out of the selector that parent and child share.
        _left_by_fork.append(_background)
    _background, _making = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
