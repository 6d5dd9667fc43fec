"""One process that serves one application: in the foreground, or as a worker of a supervisor.

A worker is started as `python -m consona.cli.serve NAME SETTINGS` (`Serving`, as JSON), with a pipe
as its standard input. Nothing is ever written to that pipe: when it closes, be it on purpose or since
the supervisor died, the worker drains and ends. That works on every system, and leaves no orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import quote

import msgspec

from consona.app import App
from consona.cli.loading import load_asgi
from consona.cli.serving import Serving
from consona.cli.signals import Once
from consona.cli.terminal import complain
from consona.errors import ConfigurationError, ConsonaError
from consona.rest.server.listen import inherited, listen_tcp
from consona.rest.server.uvicorn_server import Config, Server
from consona.telemetry import logs
from consona.telemetry.trace import Sampler, default_tracer

__all__ = ["serve"]

GRACE_S: Final = 5.0
"""Beyond the drain: how long a worker without a supervisor may take before it ends itself."""

Message = MutableMapping[str, Any]
ASGI = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

access = logging.getLogger("consona.access")


class _Server(Server):
    """uvicorn, that ends with an exit code instead of killing itself with the signal that it got."""

    on_started: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.on_started is not None and self.started:
            self.on_started()

    def ask_to_stop(self, *, at_once: bool = False) -> None:
        """Drain; at once: cut the requests under way. Safe from other threads and from signal handlers."""
        self.force_exit = at_once or self.force_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        once = Once()

        def handle(number: int, _frame: FrameType | None) -> None:
            if once.is_new():
                self.ask_to_stop(at_once=self.should_exit and number == signal.SIGINT)

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    serving: Serving,
    *,
    supervised: bool = False,
    listener: socket.socket | None = None,
    on_started: Callable[[], None] | None = None,
) -> int:
    """Load the application and serve it until a signal (or the end of the supervisor) ends it.

    Args:
        serving: What to serve, and where.
        supervised: Whether standard input is the supervisor's pipe.
        listener: An open listening socket, instead of `fd`, `host` and `port`.
        on_started: Called when the first request can be answered.

    Returns:
        The exit code: 0 after a drain, 1 if the application could not start.

    Raises:
        TargetError: There is no such application.
        ImportFailedError: Its own code failed.
    """
    logs.configure(level=serving.log_level, stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it tells in its words what we tell in ours
    default_tracer.sampler = Sampler(serving.traces_per_second, serving.trace_ratio)
    application: Any = load_asgi(serving.target, Path(serving.folder).resolve())
    wrapped = _AccessLog(application) if serving.access_log else None
    config = Config(application, drain_s=serving.drain_s, wrapped=wrapped, certificate=serving.certificate())
    server = _Server(config, notice_s=serving.notice_s)
    server.on_started = on_started
    if supervised:
        _stop_with_supervisor(server, notice_s=serving.notice_s, drain_s=serving.drain_s)
    if listener is None:
        listener = listen_tcp(serving.host, serving.port) if serving.fd is None else inherited(serving.fd)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(server, serving, listener))


async def _run(server: _Server, serving: Serving, listener: socket.socket) -> int:
    async with App(serving.name, ops=serving.ops):
        try:
            await server.serve(sockets=[listener])
        except SystemExit:  # uvicorn's way to say that the application's start failed; it logged why
            return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it does not exist on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _stop_with_supervisor(server: _Server, *, notice_s: float, drain_s: float) -> None:
    """Watch the pipe that standard input is; put nothing in its place, so that nobody reads from it."""
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(pipe, 1024):
                pass
        server.ask_to_stop()
        time.sleep(notice_s + drain_s + GRACE_S)
        os._exit(1)  # the event loop hangs: the supervisor would have killed us, so it is gone

    threading.Thread(target=watch, name="consona-supervisor-watch", daemon=True).start()


class _AccessLog:
    """A line for each request, when its answer is complete: method, path, status, milliseconds."""

    def __init__(self, application: ASGI) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.application(scope, receive, note)
        finally:
            # The query string is left out: it holds values.
            took = (time.perf_counter() - began) * 1000
            path = scope["path"] if scope["path"].isprintable() else quote(scope["path"])  # no tricks in our terminal
            access.info("%s %s %s in %.1f ms", scope["method"], path, status or "was cut off", took)


def worker() -> int:
    """The main program of a worker process."""
    serving = msgspec.json.decode(sys.argv[2], type=Serving)
    try:
        return serve(serving, supervised=True)
    except ConsonaError as error:
        complain(error)
        return 2 if isinstance(error, ConfigurationError) else 1


if __name__ == "__main__":
    sys.exit(worker())
