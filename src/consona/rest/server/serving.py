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
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from consona.errors import ConsonaError, DeadlineExceeded, NotFound
from consona.resilience import deadline as deadlines
from consona.resilience.deadline import Deadline
from consona.rest.server.forwarding import client_address, forwarded_for
from consona.rest.server.middleware import Middleware, chain, response_of
from consona.rest.server.open_requests import UNTIMED, OpenRequests
from consona.rest.server.problems import (
    HeadersTooLarge,
    MethodNotAllowed,
    RequestTimeout,
    ServiceUnavailable,
    UpgradeRequired,
    problem_response,
)
from consona.rest.server.requests import ClientGone, Request, local_path
from consona.rest.server.responses import Empty, Response, Scope, Send
from consona.rest.server.routing import METHODS, WEBSOCKET, Leaf, Route, Router
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
        self.router = router
        self._fixed, self._ends = router.fixed, router.ends
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
        self.tasks: set[asyncio.Task[Any]] = set()
        """Work after answers."""
        self.threads = Threads(f"consona-{api.name}", self.settings.threads)
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

    # Finding the route.

    def find(self, scope: Scope) -> tuple[Route, tuple[str, ...] | list[str]]:
        """The route for a request, and its path's values. What matches nothing gets a route that says so."""
        raw_path: bytes | None = scope.get("raw_path")
        if raw_path is not None and b"%" not in raw_path and not scope.get("root_path"):
            # Most paths are all fixed, or have a parameter as their last segment alone.
            path: str = scope["path"]
            leaf = self._fixed.get(path)
            if leaf is not None:
                route = leaf.routes.get(scope["method"])
                if route is not None:
                    return route, ()
            else:
                before, _, last = path.rpartition("/")
                leaf = self._ends.get(before)
                if leaf is not None and last and last[0] != ".":
                    route = leaf.routes.get(scope["method"])
                    if route is not None:
                        return route, (last,)
        return self._find_any(scope)

    def _find_any(self, scope: Scope) -> tuple[Route, tuple[str, ...] | list[str]]:
        try:
            leaf, segments = self._leaf(scope)
        except ConsonaError as error:
            return self._failing(scope["method"], UNKNOWN_TARGET, error), ()
        if leaf is not None:
            route = leaf.routes.get(scope["method"])
            return (route if route is not None else self._other_method(leaf, scope["method"])), segments
        path = local_path(scope)
        for mount in self.mounts:
            if mount.takes(path):
                return mount.route, ()
        return self._not_found(scope["method"], path), ()

    def find_websocket(self, scope: Scope) -> tuple[Route, tuple[str, ...] | list[str]] | None:
        """The route for a WebSocket, and its path's values; None where there is none."""
        try:
            leaf, segments = self._leaf(scope)
        except ConsonaError as error:
            return self.no_websocket(error), ()
        return None if leaf is None or leaf.websocket is None else (leaf.websocket, segments)

    def no_websocket(self, error: ConsonaError) -> Route:
        """In the place of a route: refuses with `error`."""
        return self._failing(WEBSOCKET, UNKNOWN_TARGET, error)

    def _leaf(self, scope: Scope) -> tuple[Leaf | None, tuple[str, ...] | list[str]]:
        root: str = scope.get("root_path", "").rstrip("/")
        raw_path: bytes | None = scope.get("raw_path")
        return self.router.find(local_path(scope), None if raw_path is None else raw_path.removeprefix(root.encode()))

    def methods_at(self, scope: Scope) -> list[str] | None:
        """The methods that a request's path answers; every one for a mounted application, None for unknown paths."""
        try:
            leaf, _ = self._leaf(scope)
        except ConsonaError:
            return None
        if leaf is not None:
            return allowed(leaf)
        path = local_path(scope)
        return next((list(mount.methods) for mount in self.mounts if mount.takes(path)), None)

    def reroute(self, request: Request, path: str) -> None:
        """Route a request anew, to a decoded path."""
        root = request.scope.get("root_path", "").rstrip("/")
        request.scope["path"] = root + path
        request.scope["raw_path"] = None
        request.route, request.segments = self.find(request.scope)

    def _other_method(self, leaf: Leaf, method: str) -> Route:
        """For a method that a known path has not."""
        if method == "HEAD" and "GET" in leaf.routes:
            get = leaf.routes["GET"]
            route = self.new_route("HEAD", leaf.pattern, get.respond)
            route.path_names, route.max_body = get.path_names, get.max_body
            route.timeout_s, route.own_timeout = get.timeout_s, get.own_timeout
            leaf.routes["HEAD"] = route
            return route
        if leaf.websocket is not None and not leaf.routes:
            upgrade = UpgradeRequired("Here is a WebSocket.", headers={"upgrade": "websocket", "connection": "upgrade"})
            return self._failing(method, leaf.pattern, upgrade)
        allow = ", ".join(allowed(leaf))
        if method == "OPTIONS":

            async def options(_: Request) -> Response:
                response = Empty(204)
                response.headers["allow"] = allow
                return response

            leaf.routes["OPTIONS"] = self.new_route("OPTIONS", leaf.pattern, options)
            return leaf.routes["OPTIONS"]
        error = MethodNotAllowed(
            f"{method if method in METHODS else 'This method'} is not possible here.",
            hint=f"Use {allow}.",
            headers={"allow": allow},
        )
        return self._failing(method, leaf.pattern, error)

    def _not_found(self, method: str, path: str) -> Route:
        other = path.removesuffix("/") if path.endswith("/") else path + "/"
        leaf, _ = self.router.find(other, None) if other else (None, ())
        hint = (
            None
            if leaf is None
            else "The same path exists "
            + ("without the slash at its end." if path.endswith("/") else "with a slash at its end.")
        )
        return self._failing(method, UNKNOWN_TARGET, NotFound("There is nothing at this path.", hint=hint))

    def _failing(self, method: str, target: str, error: ConsonaError) -> Route:
        async def fail(*_: Any) -> Response:
            raise error

        return self.new_route(method if method in {*METHODS, WEBSOCKET} else "OTHER", target, fail)

    def new_route(self, method: str, target: str, respond: Callable[..., Any]) -> Route:
        """A route of the server's own."""
        route = Route(method, target, respond)
        route.path_names = ()
        route.respond = respond
        route.timeout_s = self.settings.timeout
        route.max_body = self.settings.max_body
        route.series = self.observer.series(method, target) if self.settings.observe else None
        return route

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

    # Work after answers, and the end.

    def _end(self, mounted: asyncio.Task[None]) -> None:
        """See to it that a mounted application ends with its request, also where a middleware answered instead."""
        if not mounted.done():
            mounted.cancel()
            self.tasks.add(mounted)
            mounted.add_done_callback(self.tasks.discard)

    def finish(self, request: Request) -> None:
        """Begin the work that a handler left for after its answer; after that, the files of a form are gone."""
        work = [] if request._background is None else request._background.work
        left = len(work)

        def done(task: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            self.tasks.discard(task)
            if not left and request._form is not None:
                request._form.close()

        for function, args, kwargs in work:
            task = asyncio.get_running_loop().create_task(self._work(function, args, kwargs))
            self.tasks.add(task)
            task.add_done_callback(done)
        if not work and request._form is not None:
            request._form.close()

    async def _work(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        name = getattr(function, "__qualname__", type(function).__name__)
        _current_deadline.set(None)  # the request's deadline was for its answer
        try:
            with self.observer.operation("background", name):
                if inspect.iscoroutinefunction(function):
                    await function(*args, **kwargs)
                else:
                    await self.threads.run(partial(function, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 nobody waits for it: counted above, and logged by the observer
            self.log.debug("%s: background %s ended with %s", self.api.name, name, type(error).__name__)

    def begin_drain(self) -> None:
        """End streams of events and WebSockets: their clients connect again elsewhere. Requests are still served."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        for socket in self.sockets.values():
            task = asyncio.get_running_loop().create_task(socket.close(RESTART, "The server stops. Connect again."))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def drain(self) -> None:
        """Refuse new requests, wait for the open ones and for background work, then cut what is left."""
        self.begin_drain()
        self.closed = True
        self._max_open = -1  # so that the one comparison of the hot path refuses them
        ends = self._clock() + self.settings.drain
        await self._wait_for(set(self.open), "open requests", ends)
        await self._wait_for(set(self.sockets), "WebSockets", ends)
        await self._wait_for(self.tasks, "pieces of background work", ends)
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


def allowed(leaf: Leaf) -> list[str]:
    """The methods that a path answers, in the usual order."""
    known = set(leaf.routes) | {"OPTIONS"} | ({"HEAD"} if "GET" in leaf.routes else set())
    return [method for method in METHODS if method in known]
