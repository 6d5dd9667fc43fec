"""What may stand after `cache=`: seconds, or `Strict(seconds)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from consona.errors import ConfigurationError

__all__ = ["Cache", "Strict", "lifetime"]


@dataclass(frozen=True, slots=True)
class Strict:
    """Keep an answer for so many seconds, and ask the database each time whether it still holds.

    Example:
        >>> Strict(60)
        Strict(seconds=60)
    """

    seconds: float


Cache: TypeAlias = float | Strict | None


def lifetime(cache: Any) -> tuple[float, bool]:
    """(seconds, strict). 0 seconds: nothing is kept.

    Raises:
        ConfigurationError: It is neither a number of seconds nor `Strict`.
    """
    strict = isinstance(cache, Strict)
    seconds = cache.seconds if isinstance(cache, Strict) else 0 if cache is None else cache
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise ConfigurationError(
            f"cache={cache!r} is no time.", hint="Write cache=60 for sixty seconds, or cache=Strict(60)."
        )
    return float(seconds), strict
