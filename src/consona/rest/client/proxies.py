"""Through which proxy a request goes, if through any.

Source: RFC 9110, sections 7.6.1 and 9.3.6 (CONNECT); what the variables mean is the custom that curl began.
"""

from __future__ import annotations

import base64
import ipaddress
import urllib.request
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from consona.errors import ConfigurationError
from consona.telemetry.redaction import DEFAULT as REDACTION

__all__ = ["ENVIRONMENT", "Proxies", "Proxy", "proxy_from"]

ENVIRONMENT: Final = "environment"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it is, and who we are to it."""

    url: URL
    """Without user and password."""
    headers: dict[str, str] = field(repr=False)
    """For its eyes alone."""

    def __str__(self) -> str:
        return f"{self.url.host}:{self.url.port}"


class Proxies:
    """The proxy for each server, as the settings or the environment say when the client starts.

    Raises:
        ConfigurationError: The environment names a proxy that is no http:// or https:// one.
    """

    def __init__(self, setting: str | None) -> None:
        self._environment: dict[str, str] | None = None
        one = None if setting in {None, ENVIRONMENT} else proxy_from(str(setting), "The proxy")
        self._by_scheme: dict[str, Proxy | None] = {"http": one, "https": one}
        if setting == ENVIRONMENT:
            self._environment = urllib.request.getproxies_environment()
            found = self._environment or urllib.request.getproxies()  # else what the system (macOS, Windows) is set to
            for scheme in self._by_scheme:
                if text := found.get(scheme) or found.get("all"):
                    self._by_scheme[scheme] = proxy_from(
                        text if "://" in text else f"http://{text}", f"The environment's proxy for {scheme}://"
                    )

    @property
    def speak_tls(self) -> bool:
        """Whether one of them is reached by https://."""
        return any(proxy is not None and proxy.url.scheme == "https" for proxy in self._by_scheme.values())

    def to(self, origin: str) -> Proxy | None:
        """The proxy for an origin; None goes straight there."""
        parts = urlsplit(origin)
        proxy = self._by_scheme.get(parts.scheme)
        if proxy is None or self._environment is None:
            return proxy
        if not self._environment:
            return None if urllib.request.proxy_bypass(parts.netloc) else proxy
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return None if _is_among(parts.hostname or "", port, self._environment.get("no", "")) else proxy


def proxy_from(text: str, what: str) -> Proxy:
    """From the URL that people write, with `user:password@` where the proxy asks for that.

    Example:
        >>> proxy_from("http://ada:secret@proxy.example:3128", "The proxy")
        Proxy(url=URL('http://proxy.example:3128'))
    """
    try:
        url: URL | None = URL(text)
    except ValueError:
        url = None
    if url is None or url.scheme not in {"http", "https"} or not url.host or not url.port:
        socks = " SOCKS is not spoken here." if text.startswith("socks") else ""
        raise ConfigurationError(
            f"{what} {REDACTION.url(text)!r} is no http:// or https:// URL.{socks}",
            hint='Write proxy="http://proxy.example:3128", or "environment" (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY).',
        )
    headers = {}
    if url.user is not None:
        pair = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode("ascii")
        headers["Proxy-Authorization"] = f"Basic {pair}"
    return Proxy(URL.build(scheme=url.scheme, host=url.host, port=url.port), headers)


def _is_among(host: str, port: int, excepted: str) -> bool:
    """Whether NO_PROXY names it: by `*`, `example.com` (all below it, too), `example.com:8443`, `10.0.0.0/8`, `::1`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in (entry.strip() for entry in excepted.split(",")):
        try:
            network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:  # a name
            name, _, only = entry.lower().partition(":")
            name = name.lstrip(".")
            fits = name == "*" or (name and (host == name or host.endswith(f".{name}")))
            if fits and only in {"", str(port)}:
                return True
        else:
            if address is not None and address in network:
                return True
    return False
