"""Our error for one of aiohttp's: above all, whether something was sent."""

from __future__ import annotations

import re
import ssl
from typing import Final

import aiohttp

from consona.errors import ConfigurationError, ConnectError, ConsonaError, DeadlineExceeded
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.client.proxies import Proxy
from consona.rest.client.tls_errors import Reason, refused_certificate, why_no_tls
from consona.rest.transport import Request
from consona.telemetry.redaction import DEFAULT as REDACTION

__all__ = ["alert_in", "shown", "translated", "unconnected", "untrusted"]


QUOTED: Final = re.compile(r"(?:\n|\\n)\s*(?:\n|\\n)|(?<=\s)b?['\"]")
"""Where aiohttp's messages begin to quote what came."""


def shown(url: str) -> str:
    """A URL for the eyes of people: without its secrets."""
    return REDACTION.url(url)


def unconnected(error: BaseException, request: Request, host: str, proxy: Proxy | None) -> ConsonaError:
    """Nothing of the request was sent: there is no connection yet."""
    what = f"{request.method} {shown(request.url)}"
    who = host
    at = (error.host, error.port) if isinstance(error, aiohttp.ClientConnectorError) else None
    if proxy is not None and at == (proxy.url.host, proxy.url.port):
        who = f"the proxy {proxy}"
    match error:
        case aiohttp.InvalidURL():
            return unsendable(error, what)
        case aiohttp.ConnectionTimeoutError():
            limit = request.timeouts.connect
            way = f", through the proxy {proxy}," if proxy else ""
            return ConnectError(f"{what}: {host}{way} did not take the connection within {limit:g} s.", host=host)
        case aiohttp.ClientConnectorCertificateError():
            return untrusted(what, who, refused_certificate(error.certificate_error))
        case aiohttp.ClientConnectorSSLError():
            return untrusted(what, who, why_no_tls(error.os_error))
        case aiohttp.ClientConnectorDNSError():
            return ConnectError(f"{what}: the name of {who} is not known: {_why(error)}.", host=host)
        case aiohttp.ClientConnectorError():
            return ConnectError(f"{what}: {who} could not be reached: {_why(error)}.", host=host)
        case aiohttp.ClientHttpProxyError():
            return ConnectError(
                f"{what}: the proxy {proxy} refused to connect to {host} (status {error.status}).",
                hint="Check the proxy's address, its user and password, and whether it may reach that host.",
                retryable=error.status >= 500,
                host=host,
            )
        case aiohttp.ClientResponseError():
            return ConnectError(
                f"{what}: what the proxy {proxy} sent is not HTTP: {_said(error.message)}.",
                hint="Check the proxy's address, and whether it is an http:// or an https:// one.",
                retryable=False,
                host=host,
            )
        case _:
            who = f"the proxy {proxy}" if proxy else host
            return ConnectError(f"{what}: {who} ended the connection before it was ready.", host=host)


def unsendable(error: BaseException, what: str) -> ConfigurationError:
    return ConfigurationError(f"{what}: the request cannot be sent: {str(error)[:200] or type(error).__name__}.")


def untrusted(what: str, who: str, reason: Reason) -> ConnectError:
    return ConnectError(
        f"{what}: no trusted connection to {who}: {reason.why}.",
        hint=reason.hint,
        retryable=reason.passing,
        host=who,
    )


def translated(error: BaseException, request: Request, host: str, *, proxy: bool) -> ConsonaError:
    """The request was sent, or part of it."""
    what = f"{request.method} {shown(request.url)}"
    reason = str(error) or type(error).__name__
    match error:
        case aiohttp.SocketTimeoutError():
            limit = request.timeouts.read
            return DeadlineExceeded(f"{what}: the server sent nothing for {limit:g} s.", phase="read", seconds=limit)
        case aiohttp.ClientResponseError():
            return BadAnswer(f"{what}: what {host} sent is not HTTP, or its head is too large: {_said(error.message)}.")
        case aiohttp.ClientPayloadError() if "TransferEncodingError" in reason or "ContentLengthError" in reason:
            return ConnectionLost(f"{what}: the connection to {host} ended before the answer did.", host=host)
        case aiohttp.ClientPayloadError():
            return BadAnswer(f"{what}: the body that {host} sent cannot be read: {_said(reason)}.", host=host)
        case aiohttp.InvalidURL() | ValueError():
            return unsendable(error, what)
        case _:
            if alert := alert_in(error):
                return untrusted(what, host, alert)
            via = "the proxy or " if proxy else ""
            return ConnectionLost(f"{what}: {via}{host} ended the connection without a whole answer.", host=host)


def _said(message: str) -> str:
    """What was wrong, without the data itself: that is nobody's but the caller's."""
    return " ".join(QUOTED.split(message)[0].split()).rstrip(":,")[:200]


def alert_in(error: BaseException | None) -> Reason | None:
    """What the server said of our certificate, once it had looked at it; it read nothing of the request then."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and (alert := why_no_tls(error)).ours:
            return alert
        error = error.__cause__
    return None


def _why(error: aiohttp.ClientConnectorError) -> str:
    return error.os_error.strerror or str(error.os_error) or type(error.os_error).__name__
