"""How a client connects: how many connections, through which proxy, trusting whom."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from consona.errors import ConfigurationError
from consona.rest.client.proxies import ENVIRONMENT, proxy_from

__all__ = ["TLS", "ConnectionSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Whom to trust, and who we are. Servers are always verified; files are read when the client starts.

    For anything else (old protocols, another verification) hand in an `ssl.SSLContext` of your own. For HTTP/2 it
    must offer that: `context.set_alpn_protocols(["h2", "http/1.1"])`.

    Raises:
        ConfigurationError: A key without a certificate, or (at start) a file that cannot be used.

    Example:
        >>> TLS(ca="authority.pem", cert="client.pem", key="client.key", password="secret")
        TLS(ca='authority.pem', cert='client.pem', key='client.key')
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
        """What `ssl` works with."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"TLS(ca={self.ca!r}) cannot be used: {error}.", hint="A file with certificates in PEM form."
            ) from error
        if self.cert:
            self._show_who_we_are(context, self.cert)
        return context

    def _show_who_we_are(self, context: ssl.SSLContext, cert: str) -> None:
        key = self.key or cert

        def opened() -> str:  # asked only where the key is locked; without it, OpenSSL asks the terminal, and waits
            if self.password is None:
                raise ConfigurationError(f"The key in {key} is locked.", hint="TLS(password=…) opens it.")
            return self.password

        try:
            context.load_cert_chain(cert, self.key, opened)
        except (OSError, ssl.SSLError) as error:
            why = f"cannot be used: {error}"
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                why = "do not belong together"
            elif isinstance(error, ssl.SSLError):
                why = "cannot be read: not in PEM form, or the password does not open the key"
            raise ConfigurationError(f"The client's certificate {cert} and its key {key} {why}.") from error


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
    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY when the client starts. None goes straight to the server, whatever
    the environment says."""
    tls: TLS | ssl.SSLContext = field(default_factory=TLS)
    """Whom to trust, and who we are."""
    proxy_tls: TLS | ssl.SSLContext | None = None
    """The same for an `https://` proxy. None trusts the authorities of `tls` (where that is a `TLS`, else those of the
    system), and shows no certificate of ours."""
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
        if self.proxy is not None and self.proxy != ENVIRONMENT:
            proxy_from(self.proxy, "The proxy")

    def tls_context(self) -> ssl.SSLContext:
        """For servers."""
        return self.tls.context() if isinstance(self.tls, TLS) else self.tls

    def proxy_tls_context(self) -> ssl.SSLContext:
        """For `https://` proxies."""
        given = self.proxy_tls
        if given is None:
            given = TLS(ca=self.tls.ca) if isinstance(self.tls, TLS) else TLS()
        return given.context() if isinstance(given, TLS) else given
