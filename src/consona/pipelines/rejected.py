"""Refused rows, run once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from consona.errors import ConfigurationError
from consona.part import Part
from consona.pipelines.batch import Position
from consona.pipelines.quarantine import FileQuarantine, Quarantine
from consona.pipelines.source import Extracted, Room

__all__ = ["RejectedSource"]


class RejectedSource:
    """The originals of a quarantine in a file.

    What is refused again goes to a file beside; when all are through, that takes the place of the first one. The name
    of the source's position is the file's mark, so who was cut off between the two only changes the names.
    """

    incremental = False
    resumable = True

    def __init__(self, quarantine: Quarantine | None) -> None:
        if not isinstance(quarantine, FileQuarantine):
            raise ConfigurationError(
                "Only rows in the file of a quarantine can be run again.",
                hint='Give the pipeline one: validate(…, quarantine="rejected.jsonl").',
            )
        self._path = quarantine.path
        self.name = str(self._path)
        self.quarantine = FileQuarantine(self._path.with_name(f"{self._path.name}.again"))

    @property
    def parts(self) -> Sequence[Part]:
        return ()

    async def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        done = position or 0
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(done)
            while lines := await asyncio.to_thread(file.readlines, room.rows * 200):
                done += sum(map(len, lines))
                kept: list[Any] = [msgspec.json.decode(line) for line in lines if line.strip()]
                rows = [each for each in kept if isinstance(each["original"], dict)]
                yield Extracted(
                    [each["original"] for each in rows],
                    done,
                    [each["at"] for each in rows],
                    [(each["at"], each["reason"], each["original"]) for each in kept if each not in rows],
                )

    async def settle(self) -> None:
        """All are through: what was refused again is the quarantine now."""
        await asyncio.to_thread(self._settle)

    def _settle(self) -> None:
        if self.quarantine.path.exists():
            self.quarantine.path.replace(self._path)
        elif self._path.exists():
            self._path.write_bytes(b"")
