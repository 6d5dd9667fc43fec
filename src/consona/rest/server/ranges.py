"""Which parts of a file a client asks for.

Source: RFC 9110, sections 14.1.1, 14.1.2 and 14.2.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Part", "wanted_parts"]

MAX_PARTS: Final = 16
_SPECS: Final = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE)
_SPEC: Final = re.compile(r"(\d{0,19})-(\d{0,19})")


class Part(NamedTuple):
    """Bytes `start` to `end`, without the latter."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def wanted_parts(header: str, size: int) -> list[Part] | None:
    """The parts, in the order in which they are asked for; none where all lie beyond the end.

    None for a header to be ignored: it is not well-formed, or asks for more than 16 parts, or for more bytes
    than there are (which honest clients never need, and which would make a small request a large answer).

    Example:
        >>> wanted_parts("bytes=0-9, -5", 100)
        [Part(start=0, end=10), Part(start=95, end=100)]
        >>> wanted_parts("bytes=100-", 100)
        []
    """
    specs = _SPECS.fullmatch(header.strip())
    if specs is None:
        return None
    texts = [text.strip() for text in specs[1].split(",") if text.strip()]
    if not 0 < len(texts) <= MAX_PARTS:
        return None
    parts = []
    for text in texts:
        spec = _SPEC.fullmatch(text)
        if spec is None or text == "-":
            return None
        first, last = spec[1], spec[2]
        if first and last and int(last) < int(first):
            return None
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start < end:
            parts.append(Part(start, end))
    return None if sum(part.length for part in parts) > size else parts
