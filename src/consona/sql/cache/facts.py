"""What is known of a statement without running it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Facts"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a statement."""

    reads: frozenset[str] = frozenset()
    """The tables that it reads: `users`, or `other.users` where it names the schema. In small letters, unless quoted or on MySQL."""
    writes: frozenset[str] | None = frozenset()
    """The tables that it changes; None where that cannot be known."""
    reason: str = ""
    """Why its answer is not kept; empty where it may be."""
