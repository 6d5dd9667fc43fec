"""How connections to one PostgreSQL server are opened and used."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from consona.address import Address
from consona.errors import ConfigurationError
from consona.storage.pool_settings import PoolSettings

__all__ = ["PostgreSQLSettings"]

SSL = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
Reset = Literal["needed", "always"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgreSQLSettings:
    """How one PostgreSQL database is used; the same for everybody in the process who shares it. Times in seconds.

    Each field, and each of the pool's, may stand in the address too:
    `postgresql://shop@db.example/orders?max_size=20&ssl=verify-full`.

    Raises:
        ConfigurationError: A value is out of its range, or has the wrong type.

    Source: https://www.postgresql.org/docs/current/libpq-ssl.html for what each value of `ssl` protects against.
    """

    pool: PoolSettings = field(default_factory=PoolSettings)
    ssl: SSL = "prefer"
    """`verify-full` alone proves that it is the right server; use it over any network that is not yours."""
    ssl_root: str = ""
    """File with the certificates that are trusted, for `verify-ca` and `verify-full`; empty for the system's."""
    application: str = "consona"
    """The name under which `pg_stat_activity` shows the connections."""
    statements: int = 256
    """How many prepared statements each connection keeps. 0 for a PgBouncer that cannot keep them."""
    reset: Reset = "needed"
    """When a session is reset before the next one uses it: where a statement changed it (`SET`, `LISTEN`, a session
    lock, a temporary table), or `always`, for functions of yours that do so inside."""
    transaction: float = 60.0
    """How long a transaction may be open; then it is rolled back."""

    def __post_init__(self) -> None:
        for name, known in (("ssl", get_args(SSL)), ("reset", get_args(Reset))):
            if getattr(self, name) not in known:
                raise ConfigurationError(
                    f"The PostgreSQL setting {name} must be one of {', '.join(known)}; it is {getattr(self, name)!r}."
                )
        if not 0 <= self.statements <= 100_000:
            raise ConfigurationError(
                f"The PostgreSQL setting statements must be a whole number from 0 to 100000; it is {self.statements!r}."
            )
        if not 0 < self.transaction <= 86_400:
            raise ConfigurationError(
                "The PostgreSQL setting transaction must be a number of seconds above 0, at most 86400; it is"
                f" {self.transaction!r}."
            )

    def with_options(self, address: Address) -> PostgreSQLSettings:
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
                    f"{address} names the setting {name!r}, which PostgreSQL addresses do not have.",
                    hint=f"Known: {', '.join([*own, *pool])}, and host for the folder of a Unix socket.",
                )
            try:
                if name in own:
                    changes[name] = own[name](text)
                else:
                    pool_changes[name] = pool[name](text)
            except ValueError:
                raise ConfigurationError(f"{address}: {name} must be a number; it is {text!r}.") from None
        return replace(self, pool=replace(self.pool, **pool_changes), **changes)

    def differences(self, other: PostgreSQLSettings) -> str:
        """What differs, in words: `max_size (10 here, 20 there)`."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.name != "pool"]
        pairs += [(f.name, getattr(self.pool, f.name), getattr(other.pool, f.name)) for f in fields(self.pool)]
        return ", ".join(f"{name} ({ours} here, {theirs} there)" for name, ours, theirs in pairs if ours != theirs)
