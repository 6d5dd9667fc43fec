"""A server on a raw socket that does to each request what it is told, and keeps the requests that came.

async with Wire(answer(200, b"{}"), hang_up) as wire:       # the first request, the second, …; the last one goes on
    ... wire.url ...
    assert [seen.method for seen in wire.seen] == ["GET", "GET"]
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

BOUND_S = 20.0
"""How long a test waits for what must happen: reached only when something is broken."""


@dataclass
class Seen:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Deed = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire:
    def __init__(self, *deeds: Deed | bytes, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.deeds = [raw(deed) if isinstance(deed, bytes) else deed for deed in deeds]
        self.seen: list[Seen] = []
        self.connections = 0
        self.port = port
        self._tls = tls
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
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
        self.connections += 1
        try:
            while not writer.is_closing():
                seen = await read_request(reader)
                if seen is None:
                    break
                number = len(self.seen)
                self.seen.append(seen)
                await self.deeds[min(number, len(self.deeds) - 1)](seen, reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return Seen(method, target, headers, body)


def message(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; `content_type="…"` becomes `content-type: …`."""
    named = {"content-length": str(len(body)), "content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode("latin-1") + body


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> Deed:
    return raw(message(status, body, **headers))


def raw(data: bytes) -> Deed:
    async def deed(_seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return deed


def raw_then_close(data: bytes) -> Deed:
    async def deed(_seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return deed


async def hang_up(_seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection without an answer, after the whole request came."""
    writer.close()


async def silence(_seen: Seen, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing, and keep the connection."""
    await asyncio.sleep(BOUND_S * 10)


def echo(seen: Seen) -> bytes:
    return message(200, seen.body or b"null")


def told(make: Callable[[Seen], bytes]) -> Deed:
    """An answer made from the request."""

    async def deed(seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(make(seen))

    return deed
