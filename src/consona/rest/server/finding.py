"""Which route answers a request, and what answers where none does: 404, 405, HEAD, OPTIONS, mounted applications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from consona.errors import ConsonaError, NotFound
from consona.rest.server.problems import MethodNotAllowed, UpgradeRequired
from consona.rest.server.requests import Request, local_path
from consona.rest.server.responses import Empty, Response, Scope
from consona.rest.server.routing import METHODS, WEBSOCKET, Leaf, Route, Router
from consona.rest.server.settings import ServerSettings
from consona.telemetry.observer import Observer

if TYPE_CHECKING:
    from consona.rest.server.mounting import Mount

__all__ = ["Finder"]

UNKNOWN_TARGET: Final = "(unknown path)"


class Finder:
    """Finds routes by requests.

    Args:
        router: The compiled routes.
        mounts: The mounted applications, the longest prefix first.
        settings: Of the server.
        observer: The server's.
    """

    def __init__(self, router: Router, mounts: Sequence[Mount], settings: ServerSettings, observer: Observer) -> None:
        self.router = router
        self.mounts = mounts
        self._fixed, self._ends = router.fixed, router.ends
        self._settings = settings
        self._observer = observer

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
        route.timeout_s = self._settings.timeout
        route.max_body = self._settings.max_body
        route.series = self._observer.series(method, target) if self._settings.observe else None
        return route


def allowed(leaf: Leaf) -> list[str]:
    """The methods that a path answers, in the usual order."""
    known = set(leaf.routes) | {"OPTIONS"} | ({"HEAD"} if "GET" in leaf.routes else set())
    return [method for method in METHODS if method in known]
