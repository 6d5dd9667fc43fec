"""Aggregation pipelines: `[{"$match": …}, {"$group": …}]` is understood once, then run where the documents are.

    pipeline = parse_pipeline([{"$match": {"open": True}}, {"$group": {"_id": "$city", "n": {"$sum": 1}}}])
    engine.read("orders", pipeline.query())

What the pipeline begins with (`$match`, `$sort`, `$skip`, `$limit`) becomes the engine's own query, which uses indexes.
The rest runs over the documents that it gives, in Python, the same for every engine.

Source: https://www.mongodb.com/docs/manual/reference/mql/aggregation-stages/
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from consona.documents.collation import Collation
from consona.documents.document import checked_value
from consona.documents.engine import Query, Source
from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.expressions import Scope, moment
from consona.documents.filters import parse_filter
from consona.documents.pipeline import facets, grouping, joining, selecting, shaping
from consona.documents.pipeline.delivery import delivered
from consona.documents.pipeline.output import OUTPUTS, Output
from consona.documents.pipeline.stages import MAX_HELD, Builder, Context, Run, Stage, count_of
from consona.documents.sorting import Sort
from consona.documents.values import Document

__all__ = ["Pipeline", "known_stages", "parse_pipeline"]

MAX_STAGES: Final = 1000
MAX_NESTING: Final = 20
BREATH: Final = 100
"""Documents between two pauses: about half a millisecond."""

STAGES: Final[Mapping[str, Builder]] = {
    **facets.STAGES,
    **grouping.STAGES,
    **joining.STAGES,
    **selecting.STAGES,
    **shaping.STAGES,
}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline that was understood.

    Attributes:
        lead: What the engine is asked: what the pipeline begins with.
        stages: What runs over the documents that it gives.
        context: What the pipeline was understood with.
        output: Where the result is written, if anywhere.
    """

    lead: Query
    stages: Sequence[Stage]
    context: Context
    output: Output | None = None

    def query(self, *, max_bytes: int = MAX_HELD, hint: str | None = None, at_once: bool = False) -> Query:
        """What an engine is asked so that it gives the result.

        Args:
            max_bytes: What one stage may hold, and the documents that are written.
            hint: The index to use.
            at_once: See `Query`.
        """
        output = self.output

        def finish(documents: Iterator[Document], source: Source) -> Iterator[Document]:
            run = Run(source, max_bytes)
            made = delivered(self.over(_breathing(documents), run))
            return made if output is None else output.held(made, run)

        joins = frozenset(self.context.reads)
        return replace(self.lead, finish=finish, joins=joins, heavy=True, hint=hint, at_once=at_once)

    def inner_query(self, run: Run, more: Mapping[str, Any] | None = None) -> Query:
        """What an engine is asked within the run of another pipeline; `more` is a filter beside this one's."""
        query = self.lead
        if more is not None:
            context = self.context
            both = {"$and": [more, query.filter.raw]}
            query = replace(query, filter=parse_filter(both, context.collation, variables=context.variables))
        return replace(query, finish=lambda documents, _: self.over(documents, run)) if self.stages else query

    def over(self, documents: Iterator[Document], run: Run) -> Iterator[Document]:
        """The result of the stages over documents."""
        for stage in self.stages:
            documents = stage(documents, run)
        return documents


def _breathing(documents: Iterator[Document]) -> Iterator[Document]:
    """The documents, with a pause now and then in which other threads may run: Python would make them wait for 5 ms."""
    for at, document in enumerate(documents):
        if at % BREATH == 0:
            time.sleep(0)
        yield document


def parse_pipeline(
    raw: Any, *, collation: Collation | None = None, variables: Mapping[str, Any] | None = None
) -> Pipeline:
    """Understand a pipeline.

    Args:
        raw: Stages, as PyMongo takes them.
        collation: How texts compare.
        variables: What `$$name` stands for in its expressions (`let`).

    Raises:
        OperatorError: A stage or an operator does not exist, stands where it cannot, or lacks what it needs.

    Example:
        >>> pipeline = parse_pipeline([{"$group": {"_id": "$kind", "price": {"$avg": "$price"}}}])
        >>> list(pipeline.over(iter([{"kind": "tea", "price": 4}, {"kind": "tea", "price": 5}]), Run(None)))
        [{'_id': 'tea', 'price': 4.5}]
    """
    scope: Scope = moment()
    for name, value in (variables or {}).items():
        scope[name] = checked_value(value)
    context = Context(scope, collation, _parse)
    context.compiler.knowing(list(variables or {}), "let")
    return _parse(raw, context)


def _parse(raw: Any, context: Context) -> Pipeline:
    if not isinstance(raw, list | tuple):
        raise OperatorError("A pipeline is a list of stages.", hint='[{"$match": {"price": {"$lt": 5}}}]')
    if len(raw) > MAX_STAGES or len(context.outer) > MAX_NESTING:
        raise OperatorError(
            f"A pipeline has at most {MAX_STAGES} stages, and pipelines within it at most {MAX_NESTING} levels."
        )
    steps = [_name_of(stage) for stage in raw]
    output = None
    if steps and steps[-1][0] in OUTPUTS:
        name, specification = steps.pop()
        if context.outer:
            raise OperatorError(f"{name} stands within {context.outer[-1]}, where nothing is written.", operator=name)
        output = OUTPUTS[name](name, specification, context)
    lead = _Lead()
    while steps and not context.holds_documents and lead.takes(*steps[0], context):
        steps.pop(0)
    stages = [_build(name, specification, context) for name, specification in steps]
    for at, (name, specification) in enumerate(steps[:-1]):
        if name == "$sort" and steps[at + 1][0] == "$limit":  # the limit's stage stays, and does no harm
            sort = selecting.parsed_sort(name, specification, context)
            stages[at] = selecting.sorting(sort, count_of("$limit", steps[at + 1][1], 1))
    query = lead.query(context)
    if steps and steps[0][0] == "$count" and not context.holds_documents:
        query, stages[0] = replace(query, count=True), grouping.renamed_count(*steps[0])
    return Pipeline(query, stages, context, output)


def _name_of(stage: Any) -> tuple[str, Any]:
    if not isinstance(stage, Mapping) or len(stage) != 1:
        raise OperatorError(
            "Each stage of a pipeline is a document with one operator.", hint='[{"$match": {…}}, {"$sort": {…}}]'
        )
    [(name, specification)] = stage.items()
    return str(name), specification


def _build(name: str, specification: Any, context: Context) -> Stage:
    build = STAGES.get(name)
    if build is None:
        if name in OUTPUTS:
            raise OperatorError(f"{name} writes the result, so it is the last stage.", operator=name)
        raise unknown_operator(name, known_stages(), "a pipeline")
    return build(name, specification, context)


@dataclass(slots=True)
class _Lead:
    """What a pipeline begins with, as far as it is a query of the engine's own."""

    filters: list[Any] = field(default_factory=list)
    sort: Sort | None = None
    skip: int = 0
    limit: int | None = None

    def takes(self, name: str, raw: Any, context: Context) -> bool:
        """Take the stage in, if it can be."""
        paged = self.skip > 0 or self.limit is not None
        if name == "$match" and not paged and isinstance(raw, Mapping):
            self.filters.append(raw)
        elif name == "$sort" and self.sort is None and not paged:
            self.sort = selecting.parsed_sort(name, raw, context)
        elif name == "$skip" and self.limit is None:
            self.skip += count_of(name, raw)
        elif name == "$limit":
            count = count_of(name, raw, 1)
            self.limit = count if self.limit is None else min(count, self.limit)
        else:
            return False
        return True

    def query(self, context: Context) -> Query:
        """The engine's query."""
        raw = {} if not self.filters else self.filters[0] if len(self.filters) == 1 else {"$and": self.filters}
        query = parse_filter(raw, context.collation, variables=context.variables)
        return Query(
            filter=query, sort=self.sort or Sort(collation=context.collation), skip=self.skip, limit=self.limit
        )


def known_stages() -> Sequence[str]:
    """The stages that there are, for the reference."""
    return sorted([*STAGES, *OUTPUTS])
