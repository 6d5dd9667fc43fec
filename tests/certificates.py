"""An authority of the tests' own, and certificates from it: for servers, for clients, too old, for another name."""

from __future__ import annotations

import datetime as dt
import functools
import ssl
import tempfile
from pathlib import Path

import trustme

FOLDER = Path(tempfile.mkdtemp(prefix="consona-tls-"))
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@functools.cache
def authority(name: str = "ours") -> trustme.CA:
    return trustme.CA(organization_name=name)


@functools.cache
def ca_file(name: str = "ours") -> str:
    """The authority, as `TLS(ca=…)` takes it."""
    path = FOLDER / f"ca-{name}.pem"
    authority(name).cert_pem.write_to_path(path)
    return str(path)


@functools.cache
def certificate(*names: str, expired: bool = False, by: str = "ours") -> str:
    """A file with a certificate for these names, its chain and its key."""
    made = authority(by).issue_cert(*names, not_after=LONG_AGO if expired else None)
    path = FOLDER / f"{'-'.join(names)}{'-expired' if expired else ''}-{by}.pem"
    made.private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def server_context(
    *names: str, expired: bool = False, by: str = "ours", alpn: tuple[str, ...] = (), clients: bool = False
) -> ssl.SSLContext:
    """What a server for these names speaks TLS with; `clients` are then asked for a certificate of theirs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(*(names or ("localhost", "127.0.0.1")), expired=expired, by=by))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if clients:
        context.load_verify_locations(ca_file())
        context.verify_mode = ssl.CERT_REQUIRED
    return context
