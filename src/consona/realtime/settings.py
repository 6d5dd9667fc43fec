"""Limits and habits of a realtime server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from consona.errors import ConfigurationError
from consona.realtime.outlet import SlowClients
from consona.resilience.rate import RateLimit

__all__ = ["RealtimeSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeSettings:
    """What a realtime server allows, and how it behaves. Times in seconds.

    Raises:
        ConfigurationError: A number is not above zero.

    Example:
        >>> RealtimeSettings(slow=SlowClients(policy="disconnect")).heartbeat
        25.0
    """

    slow: SlowClients = field(default_factory=SlowClients)
    """What happens to clients that take messages more slowly than they come."""
    messages: RateLimit = field(default_factory=lambda: RateLimit(rate=50.0, burst=100))
    """How many messages of one client are read. What comes faster waits in the client's own connection."""
    max_message: int = 65_536
    """Bytes of one message of a client."""
    max_clients: int = 20_000
    """Connections of this process; the next gets 503."""
    max_per_address: int = 1_000
    """Connections of one address; the next gets 429. Many people may share an address, so this is no small number."""
    max_channels: int = 100
    """Channels that one client may be in."""
    heartbeat: float = 25.0
    """After so long without a message a client gets a heartbeat, so that it notices a dead connection."""
    recheck: float = 5.0
    """How often the credentials of each connection are looked at again: within this time, one whose login has
    expired, or was taken back, is closed."""
    lease: float = 15.0
    """How long after a process was killed its clients still count as present."""
    ticket: float = 30.0
    """How long a ticket for a handshake is good."""
    spread: float = 10.0
    """When the server stops, its clients are told to come back within this time, each at a moment of its own."""
    origins: Iterable[str] | None = None
    """Sites whose pages may connect, such as `https://shop.example`, or `*`; by default the server's own host."""
    compress: bool = False
    """Whether WebSockets may be compressed (permessage-deflate), where Consona runs the server. Off: each message
    would be compressed anew for each client, a connection would take several times the memory, and secrets beside
    text that strangers choose would leak by their length."""
    trusted: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks of proxies that are believed."""
    proxy_header: str = ""
    """The header in which they say who asks: `x-forwarded-for` or `forwarded`."""

    def __post_init__(self) -> None:
        for name in (
            "max_message",
            "max_clients",
            "max_per_address",
            "max_channels",
            "heartbeat",
            "recheck",
            "lease",
            "ticket",
        ):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"RealtimeSettings({name}={getattr(self, name)!r}) must be above zero.")
        if not self.spread >= 0:
            raise ConfigurationError(f"RealtimeSettings(spread={self.spread!r}) must not be negative.")
