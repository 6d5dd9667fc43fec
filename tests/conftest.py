"""Fixtures that every test may use, and the last lines of a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say what was not found on this machine, below everything else that pytest sums up."""
    yield
    if lines := servers.missing():
        terminalreporter.section("Not on this machine", sep="-")
        for line in lines:
            terminalreporter.write_line(line)
