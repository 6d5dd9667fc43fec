"""An address is a URL; its scheme picks the adapter.

    address = Address.parse("postgresql://shop:secret@db.example/orders?pool=5")
    adapter = adapter_for("store", address)      # the class, imported only now

`ADAPTERS` is the table of what Consona brings. Other packages add theirs through the entry-point
group `consona.adapters`, with the entry's name `port.scheme`:

    [project.entry-points."consona.adapters"]
    "store.memcached" = "consona_memcached:MemcachedStore"
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from consona.errors import AddressError, MissingExtra

__all__ = ["ADAPTERS", "Address", "adapter_for"]

ADAPTERS: Final[dict[str, dict[str, str]]] = {
    "documents": {
        "memory": "consona.documents.memory:MemoryDocuments",
        "sqlite": "consona.documents.sqlite.engine:SQLiteDocuments",
    },
    "http": {
        "http": "consona.rest.client.aiohttp_transport:AiohttpTransport",
        "https": "consona.rest.client.aiohttp_transport:AiohttpTransport",
    },
    "http2": {
        "http": "consona.rest.client.http2_transport:HTTP2Transport",
        "https": "consona.rest.client.http2_transport:HTTP2Transport",
    },
    "log": {
        "memory": "consona.log.memory:MemoryLog",
        "postgres": "consona.log.postgresql:PostgreSQLLog",
        "postgresql": "consona.log.postgresql:PostgreSQLLog",
        "redis": "consona.log.redis:RedisLog",
        "rediss": "consona.log.redis:RedisLog",
        "sqlite": "consona.log.sqlite:SQLiteLog",
    },
    "mail": {
        "file": "consona.mail.folder:MailFolder",
        "smtp": "consona.mail.smtp:SMTPTransport",
        "smtps": "consona.mail.smtp:SMTPTransport",
    },
    "queue": {
        "memory": "consona.messaging.memory:MemoryQueues",
        "postgres": "consona.messaging.postgresql:PostgreSQLQueues",
        "postgresql": "consona.messaging.postgresql:PostgreSQLQueues",
        "redis": "consona.messaging.redis:RedisQueues",
        "rediss": "consona.messaging.redis:RedisQueues",
        "sqlite": "consona.messaging.sqlite:SQLiteQueues",
    },
    "sql": {
        "mariadb": "consona.sql.mysql.engine:MySQL",
        "mysql": "consona.sql.mysql.engine:MySQL",
        "postgres": "consona.sql.postgresql:PostgreSQL",
        "postgresql": "consona.sql.postgresql:PostgreSQL",
        "sqlite": "consona.sql.sqlite:SQLite",
    },
    "store": {
        "memory": "consona.storage.memory:MemoryStore",
        "postgres": "consona.storage.postgresql.store:PostgreSQLStore",
        "postgresql": "consona.storage.postgresql.store:PostgreSQLStore",
        "redis": "consona.storage.redis.store:RedisStore",
        "rediss": "consona.storage.redis.store:RedisStore",
        "sqlite": "consona.storage.sqlite:SQLiteStore",
    },
}
"""port -> scheme -> "module:class"."""

EXTRAS: Final[dict[str, str]] = {
    "consona.log.postgresql": "postgresql",
    "consona.log.redis": "redis",
    "consona.messaging.postgresql": "postgresql",
    "consona.mail.smtp": "mail",
    "consona.messaging.redis": "redis",
    "consona.rest.client.http2_transport": "http2",
    "consona.sql.mysql.engine": "mysql",
    "consona.sql.postgresql": "postgresql",
    "consona.storage.postgresql.store": "postgresql",
    "consona.storage.redis.store": "redis",
}
"""module that may be missing -> the extra that installs it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A URL, taken apart. Its `str` and `repr` never show the password.

    Example:
        >>> Address.parse("sqlite:///shop.db").path
        'shop.db'
        >>> str(Address.parse("redis://:secret@localhost/0"))
        'redis://:***@localhost/0'
    """

    scheme: str
    host: str = ""
    port: int | None = None
    path: str = ""
    """Without the slash that separates it from the host, so `sqlite:///shop.db` is relative."""
    username: str = ""
    password: str = field(default="", repr=False)
    options: dict[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, url: str | Address) -> Address:
        """Read a URL.

        Raises:
            AddressError: There is no scheme, the port is not a number from 1 to 65535, or there is a NUL in it.
        """
        if isinstance(url, Address):
            return url
        if "://" not in url:
            shown = "The text" if "@" in url else repr(url)  # what has an @ may hold a password
            raise AddressError(
                f"{shown} is not an address.", hint="Write it as scheme://…, for example sqlite:///shop.db."
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise AddressError(
                f"The address with scheme {url.split(':', 1)[0]!r} cannot be read: {error}.",
                hint="Percent-encode special characters in the password, and give the port as a number.",
            ) from None  # the cause would show the password
        if "\0" in unquote(url):
            raise AddressError(f"The address with scheme {parts.scheme!r} has a NUL character.")
        return cls(
            scheme=parts.scheme.lower(),
            host=parts.hostname or "",
            port=port,
            path=unquote(parts.path.removeprefix("/")),
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            options=dict(parse_qsl(parts.query, keep_blank_values=True)),
        )

    @property
    def is_memory(self) -> bool:
        """Whether nothing of it outlives the process (`memory://`, `sqlite://` without a path)."""
        return self.scheme == "memory" or (self.scheme == "sqlite" and self.path in {"", ":memory:"})

    @property
    def canonical(self) -> str:
        """One spelling for one place, secrets included: files by their real path. Not for people."""
        if self.scheme == "sqlite" and not self.is_memory:
            return f"sqlite:///{os.path.realpath(self.path)}"
        return self._unsplit(self.password)

    def __str__(self) -> str:
        return self._unsplit("***" if self.password else "")

    def _unsplit(self, password: str) -> str:
        user = quote(self.username, safe="")
        credentials = f"{user}:{quote(password, safe='*')}@" if password else f"{user}@" if user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        path = f"/{quote(self.path)}" if self.path else ""
        options = f"?{urlencode(sorted(self.options.items()))}" if self.options else ""
        return f"{self.scheme}://{credentials}{host}{port}{path}{options}"


def adapter_for(port: str, address: str | Address) -> Any:
    """The class that serves `address` for `port` ("store", …), imported now.

    Raises:
        AddressError: No adapter of this port has that scheme; the message lists those that exist.
        MissingExtra: The adapter exists, and a package that it needs does not.
    """
    address = Address.parse(address)
    targets = _targets(port)
    target = targets.get(address.scheme)
    if target is None:
        known = ", ".join(f"{scheme}://" for scheme in sorted(targets)) or "none"
        raise AddressError(
            f"No adapter for {address.scheme}:// as a {port}.", hint=f"Known for it: {known}.", port=port
        )
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "consona"}:
            raise
        extra = EXTRAS.get(module, address.scheme)
        raise MissingExtra(
            f"{address.scheme}:// as a {port} needs the package {package!r}, which is not installed.",
            hint=f"Run: pip install 'consona[{extra}]'",
            package=package,
        ) from error


def _targets(port: str) -> dict[str, str]:
    found = dict(ADAPTERS.get(port, {}))
    for entry in importlib.metadata.entry_points(group="consona.adapters"):
        kind, _, scheme = entry.name.partition(".")
        if kind == port:
            found.setdefault(scheme, entry.value)
    return found
