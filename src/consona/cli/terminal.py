"""How the command line speaks: whole sentences and plain text, with colour only as a help beside the words."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any, Final, TextIO

import typer

from consona.errors import ConsonaError

__all__ = ["AsJSON", "Plain", "Terminal", "complain"]

Plain = Annotated[
    bool,
    typer.Option(
        "--plain", help="No colour and no drawing. The default where there is no terminal or NO_COLOR is set."
    ),
]
AsJSON = Annotated[bool, typer.Option("--json", help="The answer as JSON, for programs.")]

COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92)
"""ANSI numbers for the names in a log of several processes; red is left out, since it would mean something."""


class Terminal:
    """Where a command writes.

    Args:
        plain: Asked for with `--plain`; without it, the stream and the environment decide.
        stream: Standard output by default.
    """

    def __init__(self, *, plain: bool = False, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.interactive = self.stream.isatty() and sys.stdin.isatty()
        self.plain = plain or not self.stream.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self._names: dict[str, int] = {}
        self._width = 0

    def say(self, text: str = "") -> None:
        """Write one line, or several, at once."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def line_of(self, name: str, text: str) -> None:
        """Write a line of the process `name`: `shop.1 | GET /products 200`."""
        colour = self._names.setdefault(name, COLOURS[len(self._names) % len(COLOURS)])
        self._width = max(self._width, len(name))
        shown = f"{name:<{self._width}} |"
        self.say(f"{shown} {text}" if self.plain else f"\x1b[{colour}m{shown}\x1b[0m {text}")

    def json(self, answer: Any) -> None:
        self.say(json.dumps(answer, indent=2, ensure_ascii=False, default=str))

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered with Enter (yes) or `n`; without a person there, the answer is no."""
        return self.interactive and typer.confirm(question, default=True)


def complain(error: ConsonaError) -> None:
    """Say on standard error what was wrong and what to do."""
    sys.stderr.write(f"Error: {error.message or type(error).__name__}\n")
    if error.hint:
        sys.stderr.write(f"What to do: {error.hint}\n")
