"""How many connections to a database server are kept, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, fields

from consona.errors import ConfigurationError

__all__ = ["PoolSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """How many connections a pool holds, and for how long. Times in seconds.

    Raises:
        ConfigurationError: A value is out of its range, or has the wrong type.

    Example:
        >>> PoolSettings(max_size=20).wait
        10.0
    """

    min_size: int = 1
    """How many stay open though nobody uses them."""
    max_size: int = 10
    """How many there are at most."""
    wait: float = 10.0
    """How long a caller waits for a free connection; then the error says who holds them."""
    connect: float = 10.0
    """How long opening one may take."""
    patience: float = 5.0
    """How long opening is tried again when the server cannot be reached, before callers are told."""
    ping_after: float = 15.0
    """How long a connection may be idle before it is asked whether it lives when it is used next."""
    ping: float = 2.0
    """How long the answer to that may take."""
    clean: float = 5.0
    """How long it may take to bring a connection to order that came back in the middle of something."""
    max_idle: float = 300.0
    """After how long unused one is closed, down to `min_size`."""
    max_age: float = 3600.0
    """After how long one is replaced, so that load follows new servers. Up to a tenth earlier, by chance."""
    leak_after: float = 60.0
    """After how long in one hand a warning is logged that names who took it."""

    def __post_init__(self) -> None:
        for name, low in (("min_size", 0), ("max_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= 10_000:
                raise ConfigurationError(
                    f"The pool setting {name} must be a whole number from {low} to 10000; it is {value!r}."
                )
        if self.min_size > self.max_size:
            raise ConfigurationError(
                f"The pool cannot keep {self.min_size} connections open (min_size) and have at most {self.max_size}"
                " (max_size)."
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in {"min_size", "max_size"} and (
                not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 31 * 86_400
            ):
                raise ConfigurationError(
                    f"The pool setting {field.name} must be a number of seconds above 0, at most 31 days; it is"
                    f" {value!r}."
                )
