"""The strict type checker accepts a user's right program, and finds the mistakes in a wrong one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Runs mypy as a user would: on the installed package, without this project's settings."""
    cache = tmp_path_factory.mktemp("mypy")

    def run(program: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            f"--cache-dir={cache}",
            str(HERE / program),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)

    return run


def test_a_right_program_has_the_types_that_it_states(mypy):
    done = mypy("user_program.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_mistake_of_a_wrong_program_is_found(mypy):
    lines = (HERE / "wrong_program.py").read_text(encoding="utf-8").splitlines()
    wanted = {(n, found[1]) for n, line in enumerate(lines, 1) if (found := re.search(r"# wrong: (\S+)", line))}
    said = mypy("wrong_program.py").stdout
    assert {(int(n), code) for n, code in re.findall(r"^\S+?:(\d+): error: .*\[(\S+)\]$", said, re.MULTILINE)} == wanted
