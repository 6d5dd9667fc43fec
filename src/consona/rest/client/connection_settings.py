"""How a client connects: how many connections, through which proxy, trusting whom."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from consona.errors import ConfigurationError
from consona.telemetry.redaction import DEFAULT as REDACTION

__all__ = ["TLS", "ConnectionSettings"]

ENVIRONMENT: Final = "environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Whom to trust, and who we are. Servers are always verified; files are read when the client starts.

    For anything else (old protocols, another verification) hand in an `ssl.SSLContext` of your own. For HTTP/2 it
    must offer that: `context.set_alpn_protocols(["h2", "http/1.1"])`.

    Raises:
        ConfigurationError: A key without a certificate, or (at start) a file that cannot be used.
    """

    ca: str | None = None
    """A file of certificates (PEM) to trust instead of the system's."""
    cert: str | None = None
    """The client's own certificate, with its chain (PEM)."""
    key: str | None = None
    """The key of `cert`, where it is in a file of its own."""
    password: str | None = field(default=None, repr=False)
    """Opens the key."""

    def __post_init__(self) -> None:
        if self.key and not self.cert:
            raise ConfigurationError("TLS(key=…) needs the certificate that it belongs to: TLS(cert=…, key=…).")

    def context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key, self.password)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(name for name in (self.ca, self.cert, self.key) if name)
            raise ConfigurationError(f"The TLS files cannot be used ({files}): {error}.") from error
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """How the client connects.

    Raises:
        ConfigurationError: A number is below one, or the proxy is no http:// or https:// URL.

    Example:
        >>> ConnectionSettings(connections=20, proxy="http://proxy.example:3128").keep_alive
        15.0
    """

    connections: int | None = 100
    """How many connections may be in use at once; None is no limit."""
    per_host: int | None = None
    """How many of them to one host and port."""
    keep_alive: float = 15.0
    """Seconds that an idle connection is kept."""
    http2: bool = False
    """Whether `https://` servers are offered HTTP/2, which sends many requests at once through one connection.
    Servers without it get HTTP/1.1. Needs `consona[http2]`."""
    proxy: str | None = field(default=None, repr=False)
    """An `http://` or `https://` URL, with `user:password@` where it asks for that; `"environment"` reads
    HTTP_PROXY, HTTPS_PROXY and NO_PROXY. None goes straight to the server."""
    tls: TLS | ssl.SSLContext = field(default_factory=TLS)
    allow: Callable[[str], bool] | None = None
    """Asked with each IP address before it is connected to (after the name was resolved, so that no name leads
    around it); False refuses. With a proxy, it is asked about the proxy."""

    def __post_init__(self) -> None:
        for name in ("connections", "per_host"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(
                    f"ConnectionSettings({name}={value}) must be at least 1, or None for no limit."
                )
        if self.keep_alive < 0:
            raise ConfigurationError(f"ConnectionSettings(keep_alive={self.keep_alive}) must not be below 0.")
        if self.proxy not in {None, ENVIRONMENT} and not str(self.proxy).startswith(("http://", "https://")):
            raise ConfigurationError(
                f"The proxy {REDACTION.url(str(self.proxy))!r} is no http:// or https:// URL.",
                hint='Write proxy="http://proxy.example:3128", or "environment".',
            )
