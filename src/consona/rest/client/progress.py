"""Counts the bytes of a body on its way, for a progress bar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from consona.rest.transport import Answer, Body

__all__ = ["Progress", "WatchedAnswer", "sent_in_pieces", "watched_body"]

Progress = Callable[[int, int | None], object]
"""`progress(done, total)`: bytes until now, and in all; `total` is None where nobody knows."""

PIECE_BYTES: Final = 64 * 1024


def length_of(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """The `Content-Length` of an answer."""
    for name, value in headers:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return None


async def sent_in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """Bytes as a stream, so that somebody may look on."""
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


async def watched_body(body: Body, total: int | None, progress: Progress) -> AsyncIterator[bytes]:
    """The body, counted piece by piece as the transport takes it. A try that is repeated counts from zero."""
    assert body is not None
    done = 0
    progress(0, total)
    async for piece in sent_in_pieces(body) if isinstance(body, bytes) else body:
        yield piece
        done += len(piece)
        progress(done, total)


class WatchedAnswer:
    """An answer, counted piece by piece as it comes, before it is decompressed."""

    def __init__(self, answer: Answer, progress: Progress) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.http_version = answer.http_version
        self._answer = answer
        self._progress = progress
        self._done = 0
        self._total = length_of(answer.headers)
        progress(0, self._total)

    async def chunk(self) -> bytes:
        data = await self._answer.chunk()
        if data:
            self._done += len(data)
            self._progress(self._done, self._total)
        return data

    async def close(self) -> None:
        await self._answer.close()
