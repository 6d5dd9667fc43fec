"""Spans to an OpenTelemetry collector, in bounded batches beside the program's work.

It is begun by an `App` where `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) is
set and `consona[otel]` is installed. A collector that is away, slow or full costs spans, which are
counted, and never an operation.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from consona.telemetry.trace import Span, Tracer, default_tracer

__all__ = ["OTLPReporter", "otlp_reporter"]

log = logging.getLogger("consona.ops.otlp")

BATCH: Final = 512
WAITING: Final = 5_000
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Exporter(Protocol):
    """What `consona.telemetry.opentelemetry.OTLPExporter` does. Its methods block."""

    def export(self, spans: Sequence[Span]) -> bool: ...
    def close(self) -> None: ...


class OTLPReporter:
    """Sends the process's finished spans, every `interval` seconds or when a batch is full.

    Args:
        exporter: Carries them.
        interval: Seconds.
        tracer: Whose spans.
        stop_timeout: Seconds for the last batches when it stops.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        interval: float = 1.0,
        tracer: Tracer = default_tracer,
        stop_timeout: float = 5.0,
    ) -> None:
        self.sent = self.dropped = 0
        self._exporter = exporter
        self._interval = interval
        self._tracer = tracer
        self._stop_timeout = stop_timeout
        self._spans: deque[Span] = deque(maxlen=WAITING)
        self._end: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._failing = False

    async def start(self) -> None:
        """Begin to collect and to send."""
        if self._task is None:
            self._stopping = asyncio.Event()
            self._end = self._tracer.tee(self._spans)
            self._task = asyncio.create_task(self._run(), name="spans to the collector")

    async def stop(self) -> None:
        """Send what waits, within the deadline, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        assert self._end is not None
        self._end()
        self._stopping.set()
        done, _ = await asyncio.wait({task}, timeout=self._stop_timeout)
        if not done:
            self.dropped += len(self._spans)
            log.warning("%d spans did not reach the collector before the end.", len(self._spans))
        await asyncio.to_thread(self._exporter.close)  # which also ends a batch that hangs
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _run(self) -> None:
        last = False
        while not last:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._stopping.wait()
            last = self._stopping.is_set()
            while self._spans:
                await self._send([self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))])

    async def _send(self, batch: list[Span]) -> None:
        try:
            taken = await asyncio.to_thread(self._exporter.export, batch)
        except Exception:  # noqa: BLE001 - whatever it is: observation never harms
            taken = False
        if taken:
            self.sent += len(batch)
        else:
            self.dropped += len(batch)
        if taken == self._failing:  # it changed: said once, not for each batch
            self._failing = not taken
            say = log.info if taken else log.warning
            say("The collector %s", "takes spans again." if taken else "does not take spans; they are dropped.")


def otlp_reporter(service: str, environ: Mapping[str, str] | None = None) -> OTLPReporter | None:
    """The reporter that the environment asks for, or None."""
    environ = os.environ if environ is None else environ
    if not any(environ.get(name) for name in ENDPOINTS):
        return None
    try:
        # Imported only here: the SDK is an extra, and heavy.
        exporter: Any = importlib.import_module("consona.telemetry.opentelemetry").OTLPExporter
    except ModuleNotFoundError:
        log.warning("A collector is configured, but not used: pip install 'consona[otel]'")
        return None
    return OTLPReporter(exporter(service))
