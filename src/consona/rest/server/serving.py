"""A server at work: from a request to its handler and to an answer, and what is open meanwhile.

`APIServer` is what users declare; this is what it is compiled to when it starts. It keeps the open
requests, the work after answers and the threads, so that stopping can wait for all of them.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import re
import secrets
import traceback
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from consona.errors import ConsonaError, DeadlineExceeded
from consona.resilience import deadline as deadlines
from consona.resilience.deadline import Deadline
from consona.rest.server.background import BackgroundWork
from consona.rest.server.finding import Finder
from consona.rest.server.forwarding import client_address, forwarded_for
from consona.rest.server.middleware import Middleware, chain, response_of
from consona.rest.server.open_requests import UNTIMED, OpenRequests
from consona.rest.server.problems import (
    HeadersTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    problem_response,
)
from consona.rest.server.requests import ClientGone, Request
from consona.rest.server.responses import Response, Send
from consona.rest.server.routing import Router
from consona.rest.server.settings import ServerSettings, Trust
from consona.rest.server.threads import Threads
from consona.rest.server.websocket import WebSocket
from consona.telemetry import trace

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer
    from consona.rest.server.mounting import Mount

__all__ = ["Serving"]

UNKNOWN_TARGET: Final = "(unknown path)"
DEADLINE_HEADER: Final = deadlines.HEADER.encode()
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,100}")
_current_deadline: Final = deadlines._current


class NoAnswer(Response):
    """Stands for the answer to a client that has gone."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(status=499)

    async def __call__(self, request: Request, send: Send) -> None:
        """Nobody listens."""


class Serving:
    """One life of a server, from start to stop.

    Args:
        api: The server.
        router: Its compiled routes.
        mounts: Its mounted applications, the longest prefix first.
    """

    def __init__(self, api: APIServer, router: Router, mounts: Sequence[Mount]) -> None:
        self.api = api
        self.settings: ServerSettings = api.settings
        self.observer = api.observer
        self.finder = Finder(router, mounts, api.settings, api.observer)
        self.find = self.finder.find
        self.mounts = mounts
        self.log = logging.getLogger("consona.rest.server")
        self.stopping = asyncio.Event()
        """Set when the server begins to stop: streams of events end then, and WebSockets are closed."""
        self.closed = False
        """Whether new requests are refused."""
        self._timer = OpenRequests(api.clock)
        self.open = self._timer.until
        """The tasks of requests that are not answered yet, and until when each may take."""
        self.sockets: dict[asyncio.Task[Any], WebSocket] = {}
        """The open WebSockets, by the task of their handler."""
        self.threads = Threads(f"consona-{api.name}", self.settings.threads)
        self.background = BackgroundWork(api.name, api.observer, self.threads)
        self._trust = Trust(self.settings.trusted)
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6).encode()
        self._watch = deadlines.watch_of(asyncio.get_running_loop(), api.clock)
        self._clock = api.clock
        self._timeout_s = self.settings.timeout
        self._max_headers = self.settings.max_headers
        self._max_header_bytes = self.settings.max_header_bytes
        self._max_open = self.settings.max_open
        self._error_handlers: dict[type[BaseException], Any] = dict(api.error_handlers)
        middlewares: list[Middleware] = list(api.middlewares)
        self._chain = chain(middlewares, self._respond, self.recover) if middlewares else None

    # One request.

    async def _respond(self, request: Request) -> Response:
        """The innermost of the chain."""
        try:
            response: Response = await request.route.respond(request)
            return response
        except Exception as error:  # noqa: BLE001 whatever it is, it is answered
            return await self.recover(error, request)

    def _announce(self, request: Request, task: asyncio.Task[Any]) -> Deadline:
        """Begin the deadline that the caller or the route set: the shorter one, for all that is called inside."""
        seconds = request.route.timeout_s
        header = request.fields.get(DEADLINE_HEADER)
        granted = deadlines.from_header(None if header is None else header.decode("latin-1"))
        if granted is not None and granted < seconds:
            seconds, request.hurried = granted, True
        self.open[task] = UNTIMED
        deadline = Deadline(self._clock() + seconds, self._clock)
        self._watch.enter(deadline, task)
        return deadline

    def _refuse(self, request: Request) -> None:
        settings = self.settings
        if len(request.scope["headers"]) > settings.max_headers:
            raise HeadersTooLarge(f"There are more than {settings.max_headers} headers.")
        if self.closed:
            raise self._stopped()
        if len(self.open) > settings.max_open:
            raise ServiceUnavailable("Too many requests are open.", retry_after=1)
        if len(b"".join(request.fields.values())) > settings.max_header_bytes:
            raise HeadersTooLarge(f"The headers are longer than {settings.max_header_bytes} bytes.")
        raise DeadlineExceeded("The deadline that the caller set had passed when the request arrived.")

    def _too_late(self, request: Request) -> ConsonaError:
        if request.hurried:
            return DeadlineExceeded("The deadline that the caller set has passed.")
        if request.reading:
            return RequestTimeout("The request took too long to arrive.", headers={"connection": "close"})
        return ServiceUnavailable("The answer was not ready in time.", retry_after=1)

    def _stopped(self) -> ConsonaError:
        return ServiceUnavailable("The server is stopping.", retry_after=1, headers={"connection": "close"})

    def _parent(self, request: Request) -> trace.Span | None:
        baggage = request.fields.get(b"baggage")
        return trace.extract(
            request.fields[b"traceparent"].decode("latin-1"),
            None if baggage is None else baggage.decode("latin-1"),
            trusted=self._trust.includes(request.client),
        )

    def client_address(self, request: Request) -> str:
        """Who asks, as far as those who say so are trusted."""
        name = self.settings.proxy_header.lower()
        if not name:
            return request.client
        entries = forwarded_for(name, request.headers.all(name))
        return client_address(request.client, entries, self._trust.includes)

    def request_id(self, request: Request) -> bytes:
        """A new id, or the one that a trusted peer gave."""
        given = request.fields.get(b"x-request-id")
        if given is not None and self._trust.includes(request.client) and _REQUEST_ID.fullmatch(given):
            request._id = given
        else:
            request._id = b"%s-%x" % (self._id_prefix, next(self._ids))
        return request._id

    # Errors.

    async def recover(self, error: Exception, request: Request) -> Response:
        """The answer for an error: by the handler that was registered for its class, or as a problem."""
        request._background = None  # it was meant for after a success
        if isinstance(error, ClientGone):
            return NoAnswer()
        for kind in type(error).__mro__:
            handler = self._error_handlers.get(kind)
            if handler is not None:
                try:
                    if inspect.iscoroutinefunction(handler):
                        result = await handler(error, request)
                    else:
                        result = await self.threads.run(partial(handler, error, request))
                    status = error.status if isinstance(error, ConsonaError) else 500
                    return response_of(result, status=status)
                except Exception as raised:  # noqa: BLE001 it is answered below
                    if raised is not error:
                        raised.__cause__ = raised.__cause__ or error
                    error = raised
                break
        return self.problem(error, request)

    def problem(self, error: BaseException, request: Request) -> Response:
        """An error as an answer, and in the log where it is the server's fault."""
        self.log_if_unexpected(error, request)
        response = problem_response(error, request_id=request.id, validation_status=self.settings.validation_status)
        if response.status == 401 and "www-authenticate" not in response.headers:
            guard = self.api.guard
            usual = "Bearer" if guard is None else guard.challenge
            response.headers["www-authenticate"] = getattr(error, "challenge", usual)
        return response

    def log_if_unexpected(self, error: BaseException, request: Request) -> None:
        """Write an error into the log, with the places, unless it says all there is to say."""
        if isinstance(error, ConsonaError) and (error.status < 500 or type(error).code in EXPECTED):
            return
        # The message of a foreign error may hold values of the user's data; the places do not.
        if self.settings.debug:
            text = "".join(traceback.format_exception(error))
        else:
            frames = "".join(traceback.format_tb(error.__traceback__))
            text = f"{frames}{error if isinstance(error, ConsonaError) else type(error).__name__}"
        self.log.error(
            "%s: %s %s, request %s, failed:\n%s",
            self.api.name,
            request.route.method,
            request.route.path,
            request.id,
            text,
        )

    # The end.

    def begin_drain(self) -> None:
        """End streams of events and WebSockets: their clients connect again elsewhere. Requests are still served."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        for socket in self.sockets.values():
            closing = socket.close(RESTART, "The server stops. Connect again.")
            self.background.add(asyncio.get_running_loop().create_task(closing))

    async def drain(self) -> None:
        """Refuse new requests, wait for the open ones and for background work, then cut what is left."""
        self.begin_drain()
        self.closed = True
        self._max_open = -1  # so that the one comparison of the hot path refuses them
        ends = self._clock() + self.settings.drain
        await self._wait_for(set(self.open), "open requests", ends)
        await self._wait_for(set(self.sockets), "WebSockets", ends)
        await self._wait_for(self.background.tasks, "pieces of background work", ends)
        self.threads.close()
        self._timer.close()

    async def _wait_for(self, tasks: set[asyncio.Task[Any]], what: str, ends: float) -> None:
        # Whoever stops the server within a request does not wait for that request.
        waiting = tasks - {asyncio.current_task()}
        if not waiting:
            return
        _, late = await asyncio.wait(waiting, timeout=max(0.0, ends - self._clock()))
        if late:
            self.log.warning(
                "%s: not done after %g s, and cut: %s (%d).", self.api.name, self.settings.drain, what, len(late)
            )
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=CUT_S)


RESTART: Final = 1012
"""The close code of a server that stops, and will be back: connect again."""

CUT_S: Final = 1.0
"""How long something that was cancelled may take to clean up."""

EXPECTED: Final = frozenset(
    {"connect", "circuit_open", "bulkhead_full", "deadline_exceeded", "api", "http.unavailable", "http"}
)
"""Codes of failures with a status of 500 or more that say all there is to say: no stack in the log."""
