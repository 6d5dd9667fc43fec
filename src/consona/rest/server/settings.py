"""The limits and habits of a server."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field

from consona.errors import ConfigurationError

__all__ = ["FormLimits", "ServerSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """What a form may hold, beside `max_body`, the limit of the whole. Sizes in bytes.

    One file has its own limit where the handler takes it: `Annotated[UploadFile, File(max_bytes=…)]`.

    Raises:
        ConfigurationError: A number is not above zero.
    """

    max_fields: int = 100
    """More fields (beside the files) are answered with 413."""
    max_files: int = 20
    """More files are answered with 413."""
    max_field: int = 64 * 1024
    """A longer field is answered with 413."""
    memory: int = 64 * 1024
    """So much of each file is kept in memory; what is longer goes to disk."""
    folder: str | os.PathLike[str] | None = None
    """On which disk; None for the system's folder of temporary files. (On many systems that one is memory too.)"""

    def __post_init__(self) -> None:
        for name in ("max_fields", "max_files", "max_field", "memory"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"FormLimits({name}={getattr(self, name)!r}) must be above zero.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What a stranger can make the server do, and for how long. Times in seconds, sizes in bytes.

    Raises:
        ConfigurationError: A number is not above zero, or a network is none.

    Example:
        >>> ServerSettings(max_body=10_000_000).timeout
        30.0
    """

    timeout: float = 30.0
    """Until the handler's answer begins, the time to read the request included; then 503 (408 while reading).

    A deadline that a caller sent, or a route's own `timeout`, is also told to what the handler calls."""
    head_timeout: float = 10.0
    """Until the head of a request is whole, from its first byte; the first one of a connection from its beginning."""
    idle_timeout: float = 5.0
    """How long a connection is kept between two requests."""
    stall_timeout: float = 30.0
    """A client that neither sends any of its request nor takes any of its answer for so long is cut off."""
    max_body: int = 1024 * 1024
    """Longer bodies are answered with 413. A route may have its own."""
    forms: FormLimits = field(default_factory=FormLimits)
    """What a form may hold."""
    max_headers: int = 100
    """More headers are answered with 431."""
    max_header_bytes: int = 32 * 1024
    """More bytes of headers are answered with 431."""
    max_url: int = 16 * 1024
    """Longer URLs are answered with 414."""
    max_open: int = 10_000
    """More requests at once are answered with 503."""
    max_message: int = 1024 * 1024
    """Longer messages of WebSockets close them with 1009. A route may have its own."""
    max_sockets: int = 10_000
    """More WebSockets at once are answered with 503."""
    drain: float = 20.0
    """How long open requests and work after answers may go on when the server stops."""
    threads: int = 16
    """For handlers that are plain functions."""
    validation_status: int = 422
    """Of answers to requests with wrong fields; some APIs want 400."""
    trusted: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose `traceparent`, `baggage`, `x-request-id` and `proxy_header` are believed. Unix sockets are."""
    proxy_header: str = ""
    """The header in which your proxies in `trusted` write who asks: `x-forwarded-for` or `forwarded`. Name the
    one that they really write: the other comes from strangers. Empty: there is no proxy, the peer is the client."""
    observe: bool = True
    """Whether requests are counted, timed, kept in the history and traced."""
    debug: bool = False
    """Whether the log shows the messages of unexpected errors, which may hold values."""
    docs_path: str = "/docs"
    """Where the docs page is; empty for none."""
    openapi_path: str = "/openapi.json"
    """Where the OpenAPI document is; empty for none (and then no docs page)."""
    health_path: str = "/health"
    """Where `…/live` and `…/ready` are; empty for none."""
    metrics_path: str = ""
    """Where Prometheus finds the figures of this process, such as `/metrics`; empty for nowhere, as they tell much."""

    def __post_init__(self) -> None:
        for name in (
            "timeout",
            "head_timeout",
            "idle_timeout",
            "stall_timeout",
            "max_body",
            "max_headers",
            "max_header_bytes",
            "max_url",
            "max_open",
            "max_message",
            "max_sockets",
            "threads",
        ):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"ServerSettings({name}={getattr(self, name)!r}) must be above zero.")
        if not self.drain >= 0:
            raise ConfigurationError(f"ServerSettings(drain={self.drain!r}) must not be negative.")
        if not 400 <= self.validation_status <= 499:
            raise ConfigurationError(
                f"ServerSettings(validation_status={self.validation_status!r}) must be 400 to 499."
            )
        if self.proxy_header.lower() not in {"", "x-forwarded-for", "forwarded"}:
            raise ConfigurationError(
                f"ServerSettings(proxy_header={self.proxy_header!r}) is not known.",
                hint="Use x-forwarded-for or forwarded.",
            )
        for network in self.trusted:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigurationError(
                    f"ServerSettings(trusted=…): {network!r} is not a network.", hint="Write it like 10.0.0.0/8."
                ) from error


class Trust:
    """Whether a peer's address is in one of the trusted networks."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._known: dict[str, bool] = {}

    def includes(self, address: str) -> bool:
        """An empty address is a Unix socket, or the process itself."""
        if not address:
            return True
        known = self._known.get(address)
        if known is None:
            try:
                ip = ipaddress.ip_address(address)
            except ValueError:
                known = False
            else:
                known = any(ip in network for network in self._networks)
            if len(self._known) < 1000:  # peers choose where they call from, so the memory of them is bounded
                self._known[address] = known
        return known
