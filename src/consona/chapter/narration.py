"""What a program tells while it runs: off until it is asked for, plain text, without secrets.

    narrate()                      # from here on, `show` is heard
    show("Created post", 7)
    narrate(thoughts=True)         # `think` too, and what the chapter's classes do
    narrate(False)                 # silence

It is ordinary logging, under the name `consona.chapter`: `show` at level INFO, `think` at DEBUG.
"""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

from consona.telemetry.logs import Redacted

__all__ = ["narrate", "show", "think"]

LOGGER: Final = logging.getLogger("consona.chapter")


class _Voice(logging.StreamHandler[TextIO]):
    """Each line as it was said, without time or level, to the standard output of the moment or to a file."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._given = stream
        self.addFilter(Redacted())

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._given or sys.stdout
        super().emit(record)


def narrate(on: bool = True, *, thoughts: bool = False, stream: TextIO | None = None) -> None:  # noqa: FBT001, FBT002 `narrate(False)` reads well
    """Let `show` be heard, or be silent again.

    Args:
        on: Whether anything is heard.
        thoughts: Whether `think`, and what the chapter's classes do, are heard as well.
        stream: Where it goes; by default the standard output.

    Example:
        >>> narrate()
        >>> show("The answer is", 42)
        The answer is 42
        >>> think("This is not heard.")
        >>> narrate(False)
        >>> show("Nor is this.")
    """
    for handler in [handler for handler in LOGGER.handlers if isinstance(handler, _Voice)]:
        LOGGER.removeHandler(handler)
    LOGGER.propagate = not on  # else a program that logs too would say each line twice
    LOGGER.setLevel(logging.NOTSET)
    if on:
        LOGGER.addHandler(_Voice(stream))
        LOGGER.setLevel(logging.DEBUG if thoughts else logging.INFO)


def show(*values: object) -> None:
    """Tell the reader something: the values, with a space between them."""
    LOGGER.info("%s", " ".join(map(str, values)))


def think(*values: object) -> None:
    """Tell what goes on inside. Heard with `narrate(thoughts=True)`."""
    LOGGER.debug("%s", " ".join(map(str, values)))
