"""A REST server: routes, what they need, and the life of it all. It is an ASGI 3 application.

    api = APIServer("blog")

    @api.get("/posts/{id}")
    async def read_post(id: int) -> Post:
        ...

Run it with `consona run module:api`, with any ASGI server, or mounted in another application.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from consona.errors import ConfigurationError
from consona.part import Health, Part, Status
from consona.rest.server.asgi import ASGIApplication
from consona.rest.server.binding import compile_route
from consona.rest.server.docs_page import Pages
from consona.rest.server.guards import Attachable, Guard
from consona.rest.server.health import Readiness, check_parts
from consona.rest.server.idempotency import DAY_S, Idempotency, store_beside
from consona.rest.server.metrics import metrics
from consona.rest.server.middleware import Middleware
from consona.rest.server.mounting import ASGIApp, Mount
from consona.rest.server.openapi import document
from consona.rest.server.parameters import Injected, hints_of, read_parameters
from consona.rest.server.providers import Resolver, returned_type
from consona.rest.server.routing import Route, Router, Routes
from consona.rest.server.serving import Serving
from consona.rest.server.settings import ServerSettings
from consona.rest.server.signature import Signature
from consona.rest.server.static_files import StaticFiles
from consona.storage.store import Store
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.rest.server.testing import TestClient

__all__ = ["APIServer"]

Function = TypeVar("Function", bound=Callable[..., Any])

log = logging.getLogger("consona.rest.server")

MAX_FOREIGN_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of a WebSocket message of a mounted application."""


class APIServer(Routes, ASGIApplication):
    """Answers HTTP requests by the routes that are declared on it.

    Args:
        name: What the dashboard, the logs and the docs page call it.
        parts: What the handlers need (databases, clients, queues): started before the first request
            is served, stopped after the last, and given to each parameter of their type.
        settings: Limits and habits.
        version: Of the API, for its OpenAPI document.
        description: For its OpenAPI document; Markdown.
        observer: Where its operations are noted; by default one of its own.
        clock: Seconds that only go forward, for timeouts.

    Example:
        >>> api = APIServer("hello")
        >>> @api.get("/hello/{name}")
        ... async def hello(name: str, times: int = 1) -> list[str]:
        ...     return [f"Hello {name}"] * times
    """

    kind = "rest.server"

    def __init__(
        self,
        name: str = "api",
        *,
        parts: Iterable[Part] = (),
        settings: ServerSettings | None = None,
        version: str = "0.1.0",
        description: str = "",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        Routes.__init__(self)
        ASGIApplication.__init__(self, name, observer=observer)
        self.parts = list(parts)
        self.settings = settings or ServerSettings()
        self.clock = clock
        self.version = version
        self.description = description
        self.guard: Guard | None = None
        self.middlewares: list[Middleware] = []
        self.error_handlers: dict[type[BaseException], Callable[..., Any]] = {}
        self.mounts: list[Mount] = []
        self.draining = False
        self._hooks: dict[str, list[Callable[..., Any]]] = {"start": [], "stop": []}
        self._provided: list[tuple[Any, Any]] = []
        self._idempotency: Idempotency | None = None
        self._opened: contextlib.AsyncExitStack | None = None

    # What is declared on it.

    def middleware(self, function: Function) -> Function:
        """Run `async def function(request, call_next)` around each request. The first declared is the outermost.

        An object that is called so is one too; the parts in its `parts` are started and stopped with the server.
        """
        self._not_started("a middleware")
        self.middlewares.append(function)
        return function

    def on_error(self, *kinds: type[BaseException]) -> Callable[[Function], Function]:
        """Answer errors of these classes with `function(error, request)`; it may raise another error instead.

        What it returns is the body (or a `Response`); the status is the error's own, else 500.
        """

        def register(function: Function) -> Function:
            self._not_started("an error handler")
            for kind in kinds:
                self.error_handlers[kind] = function
            return function

        return register

    def on_start(self, function: Function) -> Function:
        """Call `function()` (plain or async) when the server starts, after its parts, before the first request."""
        self._hooks["start"].append(function)
        return function

    def on_stop(self, function: Function) -> Function:
        """Call `function()` (plain or async) when the server stops, after the last request, before its parts."""
        self._hooks["stop"].append(function)
        return function

    def provide(self, source: Any) -> Any:
        """Give each parameter of a type what `source` is or makes.

        A function makes it, for the type that it is annotated to return, once a request; its own
        parameters are bound like a handler's. An asynchronous generator yields it, and goes on after the
        handler, before the answer is sent: a failure there is an error of the request. Anything else
        is given as it is, by its class.

        Example:
            >>> api = APIServer("shop")
            >>> class Page:
            ...     def __init__(self, number: int) -> None:
            ...         self.number = number
            >>> @api.provide
            ... def page(page: int = 1) -> Page:
            ...     return Page(page)
        """
        self._not_started("a provider")
        if inspect.isroutine(source):
            self._provided.append((returned_type(source), source))
        else:
            self._provided.append((type(source), (source,)))
        return source

    def secure(self, guard: Guard, *more: Attachable) -> None:
        """Let `guard` find out who calls: what `roles=`, `scopes=` and `CurrentUser` ask.

        Args:
            guard: Who finds out. Where it is `Attachable`, it adds its own routes and parts.
            more: What else belongs to it, such as sign-in with other services; each adds its routes.

        Raises:
            ConfigurationError: There is one already.
        """
        self._not_started("a guard")
        if self.guard is not None:
            raise ConfigurationError(f"{self.name} has a guard already.")
        self.guard = guard
        for each in (guard, *more):
            if isinstance(each, Attachable):
                each.attach(self)

    def idempotency(self, store: Store | str, *, keep: float = DAY_S) -> None:
        """Say where the routes with `idempotent=` keep their answers. Without, it is the first database in `parts`.

        Args:
            store: A store, or its address. Processes that share it answer each other's repeats.
            keep: Seconds for which a key is remembered.

        Raises:
            ConfigurationError: `keep` is not above zero.
        """
        self._not_started("a store of idempotency keys")
        if isinstance(store, str):
            store = Store(store, name="idempotency", prefix=f"idempotency/{self.name}/")
        self._idempotency = Idempotency(store, keep=keep)

    def mount(self, prefix: str, app: ASGIApp) -> None:
        """Pass everything below `prefix` that no route takes to an ASGI application.

        Its lifespan runs with the server's. It sees `root_path` extended by the prefix.

        Raises:
            ConfigurationError: The prefix is not a path, or taken.
        """
        self._mount(Mount(prefix, app))
        mounted_in = getattr(app, "mounted_in", None)
        if mounted_in is not None:
            mounted_in(self)

    def files(
        self, prefix: str, folder: str | Path, *, index: bool = False, hidden: bool = False, max_age: int = 0
    ) -> None:
        """Give out the files of a folder under `prefix`, to anybody, where no route takes the path.

        Nothing outside of the folder is reached, also not by symbolic links, and nothing whose name begins with
        a dot. Parts of files (`Range`) and "only if it changed" are answered.

        Args:
            prefix: Begins with a slash, and does not end with one.
            folder: Where they are.
            index: Whether `index.html` answers for its folder.
            hidden: Whether names that begin with a dot are given out too.
            max_age: Seconds for which a copy may be used without asking again.

        Raises:
            ConfigurationError: The prefix is not a path, or taken; on start, where there is no such folder.
        """
        self._mount(StaticFiles(prefix, folder, index=index, hidden=hidden, max_age=max_age))

    def _mount(self, mount: Mount) -> None:
        self._not_started("an application")
        if any(other.prefix == mount.prefix for other in self.mounts):
            raise ConfigurationError(f"{self.name}: there is an application at {mount.prefix!r} already.")
        self.mounts.append(mount)
        self.mounts.sort(key=lambda each: len(each.prefix), reverse=True)

    def _add(self, route: Route) -> None:
        self._not_started(f"the route {route.method} {route.path}")
        super()._add(route)

    def _not_started(self, what: str) -> None:
        if self.started:
            raise ConfigurationError(f"{self.name} is started; {what} comes too late.", hint="Declare it before.")

    # Compiling.

    def openapi(self, *, root_path: str = "") -> dict[str, Any]:
        """The OpenAPI 3.1 document, made from the routes' signatures. The server need not be started.

        Args:
            root_path: Where the server is mounted, for the document's `servers`.

        Raises:
            ConfigurationError: A signature cannot be bound.
        """
        return document(self, self.signatures(), root_path=root_path)

    def signatures(self) -> list[Signature]:
        """Each route with what it takes and gives; what the OpenAPI document is made of.

        Raises:
            ConfigurationError: A signature cannot be bound.
        """
        known: dict[Any, Injected] = {}
        return [self._signature(route, known) for route in self.routes]

    def _signature(self, route: Route, known: dict[Any, Injected]) -> Signature:
        resolve = Resolver(self, self._provided, route, known)
        parameters = read_parameters(
            route.handler,
            label=route.label,
            path_names=route.path_names,
            namespace=route.namespace,
            resolve=resolve,
        )
        hints = hints_of(route.handler, label=route.label, namespace=route.namespace)
        signature = Signature(route, parameters, hints.get("return", inspect.Parameter.empty))
        signature.closed = getattr(self.guard, "closed", False)
        return signature

    def _compile(self) -> Serving:
        signatures = [*self.signatures(), *self._own_signatures()]
        router = Router()
        leaves = [router.add(signature.route) for signature in signatures]
        if self._idempotency is None and any(route.options.get("idempotent") for route in self.routes):
            self.idempotency(store_beside(self.parts, name=self.name))
        serving = Serving(self, router, self.mounts)
        for signature in signatures:
            signature.route.signature = signature
        for signature, leaf in zip(signatures, leaves, strict=True):
            route, read = signature.route, leaf.routes.get("GET")
            route.timeout_s = route.options.get("timeout", self.settings.timeout)
            route.own_timeout = "timeout" in route.options
            route.max_body = route.options.get("max_body", self.settings.max_body)
            if signature.has_form:
                route.files = {parameter.alias: parameter.rules for parameter in signature.files}
            route.max_message = route.socket.get("max_message", self.settings.max_message)
            if self.settings.observe:
                lasting = signature.is_websocket or signature.is_event_stream
                route.series = self.observer.series(route.method, route.path, lasting=lasting)
            route.respond = compile_route(
                signature,
                guard=self.guard,
                run_in_thread=serving.threads.run,
                idempotency=self._idempotency,
                reading=read.signature if read is not None and read.options.get("etag") else None,
            )
        for mount in self.mounts:
            mount.route = serving.finder.new_route("ANY", mount.target, mount.respond)
        return serving

    def _own_signatures(self) -> list[Signature]:
        """The routes that every server has: health, the OpenAPI document, the docs page."""
        settings = self.settings
        own = Routes(documented=False, public=True)
        if settings.health_path:
            readiness = Readiness(self, clock=self.clock)
            own.get(f"{settings.health_path}/live")(readiness.live)
            own.get(f"{settings.health_path}/ready")(readiness.ready)
        if settings.metrics_path:
            own.get(settings.metrics_path)(metrics)
        if settings.openapi_path:
            pages = Pages(self)
            own.get(settings.openapi_path)(pages.openapi)
            if settings.docs_path:
                own.get(settings.docs_path)(pages.docs)
                own.get(f"{settings.docs_path}/{{name}}")(pages.file)
        taken = {(route.method, route.path) for route in self.routes}
        known: dict[Any, Injected] = {}
        return [self._signature(route, known) for route in own.routes if (route.method, route.path) not in taken]

    @property
    def max_message(self) -> int:
        """Bytes of the longest message that any of its WebSockets takes, so that whoever serves it takes no longer."""
        own = [route.socket.get("max_message", 0) for route in self.routes]
        foreign = MAX_FOREIGN_MESSAGE if self.mounts else 0
        return max(self.settings.max_message, foreign, *own)

    @property
    def compress_sockets(self) -> bool:
        """Whether WebSockets may be compressed: where a mounted application wants it."""
        return any(getattr(mount.app, "compress_sockets", False) for mount in self.mounts)

    # Its life.

    async def _open(self) -> None:
        serving = self._compile()
        async with contextlib.AsyncExitStack() as stack:
            for part in (*self.parts, *self._inner_parts()):
                await stack.enter_async_context(part)
            for mount in self.mounts:
                await mount.open()
                stack.push_async_callback(mount.close, self.settings.drain)
            for hook in self._hooks["start"]:
                await _call(hook)
            self._opened = stack.pop_all()
        self.draining = False
        self._serving = serving

    def _inner_parts(self) -> Iterator[Part]:
        """What its middlewares and its idempotent routes need."""
        for middleware in self.middlewares:
            yield from getattr(middleware, "parts", ())
        if self._idempotency is not None:
            yield self._idempotency.store

    async def _close(self) -> None:
        serving, opened = self._serving, self._opened
        assert serving is not None
        assert opened is not None
        self.draining = True
        async with opened:
            await serving.drain()
            self._serving = None
            for hook in self._hooks["stop"]:
                await _call(hook)

    def begin_drain(self) -> None:
        """Say at `/health/ready` that the server goes away, and end streams and WebSockets; requests are still served.

        Whoever runs the server calls it at the first signal, before it stops listening, so that a
        load balancer sends no more.
        """
        self.draining = True
        for mount in self.mounts:
            begin_drain = getattr(mount.app, "begin_drain", None)
            if begin_drain is not None:
                begin_drain()
        if self._serving is not None:
            self._serving.begin_drain()

    async def check(self) -> Health:
        """Up when it is started and each of its parts is."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        if self.draining:
            return Health(Status.DOWN, "stopping")
        return await check_parts(self.parts)

    def detail(self) -> dict[str, Any]:
        serving = self._serving
        return {
            "open": len(serving.open) if serving is not None else 0,
            "sockets": len(serving.sockets) if serving is not None else 0,
            "background": len(serving.background.tasks) if serving is not None else 0,
            "draining": self.draining,
        }

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:
        """The server's life, for an application that it is mounted in: `FastAPI(lifespan=api.lifespan)`."""
        async with self:
            yield

    def test_client(self, **options: Any) -> TestClient:
        """An `APIClient` that calls this server without a socket, and starts and stops it; WebSockets too.

        Args:
            options: Those of `APIClient`.

        Example:
            >>> async def test_hello(api: APIServer) -> None:
            ...     async with api.test_client() as client:
            ...         assert await client.get("/hello/Ada", into=list[str]) == ["Hello Ada"]
        """
        from consona.rest.server.testing import TestClient  # noqa: PLC0415 a server that serves needs no client

        return TestClient(self, **options)


async def _call(hook: Callable[..., Any]) -> None:
    result = hook()
    if inspect.isawaitable(result):
        await result
