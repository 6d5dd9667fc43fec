"""What a serving process is told: plain data, so that a supervisor can say it without loading the server."""

from __future__ import annotations

from pathlib import Path

import msgspec

from consona.rest.server.certificate import Certificate

__all__ = ["Serving", "Visiting"]


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has to know in order to serve."""

    target: str
    """`module:attribute` of an ASGI application."""
    name: str
    """The service's name in logs and in the dashboard."""
    folder: str = "."
    """Where modules are found first."""
    fd: int | None = None
    """A listening socket, inherited from the parent process; without one, `host` and `port` are bound."""
    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: str | None = None
    """The PEM file of its certificate; None: plain HTTP."""
    tls_key: str | None = None
    """The PEM file of the certificate's key; None: in the same file."""
    ops: str | None = None
    """Where it reports what it does; None: nowhere."""
    access_log: bool = True
    drain_s: float = 10.0
    """How long requests under way may go on after it was asked to stop."""
    notice_s: float = 0.0
    """How long it says that it will stop, before it does."""
    log_level: str = "info"
    traces_per_second: int = 10
    trace_ratio: float = 0.01

    def certificate(self) -> Certificate | None:
        """For TLS, read from its files.

        Raises:
            ConfigurationError: They cannot be used.
        """
        if self.tls_cert is None:
            return None
        return Certificate(Path(self.tls_cert), Path(self.tls_key) if self.tls_key is not None else None)


class Visiting(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of the made-up visitors is told."""

    walk: str
    """`module:attribute` of `async def walk(api, rng)`, one visit."""
    url: str
    """The service that they visit."""
    count: int
    """How many visit at a time."""
    folder: str = "."
    ops: str | None = None
    requests_per_second: float = 5.0
    """The most that one visitor sends."""
