"""Our error for one of aiohttp's: above all, whether something was sent."""

from __future__ import annotations

import aiohttp

from consona.errors import ConfigurationError, ConnectError, ConsonaError, DeadlineExceeded
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.transport import Request
from consona.telemetry.redaction import DEFAULT as REDACTION

__all__ = ["shown", "translated"]


def shown(url: str) -> str:
    """A URL for the eyes of people: without its secrets."""
    return REDACTION.url(url)


def translated(error: BaseException, request: Request, host: str, *, proxy: bool) -> ConsonaError:
    """Our error for one of aiohttp's. The order matters: what is certainly unsent comes first."""
    what = f"{request.method} {shown(request.url)}"
    reason = str(error) or type(error).__name__
    match error:
        case aiohttp.ConnectionTimeoutError():
            limit = request.timeouts.connect
            return ConnectError(f"{what}: {host} did not take the connection within {limit:g} s.", host=host)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return ConnectError(
                f"{what}: no trusted connection to {host}: {reason}.",
                hint="Check the server's certificate and name, and `TLS(ca=…)` for a certificate authority of your own.",
                retryable=False,
                host=host,
            )
        case aiohttp.ClientProxyConnectionError():
            return ConnectError(f"{what}: the proxy could not be reached: {_why(error)}.", host=host)
        case aiohttp.ClientConnectorDNSError():
            return ConnectError(f"{what}: the name of {host} is not known: {_why(error)}.", host=host)
        case aiohttp.ClientConnectorError():
            return ConnectError(f"{what}: {host} could not be reached: {_why(error)}.", host=host)
        case aiohttp.ClientHttpProxyError():
            return ConnectError(
                f"{what}: the proxy refused to connect to {host} (status {error.status}).",
                hint="Check the proxy's address, its user and password, and whether it may reach that host.",
                retryable=error.status >= 500,
                host=host,
            )
        case aiohttp.SocketTimeoutError():
            limit = request.timeouts.read
            return DeadlineExceeded(f"{what}: the server sent nothing for {limit:g} s.", phase="read", seconds=limit)
        case aiohttp.ClientResponseError():
            return BadAnswer(
                f"{what}: what {host} sent is not HTTP, or its head is too large: {error.message[:200]!r}."
            )
        case aiohttp.ClientPayloadError() if "TransferEncodingError" in reason or "ContentLengthError" in reason:
            return ConnectionLost(f"{what}: the connection to {host} ended before the answer did.", host=host)
        case aiohttp.ClientPayloadError():
            return BadAnswer(f"{what}: the body that {host} sent cannot be read: {reason[:200]}.", host=host)
        case aiohttp.InvalidURL() | ValueError():
            return ConfigurationError(f"{what}: the request cannot be sent: {reason[:200]}.")
        case _:
            via = "the proxy or " if proxy else ""
            return ConnectionLost(f"{what}: {via}{host} ended the connection without a whole answer.", host=host)


def _why(error: aiohttp.ClientConnectorError) -> str:
    return error.os_error.strerror or str(error.os_error) or type(error.os_error).__name__
