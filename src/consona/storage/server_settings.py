"""How connections to a database server are opened and used: what every server has."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

from consona.address import Address
from consona.errors import ConfigurationError
from consona.storage.pool_settings import PoolSettings

__all__ = ["SSL", "ServerSettings"]

SSL = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How one database on a server is used; the same for everybody in the process who shares it. Times in seconds.

    Each field, and each of the pool's, may stand in the address too:
    `postgresql://shop@db.example/orders?max_size=20&ssl=verify-full`.

    Raises:
        ConfigurationError: A value is out of its range, or has the wrong type.
    """

    server: ClassVar[str] = "database"
    """What messages call it."""

    pool: PoolSettings = field(default_factory=PoolSettings)
    ssl: SSL = "prefer"
    """`verify-full` alone proves that it is the right server; use it over any network that is not yours."""
    ssl_root: str = ""
    """File with the certificates that are trusted, for `verify-ca` and `verify-full`; empty for the system's."""
    application: str = "consona"
    """The name under which the server shows the connections."""
    statements: int = 256
    """How many prepared statements each connection keeps."""
    transaction: float = 60.0
    """How long a transaction may be open; then it is rolled back."""

    def __post_init__(self) -> None:
        if self.ssl not in get_args(SSL):
            self._refuse("ssl", f"one of {', '.join(get_args(SSL))}")
        if not isinstance(self.statements, int) or not 0 <= self.statements <= 100_000:  # type: ignore[redundant-expr]
            self._refuse("statements", "a whole number from 0 to 100000")
        if not isinstance(self.transaction, int | float) or not 0 < self.transaction <= 86_400:  # type: ignore[redundant-expr]
            self._refuse("transaction", "a number of seconds above 0, at most 86400")

    def _refuse(self, name: str, expected: str) -> None:
        raise ConfigurationError(f"The {self.server} setting {name} must be {expected}; it is {getattr(self, name)!r}.")

    def with_options(self, address: Address) -> Self:
        """These settings, with those that the address names in their place.

        Raises:
            ConfigurationError: The address names a setting that does not exist, or a value that does not fit.
        """
        own = {f.name: type(getattr(self, f.name)) for f in fields(self) if f.name != "pool"}
        pool = {f.name: type(getattr(self.pool, f.name)) for f in fields(self.pool)}
        changes: dict[str, Any] = {}
        pool_changes: dict[str, Any] = {}
        for name, text in address.options.items():
            if name == "host":
                continue
            if name not in own and name not in pool:
                raise ConfigurationError(
                    f"{address} names the setting {name!r}, which {self.server} addresses do not have.",
                    hint=f"Known: {', '.join([*own, *pool])}, and host for a Unix socket.",
                )
            try:
                if name in own:
                    changes[name] = own[name](text)
                else:
                    pool_changes[name] = pool[name](text)
            except ValueError:
                raise ConfigurationError(f"{address}: {name} must be a number; it is {text!r}.") from None
        return replace(self, pool=replace(self.pool, **pool_changes), **changes)

    def differences(self, other: Self) -> str:
        """What differs, in words: `max_size (10 here, 20 there)`."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.name != "pool"]
        pairs += [(f.name, getattr(self.pool, f.name), getattr(other.pool, f.name)) for f in fields(self.pool)]
        return ", ".join(f"{name} ({ours} here, {theirs} there)" for name, ours, theirs in pairs if ours != theirs)
