"""Spans go to a collector beside the work, and a collector that is away harms nothing."""

import asyncio
import http.server
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from consona.app import App
from consona.ops.otlp import OTLPReporter, otlp_reporter
from consona.telemetry.observer import Observer
from consona.telemetry.opentelemetry import OTLPExporter
from consona.telemetry.trace import Sampler, Tracer


@pytest.fixture
def collector():
    """A real collector's HTTP side: takes OTLP, keeps the names of the spans, can be told to refuse."""
    got, refuse = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if refuse:
                self.send_response(400)
            else:
                message = ExportTraceServiceRequest.FromString(body)
                got.extend(s.name for r in message.resource_spans for scope in r.scope_spans for s in scope.spans)
                self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got, refuse
        server.shutdown()
        thread.join()


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def always():
    return Tracer(Sampler(10**6))


async def test_an_app_sends_its_traces_where_the_environment_says(collector, monkeypatch):
    url, got, _ = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    async with App("shop") as app:
        assert app.otlp is not None
        with app.observer.operation("first"):
            pass
    assert "first" in got  # what waits is sent at the end


async def test_spans_of_others_keep_coming_to_the_one_who_drains(collector):
    url, got, _ = collector
    tracer = always()
    tracer.collect(on=True)
    reporter = OTLPReporter(OTLPExporter("shop", endpoint=f"{url}/v1/traces"), interval=0.01, tracer=tracer)
    await reporter.start()
    with Observer("db", "sql", tracer=tracer).operation("query"):
        pass
    await until(lambda: got == ["query"])
    await reporter.stop()
    assert [span.name for span in tracer.drain()] == ["query"]
    assert (reporter.sent, reporter.dropped) == (1, 0)


async def test_what_a_collector_refuses_is_counted_and_said_once(collector, caplog):
    url, got, refuse = collector
    refuse.append(True)
    tracer = always()
    reporter = OTLPReporter(OTLPExporter("shop", endpoint=f"{url}/v1/traces"), interval=0.01, tracer=tracer)
    await reporter.start()
    part = Observer("db", "sql", tracer=tracer)
    for number in range(3):
        with part.operation("query"):
            pass
        await until(lambda number=number: reporter.dropped == number + 1)
    assert caplog.text.count("does not take spans") == 1
    refuse.clear()
    with part.operation("again"):
        pass
    await until(lambda: got == ["again"])
    await reporter.stop()


def test_without_an_endpoint_there_is_no_reporter():
    assert otlp_reporter("shop", {}) is None
