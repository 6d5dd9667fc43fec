"""A server at an address of this machine, served by the running event loop.

    async with Listener(api, port=8080) as listener:
        print(listener.url)

For one process that does other things too: a script, a notebook, a test. A program that only serves
is run with `consona run`, which adds signals, several processes and a log of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

from consona.part import Part
from consona.rest.server.api_server import APIServer
from consona.rest.server.listen import listen_tcp, url_of
from consona.rest.server.uvicorn_server import Config, Server

__all__ = ["Listener"]


class _Server(Server):
    """uvicorn, that leaves the program's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener(Part):
    """Serves an `APIServer` at a TCP port; starting it starts the server, stopping it drains and stops it.

    Args:
        api: What answers.
        host: The address to listen on: by default this machine alone; `0.0.0.0` for every network.
        port: 0 for any free one; `url` then says which.

    Raises:
        PortInUseError: On start, when another program listens there; it names the next free port.
        ConfigurationError: On start, when the host is not one of this machine, or the port needs other rights.

    Example:
        >>> async def main() -> None:
        ...     async with Listener(APIServer("hello"), port=0) as listener:
        ...         print(listener.url.startswith("http://127.0.0.1:"))
        >>> asyncio.run(main())
        True
    """

    kind = "rest.listener"

    def __init__(self, api: APIServer, *, host: str = "127.0.0.1", port: int = 8000) -> None:
        super().__init__(f"{api.name} listener")
        self.api = api
        self.host = host
        self.port = port
        self.url = ""
        """Where it listens, such as `http://127.0.0.1:8000`; empty while it does not."""
        self._server: _Server
        self._serving: asyncio.Task[None]

    async def _open(self) -> None:
        socket = listen_tcp(self.host, self.port)
        try:
            await self.api.start()
        except BaseException:
            socket.close()
            raise
        # The API is started here, not by the server's lifespan, so that its errors are raised here.
        self._server = _Server(Config(self.api, drain_s=self.api.settings.drain, lifespan="off"))
        self.url = url_of(socket)
        # A context of its own: what serves everybody has no part in the deadline or trace of who started it.
        self._serving = asyncio.get_running_loop().create_task(
            self._server.serve(sockets=[socket]), name=self.name, context=Context()
        )
        listens = asyncio.ensure_future(self._server.listens.wait())
        try:
            await asyncio.wait({listens, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._close()
            raise
        finally:
            listens.cancel()
        if self._serving.done():
            await self._close()  # raises what ended it

    async def _close(self) -> None:
        self.url = ""
        self._server.should_exit = True
        try:
            await asyncio.wait({self._serving})
        finally:
            await self.api.stop()
        self._serving.result()

    def detail(self) -> dict[str, Any]:
        """Where it listens, and how many connections are open."""
        return {"url": self.url, "connections": len(self._server.server_state.connections) if self.url else 0}
