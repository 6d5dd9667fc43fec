"""Which addresses the public internet has: what may be connected to when a stranger chose the URL.

A webhook goes wherever a customer says. Without this, "wherever" includes the cloud's metadata service, the
database and this machine itself (server-side request forgery).

Source: OWASP API Security Top 10, API7:2023; the registries of RFC 6890, as `ipaddress` has them.
"""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["is_public"]

NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
SITE_LOCAL: Final = ipaddress.IPv6Network("fec0::/10")


def is_public(address: str) -> bool:
    """Whether an IP address (not a name) belongs to the public internet.

    Addresses that carry another one inside (IPv4 in IPv6, 6to4, Teredo, NAT64) are judged by that one too.

    Example:
        >>> is_public("93.184.215.14"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1")
        (True, False, False)
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inside: ipaddress.IPv4Address | None = None
    if isinstance(found, ipaddress.IPv6Address):
        if found in SITE_LOCAL:
            return False
        teredo = found.teredo
        inside = found.ipv4_mapped or found.sixtofour or (teredo[1] if teredo is not None else None)
        if any(found in network for network in NAT64):
            inside = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
    if inside is not None:
        return _global(inside)
    return _global(found)


def _global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved
