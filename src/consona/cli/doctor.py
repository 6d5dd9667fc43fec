"""`consona doctor`: whether this machine, this installation and this project are in order."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from consona.cli.answering import status_of
from consona.cli.terminal import AsJSON, Plain, Terminal
from consona.config import Config, load_config
from consona.errors import ConfigurationError

__all__ = ["Finding", "doctor"]

FASTER: Final = {"uvloop": "a faster event loop", "httptools": "a faster HTTP parser"}
EXTRAS: Final = {"otel": ("opentelemetry.sdk", "traces and metrics to an OpenTelemetry collector")}
"""extra -> (a module that it installs, what it is for)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `state` is `ok`, `note` (works, could be better) or `wrong`."""

    what: str
    state: str
    text: str


def doctor(
    place: Annotated[Path, typer.Argument(help="consona.toml, or the folder that it is in.")] = Path(),
    *,
    as_json: AsJSON = False,
    plain: Plain = False,
) -> None:
    """Look at Python, the installation, and the project; say what is wrong and what to do.

    Example:  consona doctor --json

    The exit code is 1 if something is wrong, 0 otherwise.
    """
    findings = [*_installation(), *_project(place)]
    terminal = Terminal(plain=plain)
    if as_json:
        terminal.json({"findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            terminal.say(f"{finding.state:<6} {finding.what:<{width}}  {finding.text}")
    raise typer.Exit(1 if any(finding.state == "wrong" for finding in findings) else 0)


def _installation() -> Iterator[Finding]:
    python = f"{platform.python_version()} ({platform.python_implementation()}) on {platform.system()}"
    yield Finding("python", "ok", python)
    yield Finding("consona", "ok", importlib.metadata.version("consona"))
    yield from _dependencies()
    for module, use in FASTER.items():
        if find_spec(module):
            yield Finding(module, "ok", f"{_version(module)}, {use}")
        else:
            yield Finding(module, "note", f"not installed; it would give {use}. It is left out on Windows.")
    for extra, (module, use) in EXTRAS.items():
        there = find_spec(module.partition(".")[0]) is not None and find_spec(module) is not None
        text = use if there else f"not installed; for {use}: pip install 'consona[{extra}]'"
        yield Finding(f"extra {extra}", "ok" if there else "note", text)


def _dependencies() -> Iterator[Finding]:
    """What `pip install consona` should have brought; a broken environment shows here first."""
    for line in importlib.metadata.requires("consona") or ():
        requirement, _, condition = line.partition(";")
        if condition:  # an extra, or bound to a system: looked at by name above
            continue
        name = re.split(r"[<>=!~ \[]", requirement.strip(), maxsplit=1)[0]
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "wrong", f"is not installed. Run: pip install '{requirement.strip()}'")


def _project(place: Path) -> Iterator[Finding]:
    try:
        config = load_config(place)
    except ConfigurationError as error:
        there = place.is_file() or (place / "consona.toml").exists()
        for line in str(error).splitlines():
            yield Finding("project", "wrong" if there else "note", line)
        return
    yield Finding("project", "ok", f"{config.system.name}, {len(config.services)} services, in {config.folder}")
    if not os.access(config.folder, os.W_OK):
        yield Finding("project", "wrong", f"{config.folder} cannot be written to by this user.")
    yield from asyncio.run(_answers(config))


async def _answers(config: Config) -> list[Finding]:
    places = [(f"service {name}", service.host, service.port) for name, service in config.services.items()]
    if config.dashboard is not None:
        places.append(("dashboard", config.dashboard.host, config.dashboard.port))
    found = []
    for what, host, port in places:
        url = f"http://{host}:{port}"
        status = await status_of(url) if port else 0
        text = f"answers at {url}" if status else f"does not answer at {url}; consona up starts it"
        found.append(Finding(what, "ok" if status else "note", text))
    return found


def _version(module: str) -> str:
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
