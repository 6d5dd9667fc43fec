"""Listening sockets: of a server in this process, or opened once by a supervisor and handed down to its workers.

A socket that outlives its workers refuses no connection while they are restarted: what arrives
meanwhile waits in its queue.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any, Final

from consona.errors import ConfigurationError, ConsonaError

__all__ = ["PortInUseError", "inherited", "listen_tcp", "listen_unix", "next_free_port", "url_of"]

BACKLOG: Final = 2048
PORTS_TRIED: Final = 200


class PortInUseError(ConsonaError):
    """Another program listens there. `free` is the next port that is free, or 0 where none was found."""

    code = "port_in_use"
    free: int

    def __init__(self, message: str = "", *, free: int = 0, **details: Any) -> None:
        hint = f"Port {free} is free: --port {free} (or port={free})." if free else None
        super().__init__(message, hint=hint, **details)
        self.free = free


def listen_tcp(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port` (0: any free one).

    Raises:
        PortInUseError: Somebody listens there already.
        ConfigurationError: The host is not one of this machine, or the port needs other rights.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigurationError(
            f"The host {host!r} is not known: {error.strerror}.", hint="Use 127.0.0.1, or 0.0.0.0 for every network."
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":  # there, SO_REUSEADDR would share the port with a stranger
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explained(error, host, port) from error
    return listener


def _explained(error: OSError, host: str, port: int) -> ConsonaError:
    if error.errno == errno.EADDRINUSE:
        free = next_free_port(host, port + 1)
        return PortInUseError(f"Port {port} on {host} is in use by another program.", free=free)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ConfigurationError(
            f"Port {port} may not be used by this user.", hint="Choose a port above 1023, for example --port 8000."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(
            f"{host} is not an address of this machine.", hint="Use 127.0.0.1, or 0.0.0.0 for every network."
        )
    return ConfigurationError(f"{host}:{port} cannot be listened on: {error.strerror}.")


def next_free_port(host: str, port: int) -> int:
    """The first free port from `port` on, or 0 where the next 200 are all taken."""
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        try:
            _try_port(host, candidate)
        except OSError:
            continue
        return candidate
    return 0


def _try_port(host: str, port: int) -> None:
    """Bind, and let go at once: only to see whether it can be done."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)


def listen_unix(path: str) -> socket.socket:
    """A Unix socket that listens at `path`; one that a dead program left behind is replaced.

    Raises:
        PortInUseError: Somebody listens there already.
        ConfigurationError: Something else is in its place, or it cannot be made there.
    """
    place = Path(path)
    if place.exists():
        if not stat.S_ISSOCK(place.stat().st_mode):
            raise ConfigurationError(f"{path} exists and is not a socket.", hint="Choose another path for --uds.")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) == 0:
                raise PortInUseError(f"Another program listens on {path}.")
        place.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"No socket can be made at {path}: {error.strerror}.", hint="Choose a short path in a folder of yours."
        ) from error
    listener.listen(BACKLOG)
    return listener


def inherited(fd: int) -> socket.socket:
    """The listening socket that the parent process left open as file descriptor `fd`.

    Raises:
        ConfigurationError: There is no such descriptor, or it is no listening socket.
    """
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigurationError(f"File descriptor {fd} is not a socket: {error.strerror}.") from error
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.detach()  # it stays the caller's
        raise ConfigurationError(f"The socket {fd} cannot listen: {error.strerror}.") from error
    os.set_inheritable(fd, False)  # noqa: FBT003 - positional only
    return listener


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Where a browser on this machine finds it: `http://127.0.0.1:8000`, `unix:/run/shop.sock`."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[0], name[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
