"""Whether a server answers: one plain HTTP request, without a client that would be observed."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

__all__ = ["status_of", "until_it_answers"]


async def status_of(url: str, *, timeout: float = 2.0) -> int:  # noqa: ASYNC109 - a bound of its own, not the caller's
    """The HTTP status of `GET url` (`http://…`, `https://…`, `unix:/path`), or 0 where nobody answers.

    Whose the certificate is, is not looked at: it tells only that something answers on this machine.

    Args:
        url: What is asked for.
        timeout: Seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _status(url)
    except (OSError, ValueError, IndexError):  # TimeoutError is an OSError
        return 0


async def _status(url: str) -> int:
    if url.startswith("unix:"):
        host, path = "localhost", "/"
        reader, writer = await asyncio.open_unix_connection(url.removeprefix("unix:"))
    else:
        parts = urlsplit(url)
        host, path = parts.netloc, parts.path or "/"
        context = ssl._create_unverified_context() if parts.scheme == "https" else None  # noqa: S323 see above
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: consona-up\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


async def until_it_answers(url: str, *, every: float = 0.1) -> int:
    """Ask every `every` seconds until there is an answer; whoever waits sets the bound."""
    while not (status := await status_of(url)):  # noqa: ASYNC110 - another process has no event for us
        await asyncio.sleep(every)
    return status
