"""What carries a request to a server and brings the answer back. `APIClient` does everything else.

A transport knows nothing of types, credentials, retries, redirects, cookies or compression: it sends
one request and gives out the answer's raw body piece by piece, no faster than it is asked for.

What it promises, beyond that:
- `ConnectError` and `BulkheadFull` mean that **no byte of the request was sent**, or that the server itself
  says that it left the request unread (HTTP/2 can). Whatever may have had effects raises something else.
- It never sends a request a second time by itself.
- It frames the body: `Content-Length` for bytes, chunked for an iterator unless a `Content-Length` is
  among the headers. It adds `Host` where that is missing, and no other header.
- A cancelled `send` leaves nothing open: HTTP/1.1 ends the connection, HTTP/2 the stream.
- Interim answers (100, 103) and trailers are passed over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consona.errors import ConfigurationError

__all__ = ["Answer", "Body", "Request", "Timeouts", "Transport"]

Body = bytes | AsyncIterator[bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each step of one try may take, in seconds; None waits as long as the whole call may.

    The policy's `timeout` bounds the call, tries and waits between them included; these tell sooner
    which step is stuck.

    Raises:
        ConfigurationError: A time is not above zero.

    Example:
        >>> Timeouts(connect=3).read
        30.0
    """

    connect: float | None = 10.0
    """To reach the server: name look-up, TCP and TLS."""
    read: float | None = 30.0
    """Between two pieces of the answer, the first one included."""
    write: float | None = 30.0
    """Until the server has taken a piece of the body."""
    pool: float | None = 10.0
    """Until one of the client's connections is free."""

    def __post_init__(self) -> None:
        for name in ("connect", "read", "write", "pool"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"Timeouts({name}={value!r}) must be above zero, or None for no limit.")


@dataclass(slots=True)
class Request:
    """One request on its way. `url` is absolute and percent-encoded."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: Body = None
    timeouts: Timeouts = field(default_factory=Timeouts)


class Answer(Protocol):
    """An answer whose head has come, and whose body is read as it is asked for."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """As they came, in order, names in any case."""
        ...

    @property
    def http_version(self) -> str:
        """`1.0`, `1.1`, `2`."""
        ...

    async def chunk(self) -> bytes:
        """The next piece of the raw body; empty once, at its end.

        Raises:
            ConnectionLost: The connection broke before the end.
            BadAnswer: The body is not framed as HTTP says.
            DeadlineExceeded: Nothing came for `Timeouts.read` seconds.
        """
        ...

    async def close(self) -> None:
        """Let go of it. Before the end of the body this ends the exchange: HTTP/1.1 closes the connection, HTTP/2
        resets the stream. May be called twice.
        """
        ...


class Transport(Protocol):
    """One way to servers: a pool of connections, or an application in this process."""

    async def open(self) -> None:
        """Get ready. Called once, in the event loop that it is used in."""
        ...

    async def send(self, request: Request) -> Answer:
        """Send one request and wait for the head of its answer.

        Raises:
            ConnectError: The server could not be reached, or refused the request unread.
            BulkheadFull: No connection came free within `Timeouts.pool`; nothing was sent.
            ConnectionLost: The connection broke after something was sent.
            BadAnswer: What came is not HTTP.
            DeadlineExceeded: The server took longer than `Timeouts.read` or `Timeouts.write`.
        """
        ...

    async def close(self) -> None:
        """End all connections. Called once after each `open` that succeeded."""
        ...
