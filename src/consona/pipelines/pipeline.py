"""A pipeline: rows out of a source, changed, checked, and into a target, each exactly once in effect.

    pipeline = (Pipeline("orders")
        .extract(SQLSource(shop, "SELECT * FROM orders", cursor="updated_at"))
        .transform({"name": str.upper, "total": col("price") * col("quantity")})
        .validate(Order, quarantine="rejected.jsonl")
        .load(SQLTarget(warehouse, "orders", mode="upsert", key="id")))
    report = await pipeline.run()

This file is how a pipeline is described; `running.py` is how it runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from consona.errors import ConfigurationError
from consona.part import Part
from consona.pipelines.batch import Row
from consona.pipelines.expectations import Expect
from consona.pipelines.expressions import Expression
from consona.pipelines.quarantine import Quarantine, quarantine_of
from consona.pipelines.rejected import RejectedSource
from consona.pipelines.report import Report
from consona.pipelines.running import Preview, Progress, Run, preview
from consona.pipelines.source import RowsSource, Source
from consona.pipelines.steps import Cast, Explode, Filter, Mask, Rename, Rules, Select, WholeBatch
from consona.pipelines.steps_over_all import AsyncMap, Dedupe, Lookup
from consona.pipelines.target import Target
from consona.pipelines.validating import Validate
from consona.resilience import Policy
from consona.telemetry.observer import Observer

__all__ = ["Pipeline"]


class Pipeline(Part):
    """Described by its methods, one after another; each returns the pipeline itself.

    It starts what it reads from and writes to for the time of a run, so it need not be started.

    Args:
        name: What its state is kept under: a pipeline with another name begins at the beginning.
        batch_rows: How many rows go through together, at most.
        batch_bytes: About how many bytes they have, at most; batches of large rows have fewer of them.

    Raises:
        ConfigurationError: The name is empty or too long, or a number is below 1.

    Example:
        >>> import asyncio
        >>> from consona import SQLDatabase, SQLTarget
        >>> async def main():
        ...     pets = [{"name": "Rex", "legs": 4}, {"name": "Tweety", "legs": 2}]
        ...     async with SQLDatabase("sqlite://pipeline-example") as db:
        ...         pipeline = (Pipeline("pets").extract(pets).transform({"name": str.upper})
        ...                     .load(SQLTarget(db, "pets", mode="replace")))
        ...         report = await pipeline.run()
        ...         return report.loaded, await db.fetch_column("SELECT name FROM pets ORDER BY name")
        >>> asyncio.run(main())
        (2, ['REX', 'TWEETY'])
    """

    kind: ClassVar[str] = "pipeline"

    def __init__(
        self, name: str, *, batch_rows: int = 5000, batch_bytes: int = 8 << 20, observer: Observer | None = None
    ) -> None:
        if not 0 < len(name) <= 100 or not name.isprintable():
            raise ConfigurationError(f"{name!r} is no name of a pipeline.", hint="Take 1 to 100 letters.")
        if batch_rows < 1 or batch_bytes < 1:
            raise ConfigurationError("A batch has at least 1 row and 1 byte.")
        super().__init__(name, observer=observer)
        self.batch_rows = batch_rows
        self.batch_bytes = batch_bytes
        self.source: Source | None = None
        self.target: Target | None = None
        self.steps: list[Any] = []
        self.quarantine: Quarantine | None = None
        self.declared: Any = None
        """The type that rows have when they reach the target."""
        self.max_rejected: float | None = None
        self._running: Run | None = None

    async def _open(self) -> None:
        for part in self._parts():
            await part.start()

    async def _close(self) -> None:
        for part in reversed(self._parts()):
            await part.stop()

    def _parts(self) -> list[Part]:
        found: list[Part] = []
        for place in (self.source, self.target, self.quarantine):
            found += place.parts if place is not None else ()
        return found

    def detail(self) -> dict[str, Any]:
        return self._running.report.as_dict() if self._running is not None else {}

    # Where rows come from and go to.

    def extract(self, source: Source | Any) -> Self:
        """Where rows come from: a source, or rows of the program (a list, a generator, an async generator)."""
        self.source = source if isinstance(source, Source) else RowsSource(source)
        return self

    def load(self, target: Target) -> Self:
        """Where they go to."""
        self.target = target
        return self

    # What happens to them.

    def transform(self, rules: Mapping[str, Any], *, keep: bool = True) -> Self:
        """Compute fields: `{"name": str.upper, "total": col("price") * col("quantity"), "source": "shop"}`.

        Args:
            rules: Field -> a function of its value (called where the row has the field), an expression over the row
                as it came in, or a plain value.
            keep: Whether fields without a rule stay.
        """
        return self._step(Rules(rules, keep=keep))

    def filter(self, condition: Callable[[Row], Any] | Expression) -> Self:
        """Only rows for which it holds go on."""
        return self._step(Filter(condition))

    def rename(self, names: Mapping[str, str]) -> Self:
        """Fields under other names: `{"old": "new"}`."""
        return self._step(Rename(names))

    def select(self, *names: str) -> Self:
        """Only these fields."""
        return self._step(Select(names))

    def drop(self, *names: str) -> Self:
        """All but these fields."""
        return self._step(Select(names, without=True))

    def cast(self, kinds: Mapping[str, type]) -> Self:
        """Fields as other types: `{"price": Decimal, "placed": datetime}`. Empty text becomes None."""
        return self._step(Cast(kinds))

    def explode(self, field: str, *, prefix: str | None = None, position: str = "") -> Self:
        """A row for each element of the list in `field`; elements with names become fields `<field>_<name>`.

        Args:
            field: The field with the list.
            prefix: What stands before the names, instead of `<field>_`.
            position: A field for the element's number, from 1 on.
        """
        return self._step(Explode(field, prefix=f"{field}_" if prefix is None else prefix, position=position))

    def dedupe(self, *keys: str) -> Self:
        """Only the first row with the same values in these fields (in all, where none is named).

        It must have seen the run from its beginning, so the target is written at the end only.
        """
        return self._step(Dedupe(keys))

    def lookup(
        self,
        source: Source | Any,
        *,
        on: str,
        key: str = "",
        fields: Mapping[str, str] | Sequence[str] | None = None,
        missing: Literal["keep", "drop", "reject"] = "keep",
    ) -> Self:
        """Add fields of the row of `source` that has the same key. See `Lookup`."""
        other = source if isinstance(source, Source) else RowsSource(source)
        return self._step(Lookup(other, on=on, key=key, fields=fields, missing=missing))

    def mask(self, *names: str, how: Literal["hash", "redact", "last4"] = "hash", key: bytes = b"") -> Self:
        """Make personal fields unreadable. See `Mask`."""
        return self._step(Mask(names, how=how, key=key))

    def map(
        self, function: Callable[[Row], Awaitable[Row | None]], *, concurrency: int = 8, policy: Policy | None = None
    ) -> Self:
        """An async call for each row (to an API, say), some at a time, their order kept. See `AsyncMap`."""
        return self._step(AsyncMap(function, concurrency=concurrency, policy=policy))

    def batch(self, function: Callable[[Any], Any], *, kind: Literal["rows", "polars", "arrow"] = "rows") -> Self:
        """What a function makes of whole batches: of lists of rows, Polars frames or Arrow tables."""
        return self._step(WholeBatch(function, kind=kind))

    def validate(
        self,
        declared: Any,
        *,
        strict: bool = True,
        quarantine: Any = None,
        max_rejected: float | None = None,
    ) -> Self:
        """Hold rows against a Struct, a dataclass, a TypedDict or a JSON Schema.

        Args:
            declared: The type.
            strict: Whether a text must not stand for a number, as it does in CSV files.
            quarantine: See `set_aside`.
            max_rejected: See `set_aside`.
        """
        if quarantine is not None:
            self.set_aside(quarantine, max_rejected=max_rejected)
        self.declared = None if isinstance(declared, Mapping) else declared
        return self._step(Validate(declared, strict=strict))

    def set_aside(self, quarantine: Any, *, max_rejected: float | None = None) -> Self:
        """Where rows go that any stage refuses. Without it, the first such row ends the run.

        Args:
            quarantine: A file of JSON Lines, a `SQLDatabase` (its table `consona_rejected`), or a `Quarantine`.
            max_rejected: The run ends beyond so many refused rows; below 1, beyond that share of all rows.
        """
        if max_rejected is not None and max_rejected < 0:
            raise ConfigurationError("set_aside(max_rejected=…) is a number of rows, or a share below 1.")
        self.quarantine = quarantine_of(quarantine)
        self.max_rejected = max_rejected
        return self

    def expect(
        self,
        *,
        rows: tuple[int | None, int | None] | None = None,
        nulls: Mapping[str, float] | None = None,
        unique: Sequence[str] = (),
        fresh: Mapping[str, float] | None = None,
        otherwise: Literal["fail", "warn"] = "fail",
        clock: Callable[[], datetime] | None = None,
    ) -> Self:
        """What must hold of the run as a whole. See `Expect`. The target is written at the end only."""
        more = {} if clock is None else {"clock": clock}
        return self._step(Expect(rows=rows, nulls=nulls, unique=unique, fresh=fresh, otherwise=otherwise, **more))

    def _step(self, step: Any) -> Self:
        self.steps.append(step)
        return self

    # Running.

    @property
    def guarantee(self) -> str:
        """What becomes of one row, whatever happens: `exactly once`, or what this source and target can give."""
        source, target = self._ends()
        resumable = source.resumable and not self._sees_all()
        upsert = getattr(target, "mode", "") == "upsert"
        if target.commits_batches(resumable=resumable) and not resumable and not upsert:
            return "at least once: a run that was cut off begins anew"
        return target.guarantee

    async def run(self, *, progress: Callable[[Progress], None] | None = None) -> Report:
        """Move all rows that are there now. A run that was cut off is gone on with.

        Args:
            progress: Told after each batch how far it is.

        Raises:
            PipelineBusy: Another process runs it.
            RowRejected: A row was refused, and there is no quarantine.
            TooManyRejected: More rows were refused than `max_rejected`.
            SchemaChanged: The rows have fields that the target has no place for.
            ExpectationFailed: The run as a whole is not what was expected.
            PipelineError: Something else ended it. What was committed stays; the next run goes on behind it.
        """
        source, target = self._ends()
        async with self:
            self._running = Run(self, source, target, progress)
            with self.observer.operation("RUN", self.name) as op:
                report = await self._running.run()
                op.set(read=report.read, loaded=report.loaded, rejected=report.rejected, resumed=report.resumed)
                return report

    async def preview(self, rows: int = 20) -> Preview:
        """What a run would do with the first rows, without writing anything: the rows, those refused, and their schema."""
        source, _ = self._ends()
        async with self:
            return await preview(self, source, rows)

    async def retry_rejected(self, *, progress: Callable[[Progress], None] | None = None) -> Report:
        """Run the rows of the quarantine once more, after a rule or the target was mended.

        Those that pass leave the quarantine, the others stay with their new reason. Like a run, it can be cut off and
        goes on when it is called again.

        Raises:
            ConfigurationError: The pipeline has no quarantine in a file, or a target that keeps only the last run.
            PipelineError: The last run was cut off; run it to its end first.
        """
        _, target = self._ends()
        if (mode := getattr(target, "mode", "")) in {"replace", "delete_insert"}:
            raise ConfigurationError(
                f"The target's mode {mode!r} leaves only the rows of the last run.",
                hint="Run the whole pipeline again.",
            )
        rejected = RejectedSource(self.quarantine)
        again = Pipeline(f"{self.name}.rejected", batch_rows=self.batch_rows, observer=self.observer)
        again.extract(rejected).load(target).set_aside(rejected.again)
        again.declared = self.declared
        again.steps = [step for step in self.steps if not isinstance(step, Expect)]
        async with again:
            await rejected.take(target, self.name)
            report = await again.run(progress=progress)
            await rejected.settle(target, self.name)
        return report

    def _sees_all(self) -> bool:
        return any(getattr(step, "whole", False) for step in self.steps)

    def _ends(self) -> tuple[Source, Target]:
        if self.source is None or self.target is None:
            raise ConfigurationError(
                f"The pipeline {self.name!r} has no {'source' if self.source is None else 'target'}.",
                hint="Give it .extract(…) and .load(…).",
            )
        return self.source, self.target
