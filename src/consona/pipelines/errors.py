"""What can go wrong with a pipeline, beside what its parts raise."""

from __future__ import annotations

from consona.errors import PipelineError

__all__ = ["ExpectationFailed", "PipelineBusy", "PlaceLost", "RowRejected", "SchemaChanged", "TooManyRejected"]


class RowRejected(PipelineError):
    """A row was refused, and the pipeline has no quarantine to put it into."""

    code = "pipeline.row_rejected"
    hint = "Mend the row at its source, or give the pipeline a place for such rows: validate(…, quarantine=…)."
    status = 422


class TooManyRejected(PipelineError):
    """More rows were refused than the pipeline allows, so its rules or its source have changed."""

    code = "pipeline.too_many_rejected"
    hint = "Look at the quarantine. What was committed stays; the next run goes on behind it."
    status = 422


class PipelineBusy(PipelineError):
    """Another process runs this pipeline now."""

    code = "pipeline.busy"
    hint = "Wait until it ends. One pipeline has one runner at a time; others have another name."
    status = 409
    retryable = True


class PlaceLost(PipelineError):
    """Another runner took over while this one stood still, so it may not write any more."""

    code = "pipeline.place_lost"
    hint = "Nothing is lost: the other one goes on behind what this one committed."
    status = 409


class SchemaChanged(PipelineError):
    """The rows have fields that the target has no place for."""

    code = "pipeline.schema_changed"
    hint = 'Follow the change with schema="evolve", or leave the fields out: schema="discard_columns".'
    status = 422


class ExpectationFailed(PipelineError):
    """The run as a whole is not what was expected of it."""

    code = "pipeline.expectation_failed"
    hint = "Look at the source. A target that is written at the end is as it was before the run."
    status = 422
