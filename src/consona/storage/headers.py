"""Headers of a message or record as one column: a MessagePack map of texts, NULL for none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

__all__ = ["packed", "unpacked"]


def packed(headers: Mapping[str, str]) -> bytes | None:
    return msgspec.msgpack.encode(dict(headers)) if headers else None


def unpacked(headers: bytes | None) -> dict[str, str]:
    return {} if headers is None else _decode(headers)


_decode: Final = msgspec.msgpack.Decoder(dict[str, str]).decode
