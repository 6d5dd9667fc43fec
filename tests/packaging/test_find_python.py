"""`make` finds a Python that is new enough, or says clearly what is wrong with those that it found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "find-python"

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="make needs a POSIX shell")


def find(*candidates: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", SCRIPT, *candidates], capture_output=True, text=True, check=False)


def fake_python(folder: Path, name: str, version: str, *, code: str) -> str:
    """A program that answers like a Python: its version when asked for it, `code` to every other question."""
    path = folder / name
    path.write_text(f'#!/bin/sh\ncase "$2" in *print*) echo {version};; *ensurepip*) {code};; *) exit 1;; esac\n')
    path.chmod(0o755)
    return str(path)


def test_a_new_python_is_taken():
    assert find(sys.executable).stdout.strip() == sys.executable


def test_an_old_python_is_passed_over(tmp_path):
    old = fake_python(tmp_path, "python3", "3.8", code="exit 0")
    assert find(old, sys.executable).stdout.strip() == sys.executable


def test_without_a_new_one_the_versions_found_are_told(tmp_path):
    done = find(fake_python(tmp_path, "python3", "3.8", code="exit 0"))
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.8 (too old)" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_without_any_python_that_is_told(tmp_path):
    done = find(str(tmp_path / "nothing-here"))
    assert done.returncode == 1
    assert "None was found" in done.stderr
