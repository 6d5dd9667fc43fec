"""How one SQLite file is opened and written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from consona.address import Address
from consona.errors import ConfigurationError

__all__ = ["SQLiteSettings"]

Synchronous = Literal["FULL", "NORMAL", "OFF"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SQLiteSettings:
    """How one SQLite file is opened and written; the same for everybody who shares it. Times in seconds.

    Each field may stand in the address too: `sqlite:///shop.db?synchronous=NORMAL&readers=8`.

    Raises:
        ConfigurationError: A value is out of its range, or has the wrong type.

    Example:
        >>> SQLiteSettings(synchronous="NORMAL").max_batch
        512

    Source: https://www.sqlite.org/pragma.html#pragma_synchronous for what each of its values promises.
    """

    synchronous: Synchronous = "FULL"
    """`FULL`: a commit survives a power cut. `NORMAL`: the last ones may be lost in one, the file stays whole.
    `OFF`: a power cut may damage the file."""
    max_batch: int = 512
    """How many waiting writes one commit may take."""
    readers: int = 4
    """How many reads run at the same time, each in a thread with a connection of its own. Opened when needed."""
    busy: float = 5.0
    """How long to wait for another process that writes."""
    wait: float = 5.0
    """How long a write waits for somebody else's open transaction before it is told who holds it."""
    transaction: float = 5.0
    """How long an interactive transaction may have the writer; then it is rolled back."""
    cache_mib: int = 16
    """Page cache of each connection, in MiB."""
    checkpoint_pages: int = 1000
    """From how many pages on the write-ahead log is copied into the file (a page has 4 KiB)."""

    def __post_init__(self) -> None:
        if self.synchronous not in get_args(Synchronous):
            self._refuse("synchronous", f"one of {', '.join(get_args(Synchronous))}")
        for name, low in (("max_batch", 1), ("readers", 1), ("cache_mib", 1), ("checkpoint_pages", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= 1_000_000:
                self._refuse(name, f"a whole number from {low} to 1000000")
        for name in ("busy", "wait", "transaction"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86_400:
                self._refuse(name, "a number of seconds above 0, at most 86400")

    def _refuse(self, name: str, expected: str) -> None:
        raise ConfigurationError(f"The SQLite setting {name} must be {expected}; it is {getattr(self, name)!r}.")

    def with_options(self, address: Address) -> SQLiteSettings:
        """These settings, with those that the address names in their place.

        Raises:
            ConfigurationError: The address names a setting that does not exist, or a value that does not fit.
        """
        known = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        changes: dict[str, str | int | float] = {}
        for name, text in address.options.items():
            if name not in known:
                raise ConfigurationError(
                    f"{address} names the setting {name!r}, which SQLite addresses do not have.",
                    hint=f"Known: {', '.join(known)}.",
                )
            try:
                changes[name] = text.upper() if known[name] is str else known[name](text)
            except ValueError:
                raise ConfigurationError(f"{address}: {name} must be a number; it is {text!r}.") from None
        return replace(self, **changes)  # type: ignore[arg-type]  # checked by __post_init__

    def differences(self, other: SQLiteSettings) -> str:
        """What differs, in words: `synchronous (FULL here, NORMAL there)`."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return ", ".join(f"{name} ({ours} here, {theirs} there)" for name, ours, theirs in pairs if ours != theirs)
