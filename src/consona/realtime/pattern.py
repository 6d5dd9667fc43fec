"""Names of channels with variables: `chat.{room}`."""

from __future__ import annotations

import re
from typing import Final

from consona.errors import ConfigurationError

__all__ = ["Pattern"]

_VARIABLE: Final = re.compile(r"\{([^{}]*)\}")


class Pattern:
    """A name of a channel in which `{name}` stands for one or more characters without a dot.

    Raises:
        ConfigurationError: It is no such name.

    Example:
        >>> Pattern("chat.{room}").match("chat.tea")
        {'room': 'tea'}
        >>> Pattern("chat.{room}").match("chat.tea.late") is None
        True
    """

    __slots__ = ("_expression", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = tuple(_VARIABLE.findall(text))
        rest = _VARIABLE.sub("", text)
        if not text or "{" in rest or "}" in rest or not all(name.isidentifier() for name in self.names):
            raise ConfigurationError(f"{text!r} is no pattern of channels.", hint="Write it like chat.{room}.")
        if len(set(self.names)) < len(self.names):
            raise ConfigurationError(f"{text!r} names a variable twice.")
        parts = _VARIABLE.split(text)
        self._expression = re.compile(
            "".join(f"(?P<{part}>[^.]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
        )

    def match(self, channel: str) -> dict[str, str] | None:
        """The variables of a channel's name; None where it does not fit."""
        found = self._expression.fullmatch(channel)
        return None if found is None else found.groupdict()
