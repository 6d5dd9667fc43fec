"""What flows through a pipeline: batches of rows, each with the place where its source goes on after it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Batch", "Position", "Rejected", "Row"]

Row = dict[str, Any]
Position = Any
"""Where a source goes on: data that can be written as JSON, known to that source alone. None is its beginning."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that a stage refused."""

    number: int
    """Which row of the run it is; the first is 1."""
    stage: str
    """`extract`, `transform`, `validate` or `load`."""
    fields: tuple[str, ...]
    """Which fields are wrong; empty where it is the whole row."""
    reason: str
    original: Any
    """The row as the source gave it."""
    at: str = ""
    """Where in the source it stands: `orders.csv:17`."""


@dataclass(slots=True)
class Batch:
    """Some rows on their way.

    `numbers` tells of each of `rows` which row of the run it was made of, so that a stage may drop rows or make
    several of one, and a refused row can still be told with its original.
    """

    rows: list[Any]
    originals: list[Any]
    """As the source gave them."""
    first: int
    """The number of the first of `originals` in this run."""
    position: Position
    """Where the source goes on after them."""
    numbers: list[int]
    count: int
    """How many rows of the source it was made of."""
    rejected: list[Rejected] = field(default_factory=list)
    places: list[str] | None = None
    """Where in the source each of `originals` stands, where it can tell."""

    def replace(self, rows: list[Any]) -> None:
        """Other rows in the place of all: nobody knows which of them was made of which, so each is its own original."""
        self.rows = self.originals = rows
        self.numbers = list(range(self.first, self.first + len(rows)))
        self.places = None

    def reject(self, number: int, stage: str, reason: str, *fields: str) -> None:
        """Note that the row is refused. The stage leaves it out of `rows` and `numbers`."""
        at = self.places[number - self.first] if self.places else ""
        self.rejected.append(Rejected(number, stage, fields, reason, self.originals[number - self.first], at))
