"""A real HTTP server on loopback that says exactly what it is told, byte by byte, and remembers what it was asked.

async with Origin(answer) as origin:            # answer: a function from Asked to Said
    ... origin.url ...
    assert [asked.method for asked in origin.asked] == ["GET"]
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["Asked", "Origin", "Said"]

Pairs = list[tuple[str, str]]


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: Pairs
    body: bytes

    def header(self, name: str) -> str | None:
        """The values of that name, joined by commas; None without any."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


@dataclass
class Said:
    """An answer. `Content-Length` is added unless the headers say how the body is framed."""

    status: int = 200
    headers: Pairs = field(default_factory=list)
    body: bytes = b""
    pieces: AsyncIterator[bytes] | None = None
    """The body piece by piece, chunked, instead of `body`."""
    interim: list[tuple[int, Pairs]] = field(default_factory=list)
    hang_up: bool = False
    """Close the connection instead of answering."""
    cut: bool = False
    """Close the connection after half of the body."""


Answerer = Callable[[Asked], Said | Awaitable[Said]]


class Origin:
    def __init__(self, answer: Answerer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self) -> Origin:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while (asked := await self._read(reader)) is not None:
                    self.asked.append(asked)
                    said = self.answer(asked)
                    said = said if isinstance(said, Said) else await said
                    if said.hang_up or not await self._write(writer, asked, said):
                        break
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Asked | None:
        line = await reader.readline()
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers: Pairs = []
        while (line := await reader.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        asked = Asked(method, target, headers, b"")
        if (asked.header("transfer-encoding") or "").lower() == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                asked.body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif asked.header("content-length"):
            asked.body = await reader.readexactly(int(asked.header("content-length")))
        return asked

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, asked: Asked, said: Said) -> bool:
        for status, pairs in said.interim:
            writer.write(_head(status, pairs))
        names = {name.lower() for name, _ in said.headers}
        headers = list(said.headers)
        bodiless = asked.method == "HEAD" or said.status in {204, 304}
        if said.pieces is not None:
            headers.append(("Transfer-Encoding", "chunked"))
        elif not names & {"content-length", "transfer-encoding"} and said.status not in {204, 304}:
            headers.append(("Content-Length", str(len(said.body))))
        writer.write(_head(said.status, headers))
        if not bodiless:
            if said.pieces is not None:
                async for piece in said.pieces:
                    writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(said.body[: len(said.body) // 2] if said.cut else said.body)
        await writer.drain()
        return (
            not said.cut
            and "close" not in (dict(headers).get("Connection") or "")
            and ("transfer-encoding" not in names)
        )


def _head(status: int, headers: Pairs) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
