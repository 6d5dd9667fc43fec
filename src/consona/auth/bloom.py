"""A Bloom filter: whether a word is in a long list, from a short file. It never misses one that is.

Source: B. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970; A. Kirsch and M. Mitzenmacher,
"Less hashing, same performance", 2006 (all positions from two numbers).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Bloom"]

_HEAD: Final = struct.Struct(">4sIB")
_MAGIC: Final = b"CBF1"


@dataclass(frozen=True, slots=True, eq=False)
class Bloom:
    """The words of a list, as bits.

    Example:
        >>> words = Bloom.of(["password", "123456"], false_positives=0.001)
        >>> "password" in words, "correct horse battery staple" in words
        (True, False)
    """

    bits: bytes
    size: int
    """Of the filter, in bits."""
    hashes: int
    """How many bits stand for one word."""

    @classmethod
    def of(cls, words: Collection[str], *, false_positives: float) -> Self:
        """The filter of these words; of other words it takes about the share `false_positives` for one of them."""
        size = max(1024, math.ceil(-len(words) * math.log(false_positives) / math.log(2) ** 2))
        hashes = max(1, round(-math.log2(false_positives)))
        bits = bytearray((size + 7) // 8)
        for word in words:
            for place in _places(word, size, hashes):
                bits[place >> 3] |= 1 << (place & 7)
        return cls(bytes(bits), size, hashes)

    @classmethod
    def read(cls, data: bytes) -> Self:
        """A filter that was written.

        Raises:
            ValueError: It is something else, or cut off.
        """
        magic, size, hashes = _HEAD.unpack_from(data)
        bits = data[_HEAD.size :]
        if magic != _MAGIC or len(bits) != (size + 7) // 8 or not hashes:
            raise ValueError("This is not a Bloom filter, or not a whole one.")
        return cls(bits, size, hashes)

    def written(self) -> bytes:
        return _HEAD.pack(_MAGIC, self.size, self.hashes) + self.bits

    def __contains__(self, word: str) -> bool:
        return all(self.bits[place >> 3] >> (place & 7) & 1 for place in _places(word, self.size, self.hashes))


def _places(word: str, size: int, hashes: int) -> Iterator[int]:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    first, step = int.from_bytes(digest[:8]), int.from_bytes(digest[8:]) | 1
    for n in range(hashes):
        yield (first + n * step) % size
