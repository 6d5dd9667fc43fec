"""The transport over the network: HTTP/1.1 by aiohttp, with TLS, proxies and a pool of connections.

What is ours here is what a retry must be able to trust: an error says `ConnectError` only when no byte
was sent, and nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import set_result
from multidict import CIMultiDict
from yarl import URL

from consona.errors import ConfigurationError, ConnectError, DeadlineExceeded
from consona.rest.client.aiohttp_errors import alert_in, shown, translated, unconnected, untrusted
from consona.rest.client.connection_gate import ConnectionGate
from consona.rest.client.connection_settings import ConnectionSettings
from consona.rest.client.proxies import Proxies, Proxy
from consona.rest.client.tls_errors import Reason
from consona.rest.transport import Answer, Request, Timeouts

__all__ = ["AiohttpTransport", "Connector", "PlainRequest", "Route", "connected", "origin_of"]

PIECE_BYTES: Final = 64 * 1024
HTTP_1_1: Final = (1, 1)
CONTINUE_S: Final = 1.0
"""How long a body with `Expect: 100-continue` waits for the server's word: many never give it (RFC 9110, 10.1.1)."""
LAST_WORDS_S: Final = 0.1
PROXY_AUTHENTICATION_REQUIRED: Final = 407
NOT_OPEN: Final = "The transport is not open."
NO_CONTENT_TYPE: Final[CIMultiDict[None]] = CIMultiDict({hdrs.CONTENT_TYPE: None})


class PlainRequest(aiohttp.ClientRequest):
    """Sends the headers that it is given, and none of aiohttp's own."""

    def update_headers(self, headers: Any) -> None:
        self.headers = CIMultiDict(headers)
        if hdrs.HOST not in self.headers:
            self.headers[hdrs.HOST] = self.url.host_port_subcomponent or ""

    async def write_bytes(self, writer: Any, conn: Any, content_length: int | None = None) -> None:
        asked = self._continue
        if asked is None:
            return await super().write_bytes(writer, conn, content_length)
        timer = self.loop.call_later(CONTINUE_S, functools.partial(set_result, asked, result=True))
        try:
            await super().write_bytes(writer, conn, content_length)
        finally:
            timer.cancel()

    def update_auto_headers(self, skip_auto_headers: Any) -> None:  # noqa: ARG002 aiohttp's signature
        self._skip_auto_headers = NO_CONTENT_TYPE


class Connector(aiohttp.TCPConnector):
    """Tells a proxy from a server: who is trusted as the one is not yet trusted as the other."""

    def __init__(self, *, to_proxies: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(**options)
        self._to_proxies = to_proxies

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        if isinstance(req, PlainRequest):
            return super()._get_ssl_context(req)
        return self._to_proxies if req.is_ssl() else None  # aiohttp's own, which opens the way to the proxy


class AiohttpTransport:
    """The transport that `APIClient` uses unless it is given another.

    aiohttp's connector, request and answer are used without its session, which would follow redirects, keep
    cookies, and send GET, PUT, DELETE and so on a second time by itself when a reused connection breaks. All that
    is decided above, by the policy; and a request takes two thirds of the time.

    Example:
        >>> transport = AiohttpTransport(ConnectionSettings(connections=20))
        >>> transport.settings.connections
        20
    """

    def __init__(self, settings: ConnectionSettings | None = None) -> None:
        self.settings = settings or ConnectionSettings()
        self.gate = ConnectionGate(self.settings.connections, self.settings.per_host)
        self._connector: aiohttp.TCPConnector | None = None
        self._timeouts: dict[Timeouts, aiohttp.ClientTimeout] = {}
        self._routes: dict[str, Route] = {}

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._routes.clear()
        self._proxies = Proxies(self.settings.proxy)
        self._connector = self._make_connector(
            to_proxies=self.settings.proxy_tls_context() if self._proxies.speak_tls else None,
            ssl=self.settings.tls_context(),
            limit=0,  # our gate counts, so that waiting for a place and connecting are told apart
            keepalive_timeout=self.settings.keep_alive,
            socket_factory=self._allowed_socket if self.settings.allow is not None else None,
        )

    def _make_connector(self, **options: Any) -> Connector:
        return Connector(**options)

    async def close(self) -> None:
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()

    async def send(self, request: Request) -> Answer:
        connector = self._connector
        if connector is None:
            raise ConnectError(NOT_OPEN, hint="Open it first; `APIClient` does when it starts.")
        self._check_loop()
        origin = origin_of(request.url)
        route = self._routes.get(origin) or self._learn(origin)
        host = route.host
        if not self.gate.try_enter(host):
            await self.gate.enter(host, request.timeouts.pool)
        try:
            body = request.body
            if body is None or (type(body) is bytes and len(body) <= PIECE_BYTES):
                response = await self._exchange(connector, request, request.headers, body, route)
            else:
                response = await self._upload(connector, request, route)
        except BaseException as error:
            self.gate.leave(host)
            if isinstance(error, aiohttp.ClientError | OSError | ValueError):
                raise translated(error, request, host, proxy=route.proxy is not None) from error
            raise
        return _AiohttpAnswer(response, self.gate, host, request)

    async def _exchange(
        self, connector: aiohttp.TCPConnector, request: Request, headers: Any, body: Any, route: Route
    ) -> aiohttp.ClientResponse:
        timeout = self._timeouts.get(request.timeouts) or self._timeout(request.timeouts)
        sent = PlainRequest(
            request.method,
            URL(request.url, encoded=True),  # the front has encoded it; another round would change what was meant
            headers=[*headers, *route.added] if route.added else headers,
            data=body,
            loop=self._loop,
            proxy=None if route.proxy is None else route.proxy.url,
            proxy_headers=route.to_tunnel,
        )
        try:
            connection = await connected(connector, sent, timeout)
        except (aiohttp.ClientError, OSError) as error:
            raise unconnected(error, request, route.host, route.proxy) from error
        protocol = connection.protocol
        assert protocol is not None
        try:
            protocol.set_response_params(
                timer=sent._timer,
                skip_payload=request.method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_timeout=timeout.sock_read,
                read_bufsize=PIECE_BYTES,
            )
            response = await sent.send(connection)
            try:
                await response.start(connection)
                if response.status == PROXY_AUTHENTICATION_REQUIRED and route.proxy is not None:
                    raise ConnectError(  # it did not go on to the server (RFC 9110, section 15.5.8)
                        f"{request.method} {shown(request.url)}: the proxy {route.proxy} wants other credentials.",
                        hint='ConnectionSettings(proxy="http://user:password@…").',
                        retryable=False,
                        host=route.host,
                    )
                return response
            except BaseException:
                response.close()
                raise
        except BaseException as error:
            connection.close()
            if isinstance(error, aiohttp.ClientOSError) and (alert := await _last_words(protocol)):
                raise untrusted(f"{request.method} {shown(request.url)}", route.host, alert) from error
            raise

    async def _upload(self, connector: aiohttp.TCPConnector, request: Request, route: Route) -> aiohttp.ClientResponse:
        """Send a body in pieces, so that a server which stops reading is noticed."""
        body = request.body
        headers: Sequence[tuple[str, str]] = request.headers
        if isinstance(body, bytes):
            headers = [*headers, ("Content-Length", str(len(body)))]
            body = _pieces(body)
        assert body is not None
        limit = request.timeouts.write
        source = _Source(body, limit)
        try:
            async with asyncio.timeout(None) as source.timeout:
                return await self._exchange(connector, request, headers, source, route)
        except TimeoutError as error:
            if source.timeout is not None and source.timeout.expired():
                raise DeadlineExceeded(
                    f"{request.method} {shown(request.url)}: the server took nothing of the body for {limit:g} s.",
                    phase="write",
                    seconds=limit,
                ) from error
            raise
        except aiohttp.ClientError:
            if source.error is not None:  # the caller's own iterator failed: that is what must be seen
                raise source.error from None
            raise
        finally:
            source.timeout = None

    def _check_loop(self) -> None:
        """Tell it here: what would happen else is a hang, or an error of asyncio's from somewhere deep."""
        if asyncio.get_running_loop() is not self._loop:
            raise ConfigurationError(
                "The client was started in another event loop.", hint="Make one of its own for each loop and thread."
            )

    def _allowed_socket(self, address: Any) -> socket.socket:
        """A socket for one resolved address: the last moment before it is connected to."""
        family, kind, protocol, _, (host, *_) = address
        assert self.settings.allow is not None
        if not self.settings.allow(host):
            raise ConnectionRefusedError(None, f"the address {host} is not allowed")
        return socket.socket(family, kind, protocol)

    def _timeout(self, timeouts: Timeouts) -> aiohttp.ClientTimeout:
        if len(self._timeouts) > 100:
            self._timeouts.clear()
        made = aiohttp.ClientTimeout(total=None, connect=timeouts.connect, sock_read=timeouts.read)
        self._timeouts[timeouts] = made
        return made

    def _learn(self, origin: str) -> Route:
        """What is the same for all requests to an origin."""
        if len(self._routes) > 1000:
            self._routes.clear()
        host = origin.partition("://")[2]
        proxy = self._proxies.to(origin)
        if proxy is None:
            route = Route(host)
        elif origin.startswith("https:"):  # then the proxy sees CONNECT alone, and the request is not for its eyes
            route = Route(host, proxy, to_tunnel=proxy.headers)
        else:
            route = Route(host, proxy, added=tuple(proxy.headers.items()))
        self._routes[origin] = route
        return route


class Route(NamedTuple):
    host: str
    proxy: Proxy | None = None
    to_tunnel: dict[str, str] | None = None
    """Headers of the request that opens a tunnel."""
    added: Sequence[tuple[str, str]] = ()
    """Headers of the request itself, where the proxy reads that."""


class _AiohttpAnswer:
    __slots__ = ("_gate", "_host", "_request", "_response", "status")

    def __init__(self, response: aiohttp.ClientResponse, gate: ConnectionGate, host: str, request: Request) -> None:
        self._response = response
        self._gate: ConnectionGate | None = gate
        self._host = host
        self._request = request
        self.status = response.status

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return self._response.raw_headers

    @property
    def http_version(self) -> str:
        version = self._response.version
        return "1.1" if version is None or version == HTTP_1_1 else f"{version.major}.{version.minor}"

    async def chunk(self) -> bytes:
        content = self._response.content
        if content.at_eof() and content.exception() is None:
            self._leave()
            return b""
        if content._buffer and content.exception() is not None:
            return content._read_nowait(-1)  # what came before the line broke; aiohttp would raise first
        try:
            data = await content.readany()
        except (aiohttp.ClientError, OSError) as error:
            await self.close()
            raise translated(error, self._request, self._host, proxy=False) from error
        if not data:
            self._leave()
        return data

    async def close(self) -> None:
        self._response.close()  # ends the connection, unless the body is read: then that has gone back already
        self._leave()

    def _leave(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave(self._host)


class _Source:
    """The body on its way: times how long the server takes for each piece, and keeps the iterator's own error."""

    def __init__(self, body: AsyncIterator[bytes], limit_s: float | None) -> None:
        self.timeout: asyncio.Timeout | None = None
        self.error: Exception | None = None
        self._body = body
        self._limit_s = limit_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        try:
            async for piece in self._body:
                if not piece:
                    continue
                if self._limit_s is not None and self.timeout is not None:
                    self.timeout.reschedule(loop.time() + self._limit_s)
                yield piece
                if self.timeout is not None and not self.timeout.expired():
                    self.timeout.reschedule(None)
        except Exception as error:
            self.error = error
            raise


async def _last_words(protocol: ResponseHandler) -> Reason | None:
    """What the server said of our certificate, where an upload failed before the reason for that was known.

    The end of a connection is told a turn of the loop after writing to it has become impossible.
    """
    ended = protocol.closed
    if ended is None:
        return None
    ended.add_done_callback(asyncio.Future.exception)  # it is looked at, whenever it comes
    await asyncio.wait({ended}, timeout=LAST_WORDS_S)
    return alert_in(ended.exception()) if ended.done() else None


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


async def connected(
    connector: aiohttp.TCPConnector, request: aiohttp.ClientRequest, limits: aiohttp.ClientTimeout
) -> aiohttp.connector.Connection:
    """A connection, new or kept.

    On a kept one nothing may have come since its last answer: an answer that nobody asked for would be taken for that
    to the next request, and aiohttp looks no more once the connection has gone back.
    """
    try:
        while True:
            connection = await connector.connect(request, traces=[], timeout=limits)
            protocol = connection.protocol
            assert protocol is not None
            if protocol._parser is None or not protocol.should_close:  # no parser yet: it is new
                return connection
            connection.close()
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError from error


def origin_of(url: str) -> str:
    """`https://api.example.com`, from an absolute URL."""
    end = url.find("/", 8)
    return url if end < 0 else url[:end]
