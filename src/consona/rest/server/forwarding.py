"""Who really asks, where proxies stand between: what those that are ours wrote, and nothing that a stranger can write.

Every proxy adds the address that it sees to the end of a header. So the list is read from its end, as long
as the one who wrote the entry is trusted; the first address that is not trusted is the client, and what stands
before it was written by the client itself. One header is believed, the one that `ServerSettings.proxy_header`
names: a proxy that writes one of the two passes the other on as the client sent it.

Source: RFC 7239 (Forwarded); X-Forwarded-For has no standard.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

__all__ = ["client_address", "forwarded_for"]

_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)', re.IGNORECASE)
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')


def client_address(peer: str, entries: Sequence[str], trusted: Callable[[str], bool]) -> str:
    """The client's address: the peer's, unless that is a trusted proxy.

    Args:
        peer: The address of the other end of the connection; empty for a Unix socket.
        entries: What the proxies wrote, the nearest last.
        trusted: Whether an address is that of a proxy of ours.

    Example:
        >>> client_address("10.0.0.1", ["6.6.6.6", "8.8.8.8", "10.0.0.2"], lambda ip: ip.startswith("10."))
        '8.8.8.8'
    """
    address = peer
    for entry in reversed(entries):
        if not trusted(address):
            break
        found = _plain_address(entry)
        if not found:  # `unknown`, or hidden on purpose: the proxy that says so is as far as we see
            break
        address = found
    return address


def forwarded_for(name: str, values: Sequence[str]) -> list[str]:
    """The entries of all headers of that name (`x-forwarded-for` or `forwarded`), in order."""
    whole = ",".join(values)
    if name != "forwarded":
        return [entry.strip() for entry in whole.split(",") if entry.strip()]
    found = []
    for element in _ELEMENT.findall(whole):
        node = _FOR.search(element)
        found.append(re.sub(r"\\(.)", r"\1", node[1].strip('"')) if node else "unknown")
    return found


def _plain_address(entry: str) -> str:
    """The address without brackets and port, in its usual form; empty where it is none."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return str(ipaddress.ip_address(entry))
    except ValueError:
        return ""
