"""Refused rows, run once more.

The file of the quarantine is moved aside, and its rows run through the pipeline under a name of their own, so that this
too can be cut off and goes on. What is refused again goes to a file beside, which is put behind the quarantine in the
end. Each of these steps is known by what it leaves, so that whoever was cut off between two does the rest.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from consona.errors import ConfigurationError, PipelineError
from consona.part import Part
from consona.pipelines.batch import Position
from consona.pipelines.files import fingerprint
from consona.pipelines.quarantine import FileQuarantine, Quarantine
from consona.pipelines.source import Extracted, Room
from consona.pipelines.state import State
from consona.pipelines.target import Target

__all__ = ["RejectedSource"]


class RejectedSource:
    """The originals of a quarantine in a file.

    Raises:
        ConfigurationError: It is in no file.
    """

    incremental = True  # the file is moved aside once, and read once
    resumable = True

    def __init__(self, quarantine: Quarantine | None) -> None:
        if not isinstance(quarantine, FileQuarantine):
            raise ConfigurationError(
                "Only rows in the file of a quarantine can be run again.",
                hint='Give the pipeline one: set_aside("rejected.jsonl").',
            )
        self._kept = quarantine
        self.name = str(quarantine.path)
        self._path = quarantine.path.with_name(f"{quarantine.path.name}.retrying")
        self.again = FileQuarantine(quarantine.path.with_name(f"{quarantine.path.name}.again"))
        """Where rows go that are refused again, until all are through."""

    @property
    def parts(self) -> Sequence[Part]:
        return ()

    async def take(self, target: Target, pipeline: str) -> None:
        """Move the file aside, unless that was done before.

        Raises:
            PipelineBusy: The pipeline is running.
            PipelineError: Its last run was cut off, so what belongs into the quarantine is not settled.
        """
        async with _place(target, pipeline) as state:
            state.quarantine = await self._kept.rewind(state.quarantine)
            if not self._path.exists() and self._kept.path.exists():
                await asyncio.to_thread(self._kept.path.replace, self._path)
                state.quarantine = 0
            await target.save(state)

    async def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        if not self._path.exists():
            return
        mark = await asyncio.to_thread(fingerprint, str(self._path))
        done = position["done"] if position and position["file"] == mark else 0
        with self._path.open("rb") as file:
            file.seek(done)
            while lines := await asyncio.to_thread(_lines, file, room.rows):
                done += sum(map(len, lines))
                rows, places, bad = [], [], []
                for kept in map(msgspec.json.decode, lines):
                    if isinstance(kept["original"], dict):
                        rows.append(kept["original"])
                        places.append(kept["at"])
                    else:
                        bad.append((kept["at"], kept["reason"], kept["original"]))
                yield Extracted(rows, {"file": mark, "done": done}, places, bad)

    async def settle(self, target: Target, pipeline: str) -> None:
        """All are through: put those that were refused again behind the quarantine.

        Raises:
            PipelineBusy: The pipeline is running; what is left to do is done by the next retry.
        """
        async with _place(target, pipeline) as state:
            state.quarantine = await self._kept.rewind(state.quarantine)
            state.quarantine = await asyncio.to_thread(self._put_behind, state.quarantine)
            await target.save(state)
            await asyncio.to_thread(self._forget)

    def _put_behind(self, length: int) -> int:
        again = self.again.path.read_bytes() if self.again.path.exists() else b""
        kept = self._kept.path.read_bytes() if self._kept.path.exists() else b""
        if not again or kept.endswith(again):  # who was cut off right after this has done it
            return length
        with self._kept.path.open("ab") as file:
            file.write(again)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _forget(self) -> None:
        self.again.path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)  # last: while it is there, a retry is under way


@asynccontextmanager
async def _place(target: Target, pipeline: str) -> AsyncGenerator[State]:
    """The pipeline's own place at its target, while no run is under way or cut off."""
    state = await target.open(pipeline)
    try:
        if not state.finished:
            raise PipelineError(
                f"The last run of the pipeline {pipeline!r} was cut off.",
                hint="Run it to its end first; then run its refused rows again.",
            )
        yield state
    finally:
        await target.close()


def _lines(file: Any, most: int) -> list[bytes]:
    return [line for _, line in zip(range(most), file, strict=False)]
