"""What the tests use beyond Python: how it is found, and how to have it.

    chromium = servers.need("Chromium")       # its path; without it the test is skipped, in CI it fails

What was not found is listed in the last lines of a run (see `conftest.py`). In CI (`CI=true`) nothing is
skipped: a missing server fails the test that needs it.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
MAC_CHROME = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


@dataclass(frozen=True)
class Server:
    """Something that is not part of Python, and that some tests need."""

    find: Callable[[], str | None]
    """Its path or address, or None where it is not on this machine."""
    tests: str
    """What is tested with it."""
    how: str
    """How to have it."""
    there: Callable[[], object] | None = None
    """Whether it could be found, where finding it would start it."""


def _chromium() -> str | None:
    named = os.environ.get("CONSONA_CHROMIUM")
    if named:
        return named if Path(named).exists() else None
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    return str(MAC_CHROME) if MAC_CHROME.exists() else None


def _axe() -> str | None:
    path = Path(os.environ.get("CONSONA_AXE") or ROOT / "node_modules" / "axe-core" / "axe.min.js")
    return str(path) if path.exists() else None


def database_servers() -> ModuleType:
    """Loaded late: it needs the drivers, and this module."""
    return importlib.import_module("database_servers")


def _on_node(package: str) -> str | None:
    """The path of Node, where it and this package of npm are here."""
    return shutil.which("node") if (ROOT / "node_modules" / package / "package.json").exists() else None


SERVERS: dict[str, Server] = {
    "oidc-provider": Server(
        find=lambda: _on_node("oidc-provider"),
        tests="signing in with a foreign OpenID Connect provider",
        how="npm install --no-save --no-package-lock oidc-provider@9.13.3, and node.",
    ),
    "AsyncAPI parser": Server(
        find=lambda: _on_node("@asyncapi/parser"),
        tests="the AsyncAPI documents with the parser of those who wrote the specification",
        how="npm install --no-save --no-package-lock @asyncapi/parser@3.6.6, and node.",
    ),
    "CloudEvents SDK": Server(
        find=lambda: _on_node("cloudevents"),
        tests="CloudEvents with the SDK for Node of those who wrote the specification",
        how="npm install --no-save --no-package-lock cloudevents@10.0.0, and node.",
    ),
    "Chromium": Server(
        find=_chromium,
        tests="the pages in a real browser",
        how="Debian: apt install chromium. Or name yours: CONSONA_CHROMIUM=/path/to/chrome.",
    ),
    "PostgreSQL": Server(
        find=lambda: database_servers().postgresql(),
        there=lambda: database_servers().postgresql_there(),
        tests="everything on PostgreSQL",
        how="Debian: apt install postgresql (its programs are enough). Or name yours, with a superuser:"
        " CONSONA_POSTGRESQL=postgresql://user:password@host/database.",
    ),
    "MariaDB": Server(
        find=lambda: database_servers().mysql(),
        there=lambda: database_servers().mysql_there(),
        tests="everything on MariaDB and MySQL",
        how="Debian: apt install mariadb-server (its programs are enough). Or name yours, with a user who may do"
        " everything: CONSONA_MYSQL=mysql://user:password@host/database.",
    ),
    "Redis": Server(
        find=lambda: database_servers().redis(),
        there=lambda: database_servers().redis_there(),
        tests="everything on Redis",
        how="Debian: apt install redis-server (its program is enough).",
    ),
    "axe-core": Server(
        find=_axe,
        tests="the accessibility of the pages",
        how="npm install --no-save --no-package-lock axe-core. Or name its file: CONSONA_AXE=/path/to/axe.min.js.",
    ),
}


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in {"", "0", "false"}


def need(name: str) -> str:
    """The path or address of what a test needs; where it is missing, the test is skipped (in CI it fails)."""
    server = SERVERS[name]
    found = server.find()
    if found is not None:
        return found
    reason = f"{name} was not found. {server.how}"
    if in_ci():
        pytest.fail(f"{reason} In CI nothing is skipped.", pytrace=False)
    pytest.skip(reason)


def missing() -> list[str]:
    """One line for each server that is not on this machine."""
    return [
        f"{name} was not found, so these tests did not run: {server.tests}. {server.how}"
        for name, server in SERVERS.items()
        if (server.there or server.find)() is None
    ]
