"""A Python for a peer whose packages cannot stand beside ours."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

__all__ = ["python_with"]

ROOT = Path(__file__).parents[1]


def python_with(requirement: str) -> Path | None:
    """A Python with this package, and with all of ours behind it; None, with a word, where it cannot be installed.

    It is made once, in `.venv-NAME` beside the project.
    """
    folder = ROOT / f".venv-{requirement.partition('==')[0]}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "made-for"
    wanted = f"{requirement} {sys.version} {sys.prefix}"
    if done.is_file() and done.read_text("utf-8") == wanted:
        return python
    venv.create(folder, clear=True, with_pip=True)
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check", requirement], check=False
    )
    if installed.returncode:
        print(f"{requirement} could not be installed; it is left out.", file=sys.stderr)
        return None
    ours = sysconfig.get_path("purelib")
    theirs = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(theirs) / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n", "utf-8")
    done.write_text(wanted, "utf-8")
    return python
