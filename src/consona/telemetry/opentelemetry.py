"""Spans to an OpenTelemetry collector, over OTLP/HTTP. Needs `pip install 'consona[otel]'`.

The SDK does the encoding, the sending and its retries; here Consona's spans become the SDK's. The
collector's address is the argument, or `OTEL_EXPORTER_OTLP_ENDPOINT` as in any OpenTelemetry program.

Source: OpenTelemetry specification, OTLP/HTTP 1.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from consona.telemetry.trace import Span

__all__ = ["OTLPExporter"]

_KINDS: Final = {"rest.server": SpanKind.SERVER, "rest.client": SpanKind.CLIENT}
_SCOPE: Final = InstrumentationScope("consona")


class OTLPExporter:
    """Sends batches of spans to a collector. Its methods block: call them in a thread.

    Args:
        service: Becomes the resource's `service.name`.
        endpoint: For example `http://127.0.0.1:4318/v1/traces`; by default the environment's.
        timeout: Seconds for one batch, the SDK's retries included.
    """

    def __init__(self, service: str, *, endpoint: str | None = None, timeout: float = 10.0) -> None:
        self._resource = Resource.create({"service.name": service})
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=timeout)

    def export(self, spans: Sequence[Span]) -> bool:
        """Send them; whether the collector took them."""
        return self._exporter.export([self._readable(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Give up what is under way, and close the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK forgot it

    def _readable(self, span: Span) -> ReadableSpan:
        failed = span.outcome == "failed"
        return ReadableSpan(
            name=span.name,
            context=SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=TraceFlags(1)),
            parent=SpanContext(span.trace_id, span.parent_id, is_remote=False) if span.parent_id else None,
            resource=self._resource,
            attributes={
                "consona.part": span.part,
                "consona.kind": span.kind,
                **({"error.type": span.error} if failed else {}),
                **{f"consona.{name}": _plain(value) for name, value in span.attributes.items()},
            },
            kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
            status=Status(StatusCode.ERROR, span.error) if failed else Status(StatusCode.OK),
            start_time=span.start_ns,
            end_time=span.start_ns + span.duration_ns,
            instrumentation_scope=_SCOPE,
        )


def _plain(value: object) -> str | bool | int | float:
    return value if isinstance(value, str | bool | int | float) else str(value)
