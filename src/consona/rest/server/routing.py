"""Which handler answers: routes as they are declared, and the router that they are compiled to.

    "/posts"              one path
    "/posts/{id}"         one segment, of the type that the handler's parameter `id` has
    "/files/{path:path}"  one or more segments; the last of the pattern

- A fixed segment wins over a parameter, a parameter over a rest (`:path`).
- Paths are compared segment by segment, each decoded by itself: `%2F` is a character of a segment
  and never separates two. A path that is not UTF-8 is answered with 400.
- The trailing slash is part of the path. Nothing is redirected; the 404 names the spelling that exists.
- Parameters are never empty, `.` or `..`. A rest has no empty segment, no `.` or `..`, no backslash and no control
  character, so that it cannot leave the folder that a handler joins it to.
- A known path with another method is answered with 405 and `Allow`. HEAD is answered by GET, without
  the body, and OPTIONS with `Allow`, where the route has none of its own.

Source: RFC 3986, sections 2.2 and 3.3; RFC 9110, sections 9.3.2, 9.3.7 and 15.5.6.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack
from urllib.parse import unquote_to_bytes

from consona.errors import ConfigurationError, ConsonaError
from consona.rest.server.forms import FileRules
from consona.rest.server.problems import BadRequest

__all__ = ["METHODS", "Leaf", "Route", "RouteOptions", "Router", "Routes", "WebSocketOptions", "split_path"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
WEBSOCKET: Final = "WEBSOCKET"
"""In place of a method. No request can have it: WebSockets are kept apart from methods."""

Handler = TypeVar("Handler", bound=Callable[..., Any])
Respond = Callable[..., Awaitable[Any]]

_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:path)?\}")
_UNSAFE_REST: Final = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\\\x00-\x1f\x7f]")


class RouteOptions(TypedDict, total=False):
    """What a route may be told beside its method and path."""

    status: int
    """Of the answer when all goes well; by default 200, or 204 where the handler's return type is None."""
    summary: str
    """One line for the docs; by default the first of the handler's docstring."""
    tags: Iterable[str]
    roles: Iterable[str]
    """One of these is needed. Without a guard (`api.secure(...)`) the server refuses to start."""
    scopes: Iterable[str]
    """All of these are needed."""
    critical: bool
    """Answer 503 rather than believe credentials of which it is not known whether they were taken back lately."""
    public: bool
    """Open to everybody, also where the guard closes all other routes (`Guard.closed`)."""
    timeout: float
    """Seconds until the handler's answer must begin; by default the server's `timeout`."""
    max_body: int
    """Bytes; by default the server's `max_body`."""
    errors: Iterable[type[ConsonaError]]
    """What the handler raises on purpose; goes into the docs."""
    documented: bool
    """Whether it is part of the OpenAPI document."""
    deprecated: bool
    etag: bool | Literal["weak"]
    """Of a GET: give the answer an `ETag` made from its bytes, and send 304 to who has it already."""
    cross_site: bool
    """Whether a form is taken from pages of other sites too. By default that is answered with 403 (CSRF)."""
    idempotent: bool | Literal["required"]
    """Whether a repeat with the same `Idempotency-Key` is answered like the first, and the work done once; "required":
    refuse requests without a key with 400."""
    require_match: bool
    """Refuse requests without `If-Match` or `If-Unmodified-Since` with 428; the handler takes a `Precondition`."""


class WebSocketOptions(TypedDict, total=False):
    """What a WebSocket route may be told beside its path."""

    roles: Iterable[str]
    """One of these is needed. Without a guard (`api.secure(...)`) the server refuses to start."""
    scopes: Iterable[str]
    """All of these are needed."""
    origins: Iterable[str]
    """Sites whose pages may connect, such as `https://shop.example`, or `*`; by default only pages of the server's
    own host. Programs that are no browsers send no origin, and may always."""
    subprotocols: Iterable[str]
    """Those that the handler speaks, the best first. With `msgpack`, values go out as MessagePack."""
    max_message: int
    """Bytes; by default the server's `max_message`."""


@dataclass(slots=True, eq=False)
class Route:
    """One method on one path, and who answers it."""

    method: str
    """`GET`, …; or `WEBSOCKET`."""
    path: str
    """The pattern, as it was written (with the prefix of its group)."""
    handler: Callable[..., Any]
    options: RouteOptions = field(default_factory=RouteOptions)
    socket: WebSocketOptions = field(default_factory=WebSocketOptions)
    """Of a WebSocket."""
    namespace: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Names that annotations may use beside the module's: the locals of a function that declares routes."""
    path_names: tuple[str, ...] = ()
    # Filled in when the server is compiled.
    respond: Respond = field(default=None, repr=False)  # type: ignore[assignment]
    timeout_s: float = 0.0
    own_timeout: bool = False
    max_body: int = 0
    files: Mapping[str, FileRules] | None = None
    """What is accepted as files of a form, by name; None: any."""
    max_message: int = 0
    series: Any = field(default=None, repr=False)
    signature: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.path_names = tuple(found[1] for found in _PARAMETER.finditer(self.path))

    @property
    def label(self) -> str:
        """For messages: `GET /posts/{id} (read_post)`."""
        return f"{self.method} {self.path} ({getattr(self.handler, '__qualname__', self.handler)})"


class Routes:
    """Routes that are declared together, with a common prefix: one file of a larger server.

    Example:
        >>> posts = Routes("/posts", tags=["posts"])
        >>> @posts.get("/{id}")
        ... async def read_post(id: int) -> str:
        ...     return "…"
        >>> [route.path for route in posts.routes]
        ['/posts/{id}']

    Args:
        prefix: What every path begins with.
        defaults: Options that hold for each route, unless it has its own.
    """

    def __init__(self, prefix: str = "", **defaults: Unpack[RouteOptions]) -> None:
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ConfigurationError(f"The prefix {prefix!r} must begin with a slash, and not end with one.")
        self.prefix = prefix
        self.defaults = defaults
        self.routes: list[Route] = []

    def route(self, path: str, *methods: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answer `path` for each of `methods`. The handler is returned as it is.

        Raises:
            ConfigurationError: The path or a method is not well-formed.
        """
        return self._declare(path, methods, options)

    def get(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answer GET (and HEAD) on `path`."""
        return self._declare(path, ("GET",), options)

    def post(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answer POST on `path`."""
        return self._declare(path, ("POST",), options)

    def put(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answer PUT on `path`."""
        return self._declare(path, ("PUT",), options)

    def patch(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answer PATCH on `path`."""
        return self._declare(path, ("PATCH",), options)

    def delete(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[Handler], Handler]:
        """Answer DELETE on `path`."""
        return self._declare(path, ("DELETE",), options)

    def websocket(self, path: str, **options: Unpack[WebSocketOptions]) -> Callable[[Handler], Handler]:
        """Answer WebSockets on `path`, with `async def handler(socket: WebSocket, ...)`.

        Path, query, headers and cookies are bound as for requests, before it is accepted. Middlewares do not run.

        Raises:
            ConfigurationError: The path is not well-formed.
        """
        _check_options(path, options, WebSocketOptions)
        path = self.prefix + path
        check_pattern(path)
        locals_ = sys._getframe(1).f_locals

        def register(handler: Handler) -> Handler:
            guards = _guards({**self.defaults, **options})
            self._add(Route(WEBSOCKET, path, handler, guards, options, _namespace(handler, locals_)))
            return handler

        return register

    def include(self, routes: Routes) -> None:
        """Add a group's routes, below this one's prefix."""
        for route in routes.routes:
            options: RouteOptions = {**self.defaults, **route.options}
            if route.method == WEBSOCKET:
                options = _guards(options)
            path = self.prefix + route.path
            self._add(Route(route.method, path, route.handler, options, route.socket, route.namespace))

    def _declare(self, path: str, methods: Iterable[str], options: RouteOptions) -> Callable[[Handler], Handler]:
        _check_options(path, options, RouteOptions)
        path = self.prefix + path
        check_pattern(path)
        methods = tuple(method.upper() for method in methods)
        for method in methods:
            if method not in METHODS:
                raise ConfigurationError(f"{path}: {method!r} is not a method.", hint=f"Use {', '.join(METHODS)}.")
        if not methods:
            raise ConfigurationError(f"{path}: name at least one method.")
        locals_ = sys._getframe(2).f_locals

        def register(handler: Handler) -> Handler:
            namespace = _namespace(handler, locals_)
            for method in methods:
                self._add(Route(method, path, handler, {**self.defaults, **options}, namespace=namespace))
            return handler

        return register

    def _add(self, route: Route) -> None:
        self.routes.append(route)


def _namespace(handler: Callable[..., Any], locals_: Mapping[str, Any]) -> dict[str, Any]:
    return dict(locals_) if "<locals>" in getattr(handler, "__qualname__", "") else {}


def _guards(options: Mapping[str, Any]) -> RouteOptions:
    """What also holds for WebSockets."""
    return {name: options[name] for name in ("roles", "scopes") if name in options}  # type: ignore[return-value]


def _check_options(path: str, options: Mapping[str, Any], known: type) -> None:
    unknown = set(options) - known.__annotations__.keys()
    if unknown:
        raise ConfigurationError(
            f"{path}: a route has no option {', '.join(sorted(unknown))}.",
            hint=f"There are: {', '.join(sorted(known.__annotations__))}.",
        )


def check_pattern(path: str) -> None:
    """Refuse a pattern that cannot match what its author means.

    Raises:
        ConfigurationError: It says what is wrong.
    """
    if not path.startswith("/"):
        raise ConfigurationError(f"The path {path!r} must begin with a slash.")
    names = []
    segments = path[1:].split("/")
    for position, segment in enumerate(segments):
        found = _PARAMETER.fullmatch(segment)
        if found:
            names.append(found[1])
            if found[2] and position != len(segments) - 1:
                raise ConfigurationError(f"{path}: {segment} takes the rest of the path, so it must be last.")
        elif "{" in segment or "}" in segment:
            raise ConfigurationError(
                f"{path}: a parameter must be a whole segment, like {{id}} or {{path:path}}, not {segment!r}."
            )
        elif not segment and position != len(segments) - 1:
            raise ConfigurationError(f"{path}: there is an empty segment (two slashes).")
        elif segment in {".", ".."} or "?" in segment or "%" in segment:
            raise ConfigurationError(f"{path}: the segment {segment!r} could never match.")
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{path}: a parameter occurs twice.")


class Leaf:
    """A pattern's end: its routes by method. A `mount` is a leaf whose `default` takes every method."""

    __slots__ = ("allow", "default", "pattern", "routes", "websocket")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.routes: dict[str, Route] = {}
        self.websocket: Route | None = None
        self.allow = ""
        self.default: Route | None = None
        """Answers methods that have no route: with 405."""


class _Node:
    __slots__ = ("children", "leaf", "parameter", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: Leaf | None = None
        self.leaf: Leaf | None = None


DOTS: Final = frozenset({".", ".."})
NO_SEGMENTS: Final[tuple[str, ...]] = ()


class Router:
    """All leaves, found by path: patterns without parameters in one look-up, others segment by segment."""

    def __init__(self) -> None:
        self._root = _Node()
        self.fixed: dict[str, Leaf] = {}
        """Patterns without parameters."""
        self.ends: dict[str, Leaf] = {}
        """`/posts` -> the leaf of `/posts/{id}`: only the last segment is a parameter."""
        self.leaves: list[Leaf] = []

    def add(self, route: Route) -> Leaf:
        """Enter a route.

        Raises:
            ConfigurationError: The same method is on the same path already.
        """
        leaf = self._leaf(route.path)
        other = leaf.websocket if route.method == WEBSOCKET else leaf.routes.get(route.method)
        if other is not None:
            raise ConfigurationError(
                f"{route.label} and {other.label} answer the same requests.", hint="Remove one, or change its path."
            )
        if route.method == WEBSOCKET:
            leaf.websocket = route
        else:
            leaf.routes[route.method] = route
        return leaf

    def _leaf(self, path: str) -> Leaf:
        node = self._root
        for segment in path[1:].split("/"):
            found = _PARAMETER.fullmatch(segment)
            if found is None:
                node = node.children.setdefault(segment, _Node())
            elif found[2]:
                if node.rest is None:
                    node.rest = self._new(path)
                return node.rest
            else:
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
        if node.leaf is None:
            node.leaf = self._new(path)
            before, _, last = path.rpartition("/")
            if "{" not in path:
                self.fixed[path] = node.leaf
            elif "{" not in before and last:
                self.ends[before] = node.leaf
        return node.leaf

    def _new(self, path: str) -> Leaf:
        leaf = Leaf(path)
        self.leaves.append(leaf)
        return leaf

    def find(self, path: str, raw_path: bytes | None) -> tuple[Leaf | None, tuple[str, ...] | list[str]]:
        """The leaf for a path, and the values of its parameters in order.

        Args:
            path: Decoded, as in the ASGI scope.
            raw_path: Percent-encoded, where the server underneath gives it.

        Raises:
            BadRequest: The path is not UTF-8.
        """
        if raw_path is None or b"%" not in raw_path:
            leaf = self.fixed.get(path)
            if leaf is not None:
                return leaf, NO_SEGMENTS
            segments = path.split("/")
            del segments[0]
        else:
            segments = split_path(raw_path)
        if "/." in path and not DOTS.isdisjoint(segments):
            return None, NO_SEGMENTS
        # Straight down first; only where that ends nowhere are the other ways tried.
        node = self._root
        values: list[str] = []
        for segment in segments:
            child = node.children.get(segment)
            if child is None:
                child = node.parameter
                if child is None or not segment:
                    break
                values.append(segment)
            node = child
        else:
            if node.leaf is not None:
                return node.leaf, values
        return _search(self._root, segments, 0, []) or (None, NO_SEGMENTS)


def _search(node: _Node, segments: list[str], position: int, values: list[str]) -> tuple[Leaf, list[str]] | None:
    """All ways, best first. The depth is bounded by that of the patterns, not by the path's."""
    if position == len(segments):
        return (node.leaf, values) if node.leaf is not None else None
    segment = segments[position]
    child = node.children.get(segment)
    found = _search(child, segments, position + 1, values) if child is not None else None
    if found is None and segment and node.parameter is not None:
        found = _search(node.parameter, segments, position + 1, [*values, segment])
    if found is None and node.rest is not None:
        rest = "/".join(segments[position:])
        if rest and not _UNSAFE_REST.search(rest):
            found = node.rest, [*values, rest]
    return found


def split_path(raw_path: bytes) -> list[str]:
    """The decoded segments of a percent-encoded path.

    Raises:
        BadRequest: It is not UTF-8.
    """
    try:
        return [unquote_to_bytes(segment).decode() for segment in raw_path.split(b"/")[1:]]
    except UnicodeDecodeError:
        raise BadRequest("The path is not UTF-8.") from None
