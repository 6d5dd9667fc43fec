"""The REST client: typed answers, credentials, retries that are safe, and a record of what it did.

    async with APIClient("https://api.example.com/v1", auth=Bearer(token)) as api:
        user = await api.get("/users/me", into=User)
        reply = await api.post("/posts", json=NewPost(title="Hello"))
        async for post in api.pages("/posts", into=Post): ...

Paths are resolved against the base (`url.py`); credentials, cookies, the headers of the
constructor, baggage and deadline go to the base's origin alone. What goes wrong is in `errors.py`
and `rest/client/errors.py`, what is sent again in `safe_retry.py`.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import math
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar, Unpack, overload

from consona.address import adapter_for
from consona.errors import ConfigurationError
from consona.part import Health, Part, Status
from consona.resilience.deadline import Within, within
from consona.resilience.policy import Policy, Runner
from consona.resilience.retry import Retry
from consona.rest.caching.transport import CachingTransport, HTTPCache
from consona.rest.client.authentication import Authentication, Pairs
from consona.rest.client.body import Payload, no_payload, payload_of
from consona.rest.client.call import REPEAT, Call, merged
from consona.rest.client.client_settings import ClientSettings
from consona.rest.client.connection_settings import ConnectionSettings
from consona.rest.client.content_decoding import ACCEPT_ENCODING
from consona.rest.client.cookies import CookieJar
from consona.rest.client.download import Downloaded, download
from consona.rest.client.history import describe
from consona.rest.client.pages import LinkPages, PageStyle, walk
from consona.rest.client.response import Response, ResponseStream
from consona.rest.client.safe_retry import IDEMPOTENT
from consona.rest.client.url import Base, with_params
from consona.rest.client.verbs import CallOptions, Verbs
from consona.rest.transport import Request, Transport

__all__ = ["DEFAULT_POLICY", "REPEAT", "APIClient", "CallOptions", "ClientSettings"]

T = TypeVar("T")

OPTIONS: Final = frozenset(CallOptions.__annotations__)
KNOWN: Final = IDEMPOTENT | {"POST", "PATCH"}
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")
DEFAULT_POLICY: Final = Policy(timeout=30.0, retry=Retry(attempts=3))


StatusHandler = Callable[[Response], Any]
RequestHook = Callable[[Request], Awaitable[None] | None]
ResponseHook = Callable[[Response], Awaitable[None] | None]


class APIClient(Part, Verbs):
    """A client of one HTTP API.

    Args:
        base: The URL that paths are resolved against.
        auth: `Bearer`, `APIKey`, `Basic`, `ClientCredentials`, or your own (see `Authentication`).
        policy: Timeout, retries, breaker, limits; by default 30 seconds and three tries. A `Runner` (a policy
            that is bound already) shares its memory between clients.
        headers: Headers of every request to the base's origin.
        name: What the dashboard calls it; by default the host.
        connections: How many, through which proxy, trusting whom.
        transport: What carries the requests instead of the network: `ASGITransport(app)`.
        cache: Where answers are kept that need not be asked for again: an `HTTPCache`, or the address of one.
        settings: Times, limits, and what is seldom changed.

    Raises:
        ConfigurationError: The base is no http:// or https:// URL, or a header cannot be sent.

    Example:
        >>> api = APIClient("https://api.example.com/v1", headers={"X-Shop": "7"})
        >>> api.name, api.started
        ('api.example.com', False)
    """

    kind = "rest.client"

    def __init__(
        self,
        base: str,
        *,
        auth: Authentication | None = None,
        policy: Policy | Runner | None = None,
        headers: Mapping[str, str] | None = None,
        name: str = "",
        connections: ConnectionSettings | None = None,
        transport: Transport | None = None,
        cache: HTTPCache | str | None = None,
        settings: ClientSettings | None = None,
    ) -> None:
        self._base = Base(base)
        super().__init__(name or self._base.name)
        self.base = self._base.origin + self._base.path
        self.auth = auth
        self.settings = settings or ClientSettings()
        if transport is not None and connections is not None:
            raise ConfigurationError(
                "APIClient takes `connections=` or `transport=`, not both.", hint="A transport connects in its own way."
            )
        self._connections = connections
        self._given = transport
        self._transport: Transport
        self.cache = HTTPCache(cache) if isinstance(cache, str) else cache
        self._caching: CachingTransport | None = None
        policy = DEFAULT_POLICY if policy is None else policy
        self._runner = policy if isinstance(policy, Runner) else policy.bind(self.name)
        self.cookies = CookieJar() if self.settings.cookies else None
        self._foreign_headers = [
            ("Accept", "application/json, */*;q=0.5"),
            ("Accept-Encoding", ACCEPT_ENCODING),
            ("User-Agent", _user_agent()),
        ]
        self._fixed_auth: Pairs = getattr(auth, "fixed", None) or ()
        self._own_headers = merged(merged(self._foreign_headers, headers), dict(self._fixed_auth))
        self._changing_auth = None if self._fixed_auth else auth
        self._handlers: dict[int, StatusHandler] = {}
        self._request_hooks: list[RequestHook] = []
        self._response_hooks: list[ResponseHook] = []

    async def _open(self) -> None:
        transport = self._given
        if transport is None:
            port = "http2" if self._connections is not None and self._connections.http2 else "http"
            made: Transport = adapter_for(port, self._base.origin)(self._connections)
            transport = made
        if self.cache is not None:
            transport = self._caching = CachingTransport(
                transport, self.cache, credentials=[name for name, _ in self._fixed_auth]
            )
        await transport.open()
        self._transport = transport

    async def _close(self) -> None:
        await self._transport.close()

    # Calls.

    @overload
    async def request(self, method: str, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    @overload
    async def request(
        self, method: str, path: str, *, into: None = None, **options: Unpack[CallOptions]
    ) -> Response: ...
    async def request(self, method: str, path: str, *, into: Any = None, **options: Unpack[CallOptions]) -> Any:
        """Send a request and wait for its whole answer.

        Args:
            method: `GET`, `POST`, …
            path: A path below the base, or an absolute URL (which gets no credentials if it is elsewhere).
            into: A type to decode the JSON answer into; without one, a `Response` is returned.
            options: See `CallOptions`.

        Raises:
            APIError: The answer's status is 400 or above, and no handler took care of it.
            ConnectError: The server could not be reached; nothing was sent.
            ConnectionLost: The connection broke, and it was not safe, or no use, to try again.
            DeadlineExceeded: The time was over.
            CircuitOpen, BulkheadFull, RateLimited: The policy refused it.
            BadAnswer, AnswerTooLarge, TooManyRedirects: The answer cannot be used.
            InvalidAnswer: The answer does not fit `into`.
        """
        return await self._call(method, path, into, options)

    async def _call(self, method: str, path: str, into: Any, options: CallOptions) -> Any:
        self._require_started()
        call = self._prepare(method, path, options)
        with self.observer.operation(call.method, options.get("name") or call.place.target) as op:
            raising = into is not None or options.get("raise_for_status", self.settings.raise_for_status)
            response, answered = await call.perform(op, raising=raising)
            if answered is not None:
                return answered
            return response if into is None else response.json(into=into)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, total: float | None = None, **options: Unpack[CallOptions]
    ) -> AsyncIterator[ResponseStream]:
        """Send a request and read its answer piece by piece, no faster than it is used.

            async with api.stream("GET", "/export.csv", total=60) as answer:
                async for line in answer.lines(): ...

        The timeout counts until the head of the answer; after that, `Timeouts.read` bounds each piece. Errors by
        status are as in `request`; a handler may repeat or raise, and its answer is not used.

        Args:
            method: `GET`, `POST`, …
            path: As in `request`.
            total: Seconds for everything, the block included: then it is interrupted, and raises `DeadlineExceeded`.
            options: See `CallOptions`.
        """
        self._require_started()
        call = self._prepare(method, path, options, streaming=True)
        with self.observer.operation(call.method, options.get("name") or call.place.target) as op:
            async with _at_most(total):
                head, _ = await call.perform(op, raising=True)
                if call.opened is None:  # a redirect that is not followed: its body came with it
                    raise ConfigurationError("A redirect cannot be streamed.", hint="Allow `max_redirects`.")
                answer, decoder = call.opened
                stream = ResponseStream(head, answer, decoder)
                try:
                    yield stream
                finally:
                    op.set(bytes=stream.bytes_read)
                    await answer.close()

    async def download(
        self,
        path: str,
        *,
        to: str | Path,
        resume: bool = False,
        total: float | None = None,
        **options: Unpack[CallOptions],
    ) -> Downloaded:
        """Fetch a file of any size. It appears under its name when it is whole, and not before.

        What comes is written beside it, in a thread. When the connection breaks, the download goes on where it
        stopped, as often as the policy's `retry` allows without anything new in between; it begins anew where the
        server cannot tell that its file is still the same.

        Args:
            path: A path below the base, or an absolute URL.
            to: The file. One that is there is replaced.
            resume: Whether a download that failed leaves its part (`NAME.part`), and the next one goes on with it.
            total: Seconds for all of it; by default there is no limit beside `Timeouts.read`.
            options: See `CallOptions`; `progress` gets what is in the file, and `timeout` counts until the head of
                each answer.

        Raises:
            FileNotWritten: The disk is full, or the file may not be written. No half file is left.
            ConnectionLost, DeadlineExceeded: The line broke too often, or was silent for too long.
            BadAnswer: What came is not as long as the server had said.
            APIError: As in `request`.
        """
        progress = options.pop("progress", None)
        async with _at_most(total):
            return await download(self, path, to, resume=resume, progress=progress, options=options)

    @overload
    def pages(
        self,
        path: str,
        *,
        into: type[T],
        style: PageStyle | None = None,
        max_pages: int = 10_000,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[T]: ...
    @overload
    def pages(
        self,
        path: str,
        *,
        into: None = None,
        style: PageStyle | None = None,
        max_pages: int = 10_000,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[Any]: ...
    def pages(
        self,
        path: str,
        *,
        into: Any = None,
        style: PageStyle | None = None,
        max_pages: int = 10_000,
        **options: Unpack[CallOptions],
    ) -> AsyncIterator[Any]:
        """Every item of a list that comes in pages; each page is a call of its own, made when it is needed.

        Args:
            path: The list.
            into: The type of one item.
            style: `LinkPages` (the default), `CursorPages`, `PageNumbers`, `OffsetPages`, or your own.
            max_pages: More pages than this are taken for a circle.
            options: See `CallOptions`. A page that is elsewhere gets no credentials.

        Raises:
            BadAnswer: A page is not what the style says.
            TooManyRedirects: The server leads in circles.
        """
        given = options.pop("params", None)
        base = dict(given.items() if isinstance(given, Mapping) else given or ())
        here = ""

        async def ask(wanted: str | dict[str, Any]) -> Response:
            nonlocal here
            if isinstance(wanted, str):
                response = await self.request("GET", self._base.follow(here, wanted).url, **options)
            else:
                options["params"] = {**base, **wanted}
                response = await self.request("GET", path, **options)
                del options["params"]
            here = response.url
            return response

        return walk(ask, style or LinkPages(), Any if into is None else into, max_pages=max_pages)

    # What is told to the client.

    @overload
    def on_status(self, *statuses: int) -> Callable[[StatusHandler], StatusHandler]: ...
    @overload
    def on_status(self, status: int, handler: StatusHandler, /) -> StatusHandler: ...
    def on_status(self, *arguments: Any) -> Any:
        """Let a function (plain or async) take care of answers with a status of 400 and above.

            api.on_status(401, refresh)

            @api.on_status(404, 410)
            def missing(response): return NOTHING

        It runs after the policy's retries and gets the `Response`. What it returns decides:

        - `REPEAT`: the request is sent once more (once a call; after that the error is raised);
        - a `Response`: the call goes on with it, as if it had come from the server;
        - None: it only looked; the error is raised;
        - anything else: it is the call's result, as it is.

        What it raises is raised to the caller. The call counts as failed unless the last answer was below 400.
        """
        *statuses, handler = arguments if callable(arguments[-1]) else (*arguments, None)
        for status in statuses:
            if not isinstance(status, int) or not 400 <= status <= 599:
                raise ConfigurationError(f"on_status({status!r}): a status from 400 to 599.")

        def register(function: StatusHandler) -> StatusHandler:
            self._handlers.update(dict.fromkeys(statuses, function))
            return function

        return register if handler is None else register(handler)

    def on_request(self, hook: RequestHook) -> RequestHook:
        """Call a function (plain or async) with each request before it goes out, every try and redirect of it.

        The request is the transport's own: `method`, `url`, `headers` (a list of pairs that may be changed), `body`.
        What the hook raises ends the call.
        """
        self._request_hooks.append(hook)
        return hook

    def on_response(self, hook: ResponseHook) -> ResponseHook:
        """Call a function (plain or async) with each answer that comes, also those that are tried again."""
        self._response_hooks.append(hook)
        return hook

    # What is told of it.

    def detail(self) -> dict[str, Any]:
        """The base, how the policy stands for each host, and what the cache did."""
        known = {"base": self.base, "policy": self._runner.state()}
        return known if self.cache is None else {**known, "cache": self.cache.detail()}

    async def check(self) -> Health:
        """Down when it is not started or the base's circuit is open; nothing is sent, since every call tells."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        lane = self._runner.state()["keys"].get(self._base.origin, {})
        circuit = lane.get("breaker", {}).get("state", "closed")
        if circuit == "open":
            return Health(Status.DOWN, "its circuit is open: the server failed too often", {"circuit": circuit})
        if circuit == "half_open":
            return Health(Status.DEGRADED, "its circuit is being tried", {"circuit": circuit})
        return Health(Status.UP)

    # One call.

    def _prepare(self, method: str, path: str, options: CallOptions, *, streaming: bool = False) -> Call:
        if method not in KNOWN:
            method = method.upper()
            if not _METHOD.fullmatch(method):
                raise ConfigurationError(f"{method!r} cannot be the method of a request.", hint='"GET", "POST", …')
        place = self._base.place(path)
        if not options:
            headers = self._own_headers if place.own else self._foreign_headers
            return Call(
                self,
                method,
                place,
                place.url,
                headers,
                no_payload,
                safe=method in IDEMPOTENT,
                timeout=self._runner.policy.timeout,
                streaming=streaming,
            )
        if not OPTIONS.issuperset(options):
            unknown = next(name for name in options if name not in OPTIONS)
            near = difflib.get_close_matches(unknown, OPTIONS, 1)
            raise ConfigurationError(
                f"A call takes no {unknown!r}.",
                hint=f"Did you mean `{near[0]}=`?" if near else f"There are: {', '.join(sorted(OPTIONS))}.",
            )
        payload = no_payload
        json, data, content = options.get("json"), options.get("data"), options.get("content")
        files = options.get("files")
        if json is not None or data is not None or content is not None or files is not None:
            payload = payload_of(json, data, content, files)
        given = options.get("headers")
        headers = self._own_headers if place.own else self._foreign_headers
        if given:
            headers = merged(headers, given)
        if payload.content_type and not (given and "content-type" in (name.lower() for name in given)):
            headers = [pair for pair in headers if pair[0].lower() != "content-type"]  # the client's own may be another
            headers.append(("Content-Type", payload.content_type))
        timeout = options.get("timeout")
        safe = method in IDEMPOTENT
        if not safe and options.get("idempotent", self.settings.idempotent):
            safe = True
            if not (given and "idempotency-key" in (name.lower() for name in given)):
                headers = [*headers, ("Idempotency-Key", str(uuid.uuid4()))]
        call = Call(
            self,
            method,
            place,
            with_params(place.url, options.get("params")),
            headers,
            payload,
            safe=safe and payload.repeatable,
            timeout=self._runner.policy.timeout if timeout is None else None if timeout == math.inf else timeout,
            streaming=streaming,
        )
        call.progress = options.get("progress")
        return call

    async def _fetch(self, method: str, url: str, headers: Pairs, body: bytes) -> Response:
        """What credentials are fetched with: under the policy, never redirected, and without credentials of ours."""
        place = self._base.place(url)
        call = Call(
            self,
            method,
            place,
            place.url,
            [*self._foreign_headers, *headers],
            Payload(body),
            safe=True,
            timeout=self._runner.policy.timeout,
        )
        call.max_redirects = 0
        with self.observer.operation(method, place.target) as op:
            response = await call.exchange()
            op.set(**describe(call, response))
            if response.status >= 300:
                op.fail(f"api.{response.status}")
                raise call.error_for(response)
            return response


def _at_most(seconds: float | None) -> Within | nullcontext[None]:
    return nullcontext() if seconds is None else within(seconds)


@functools.cache
def _user_agent() -> str:
    return f"consona/{importlib.metadata.version('consona')}"
