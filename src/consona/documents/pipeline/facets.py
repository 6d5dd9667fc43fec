"""`$facet`: several pipelines over the same documents.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/facet/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.pipeline.stages import Builder, Context, Run, Stage
from consona.documents.values import Document

__all__ = ["STAGES"]


def _facet(name: str, raw: Any, context: Context) -> Stage:
    if not isinstance(raw, Mapping) or not raw:
        raise OperatorError(f"{name} takes at least one pipeline by its name.", operator=name)
    if name in context.outer:
        raise OperatorError(f"{name} stands in another {name}.", operator=name)
    pipelines = {}
    for field, stages in raw.items():
        if not isinstance(field, str) or not field or field.startswith("$") or "." in field:
            raise OperatorError(f"{name}: {field!r} is no name of a field.", operator=name)
        pipelines[field] = context.parse(stages, context.within(name))

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        budget, held = run.budget(name), []
        for document in documents:
            budget.hold(document)
            held.append(document)
        made: Document = {}
        for field, pipeline in pipelines.items():
            made[field] = []
            for document in pipeline.over(iter(held), run):
                budget.hold(document)
                made[field].append(document)
        yield made

    return stage


STAGES: Final[dict[str, Builder]] = {"$facet": _facet}
