"""How connections to one MariaDB or MySQL database are opened and used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consona.storage.server_settings import ServerSettings

__all__ = ["MySQLSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MySQLSettings(ServerSettings):
    """How one MariaDB or MySQL database is used: `mysql://shop@db.example/orders?max_size=20`. See `ServerSettings`.

    Raises:
        ConfigurationError: A value is out of its range, or has the wrong type.
    """

    server: ClassVar[str] = "MySQL"
