"""Updates by a pipeline: `[{"$set": {"total": {"$add": ["$price", "$tax"]}}}]`.

Source: https://www.mongodb.com/docs/manual/tutorial/update-documents-with-aggregation-pipeline/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from consona.documents.collation import Collation
from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.expressions import Scope
from consona.documents.pipeline.shaping import STAGES
from consona.documents.pipeline.stages import Context, Run, Stage, no_pipelines, no_source
from consona.documents.values import Document, copied, identical

__all__ = ["PipelineUpdate", "parse_pipeline_update"]


@dataclass(frozen=True, slots=True)
class PipelineUpdate:
    """An update by a pipeline that was understood.

    Attributes:
        raw: As it was given.
        stages: What each document goes through.
        inserted: The document that an upsert inserts, where it is another than the pipeline would make.
    """

    raw: Sequence[Mapping[str, Any]]
    stages: Sequence[Stage]
    inserted: Document | None = None
    needs_place: ClassVar = False
    updates: ClassVar = True

    def apply(self, document: Document, *, place: int | None = None, inserting: bool = False) -> bool:  # noqa: ARG002
        """Change a document in place. Returns whether anything is different now.

        Raises:
            OperatorError: An expression does not fit the document, or its `_id` would change.
        """
        if inserting and self.inserted is not None:
            new: Document = copied(self.inserted)
        else:
            [new] = self._results(document)
        if "_id" in document:
            if "_id" in new and not identical(new["_id"], document["_id"]):
                raise OperatorError(
                    "The update would change the _id of a document, which never changes.",
                    hint="Insert a new document, and delete the old one.",
                )
            new = {"_id": document["_id"], **new}
        if identical(new, document):
            return False
        new = copied(new)
        document.clear()
        document.update(new)
        return True

    def _results(self, document: Document) -> list[Document]:
        documents, run = iter([document]), Run(no_source)
        for stage in self.stages:
            documents = stage(documents, run)
        return list(documents)


def parse_pipeline_update(
    raw: Sequence[Any], *, variables: Scope, collation: Collation | None, inserted: Document | None = None
) -> PipelineUpdate:
    """Understand an update by a pipeline.

    Raises:
        OperatorError: It has no stages, or one that cannot change a document.
    """
    context, stages = Context(variables, collation, no_pipelines), []
    if not raw:
        raise OperatorError("An update by a pipeline has at least one stage.", hint='[{"$set": {…}}]')
    for stage in raw:
        if not isinstance(stage, Mapping) or len(stage) != 1:
            raise OperatorError("Each stage of a pipeline is a document with one operator.", hint='[{"$set": {…}}]')
        [(name, specification)] = stage.items()
        build = STAGES.get(str(name))
        if build is None:
            raise unknown_operator(str(name), STAGES, "an update by a pipeline")
        stages.append(build(str(name), specification, context))
    return PipelineUpdate(raw, stages, inserted)
