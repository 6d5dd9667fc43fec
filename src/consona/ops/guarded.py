"""Who may look at the dashboard, as long as it has no accounts: this machine, under its own name.

Anyone who can reach a loopback port could be a web page in a browser on this machine, whose host
name was made to resolve to 127.0.0.1 after it was loaded (DNS rebinding). Its requests bear its own
name in `Host`, so they are told apart by that.

Source: OWASP, "DNS rebinding"; W3C Content Security Policy Level 3.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any, Final

__all__ = ["HEADERS", "LOOPBACK", "host_name", "is_local", "refusal"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def refusal(scope: Mapping[str, Any], *, hosts: Collection[str], remote: bool) -> str:
    """Why this request is refused, in a sentence; empty where it is not."""
    client = scope.get("client")
    if not remote and client is not None and not is_local(client[0]):
        return "The dashboard has no accounts yet, so it answers this machine only."
    sent = [value for name, value in scope["headers"] if name == b"host"]
    if len(sent) != 1 or host_name(sent[0].decode("latin-1")) not in hosts:
        return (
            "The dashboard does not answer under this host name. Open it as localhost, or name the host at its start."
        )
    return ""


def host_name(host: str) -> str:
    """The name or address in a `Host` header, without port and brackets, in lower case.

    Example:
        >>> host_name("LocalHost:8080"), host_name("[::1]:8080"), host_name("::1")
        ('localhost', '::1', '')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, _, port = host.partition(":")
    return "" if ":" in port else name.lower().removesuffix(".")


def is_local(address: str) -> bool:
    """Whether a peer's address belongs to this machine. A Unix socket's peer has none, and is local.

    Example:
        >>> is_local("127.0.0.1"), is_local("::ffff:127.0.0.1"), is_local("10.0.0.7")
        (True, True, False)
    """
    if not address:
        return True
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
