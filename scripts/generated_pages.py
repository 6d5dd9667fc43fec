"""Writes the pages of the reference that are made from the code: errors.md and cli.md.

Run it after adding an error, a command or an option. A test fails while the pages are not up to date.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import typer

import consona
from consona.cli import COMMANDS
from consona.errors import ConsonaError

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
ERRORS_BEGIN = """\
# Errors

Every error that Consona raises on purpose is a `ConsonaError`.
Catch it, and you catch them all. Each class below has one code, and a code never changes its meaning.

Every error has these attributes:

- `code`: the name of the kind of error, as in the headings below.
- `message`: what was wrong, and where.
- `hint`: what to do about it.
- `status`: the HTTP status that a Consona server answers with.
- `retryable`: whether the same call may work later.
- `retry_after`: how many seconds to wait before that, or `None` where nobody knows.
- `context`: names, sizes and counts that help to find the cause. It never holds a secret.

`str(error)` is the message and the hint. How to handle errors is told in [Handle errors](../how-to/errors.md).

This page is made from the classes by `scripts/generated_pages.py`.
"""


def classes() -> list[type[ConsonaError]]:
    """All errors of the package, each before those that derive from it."""
    for found in pkgutil.walk_packages(consona.__path__, "consona."):
        importlib.import_module(found.name)

    def below(cls: type[ConsonaError]) -> list[type[ConsonaError]]:
        return [cls, *(deeper for sub in sorted(cls.__subclasses__(), key=lambda c: c.code) for deeper in below(sub))]

    return [cls for cls in below(ConsonaError) if cls.__module__.startswith("consona.")]


def prose(cls: type[ConsonaError]) -> str:
    """The docstring up to its first section (`Args:`, `Example:`, …)."""
    return re.split(r"\n\n?(?=[A-Z][a-z]+:\n)", inspect.cleandoc(cls.__doc__ or ""), maxsplit=1)[0].strip()


def entry(cls: type[ConsonaError]) -> str:
    retry = "yes, Consona's policies may try again" if cls.retryable else "no"
    parent = cls.__mro__[1]
    lines = [
        f"## {cls.code}",
        prose(cls),
        "\n".join(
            (
                f"- Class: `{cls.__module__}.{cls.__name__}`",
                *([f"- Kind of: [`{parent.__name__}`](#{anchor(parent)})"] if issubclass(parent, ConsonaError) else []),
                f"- HTTP status: {status(cls)}",
                f"- Worth a retry: {retry}",
            )
        ),
    ]
    if cls.hint:
        lines.append(f"**What to do.** {cls.hint}")
    return "\n\n".join(line for line in lines if line)


def status(cls: type[ConsonaError]) -> str:
    given = "status" in inspect.signature(cls).parameters and "status" not in vars(cls)
    return "given with the error, 400 to 599" if given else str(cls.status)


def anchor(cls: type[ConsonaError]) -> str:
    return re.sub(r"[^\w\s-]", "", cls.code).replace(" ", "-")


def errors_page() -> str:
    return ERRORS_BEGIN + "\n" + "\n\n".join(entry(cls) for cls in classes()) + "\n"


CLI_BEGIN = """\
# Command line

`consona COMMAND --help` shows in the terminal what stands here.

Output is plain text, one fact a line. Colours are used only in a terminal, never alone, and never with `--plain` or `NO_COLOR`.

The exit code is 0 if it worked, 1 if it failed, and 2 if the call or the configuration was wrong.
"""


def command_entry(name: str) -> str:
    """What a command does, with its arguments and options; of a group, also each command in it."""
    found = getattr(importlib.import_module(f"consona.cli.{name}"), name)
    app = typer.Typer(add_completion=False)
    if not isinstance(found, typer.Typer):
        app.command(name)(found)
        return explained(name, typer.main.get_command(app), "##")
    app.add_typer(found, name=name)
    app.callback()(lambda: None)
    group: Any = typer.main.get_group(app).commands[name]
    each = [explained(f"{name} {inner}", command, "###") for inner, command in group.commands.items()]
    return "\n\n".join([explained(name, group, "##"), *each])


def explained(name: str, command: Any, level: str) -> str:
    with typer.Context(command) as context:
        said = [f"{level} consona {name}", inspect.cleandoc(command.help or "")]
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            listed = [line for param in command.get_params(context) if (line := parameter_line(param, kind))]
            if listed:
                said.append(f"{level}# {title} of {name}\n\n" + "\n".join(listed))
    return re.sub(r"^Example: +(.*)$", r"```console\n$ \1\n```", "\n\n".join(said), flags=re.MULTILINE)


def parameter_line(param: Any, kind: str) -> str:
    if param.param_type_name != kind or param.hidden or param.name == "help":
        return ""
    names = (
        ", ".join([*param.opts, *param.secondary_opts])
        if kind == "option"
        else f"{param.metavar or param.name.upper()}"
    )
    default = param.default
    shown = "" if default in {None, False, ""} or callable(default) else f" By default `{default}`."
    text = (getattr(param, "help", "") or "").strip()
    return f"- `{names}`: {text}{'' if text.endswith('.') else '.'}{shown}"


def cli_page() -> str:
    return CLI_BEGIN + "\n" + "\n\n".join(command_entry(name) for name in COMMANDS) + "\n"


PAGES = {"errors.md": errors_page, "cli.md": cli_page}

if __name__ == "__main__":
    for file, make in PAGES.items():
        (REFERENCE / file).write_text(make(), encoding="utf-8")
        print(f"Wrote {file}.")
