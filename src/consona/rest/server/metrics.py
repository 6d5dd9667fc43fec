"""The figures of every part in this process, where Prometheus asks for them (`ServerSettings.metrics_path`)."""

from __future__ import annotations

import asyncio
import importlib

from consona.rest.server.responses import Response

__all__ = ["metrics"]


async def metrics() -> Response:
    """The exposition text. With several workers, each tells of itself alone."""
    # Imported at the first request: most servers have no such page, and prometheus-client takes 50 ms to load.
    prometheus = importlib.import_module("consona.telemetry.prometheus")
    text = await asyncio.to_thread(prometheus.metrics_text)
    return Response(text, media_type=prometheus.CONTENT_TYPE, headers={"cache-control": "no-store"})
