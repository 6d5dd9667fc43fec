"""Spans reach a collector over real HTTP, and are read there with the protocol's own decoder."""

import gzip
import http.server
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from consona.telemetry.observer import Observer
from consona.telemetry.opentelemetry import OTLPExporter
from consona.telemetry.trace import Sampler, Tracer


@pytest.fixture
def collector():
    """A server that takes OTLP/HTTP and keeps what it was sent."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", got
        server.shutdown()
        thread.join()


def test_a_trace_arrives_with_its_names_parents_and_errors(collector):
    endpoint, got = collector
    tracer = Tracer(Sampler(10**6))
    tracer.collect(on=True)
    api, db = Observer("api", "rest.server", tracer=tracer), Observer("db", "sql", tracer=tracer)
    with api.operation("GET", "/orders"), db.operation("query", "orders") as op:
        op.set(rows=3)
        op.fail("query")
    exporter = OTLPExporter("shop", endpoint=endpoint)
    try:
        assert exporter.export(tracer.drain())
    finally:
        exporter.close()
    [resource] = got[0].resource_spans
    assert [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"] == ["shop"]
    query, request = resource.scope_spans[0].spans
    assert (query.name, request.name) == ("query orders", "GET /orders")
    assert query.parent_span_id == request.span_id
    assert query.trace_id == request.trace_id
    assert (query.status.code, request.status.code) == (2, 1)  # error, ok
    assert {a.key: a.value.int_value for a in query.attributes}["consona.rows"] == 3
    assert request.kind == 2  # server


def test_a_collector_that_is_away_is_told_and_breaks_nothing():
    tracer = Tracer(Sampler(10**6))
    tracer.collect(on=True)
    with Observer("db", "sql", tracer=tracer).operation("query"):
        pass
    exporter = OTLPExporter("shop", endpoint="http://127.0.0.1:9/v1/traces", timeout=0.5)
    try:
        assert exporter.export(tracer.drain()) is False
    finally:
        exporter.close()
