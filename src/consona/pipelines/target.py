"""Where rows go: what a target must do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from consona.part import Part
from consona.pipelines.batch import Batch
from consona.pipelines.state import State

__all__ = ["RowsRefused", "Target"]


class RowsRefused(Exception):
    """Some rows of a batch cannot be kept by the target; for it and the pipeline only."""

    def __init__(self, problems: Sequence[tuple[int, str, tuple[str, ...]]]) -> None:
        super().__init__(f"{len(problems)} rows refused")
        self.problems = problems
        """The place in `batch.rows`, why, and which fields."""


class Target(Protocol):
    """A place that rows go to.

    The target keeps the pipeline's `State`. One that has `commits_batches` writes each batch and the state together,
    so that a run which was cut off goes on behind it; another one writes everything beside, and puts it in its
    place, with the state, in `finish`.
    """

    name: str
    guarantee: str
    """What one row that the source gave becomes here, whatever happens: `exactly once` or `at least once`."""

    @property
    def parts(self) -> Sequence[Part]: ...

    async def open(self, pipeline: str) -> State:
        """Take the pipeline's place, so that no other process runs it, and read how far it has come.

        Raises:
            PipelineBusy: Another process runs it.
        """

    def commits_batches(self, *, resumable: bool) -> bool:
        """Whether each batch is committed by itself. `resumable`: whether the source could go on after it."""

    async def begin(self, state: State, *, by_batch: bool, declared: Any) -> None:
        """A run begins, or goes on. `declared` is the type of the rows, where they are validated."""

    async def save(self, state: State) -> None:
        """Keep the state alone."""

    async def write(self, batch: Batch, state: State) -> None:
        """Write the rows. By batch: with the state, both or neither.

        Raises:
            RowsRefused: Some rows do not fit, and nothing was written. It is called again without them.
        """

    async def finish(self, state: State) -> None:
        """The source has no more rows."""

    async def close(self) -> None:
        """Give the place back; called once for each `open`, also after an error."""
