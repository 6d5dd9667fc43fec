"""uvicorn, as Consona runs it: with limits on every connection, and an end that loses no request.

How it ends, from the moment that it is asked to:

1. `/health/ready` says no, streams of events end, WebSockets are closed with 1012: their clients connect again.
   Where `notice` is given, everything else goes on for so long, for load balancers that ask now and then.
2. It listens no more. Requests under way go on, and each answer is the last of its connection.
3. A connection without a request has a second to send one: a client may have sent it already.
4. Idle connections are closed. After the time to drain, what is left is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final

import uvicorn

from consona.rest.server.certificate import LOOK_EVERY, Certificate
from consona.rest.server.problems import HTTPError
from consona.rest.server.settings import ServerSettings
from consona.rest.server.uvicorn_internals import check_internals

_HTTPProtocol: Any = None
if find_spec("httptools") is not None:  # it is for CPython only; without it, uvicorn's own limits have to do
    check_internals()
    from consona.rest.server.http_protocol import HTTPProtocol as _HTTPProtocol

__all__ = ["Config", "Server"]

GRACE_S: Final = 1.0
"""How long an idle connection may still send a request after the server was asked to stop."""

TICKS: Final = 5
"""uvicorn's ticks (0.1 s) between two looks at the connections."""


class Config(uvicorn.Config):
    """uvicorn's settings for one application.

    Args:
        application: Any ASGI application. An `APIServer`'s own limits hold for its connections.
        drain_s: How long requests under way may go on when it stops.
        wrapped: What is served in its place: the application within something.
        certificate: For TLS; without one, it speaks plain HTTP.
        options: uvicorn's.
    """

    def __init__(
        self,
        application: Any,
        *,
        drain_s: float,
        wrapped: Any = None,
        certificate: Certificate | None = None,
        **options: Any,
    ) -> None:
        settings = getattr(application, "settings", None)
        self.limits: ServerSettings = settings if isinstance(settings, ServerSettings) else ServerSettings()
        self.refused: Callable[[HTTPError], None] = getattr(application, "note_refusal", lambda _: None)
        self.begin_drain: Callable[[], None] = getattr(application, "begin_drain", lambda: None)
        self.certificate = certificate
        super().__init__(
            application if wrapped is None else wrapped,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a stranger's X-Forwarded-For is not to be believed
            timeout_graceful_shutdown=max(1, round(drain_s)),
            http=_HTTPProtocol or "auto",
            ws="websockets-sansio",
            ws_per_message_deflate=getattr(application, "compress_sockets", False),
            ws_max_size=getattr(application, "max_message", 16 * 1024 * 1024),  # uvicorn's own
            **options,
        )

    def load(self) -> None:
        super().load()
        if self.certificate is not None:
            self.ssl = self.certificate.context


class Server(uvicorn.Server):
    """One uvicorn. `listens` is set when the first request can come."""

    config: Config

    def __init__(self, config: Config, *, notice_s: float = 0.0) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()
        self.notice_s = notice_s
        self._waiting: dict[Any, tuple[int, float]] = {}
        """Connections whose client has to take something: how many bytes wait, and since when just as many."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it, and with times within which TLS has to be agreed on and ended."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise SystemExit(1)
        times: dict[str, Any] = {}
        if self.config.ssl is not None:
            times = {"ssl_handshake_timeout": self.config.limits.head_timeout, "ssl_shutdown_timeout": GRACE_S}
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                self._protocol, sock=each, ssl=self.config.ssl, backlog=self.config.backlog, **times
            )
            for each in sockets or []
        ]
        self.started = True
        self.listens.set()

    async def on_tick(self, counter: int) -> bool:
        if self.config.certificate is not None and counter % LOOK_EVERY == 0:
            self.config.certificate.renew()
        if counter % TICKS == 0:
            self.look()
        return await super().on_tick(counter)

    def look(self) -> None:
        """Cut connections that take too long."""
        now = asyncio.get_running_loop().time()
        waiting = {}
        for connection in list(self.server_state.connections):
            size = connection.transport.get_write_buffer_size()
            if size:
                before, since = self._waiting.get(connection, (0, now))
                if size != before:
                    since = now
                elif now - since > self.config.limits.stall_timeout:
                    connection.transport.abort()
                    continue
                waiting[connection] = (size, since)
        self._waiting = waiting
        for own in self._own():
            own.look(now)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.begin_drain()
        await self._wait(lambda: False, max(0.0, self.notice_s))
        await self._stop_listening(sockets or [])
        for own in self._own():
            own.answer_once()
        await self._wait(lambda: not any(own.is_idle for own in self._own()), GRACE_S)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _stop_listening(self, sockets: Sequence[socket.socket]) -> None:
        """Close the sockets, and take on who waited there: their clients have sent something, or are about to."""
        copies = [] if sys.platform == "win32" else [each.dup() for each in sockets]
        for server in self.servers:
            server.close()
        waiting = []
        for copy in copies:
            copy.settimeout(0)
            with contextlib.suppress(OSError):  # until there is nobody left
                while True:
                    waiting.append(copy.accept()[0])
            copy.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it."""
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return protocol

    def _own(self) -> list[Any]:
        if _HTTPProtocol is None:  # pragma: no cover
            return []
        return [each for each in self.server_state.connections if isinstance(each, _HTTPProtocol)]

    async def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        """Serve on until it is done, or the time is over, or somebody is in a hurry."""
        end = time.monotonic() + seconds
        await asyncio.sleep(0)  # whatever was begun, begins: WebSockets are told why before they are ended
        while not done() and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.02)
            self.look()
