"""What `aggregate` was asked for, and how its result is written where the pipeline ends in `$out` or `$merge`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from consona.documents.collation import Collation
from consona.documents.engine import Query
from consona.documents.errors import OperatorError
from consona.documents.pipeline.output import OUTPUTS, Merge
from consona.documents.pipeline.parsing import Pipeline, parse_pipeline
from consona.errors import ConsonaError
from consona.storage.transaction import SharedTransaction

if TYPE_CHECKING:  # readings ask this, so the import can only go one way
    from consona.documents.reading import Reading

__all__ = ["PipelineRequest", "write_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRequest:
    """A pipeline, as it was given."""

    pipeline: Any
    collation: Collation | None
    let: Mapping[str, Any] | None
    hint: str | None
    max_bytes: int
    verb: ClassVar = "aggregate"

    @property
    def writes(self) -> bool:
        """Whether the result is written somewhere, and not given."""
        last = self.pipeline[-1] if isinstance(self.pipeline, list | tuple) and self.pipeline else None
        return isinstance(last, Mapping) and bool(OUTPUTS.keys() & last.keys())

    def parsed(self) -> Pipeline:
        """The same, understood: for one run, since patterns and `$$NOW` belong to one."""
        return parse_pipeline(self.pipeline, collation=self.collation, variables=self.let)

    def query(self, *, at_once: bool) -> Query:
        """What the engine is asked."""
        return self.parsed().query(max_bytes=self.max_bytes, hint=self.hint, at_once=at_once)


async def write_result(collection: Reading, request: PipelineRequest, tx: SharedTransaction | None) -> int:
    """Run the pipeline and write its result. Returns how many documents it had.

    Raises:
        OperatorError: The result does not fit the collection that it is written into.
        DuplicateKey: Two documents would have the same key there.
    """
    pipeline = request.parsed()
    output = pipeline.output
    assert output is not None
    query = pipeline.query(max_bytes=request.max_bytes, hint=request.hint, at_once=True)
    documents = await collection._collect(query, tx)
    target = collection.database.collection(output.collection)
    if isinstance(output, Merge) and output.on != ("_id",):
        unique = {frozenset(path for path, _ in index.fields) for index in await target._indexes(tx) if index.unique}
        if frozenset(output.on) not in unique:
            raise OperatorError(
                f"$merge: {output.collection!r} has no unique index over {', '.join(output.on)}.",
                hint="create_index(…, unique=True): without it, `on` would not tell which document is meant.",
                operator="$merge",
            )
    writes = output.writes(documents)
    if writes:
        engine = collection.database._engine()
        answers = await engine.write(output.collection, writes, ordered=True, atomic=output.atomic, tx=tx)
        for answer in answers:
            if isinstance(answer, ConsonaError):
                raise answer
            if output.must_match and not answer.matched:
                raise OperatorError("$merge: no document is there for one of the result.", operator="$merge")
    return len(documents)
