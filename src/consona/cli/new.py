"""`consona new`: a small project that runs and passes its tests."""

from __future__ import annotations

import importlib.metadata
import json
import keyword
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Final

import typer

from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.errors import ConfigurationError

__all__ = ["new"]

SUFFIX: Final = ".in"
TAKEN: Final = frozenset({"consona", "tests", "test"})


def new(
    name: Annotated[str, typer.Argument(help="Its name, and that of its folder: small letters, digits and -.")],
    *,
    folder: Annotated[Path, typer.Option(help="Where its folder is made.")] = Path(),
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Make a small project: a service with one resource, its test, and two commands.

    Example:  consona new my-shop && cd my-shop && make run
    """
    package = _package_of(name)
    root = folder / name
    if root.exists() and any(root.iterdir()):
        raise ConfigurationError(f"The folder {root} exists and is not empty.", hint="Choose another name.")
    made = []
    for path, text in _project(name, package):
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8", newline="\n")
        made.append(path)
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"folder": str(root), "files": made})
        return
    terminal.say(f"Made {root} with {len(made)} files:")
    for path in made:
        terminal.say(f"  {path}")
    terminal.say(f"Next:\n  cd {root}\n  make test\n  make run")


def _package_of(name: str) -> str:
    package = name.replace("-", "_")
    problem = ""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,49}", name):
        problem = "use up to 50 small letters, digits, - and _, beginning with a letter"
    elif keyword.iskeyword(package) or package in sys.stdlib_module_names:
        problem = "Python itself uses this name; choose another"
    elif package in TAKEN:
        problem = "a project needs this name for something else; choose another"
    if problem:
        raise typer.BadParameter(problem, param_hint="NAME")
    return package


def _project(name: str, package: str) -> Iterator[tuple[str, str]]:
    """(path, text) of every file, with the names put in."""
    values = {"@NAME@": name, "@PACKAGE@": package, "@REQUIREMENT@": _requirement()}
    for path, source in _templates(files("consona.cli") / "project", ""):
        text = source.read_text("utf-8")
        for mark, value in values.items():
            text = text.replace(mark, value)
        target = path.removesuffix(SUFFIX).replace("package/", f"{package}/")
        yield {"gitignore": ".gitignore"}.get(target, target), text


def _templates(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            yield from _templates(each, f"{prefix}{each.name}/")
        elif each.name.endswith(SUFFIX):
            yield prefix + each.name, each


def _requirement() -> str:
    """How the new project gets the Consona that makes it: by version, or from where this one was installed (PEP 610)."""
    distribution = importlib.metadata.distribution("consona")
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if "vcs_info" in origin:
        return f"consona @ {origin['vcs_info']['vcs']}+{origin['url']}@{origin['vcs_info']['commit_id']}"
    if "url" in origin:
        return f"consona @ {origin['url']}"
    return f"consona>={distribution.version}"
