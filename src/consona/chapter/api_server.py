"""The chapter's REST server, over `consona.rest.server.api_server`."""
# ruff: noqa: FBT001, FBT002 the order of arguments is the chapter's

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from consona import blocking
from consona.chapter.exchange import plain_function, read_data, request_info, response_dict, response_of_dict
from consona.chapter.narration import think
from consona.chapter.token_guard import TokenGuard, Verify
from consona.errors import ConfigurationError
from consona.resilience.policy import Policy
from consona.rest.client.api_client import ClientSettings
from consona.rest.server.api_server import APIServer as Server
from consona.rest.server.guards import CurrentUser
from consona.rest.server.listener import Listener
from consona.rest.server.middleware import CallNext
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response, json_encode
from consona.rest.server.settings import ServerSettings
from consona.rest.transport import Timeouts
from consona.telemetry.observer import Entry, Stats

__all__ = ["APIServer"]

Info = dict[str, Any]

# A route exists where the program registers it, and nowhere else.
SERVER: Final = ServerSettings(validation_status=400, docs_path="", openapi_path="", health_path="")
# `process_request` hands one request in and one answer out: nothing is repeated, followed, remembered or raised.
IN_PROCESS: Final = ClientSettings(
    raise_for_status=False, max_redirects=0, cookies=False, timeouts=Timeouts(read=None, write=None)
)


class APIServer:
    """Answers HTTP requests by plain functions, each of which gets one dict about the request.

    Handlers run in threads, several at once: what they share needs a lock.

    Args:
        host: Where `start` listens: this machine alone, unless another address is given (`0.0.0.0` is every network).
        port: The port; 0 for any free one.
        name: What the dashboard and the log call it.

    Example:
        >>> server = APIServer("localhost", 0, "hello")
        >>> server.get("/hello/{name}", lambda request_info: "Hello " + request_info["path_params"]["name"])
        >>> server.process_request("GET", "/hello/Ada")["data"]
        'Hello Ada'
    """

    def __init__(self, host: str = "localhost", port: int = 8080, name: str = "api") -> None:
        self.host = host
        self.port = port
        self.name = name
        self._guard = TokenGuard()
        self._server = Server(name, settings=SERVER)
        self._server.secure(self._guard)
        self._server.middleware(_remember)
        self._server.on_error(Exception)(_default_answer)
        self._listener = Listener(self._server, host=host, port=port)
        self._starting = threading.Lock()
        self._start_time, self._began = time.time(), time.monotonic()
        think(f"APIServer {name} for {host}:{port}")

    # What is registered.

    def add_middleware(self, middleware_function: Callable[[Info], Any], description: str = "") -> None:
        """Call a function before each request is answered, in the order in which they were added.

        It gets `request_info`, and returns a dict: with `block` the request ends there (`status_code`, 403 by
        default, and `message` are the answer); `updates` go into `request_info`. None changes nothing.
        """
        function = plain_function(middleware_function, "The middleware")

        async def middleware(request: Request, call_next: CallNext) -> Response:
            info = request_info(request)
            result = await request.serving.threads.run(partial(function, info))
            if result is None:
                return await call_next(request)
            if not isinstance(result, Mapping):
                raise ConfigurationError(f"The middleware {description!r} must return a dict or None.")
            if result.get("block"):
                return _blocked(result)
            info.update(result.get("updates", {}))
            return await call_next(request)

        self._server.middleware(middleware)
        think("Added middleware:", description)

    def register_error_handler(
        self, error_type: type[BaseException], handler_function: Callable[[Any, Info], Mapping[str, Any]]
    ) -> None:
        """Answer errors of this class, and of those that derive from it, by a function.

        It gets the error and `request_info`, and returns a dict with `status_code`, `data` and `headers`.
        """
        given: Any = error_type
        if not (isinstance(given, type) and issubclass(given, BaseException)):
            raise ConfigurationError(f"register_error_handler takes a class of errors, not {given!r}.")
        function = plain_function(handler_function, "The error handler")

        def answer(error: BaseException, request: Request) -> Response:
            return response_of_dict(function(error, request_info(request)), "An error handler")

        self._server.on_error(error_type)(answer)
        think("Registered an error handler for", error_type.__name__)

    def set_token_verifier(self, verify: Verify) -> None:
        """Say which bearer tokens are accepted by routes with `auth_required`. Before that, none is.

        Args:
            verify: Gets the token, and returns `{"valid": True, "user": {…}}` or `{"valid": False}`. The user
                becomes `request_info["user"]`.
        """
        self._guard.verify = plain_function(verify, "The token verifier")

    def route(
        self, method: str, path: str, handler_function: Callable[[Info], Any], auth_required: bool | None = False
    ) -> None:
        """Answer a method on a path by a function: it gets `request_info`, and what it returns is the data.

        Args:
            method: `GET`, `POST`, …
            path: `/posts`, or with parameters: `/posts/{id}`.
            handler_function: It gets `request_info`: `method`, `path`, `path_params`, `headers`, `data`,
                `query_params`, `timestamp`, `ip`, and `user` where a login is required.
            auth_required: Whether a valid token is needed.

        Raises:
            ConfigurationError: The method or path is not well-formed, or the server has been started.
        """
        handler = plain_function(handler_function, "The handler")
        answer = _for_users(handler) if auth_required else _for_everybody(handler)
        answer.__qualname__ = getattr(handler, "__qualname__", answer.__qualname__)
        self._server.route(path, method)(answer)
        think("Registered route:", method.upper(), path)

    def get(self, path: str, handler_function: Callable[[Info], Any], auth_required: bool | None = False) -> None:
        """Answer GET on a path. See `route`."""
        self.route("GET", path, handler_function, auth_required)

    def post(self, path: str, handler_function: Callable[[Info], Any], auth_required: bool | None = False) -> None:
        """Answer POST on a path. See `route`."""
        self.route("POST", path, handler_function, auth_required)

    def put(self, path: str, handler_function: Callable[[Info], Any], auth_required: bool | None = False) -> None:
        """Answer PUT on a path. See `route`."""
        self.route("PUT", path, handler_function, auth_required)

    def delete(self, path: str, handler_function: Callable[[Info], Any], auth_required: bool | None = False) -> None:
        """Answer DELETE on a path. See `route`."""
        self.route("DELETE", path, handler_function, auth_required)

    # Answering.

    def process_request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        query_params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Answer one request as the real server does, without a socket. It need not be started.

        Returns:
            A dict with `status_code`, `data` and `headers`, also for errors.
        """

        async def ask() -> dict[str, Any]:
            async with self._server.test_client(policy=Policy(), settings=IN_PROCESS) as client:
                return response_dict(
                    await client.request(method.upper(), path, headers=headers, json=data, params=query_params)
                )

        think(method.upper(), path)
        return blocking.run(ask())

    def start(self) -> str:
        """Listen, and answer requests in the background until `stop` or the end of the program.

        Returns:
            The address, once it listens: `http://127.0.0.1:8080`. Of a server that listens already, the same.

        Raises:
            PortInUseError: Another program listens there; the error names the next free port.
            ConfigurationError: Two routes answer the same requests, or the host is not one of this machine.
        """
        with self._starting:
            if not self._listener.started:
                blocking.enter(self._listener)
        think(self.name, "listens at", self.url)
        return self.url

    @property
    def url(self) -> str:
        """Where it listens; empty while it does not."""
        return self._listener.url

    def stop(self) -> None:
        """Take no more requests, and wait for those under way. It can be started again."""
        with self._starting:
            blocking.run(self._listener.stop())
        think(self.name, "is stopped")

    # What is told of it.

    def get_server_stats(self) -> dict[str, Any]:
        """What it answered since it was made; blocked requests count as failed ones."""
        stats = blocking.run(_stats(self._server))
        uptime = time.monotonic() - self._began
        return {
            "total_requests": stats.total,
            "successful_requests": stats.succeeded,
            "failed_requests": stats.failed + stats.cancelled,
            "start_time": self._start_time,
            "uptime_seconds": uptime,
            "requests_per_second": stats.total / max(1.0, uptime),
            "success_rate": stats.success_rate * 100,
        }

    def get_request_log(self) -> list[dict[str, Any]]:
        """The last 100 requests, oldest first: names, statuses and times, and no values."""
        return [_log_entry(entry) for entry in blocking.run(_history(self._server))]


# What the real server calls.


async def _remember(request: Request, call_next: CallNext) -> Response:
    """The outermost middleware: what the request is, for all that come after it."""
    request_info(request)["data"] = await read_data(request)
    return await call_next(request)


def _blocked(result: Mapping[str, Any]) -> Response:
    message = result.get("message", "Request blocked by middleware")
    return response_of_dict({"status_code": result.get("status_code", 403), "data": {"error": message}}, "A middleware")


def _for_everybody(handler: Callable[[Info], Any]) -> Callable[..., Any]:
    def answer(request: Request) -> Any:
        return handler(request_info(request))

    return answer


def _for_users(handler: Callable[[Info], Any]) -> Callable[..., Any]:
    def answer(request: Request, user: CurrentUser[Info]) -> Any:
        info = request_info(request)
        info["user"] = user
        return handler(info)

    return answer


async def _default_answer(error: Exception, request: Request) -> Response:
    """What the real server would answer, in the chapter's words."""
    response = request.serving.problem(error, request)
    problem = msgspec.json.decode(response.body)
    message = " ".join(filter(None, (problem.get("detail"), problem.get("hint"))))
    response.body = json_encode({"error": problem["title"], "message": message})
    response.headers["content-type"] = "application/json"
    return response


# Read in the event loop, where nothing changes meanwhile.


async def _stats(server: Server) -> Stats:
    return server.stats


async def _history(server: Server) -> list[Entry]:
    return server.history


def _log_entry(entry: Entry) -> dict[str, Any]:
    status = entry.attributes.get("status", 499)  # without an answer: the client went away, or was cut off
    return {
        "request": {"method": entry.operation, "path": entry.target, "timestamp": entry.at - entry.duration},
        "response": {"status_code": status, "success": entry.success},
        "duration": entry.duration,
    }
