"""Which channels clients may join, and what is kept and told of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from consona.realtime.handler import Handler
from consona.realtime.pattern import Pattern

__all__ = ["Room", "Rooms"]


@dataclass(slots=True, kw_only=True)
class Room:
    """What holds for the channels of one pattern."""

    pattern: Pattern
    roles: frozenset[str] = frozenset()
    presence: bool = False
    history: int = 0
    check: Handler | None = None
    """Called before somebody joins; what it raises refuses them."""


class Rooms:
    """The patterns of one server. The first that fits a channel counts."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def __bool__(self) -> bool:
        return bool(self._rooms)

    def __iter__(self) -> Iterator[Room]:
        return iter(self._rooms.values())

    def declare(self, pattern: str) -> Room:
        """The room of a pattern, new or known."""
        room = self._rooms.get(pattern)
        if room is None:
            room = self._rooms[pattern] = Room(pattern=Pattern(pattern))
        return room

    def set(self, pattern: str, *, roles: Iterable[str], presence: bool, history: int) -> Room:
        """Say what holds for a pattern."""
        room = self.declare(pattern)
        room.roles, room.presence, room.history = frozenset(roles), presence, history
        return room

    def find(self, channel: str) -> tuple[Room, dict[str, str]] | None:
        """The room that a channel is of, and the variables of its name."""
        for room in self._rooms.values():
            variables = room.pattern.match(channel)
            if variables is not None:
                return room, variables
        return None

    def prepare(self) -> None:
        """Read the signatures of the checks; called when the server starts."""
        for room in self._rooms.values():
            if room.check is not None:
                room.check.prepare()
