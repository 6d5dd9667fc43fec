"""Builds Consona, installs the wheel in an empty environment, and uses it there, as a new user would.

The source archive is built first and the wheel from it, so a file that one of them lacks is noticed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = "Scripts" if os.name == "nt" else "bin"


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command; its output, or the end of this check with that output."""
    shown = " ".join(Path(command[0]).name if i == 0 else str(part) for i, part in enumerate(command))
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        sys.exit(f"{shown}\n{done.stdout}\n{done.stderr}\nended with {done.returncode}.")
    print(f"{shown}: ok")
    return done.stdout


def check_contents(wheel: Path) -> None:
    """The wheel has every file of the package, and nothing beside it."""
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = ROOT / "src" / "consona"
    ours = call("git", "ls-files", "-z", "--", "src/consona", cwd=ROOT) if (ROOT / ".git").exists() else ""
    wanted = {name.removeprefix("src/") for name in ours.split("\0") if name and (ROOT / name).exists()}
    if missing := wanted - inside:
        sys.exit(f"The wheel lacks: {', '.join(sorted(missing))}")
    if foreign := {name for name in inside if not name.startswith(f"{package.name}/")}:
        sys.exit(f"The wheel has what is not the package's: {', '.join(sorted(foreign))}")


def readme_program() -> str:
    """The first program of the README."""
    found = re.search(
        r"^```python[^\n]*\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    if found is None:
        sys.exit("README.md has no program.")
    return found[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=ROOT)
        [wheel] = (folder / "dist").glob("*.whl")
        check_contents(wheel)
        call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
        python = folder / "venv" / BIN / "python"
        call(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
        call(python, "-m", "pip", "check", cwd=folder)
        call(folder / "venv" / BIN / "consona", "--help", cwd=folder)
        program = folder / "program.py"
        program.write_text(readme_program(), encoding="utf-8")
        print(call(python, "-W", "error", program, cwd=folder), end="")


if __name__ == "__main__":
    main()
