"""The transport over the network with HTTP/2, for servers that have it; with the others it speaks HTTP/1.1.

Which of the two is agreed while TLS begins (ALPN, RFC 7301), so it costs nothing to ask. Names, proxies, TLS and
their errors are those of `AiohttpTransport`, which makes the connections, and carries what is HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
from yarl import URL

from consona.errors import ConnectError
from consona.rest.client.aiohttp_errors import unconnected
from consona.rest.client.aiohttp_transport import (
    NOT_OPEN,
    AiohttpTransport,
    Connector,
    PlainRequest,
    Route,
    connected,
    origin_of,
)
from consona.rest.client.connection_settings import TLS, ConnectionSettings
from consona.rest.client.http2_connection import HTTP2Connection
from consona.rest.transport import Answer, Request

__all__ = ["HTTP2Transport"]


class HTTP2Transport(AiohttpTransport):
    """One HTTP/2 connection to each server that has it, shared by all requests to it.

    Plain `http://` stays HTTP/1.1: without TLS nothing is agreed.

    Example:
        >>> transport = HTTP2Transport(ConnectionSettings(keep_alive=60))
        >>> transport.settings.keep_alive
        60
    """

    def __init__(self, settings: ConnectionSettings | None = None) -> None:
        super().__init__(settings)
        self._shared: dict[str, HTTP2Connection] = {}
        self._under_way: dict[str, asyncio.Future[HTTP2Connection | None]] = {}
        self._without: set[str] = set()
        """The origins that chose HTTP/1.1."""

    def _make_connector(self, **options: Any) -> Connector:
        offer = self.settings.tls_context()  # the user's own says itself what it offers
        if isinstance(self.settings.tls, TLS):
            offer.set_alpn_protocols(["h2", "http/1.1"])
        return _Connector(offer, **options)

    async def close(self) -> None:
        shared, self._shared = list(self._shared.values()), {}
        await asyncio.gather(*(connection.close() for connection in shared))
        await super().close()

    async def send(self, request: Request) -> Answer:
        if self._connector is not None:
            self._check_loop()
        origin = origin_of(request.url)
        while origin.startswith("https:") and origin not in self._without:
            connection = self._shared.get(origin)
            if connection is None or not connection.accepts:
                connection = await self._agreed(origin, request)
            if connection is None:
                break
            try:
                answer = await connection.send(request)
            finally:
                if connection.needs_http1:
                    self._without.add(origin)
            if answer is not None:
                return answer
        return await super().send(request)

    async def _agreed(self, origin: str, request: Request) -> HTTP2Connection | None:
        """A new connection, or that which another request is making; None where the server chose HTTP/1.1."""
        route = self._routes.get(origin) or self._learn(origin)
        try:
            while (flight := self._under_way.get(origin)) is not None:
                await asyncio.wait({flight})
                if not flight.cancelled():
                    return flight.result()
                # Whoever made it was cancelled: the next in line does.
            flight = self._under_way[origin] = asyncio.get_running_loop().create_future()
            try:
                connection = await self._connect(origin, request, route)
            except (aiohttp.ClientError, OSError) as error:
                flight.set_exception(error)
                flight.exception()  # it is raised here too, so nobody need wait for it
                raise
            except BaseException:
                flight.cancel()
                raise
            finally:
                del self._under_way[origin]
            flight.set_result(connection)
            return connection
        except (aiohttp.ClientError, OSError) as error:
            raise unconnected(error, request, route.host, route.proxy) from error

    async def _connect(self, origin: str, request: Request, route: Route) -> HTTP2Connection | None:
        connector = self._connector
        if connector is None:
            raise ConnectError(NOT_OPEN, hint="Open it first; `APIClient` does when it starts.")
        limits = self._timeouts.get(request.timeouts) or self._timeout(request.timeouts)
        await self.gate.enter(route.host, request.timeouts.pool)
        try:
            asking = _AskingForHTTP2(
                "GET",
                URL(origin, encoded=True),
                headers=(),
                loop=self._loop,
                proxy=None if route.proxy is None else route.proxy.url,
                proxy_headers=route.to_tunnel,
            )
            held = await connected(connector, asking, limits)
        finally:
            self.gate.leave(route.host)
        assert held.transport is not None
        tls = held.transport.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != "h2":
            self._without.add(origin)
            held.release()  # the next request to this server finds it
            return None
        connection = HTTP2Connection(held, route.host, self.gate, self.settings.keep_alive)
        self._shared[origin] = connection
        connection.closed.add_done_callback(lambda _: self._forget(origin, connection))
        return connection

    def _forget(self, origin: str, connection: HTTP2Connection) -> None:
        if self._shared.get(origin) is connection:
            del self._shared[origin]


class _AskingForHTTP2(PlainRequest):
    """Only to connect with: it is never sent."""


class _Connector(Connector):
    """Offers HTTP/2 where we ask for it, and not to proxies, which aiohttp speaks HTTP/1.1 with."""

    def __init__(self, offer: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._offer = offer

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        return self._offer if isinstance(req, _AskingForHTTP2) else super()._get_ssl_context(req)
