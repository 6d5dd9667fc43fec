"""The client of `api.test_client()`: calls a server in this process, requests and WebSockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from consona.rest.client.api_client import APIClient
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.client.asgi_websocket import ASGIWebSocket, Refused
from consona.rest.client.call import merged
from consona.rest.client.response import Response, api_error
from consona.rest.transport import Request
from consona.telemetry.observer import Operation

__all__ = ["TestClient"]

BASE: Final = "http://testserver"


class TestClient(APIClient):
    """An `APIClient` that calls an ASGI application without a socket, and starts and stops it.

    Args:
        app: The application.
        options: Those of `APIClient`.
    """

    __test__ = False  # it is not one of pytest's

    def __init__(self, app: Any, **options: Any) -> None:
        self._asgi = ASGITransport(app)
        super().__init__(BASE, transport=self._asgi, **options)

    @asynccontextmanager
    async def websocket(
        self, path: str, *, headers: Mapping[str, str] | None = None, subprotocols: Sequence[str] = ()
    ) -> AsyncIterator[ASGIWebSocket]:
        """A WebSocket to `path`, closed at the end of the block.

        Args:
            path: A path below the base, with its query.
            headers: Beside those of the client, its credentials among them.
            subprotocols: Those that are offered.

        Raises:
            APIError: The server answered with HTTP instead: `status` and `problem` say why.

        Example:
            >>> async def test_echo(api: APIServer) -> None:
            ...     async with api.test_client() as client, client.websocket("/echo") as socket:
            ...         await socket.send("hello")
            ...         assert await socket.receive() == "hello"
        """
        self._require_started()
        place = self._base.place(path)
        shown = await self.auth.headers(self._fetch) if self.auth is not None else ()
        sent = merged(merged(self._own_headers, dict(shown)), headers)
        scope = self._asgi.scope_of(Request("GET", place.url, sent))
        del scope["method"]
        scope |= {
            "type": "websocket",
            "scheme": "ws",
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}},
        }
        with Operation(self.observer, self.observer.series("WEBSOCKET", place.target, lasting=True)):
            socket = ASGIWebSocket(self._asgi.app, scope, timeout_s=self.settings.timeouts.read)
            self._asgi.keep(socket.task)
            try:
                await socket.open()
                yield socket
            except Refused as refused:
                answer = Response(refused.status, refused.headers, refused.body, url=place.url)
                raise api_error(answer, retryable=False) from None
            finally:
                await socket.close()
