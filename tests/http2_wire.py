"""An HTTP/2 server that does to each request what it is told, frame by frame, and keeps what came.

async with HTTP2Wire(answered(b"{}"), refused) as wire:      # the first request, the second, …; the last one goes on
    ... wire.url ...
    assert [seen.method for seen in wire.seen] == ["GET", "GET"]
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

import certificates
import wire

__all__ = ["Asked", "HTTP2Wire", "answered", "refused", "silent"]


class Asked:
    """A request as it comes, and the way to its answer."""

    def __init__(self, server: HTTP2Wire, connection: Connection, event: events.RequestReceived) -> None:
        self.server = server
        self.connection = connection
        self.id: int = event.stream_id
        self.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        self.method = self.headers[":method"]
        self.body = b""
        self.whole = asyncio.Event()
        self.reset: int | None = None
        self.over = asyncio.Event()

    def head(self, status: int = 200, headers: tuple[tuple[str, str], ...] = (), *, end: bool = False) -> None:
        self.connection.h2.send_headers(self.id, [(":status", str(status)), *headers], end_stream=end)
        self.connection.flush()

    def data(self, data: bytes, *, end: bool = False) -> None:
        self.connection.h2.send_data(self.id, data, end_stream=end)
        self.connection.flush()

    def break_off(self, code: ErrorCodes) -> None:
        self.connection.h2.reset_stream(self.id, code)
        self.connection.flush()


Deed = Callable[[Asked], Awaitable[None]]


class Connection:
    def __init__(self, server: HTTP2Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.goaway: events.ConnectionTerminated | None = None
        self.asked: dict[int, Asked] = {}

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def go_away(self, last_stream_id: int, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Without h2's own idea that this is the end."""
        self.raw(7, 0, last_stream_id.to_bytes(4, "big") + int(code).to_bytes(4, "big"))

    def raw(self, kind: int, stream_id: int, payload: bytes, flags: int = 0) -> None:
        """A frame as it is given."""
        self.flush()
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big")
        self.writer.write(head + payload)

    async def serve(self) -> None:
        settings = {SettingCodes(code): value for code, value in self.server.settings.items()}
        window = settings.pop(SettingCodes.INITIAL_WINDOW_SIZE, None)
        self.h2.local_settings = Settings(client=False, initial_values=settings)
        self.h2.initiate_connection()
        if window is not None:  # holds once the client has heard of it: until then it may send more
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()
        while data := await self.reader.read(65536):
            for event in self.h2.receive_data(data):
                self.take(event)
            self.flush()

    def take(self, event: Any) -> None:
        asked = self.asked.get(getattr(event, "stream_id", 0) or 0)
        match event:
            case events.RequestReceived():
                asked = self.asked[event.stream_id] = Asked(self.server, self, event)
                self.server.begin(asked)
            case events.DataReceived() if asked is not None:
                asked.body += event.data
                if self.server.opens_windows and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.StreamEnded() if asked is not None:
                asked.whole.set()
            case events.StreamReset() if asked is not None:
                asked.reset = event.error_code
                asked.over.set()
            case events.ConnectionTerminated():
                self.goaway = event


class HTTP2Wire:
    def __init__(
        self,
        *deeds: Deed,
        settings: dict[int, int] | None = None,
        opens_windows: bool = True,
        alpn: tuple[str, ...] = ("h2",),
        receive_buffer: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.deeds = deeds
        self.settings = settings or {}
        self.opens_windows = opens_windows
        self.seen: list[Asked] = []
        self.connections: list[Connection] = []
        self._tls = tls or certificates.server_context(alpn=alpn)
        self.receive_buffer = receive_buffer
        self.most_at_once = 0
        self._running = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def __aenter__(self) -> HTTP2Wire:
        listener = socket.socket()
        if self.receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        listener.bind(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listener, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _own(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._own(task)
        try:
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
                connection = Connection(self, reader, writer)
                self.connections.append(connection)
                await connection.serve()
            else:
                while await wire.read_request(reader):
                    writer.write(wire.message(200, b"by HTTP/1.1"))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    def begin(self, asked: Asked) -> None:
        deed = self.deeds[min(len(self.seen), len(self.deeds) - 1)]
        self.seen.append(asked)
        self._own(asyncio.create_task(self._do(deed, asked)))

    async def _do(self, deed: Deed, asked: Asked) -> None:
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            await deed(asked)
        finally:
            self._running -= 1


def answered(body: bytes = b"{}", status: int = 200) -> Deed:
    async def deed(asked: Asked) -> None:
        await asked.whole.wait()
        asked.head(status, (("content-length", str(len(body))),))
        asked.data(body, end=True)

    return deed


async def refused(asked: Asked) -> None:
    asked.break_off(ErrorCodes.REFUSED_STREAM)


async def silent(asked: Asked) -> None:
    await asked.over.wait()
