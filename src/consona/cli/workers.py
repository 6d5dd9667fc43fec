"""Worker processes of one service, as programs for the supervisor."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from consona.cli.serving import Serving
from consona.cli.supervisor import Program

__all__ = ["MAY_SHARE", "worker_program"]

MAY_SHARE: Final = sys.platform != "win32"
"""Whether a listening socket can be handed down to several processes."""


def worker_program(
    serving: Serving,
    name: str,
    listener: socket.socket | None,
    *,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Program:
    """A process that serves on `listener`; without one, it binds the host and port of `serving` itself."""
    fds = () if listener is None else (listener.fileno(),)
    serving = msgspec.structs.replace(serving, fd=fds[0] if fds else None)
    settings = msgspec.json.encode(serving).decode()
    command = (sys.executable, "-m", "consona.cli.serve", name, settings)
    return Program(name=name, command=command, env=env or {}, folder=folder, fds=fds)
