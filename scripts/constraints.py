"""Renews constraints.txt: the newest version of everything that Consona installs, on each Python found here.

Where two Pythons need different versions, the line carries a marker. No host and no hash is written.
Run it with `make constraints`; then run the tests, and commit what they passed with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
HEADER = """\
# Versions that Consona is tested with. Made by `make constraints`; do not edit.
# Use it as: pip install -c constraints.txt consona
"""


def interpreters() -> dict[str, str]:
    """Python version -> an interpreter of it that runs, from PATH or from pyenv."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        candidates = [f"python{version}", *(str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python")))]
        for candidate in candidates:
            if shutil.which(candidate) and runs(candidate, version):
                found[version] = candidate
                break
    return found


def runs(candidate: str, version: str) -> bool:
    code = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def freeze(python: str) -> dict[str, str]:
    """Install everything in an empty environment, and say what came: package -> version."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip = [str(Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip", "hatchling", "build"], check=True)
        chosen = [argument for group in groups for argument in ("--group", group)]
        subprocess.run([*pip, "install", "--quiet", "-e", ".[all]", *chosen], cwd=ROOT, check=True)
        done = subprocess.run([*pip, "list", "--format=freeze"], capture_output=True, text=True, check=True)
    pins = dict(line.split("==", 1) for line in done.stdout.splitlines() if "==" in line)
    pins.pop("consona", None)
    pins.pop("setuptools", None)  # comes with Python up to 3.11; nothing of ours uses it
    return pins


def merged(pins: dict[str, dict[str, str]]) -> list[str]:
    """One line for a package that has one version everywhere, else one for each Python that has it."""
    lines = []
    for package in sorted({name for found in pins.values() for name in found}, key=str.lower):
        versions = {python: found[package] for python, found in pins.items() if package in found}
        if len(set(versions.values())) == 1:
            lines.append(f"{package}=={next(iter(versions.values()))}")
        else:
            lines += [f"{package}=={number} ; python_version == '{python}'" for python, number in versions.items()]
    return lines


def main() -> None:
    found = interpreters()
    if "3.11" not in found:
        sys.exit("The oldest supported Python, 3.11, was not found, and the pins must fit it.")
    pins = {}
    for version, python in found.items():
        print(f"Python {version}: installing everything")
        pins[version] = freeze(python)
    lines = merged(pins)
    if not lines:
        sys.exit("Nothing was installed: constraints.txt is left as it was.")
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} lines, from Python {', '.join(found)}")


if __name__ == "__main__":
    main()
