"""The codings that bodies are compressed with, and which of them a client wants.

gzip always; brotli where its package is installed (`consona[brotli]`); zstd from Python 3.14 on, or with
`consona[zstd]`.

Source: RFC 9110, sections 8.4 and 12.5.3; RFC 1952 (gzip); RFC 7932 (brotli); RFC 8878 (zstd).
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

__all__ = ["CODINGS", "Coder", "best_coding"]


class Coder(Protocol):
    """Compresses one body, piece by piece. What it gives for a piece can be undone to the end of that piece."""

    def piece(self, data: bytes) -> bytes: ...

    def last(self, data: bytes) -> bytes:
        """The last piece, and the end of the body."""
        ...


class Gzip:
    def __init__(self) -> None:
        self._deflate = zlib.compressobj(5, zlib.DEFLATED, zlib.MAX_WBITS | 16)

    def piece(self, data: bytes) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def last(self, data: bytes) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush()


class Brotli:
    def __init__(self) -> None:
        self._compressor: Any = _brotli.Compressor(quality=4)

    def piece(self, data: bytes) -> bytes:
        done: bytes = self._compressor.process(data) + self._compressor.flush()
        return done

    def last(self, data: bytes) -> bytes:
        done: bytes = self._compressor.process(data) + self._compressor.finish()
        return done


class Zstd:
    def __init__(self) -> None:
        self._compressor: Any = _zstd.ZstdCompressor(level=3)

    def piece(self, data: bytes) -> bytes:
        done: bytes = self._compressor.compress(data, mode=self._compressor.FLUSH_BLOCK)
        return done

    def last(self, data: bytes) -> bytes:
        done: bytes = self._compressor.compress(data, mode=self._compressor.FLUSH_FRAME)
        return done


def _optional(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_brotli: Final = _optional("brotli")
_zstd: Final = _optional("compression.zstd", "backports.zstd")

CODINGS: Final[dict[str, Callable[[], Coder]]] = {
    **({"zstd": Zstd} if _zstd is not None else {}),
    **({"br": Brotli} if _brotli is not None else {}),
    "gzip": Gzip,
}
"""By name; the best first, where a client takes several equally."""


def best_coding(accept_encoding: str, offered: Iterable[str]) -> str | None:
    """The coding that a client likes best; None to send the body as it is.

    Args:
        accept_encoding: The header; empty where there is none.
        offered: What there is, the best first.

    Example:
        >>> best_coding("gzip;q=0.5, br;q=0.8, zstd;q=0", ["zstd", "br", "gzip"])
        'br'
    """
    weights: dict[str, float] = {}
    for item in accept_encoding.split(","):
        name, *parameters = item.split(";")
        weights.setdefault(name.strip().lower(), _weight(parameters))
    weights.setdefault("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    best, best_weight = None, weights.get("identity", 0.0)
    for name in offered:
        weight = weights.get(name, weights.get("*", 0.0))
        if weight > 0.0 and (weight > best_weight or (best is None and weight >= best_weight)):
            best, best_weight = name, weight
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
