"""Windows over the time of events: tumbling, sliding, and sessions.

Source: Akidau and others, "The Dataflow Model", PVLDB 8 (2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from consona.errors import ConfigurationError

__all__ = ["Windows"]


@dataclass(frozen=True, slots=True)
class Windows:
    """How time is cut. Times are seconds since the epoch; a window begins with `start` and ends before `end`."""

    size_s: float
    """Of a session: the gap that ends it."""
    every_s: float
    """How often a window begins; the same as `size_s` where they do not overlap."""
    sessions: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.size_s < math.inf or not 0 < self.every_s <= self.size_s:
            raise ConfigurationError(
                "A window needs a length above 0, and slides by no more than that.",
                hint="For example .window(minutes=5), .window(minutes=5, every=60) or .session(gap=600).",
            )

    def of(self, at: float) -> list[tuple[float, float]]:
        """(start, end) of each window that an event of this time belongs to; of a session the smallest there can be."""
        if self.sessions:
            return [(at, at + self.size_s)]
        last = math.floor(at / self.every_s) * self.every_s
        found = []
        start = last
        while start > at - self.size_s:
            found.append((start, start + self.size_s))
            start -= self.every_s
        return found[::-1]
