"""Observation: one observer, one histogram, one history, one trace, one rule set of redaction."""

from consona.telemetry.histogram import Histogram
from consona.telemetry.observer import Entry, Observer, Operation, Stats
from consona.telemetry.redaction import Redaction
from consona.telemetry.trace import Sampler, Span, Tracer, current_span

__all__ = [
    "Entry",
    "Histogram",
    "Observer",
    "Operation",
    "Redaction",
    "Sampler",
    "Span",
    "Stats",
    "Tracer",
    "current_span",
]
