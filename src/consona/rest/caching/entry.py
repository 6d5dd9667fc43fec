"""One kept answer, as it lies in the store.

All answers to one URL for one set of credentials are one record: a version byte, then MessagePack. Long bodies
are records of their own. What cannot be read, or is of another version, is not there.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from consona.rest.caching.fields import Pairs
from consona.rest.caching.rules import Head, selects

__all__ = ["Kept", "pack", "select", "unpack"]

VERSION: Final = b"\x01"
INLINE_BYTES: Final = 16 * 1024
"""A body up to this long lies in the record itself."""
PIECE_BYTES: Final = 900_000
"""A longer one lies in pieces of this length (a store takes values up to 1,000,000 bytes)."""
MAX_VARIANTS: Final = 32
"""So many answers to one URL are kept side by side (`Vary`)."""
MAX_RECORD_BYTES: Final = 900_000


class Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A kept answer."""

    status: int
    headers: list[tuple[str, str]]
    http_version: str
    request_time: float
    response_time: float
    vary: list[tuple[str, str]]
    """The fields of the request that it was for, in normal form."""
    size: int
    """Bytes of the body."""
    checksum: int
    """CRC-32 of the body."""
    inline: bytes = b""
    """The body, where it is short."""
    body: str = ""
    """Where the pieces of the body lie, where it is long."""

    @property
    def head(self) -> Head:
        return Head(self.status, self.headers, self.request_time, self.response_time)

    @property
    def pieces(self) -> list[str]:
        """The keys of the pieces of its body."""
        return (
            [f"{self.body}/{start // PIECE_BYTES}" for start in range(0, self.size, PIECE_BYTES)] if self.body else []
        )

    def fits(self, body: bytes) -> bool:
        """Whether that is its body, whole."""
        return len(body) == self.size and zlib.crc32(body) == self.checksum


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[Kept])


def pack(kept: Sequence[Kept]) -> tuple[bytes, Sequence[Kept]]:
    """The record of these answers (newest first), and those of them for which there was room."""
    kept = kept[:MAX_VARIANTS]
    while True:
        record = VERSION + _ENCODER.encode(kept)
        if len(record) <= MAX_RECORD_BYTES or not kept:
            return record, kept
        kept = kept[:-1]


def unpack(record: bytes) -> list[Kept] | None:
    """What a record holds; None where it cannot be read."""
    if record[:1] != VERSION:
        return None
    try:
        return _DECODER.decode(memoryview(record)[1:])
    except (msgspec.MsgspecError, ValueError):
        return None


def select(kept: Sequence[Kept], request: Pairs) -> Kept | None:
    """The newest answer that is one to this request (RFC 9111, section 4.1)."""
    return next((one for one in kept if selects(one.vary, request)), None)
