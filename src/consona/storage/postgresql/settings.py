"""How connections to one PostgreSQL database are opened and used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from consona.storage.server_settings import ServerSettings

__all__ = ["PostgreSQLSettings"]

Reset = Literal["needed", "always"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgreSQLSettings(ServerSettings):
    """How one PostgreSQL database is used. What every server has, `ServerSettings` tells; these are its own.

    `statements=0` is for a PgBouncer that cannot keep prepared statements.

    Raises:
        ConfigurationError: A value is out of its range, or has the wrong type.

    Source: https://www.postgresql.org/docs/current/libpq-ssl.html for what each value of `ssl` protects against.
    """

    server: ClassVar[str] = "PostgreSQL"

    reset: Reset = "needed"
    """When a session is reset before the next one uses it: where a statement changed it (`SET`, `LISTEN`, a session
    lock, a temporary table), or `always`, for functions of yours that do so inside."""

    def __post_init__(self) -> None:
        ServerSettings.__post_init__(self)  # `super()` does not find itself in a class with slots
        if self.reset not in get_args(Reset):
            self._refuse("reset", f"one of {', '.join(get_args(Reset))}")
