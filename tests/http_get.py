"""One HTTP GET on a connection of its own, for tests that must see exactly what happens to it."""

from __future__ import annotations

import asyncio


async def get(port: int, path: str = "/") -> tuple[int, str]:
    """Status and body; any fault of the connection is raised."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await get_on(reader, writer, path, close=True)
    finally:
        writer.close()


async def get_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str = "/", *, close: bool = False
) -> tuple[int, str]:
    """The same on a connection that is open already, and stays so."""
    connection = "close" if close else "keep-alive"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    return int(lines[0].split()[1]), body.decode()
