"""A uvicorn that our protocol cannot lean on is refused in words, before it serves anybody."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl as http

from consona.errors import ConfigurationError
from consona.rest.server.uvicorn_internals import TESTED, check_internals

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_the_one_that_is_installed_has_all_that_is_used():
    check_internals()


def test_the_package_asks_for_the_versions_that_were_tested():
    assert TESTED in tomllib.loads(PROJECT.read_text("utf-8"))["project"]["dependencies"]


class Renamed:
    """A protocol of a later version, in which everything is called something else."""

    def __init__(self):
        self.connection_state = None


@pytest.mark.parametrize(
    ("place", "name", "lacks"),
    [
        (http, "HttpToolsProtocol", r"Renamed\.config, .*Renamed\.pipeline"),
        (http, "RequestResponseCycle", r"Renamed\.disconnected"),
        (uvicorn, "Server", r"Renamed\.servers"),
    ],
    ids=["protocol", "cycle", "server"],
)
def test_one_with_other_names_is_refused_with_what_it_lacks(monkeypatch, place, name, lacks):
    monkeypatch.setattr(place, name, Renamed)
    with pytest.raises(ConfigurationError, match=rf"cannot be used: it lacks .*{lacks}") as refused:
        check_internals()
    assert refused.value.hint == f"pip install '{TESTED}'"


@pytest.mark.parametrize("name", ["STATUS_LINE", "HttpToolsProtocol"])
def test_one_without_them_is_refused_too(monkeypatch, name):
    monkeypatch.delattr(http, name)
    with pytest.raises(ConfigurationError, match=name):
        check_internals()


def test_nothing_is_served_without_the_limits():
    program = (
        "from uvicorn.protocols.http import httptools_impl as http; del http.STATUS_LINE\n"
        "import consona.rest.server.uvicorn_server"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "This version of uvicorn cannot be used: it lacks STATUS_LINE." in ended.stderr
