"""Undoes `Content-Encoding` in bounded pieces, so that a small answer cannot unfold without limit.

gzip and deflate always; brotli where the package is installed, zstd where Python has it (3.14) or `backports.zstd`
is installed.
`ACCEPT_ENCODING` asks servers for what is there.

Source: RFC 9110, section 8.4; RFC 1950 to 1952; RFC 7932; RFC 8878.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from consona.rest.client.errors import BadAnswer

__all__ = ["ACCEPT_ENCODING", "Decoder", "decoder_for"]

PIECE_BYTES: Final = 64 * 1024
MAX_CODINGS: Final = 3


class Decoder(Protocol):
    """One coding being undone."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data` unfolds to, at most `PIECE_BYTES` at a time, as it is asked for."""
        ...

    def finish(self) -> None:
        """Say that the coded body ended; raises `BadAnswer` where it should not have."""
        ...


class Gzip:
    """gzip, of one member or several."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._began = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        pending = False
        while data or pending:
            self._began = True
            if data and self._inflate.eof:  # another member follows, unless it is padding
                if not data.strip(b"\0"):
                    return
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise BadAnswer("The body is not the gzip that its headers say.") from error
            pending = len(piece) == PIECE_BYTES  # it may hold more although it took all of its input
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            if piece:
                yield piece

    def finish(self) -> None:
        if self._began and not self._inflate.eof:
            raise BadAnswer("The compressed body ends in the middle.")


class Deflate:
    """deflate as it should be, with the head of zlib, and as some servers send it, without."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: Any = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            self._head += data
            if len(self._head) < 2:
                return
            data = self._head
            has_head = data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0  # RFC 1950, section 2.2
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS)
        pending = False
        while (data or pending) and not self._inflate.eof:
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise BadAnswer("The body is not the deflate that its headers say.") from error
            pending = len(piece) == PIECE_BYTES
            data = self._inflate.unconsumed_tail
            if piece:
                yield piece
        if self._inflate.unused_data or (data and self._inflate.eof):
            raise BadAnswer("Something follows the end of the compressed body.")

    def finish(self) -> None:
        if self._head and (self._inflate is None or not self._inflate.eof):
            raise BadAnswer("The compressed body ends in the middle.")


class Brotli:
    def __init__(self) -> None:
        self._decompressor: Any = _brotli.Decompressor()
        self._began = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._began = self._began or bool(data)
        limit = 32_000  # reached by the first of its buffers (32,736 bytes); from there they double
        try:
            more = True
            while more:
                piece = self._decompressor.process(data, output_buffer_limit=limit)
                data = b""
                more = len(piece) >= limit or not self._decompressor.can_accept_more_data()
                if piece:
                    yield piece
        except _brotli.error as error:
            raise BadAnswer("The body is not the brotli that its headers say.") from error

    def finish(self) -> None:
        if self._began and not self._decompressor.is_finished():
            raise BadAnswer("The compressed body ends in the middle.")


class Zstd:
    def __init__(self) -> None:
        self._decompressor: Any = _zstd.ZstdDecompressor()
        self._began = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._began = self._began or bool(data)
        try:
            while data or not (self._decompressor.needs_input or self._decompressor.eof):
                if self._decompressor.eof:  # another frame follows
                    self._decompressor = _zstd.ZstdDecompressor()
                piece = self._decompressor.decompress(data, PIECE_BYTES)
                data = self._decompressor.unused_data if self._decompressor.eof else b""
                if piece:
                    yield piece
        except _zstd.ZstdError as error:
            raise BadAnswer("The body is not the zstd that its headers say.") from error

    def finish(self) -> None:
        if self._began and not self._decompressor.eof:
            raise BadAnswer("The compressed body ends in the middle.")


class Chain:
    """Several codings, one upon the other: undone from the last to the first."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield from self._through(data, 0)

    def _through(self, data: bytes, index: int) -> Iterator[bytes]:
        if index == len(self._decoders):
            yield data
            return
        for piece in self._decoders[index].pieces(data):
            yield from self._through(piece, index + 1)

    def finish(self) -> None:
        for decoder in self._decoders:
            decoder.finish()


def _optional(name: str, needs: str) -> Any:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    return module if hasattr(getattr(module, needs.partition(".")[0], None), needs.partition(".")[2]) else None


_brotli: Final = _optional("brotli", "Decompressor.can_accept_more_data")  # 1.2: the first with a limit on its output
_zstd: Final = _optional("compression.zstd", "ZstdDecompressor.decompress") or _optional(
    "backports.zstd", "ZstdDecompressor.decompress"
)

_CODINGS: Final[dict[str, Callable[[], Decoder]]] = {
    "gzip": Gzip,
    "x-gzip": Gzip,
    "deflate": Deflate,
}
if _brotli is not None:
    _CODINGS["br"] = Brotli
if _zstd is not None:
    _CODINGS["zstd"] = Zstd

ACCEPT_ENCODING: Final = ", ".join(name for name in _CODINGS if name != "x-gzip")


def decoder_for(content_encoding: str) -> Decoder | None:
    """What undoes these codings; None where there is nothing to undo.

    Raises:
        BadAnswer: A coding is unknown, or there are more than three.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name not in {"", "identity"}]
    if not names:
        return None
    if len(names) > MAX_CODINGS or any(name not in _CODINGS for name in names):
        raise BadAnswer(
            f"The body is coded as {content_encoding[:100]!r}, which this client cannot undo.",
            hint=f"Ask the server for one of these: {ACCEPT_ENCODING}.",
        )
    decoders = [_CODINGS[name]() for name in reversed(names)]
    return decoders[0] if len(decoders) == 1 else Chain(decoders)
