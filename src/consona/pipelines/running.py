"""How a pipeline runs: its stages overlap, one batch in flight in each.

What makes a row arrive exactly once is the order of three things. The quarantine is written first, and its length
noted in the state; then the target commits the rows together with the state; and a run that finds the state of one
which was cut off cuts the quarantine back to that length, and lets the source go on at that position.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from consona.errors import PipelineError
from consona.pipelines.ahead import ahead
from consona.pipelines.batch import Batch, Rejected
from consona.pipelines.errors import ExpectationFailed, RowRejected, TooManyRejected
from consona.pipelines.expectations import Expect
from consona.pipelines.file_writers import plain_rows
from consona.pipelines.report import Report
from consona.pipelines.source import Room, Source
from consona.pipelines.sql_schema import columns_of_rows
from consona.pipelines.state import State
from consona.pipelines.steps_over_all import AsyncMap, SupportsRun
from consona.pipelines.target import RowsRefused, Target

if TYPE_CHECKING:
    from consona.pipelines.pipeline import Pipeline

__all__ = ["Preview", "Progress", "Run", "preview"]

LEAST_FOR_SHARE: Final = 1000
"""From how many rows on a share of refused ones is held against the limit before the end."""
MOST_REASONS: Final = 20
FIRST_ROWS: Final = 500
"""How many rows the first batch has: nothing is known yet of how large they are."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    read: int
    loaded: int
    rejected: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows read a second."""
        return self.read / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Preview:
    """What a run would do with some rows."""

    rows: list[Any] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Field -> the type of its values."""


class Run:
    """One run of a pipeline, whose parts are started."""

    def __init__(
        self, pipeline: Pipeline, source: Source, target: Target, progress: Callable[[Progress], None] | None
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._target = target
        self._progress = progress
        self._reasons: Counter[str] = Counter()
        self._last: Any = None
        self.report = Report(pipeline=pipeline.name, run="", guarantee=pipeline.guarantee)

    async def run(self) -> Report:
        pipeline, target = self._pipeline, self._target
        began = time.monotonic()
        state = await target.open(pipeline.name)
        try:
            async with AsyncExitStack() as stack:
                executor = ThreadPoolExecutor(1, thread_name_prefix=f"pipeline {pipeline.name}")
                stack.callback(executor.shutdown)
                for step in pipeline.steps:
                    if isinstance(step, SupportsRun):
                        await stack.enter_async_context(step.running())
                await self._move(state, executor, began)
        finally:
            self.report.seconds = time.monotonic() - began
            await target.close()
        return self.report

    async def _move(self, state: State, executor: ThreadPoolExecutor, began: float) -> None:
        pipeline, target, report = self._pipeline, self._target, self.report
        resumable = self._source.resumable and not pipeline._sees_all()
        by_batch = target.commits_batches(resumable=resumable)
        await self._begin(state, resumable=resumable and by_batch)
        await target.begin(state, by_batch=by_batch, declared=pipeline.declared)
        extracted = ahead(self._extract(state.position, state.read))
        transformed = ahead(transform(extracted, pipeline.steps, executor))
        async with aclosing(transformed):
            async for batch in transformed:
                state.batches += 1
                state.read += batch.count
                self._last = batch.position
                if resumable and by_batch:
                    state.position = batch.position
                await self._load(batch, state)
                self._note(state)
                self._hold_limit(state, at_least=LEAST_FOR_SHARE)
                if self._progress is not None:
                    self._progress(Progress(state.read, state.loaded, state.rejected, time.monotonic() - began))
        self._hold_limit(state, at_least=1)
        self._hold_expectations()
        state.finished, state.finished_at = True, time.time()
        state.position = self._last if self._source.incremental else None
        await target.finish(state)
        report.finished = True
        report.changes = list(getattr(target, "changes", ()))
        self._note(state)

    async def _begin(self, state: State, *, resumable: bool) -> None:
        """Make the state that of this run: a new one, or the one that was cut off.

        It is kept before the first row moves, so that a run which is cut off in its first batch is known too: by the
        name under which an API got its rows, and by the length of the quarantine.
        """
        self.report.resumed = resumable and not state.finished
        length = state.quarantine
        if state.finished:
            state.run, state.started_at = uuid.uuid4().hex, time.time()
            state.began = state.position if self._source.incremental else None
        elif not resumable:
            length = state.quarantine_began
        if not self.report.resumed:
            state.position, state.finished = state.began, False
            state.read = state.loaded = state.rejected = 0
        if self._pipeline.quarantine is not None:
            state.quarantine = await self._pipeline.quarantine.rewind(length)
            if not self.report.resumed:
                state.quarantine_began = state.quarantine
        self._last = state.position
        self.report.run = state.run
        await self._target.save(state)

    async def _extract(self, position: Any, done: int) -> AsyncGenerator[Batch]:
        first = done + 1
        room = Room(min(FIRST_ROWS, self._pipeline.batch_rows))
        async with aclosing(self._source.batches(position, room=room)) as found:
            async for each in found:
                originals = each.rows + [text for _, _, text in each.bad]
                places = (each.places or [""] * len(each.rows)) + [at for at, _, _ in each.bad]
                numbers = list(range(first, first + len(each.rows)))
                batch = Batch(
                    each.rows,
                    originals,
                    first,
                    each.position,
                    numbers,
                    len(originals),
                    places=places if any(places) else None,
                )
                for offset, (_, reason, _) in enumerate(each.bad, len(each.rows)):
                    batch.reject(first + offset, "extract", reason)
                first += len(originals)
                room.rows = self._fitting(each.rows)
                yield batch

    def _fitting(self, rows: list[Any]) -> int:
        """How many rows like these a batch may have, by the size of some of them as JSON."""
        pipeline = self._pipeline
        some = rows[:: max(1, len(rows) // 8)]
        size = sum(len(msgspec.json.encode(row, enc_hook=repr)) for row in some) / len(some) if some else 0
        return max(1, min(pipeline.batch_rows, int(pipeline.batch_bytes / max(size, 1))))

    async def _load(self, batch: Batch, state: State) -> None:
        """Quarantine first, then the rows with the state that knows how long it is."""
        before = len(batch.rejected)
        await self._set_aside(batch.rejected, state)
        while True:
            state.loaded += len(batch.rows)
            try:
                await self._target.write(batch, state)
            except RowsRefused as refused:
                state.loaded -= len(batch.rows)
                gone = set()
                for place, reason, fields in refused.problems:
                    batch.reject(batch.numbers[place], "load", reason, *fields)
                    gone.add(place)
                batch.rows = [row for place, row in enumerate(batch.rows) if place not in gone]
                batch.numbers = [number for place, number in enumerate(batch.numbers) if place not in gone]
                await self._set_aside(batch.rejected[before:], state)
                before = len(batch.rejected)
            else:
                break
        self.report.left_out += max(0, batch.count - len(batch.rows) - len(batch.rejected))

    async def _set_aside(self, rejected: list[Rejected], state: State) -> None:
        if not rejected:
            return
        pipeline = self._pipeline
        if pipeline.quarantine is None:
            first = rejected[0]
            where = f"row {first.number}" + (f" ({first.at})" if first.at else "")
            raise RowRejected(
                f"The pipeline {pipeline.name!r} stopped at {where}: {first.reason}.",
                context={"row": first.number, "stage": first.stage, "fields": list(first.fields)},
            )
        state.quarantine = await pipeline.quarantine.add(pipeline.name, state.run, rejected)
        state.rejected += len(rejected)
        for each in rejected:
            if each.reason in self._reasons or len(self._reasons) < MOST_REASONS:
                self._reasons[each.reason] += 1

    def _hold_limit(self, state: State, *, at_least: int) -> None:
        limit = self._pipeline.max_rejected
        if limit is None or not state.rejected:
            return
        allowed = limit * state.read if limit < 1 else limit
        if state.rejected > allowed and (limit >= 1 or limit == 0 or state.read >= at_least):
            raise TooManyRejected(
                f"{state.rejected} of {state.read} rows of the pipeline {self._pipeline.name!r} were rejected;"
                f" {limit:g} {'of all' if limit < 1 else 'rows'} is the limit.",
                context={"reasons": dict(self._reasons.most_common(5))},
            )

    def _hold_expectations(self) -> None:
        for step in self._pipeline.steps:
            if isinstance(step, Expect) and (problems := step.problems()):
                if step.otherwise == "fail":
                    raise ExpectationFailed(
                        f"The run of {self._pipeline.name!r} is not as expected: {'; '.join(problems)}."
                    )
                self.report.warnings += problems

    def _note(self, state: State) -> None:
        report = self.report
        report.read, report.loaded, report.rejected = state.read, state.loaded, state.rejected
        report.batches = state.batches
        report.reasons = dict(self._reasons.most_common())


async def transform(
    batches: AsyncGenerator[Batch], steps: list[Any], executor: ThreadPoolExecutor
) -> AsyncGenerator[Batch]:
    """Each batch after all steps; on a thread, so that the event loop stays free."""
    loop = asyncio.get_running_loop()
    groups = _groups(steps)
    async with aclosing(batches):
        async for batch in batches:
            for group in groups:
                if isinstance(group, AsyncMap):
                    await group.run_async(batch)
                elif batch.rows:
                    await loop.run_in_executor(executor, _run, group, batch)
            yield batch


def _groups(steps: list[Any]) -> list[Any]:
    """Steps in a row that one thread runs together, and those that call."""
    groups: list[Any] = []
    for step in steps:
        if isinstance(step, AsyncMap):
            groups.append(step)
        elif groups and isinstance(groups[-1], list):
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def _run(steps: list[Any], batch: Batch) -> None:
    for step in steps:
        try:
            step.run(batch)
        except PipelineError:
            raise
        except Exception as error:
            raise PipelineError(
                f"A step of the kind {type(step).__name__} failed: {type(error).__name__}.",
                hint="Its cause says more; the run goes on behind the last batch once it is mended.",
            ) from error


async def preview(pipeline: Pipeline, source: Source, rows: int) -> Preview:
    """The first rows through all steps, and nowhere else."""
    made = Preview()
    run = Run(pipeline, source, pipeline._ends()[1], None)
    async with AsyncExitStack() as stack:
        executor = ThreadPoolExecutor(1)
        stack.callback(executor.shutdown)
        for step in pipeline.steps:
            if isinstance(step, SupportsRun):
                await stack.enter_async_context(step.running())
        found = await stack.enter_async_context(aclosing(transform(run._extract(None, 0), pipeline.steps, executor)))
        async for batch in found:
            made.rows += plain_rows(batch.rows)[: rows - len(made.rows)]
            made.rejected += batch.rejected
            if len(made.rows) + len(made.rejected) >= rows:
                break
    made.columns = {name: kind.__name__ for name, kind in columns_of_rows(made.rows).items()}
    return made
