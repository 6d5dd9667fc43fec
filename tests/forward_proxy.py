"""A proxy as companies run them: leads CONNECT on to the server, and passes plain requests on. It keeps what it sees.

async with ForwardProxy(credentials="ada:pw", tls=True) as proxy:
    ... proxy.url, proxy.url_with("ada:pw") ...
    assert proxy.heads == [b"CONNECT ..."] and secret not in proxy.passed
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from urllib.parse import urlsplit

import certificates


class ForwardProxy:
    def __init__(
        self, credentials: str = "", *, tls: bool = False, leads: dict[str, int] | None = None, **cert
    ) -> None:
        self.heads: list[bytes] = []
        """The heads of the requests that it could read."""
        self.passed = bytearray()
        """All that came from the client through tunnels."""
        self._wanted = base64.b64encode(credentials.encode()) if credentials else b""
        self._context = certificates.server_context(**cert) if tls else None
        self._scheme = "https" if tls else "http"
        self._leads = leads or {}
        """Ports on loopback by the name that they are known by here, as in a company's own name service."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def url_with(self, credentials: str) -> str:
        return f"{self._scheme}://{credentials}@127.0.0.1:{self.port}"

    async def __aenter__(self) -> ForwardProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._one(reader, writer)
        writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self._wanted and b"Proxy-Authorization: Basic " + self._wanted + b"\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        url = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = url.hostname or "", url.port or 80
        there, back = await asyncio.open_connection("127.0.0.1", self._leads.get(host, port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")
        else:  # one exchange, then the end
            kept = [line for line in lines if line and not line.lower().startswith(("proxy-", "connection:"))]
            path = (url.path or "/") + (f"?{url.query}" if url.query else "")
            back.write("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1"))
        try:
            await asyncio.gather(self._pass(reader, back, keep=method == "CONNECT"), self._pass(there, writer))
        finally:
            back.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool = False) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if keep:
                    self.passed += data
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()
