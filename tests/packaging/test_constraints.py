"""`constraints.txt` pins everything that Consona installs, and names no place to get it from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
PIN = re.compile(r"([A-Za-z0-9._-]+)==[A-Za-z0-9.!+_-]+(?: ; python_version == '3\.\d+')?")


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    requirements = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
        *(line for group in project["dependency-groups"].values() for line in group),
    ]
    names = {normal(re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]) for line in requirements}
    return sorted(names - {"consona"})


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_a_pin_without_host_or_hash(line):
    assert PIN.fullmatch(line)


@pytest.mark.parametrize("package", declared())
def test_everything_that_the_project_declares_is_pinned(package):
    pinned = {normal(found[1]) for line in LINES if (found := PIN.fullmatch(line))}
    assert package in pinned, "Run: make constraints"
