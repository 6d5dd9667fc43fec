"""What observation costs, and how quick the import is.

The peer of an operation is the goal itself, 3 µs counted and 10 µs with a sampled span, beside what
one span of the OpenTelemetry SDK costs; of the import, `import httpx` and `import fastapi`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.table import Row, markdown

from consona.telemetry.observer import Observer
from consona.telemetry.trace import Sampler, Tracer

ROUNDS = 7


def microseconds(work: Callable[[], None], times: int = 50_000) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begin) / times * 1e6


def operation(observer: Observer) -> Callable[[], None]:
    def work() -> None:
        with observer.operation("GET", "/users/{id}") as op:
            op.set(status=200)

    return work


def counted() -> Callable[[], None]:
    return operation(Observer("bench", "rest.client"))


def sampled() -> Callable[[], None]:
    tracer = Tracer(Sampler(10**9), buffer=1000)
    tracer.collect(on=True)
    return operation(Observer("bench", "rest.client", tracer=tracer))


def opentelemetry_span() -> Callable[[], None]:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("bench")

    def work() -> None:
        with tracer.start_as_current_span("GET /users/{id}") as span:
            span.set_attribute("status", 200)

    return work


def import_ms(module: str) -> float:
    """Milliseconds that importing takes beyond the start of the interpreter itself."""

    def run(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begin

    return (run(f"import {module}") - run("pass")) * 1e3


def run() -> list[Row]:
    plain, span, theirs = counted(), sampled(), opentelemetry_span()
    ours, spans, peers, imports, httpx, fastapi = [], [], [], [], [], []
    for _ in range(ROUNDS):
        ours.append(microseconds(plain))
        spans.append(microseconds(span))
        peers.append(microseconds(theirs, 10_000))
        imports.append(import_ms("consona"))
        httpx.append(import_ms("httpx"))
        fastapi.append(import_ms("fastapi"))
    less = {"unit": "µs", "goal": 1.0, "higher_is_better": False}
    quick = {"unit": "ms", "goal": 1.0, "higher_is_better": False}
    return [
        Row("foundation", "one operation, counted", "the goal of 3 µs", ours, [3.0] * ROUNDS, **less),
        Row("foundation", "one operation, sampled span", "the goal of 10 µs", spans, [10.0] * ROUNDS, **less),
        Row("foundation", "one operation, sampled span", "OpenTelemetry SDK span", spans, peers, **less),
        Row("foundation", "import consona", "the goal of 60 ms", imports, [60.0] * ROUNDS, **quick),
        Row("foundation", "import consona", "import httpx", imports, httpx, **quick),
        Row("foundation", "import consona", "import fastapi", imports, fastapi, **quick),
    ]


if __name__ == "__main__":
    print(markdown(run()))
