"""How far a pipeline has come. It is kept by the target, together with the rows, wherever the target can."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from consona.errors import ConfigurationError

__all__ = ["State", "pack_value", "unpack_value"]


class State(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Of one pipeline at one target."""

    version: int = 1
    run: str = ""
    """The run that wrote it last."""
    finished: bool = True
    """Whether that run came to its end; else the next one goes on where it stopped."""
    position: Any = None
    """Where the source goes on."""
    began: Any = None
    """Where the source stood when the run began: it goes on from there where rows are committed at the end only."""
    batches: int = 0
    read: int = 0
    loaded: int = 0
    rejected: int = 0
    quarantine: int = 0
    """How long the quarantine is: what is beyond it was never committed."""
    quarantine_began: int = 0
    """How long it was when the run began."""
    started_at: float = 0.0
    """Seconds since the epoch."""
    finished_at: float = 0.0
    generation: int = 0
    """Counts the runs, so that one which lost its place cannot write any more."""

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @staticmethod
    def decode(text: str | bytes) -> State:
        state = msgspec.json.decode(text, type=State)
        if state.version > 1:
            raise ConfigurationError(
                f"The pipeline's state has version {state.version}; this release of Consona knows version 1.",
                hint="Use the release that wrote it, or a newer one.",
            )
        return state


_TO_TEXT: Final[dict[type, tuple[str, Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
    bytes: ("bytes", bytes.hex),
}
_FROM_TEXT: Final[dict[str, Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": bytes.fromhex,
}


def pack_value(value: Any) -> Any:
    """A value of a cursor as JSON that says its type.

    Example:
        >>> pack_value(date(2024, 5, 1)), pack_value(7)
        ({'date': '2024-05-01'}, 7)
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    found = _TO_TEXT.get(type(value))
    if found is None:
        raise ConfigurationError(
            f"A cursor cannot be of the type {type(value).__name__}.",
            hint="Use a number, a text, a time, or a UUID.",
        )
    name, to_text = found
    return {name: to_text(value)}


def unpack_value(packed: Any) -> Any:
    """What `pack_value` made JSON of."""
    if isinstance(packed, dict):
        [(name, text)] = packed.items()
        return _FROM_TEXT[name](text)
    return packed
