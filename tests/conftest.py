"""Fixtures that every test may use, and the last lines of a run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import database_servers
import servers

# A shell that starts the tests in its background lets them ignore Ctrl-C, and so would every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium on this machine."""
    return servers.need("Chromium")


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core, the accessibility checker, to be run in a page."""
    return Path(servers.need("axe-core")).read_text(encoding="utf-8")


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """The address of a PostgreSQL database of our own, empty at the beginning of each test."""
    with database_servers.empty_postgresql() as url:
        yield url


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB, where this user may make one (root on Linux); else the test is skipped."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk]
    if sys.platform != "linux" or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this system does not let this user mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def mysql_url() -> Iterator[str]:
    """The address of a MariaDB or MySQL database of our own, empty at the beginning of each test."""
    with database_servers.empty_mysql() as url:
        yield url


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say what was not found on this machine, below everything else that pytest sums up."""
    yield
    if lines := servers.missing():
        terminalreporter.section("Not on this machine", sep="-")
        for line in lines:
            terminalreporter.write_line(line)
