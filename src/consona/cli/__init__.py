"""The command line: `consona COMMAND`. Each command has a module of its own, imported only when it is asked for.

A module holds a function, or a `typer.Typer` with several commands, of the command's own name.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = (
    "run",
    "up",
    "new",
    "client",
    "migrate",
    "worker",
    "queue",
    "events",
    "documents",
    "keys",
    "users",
    "audit",
    "roles",
    "doctor",
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 it worked, 1 it failed, 2 it was called or configured wrongly.

    Args:
        arguments: Replaces the process's own.
    """
    # Imported here: `import consona.cli` is part of the start of every worker, and need not know the commands.
    import typer  # noqa: PLC0415

    from consona.cli.terminal import complain  # noqa: PLC0415
    from consona.errors import ConfigurationError, ConsonaError  # noqa: PLC0415

    arguments = sys.argv[1:] if arguments is None else arguments
    app = typer.Typer(
        name="consona",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_consona)
    asked = next((word for word in arguments if not word.startswith("-")), "")
    for name in [asked] if asked in COMMANDS else COMMANDS:
        command = getattr(import_module(f"consona.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    try:
        app(arguments, prog_name="consona")
    except ConsonaError as error:
        complain(error)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _consona() -> None:
    """Run, make and check applications that work with everything around them.

    Every command explains itself: consona COMMAND --help
    """
