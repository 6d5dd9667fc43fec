"""Whether a server lives, and whether it should get requests: what load balancers and supervisors ask.

- `/health/live` answers 200 as long as the process answers at all. Restart it when it does not.
- `/health/ready` answers 200 when the server and its parts can do their work (also with less than they
  should), else 503: while it starts, when a part is down, and from the moment that it begins to stop.

Checks are shared: however often they are asked for, each part is tried once a second at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from consona.part import Health, Part, Status
from consona.rest.server.responses import Response

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["Readiness", "check_parts"]

FRESH_S = 1.0
CHECK_S = 5.0


async def check_parts(parts: Sequence[Part]) -> Health:
    """The health of several parts as one: down when one is down, degraded when one is less than up."""
    found = await asyncio.gather(*(_check(part) for part in parts))
    named = list(zip((part.name for part in parts), found, strict=True))
    detail = {name: _shown(health) for name, health in named}
    worse = [(name, health) for name, health in named if health.status is not Status.UP]
    if not worse:
        return Health(Status.UP, detail=detail)
    status = Status.DOWN if any(health.status is Status.DOWN for _, health in worse) else Status.DEGRADED
    return Health(status, ", ".join(f"{name} is {health.status}" for name, health in worse), detail)


async def _check(part: Part) -> Health:
    try:
        async with asyncio.timeout(CHECK_S):
            return await part.check()
    except TimeoutError:
        return Health(Status.DOWN, f"no answer within {CHECK_S:g} s")
    except Exception as error:  # noqa: BLE001 a check that fails is an answer
        return Health(Status.DOWN, type(error).__name__)


def _shown(health: Health) -> dict[str, Any]:
    # The detail of a part may name hosts and files; strangers can read this page.
    return {"status": health.status.value}


class Readiness:
    """Answers the two health paths of a server."""

    def __init__(self, api: APIServer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.api = api
        self._clock = clock
        self._known = Health(Status.DOWN, "not checked")
        self._until = float("-inf")
        self._turn = asyncio.Lock()

    async def live(self) -> Response:
        """The process answers."""
        return Response({"status": "up"}, headers={"cache-control": "no-store"})

    async def ready(self) -> Response:
        """The server and its parts can do their work."""
        health = await self._health()
        body = {"status": health.status.value, "parts": health.detail}
        return Response(body, status=200 if health.ok else 503, headers={"cache-control": "no-store"})

    async def _health(self) -> Health:
        if self.api.draining:
            return Health(Status.DOWN, "stopping")
        async with self._turn:
            if self._clock() >= self._until:
                self._known = await self.api.check()
                self._until = self._clock() + FRESH_S
            return self._known
