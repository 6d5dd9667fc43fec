"""Made-up visitors: real requests through a real client, so that the dashboard has something to show.

Started by `consona up --visitors N` as `python -m consona.cli.visiting SETTINGS` (`Visiting`, as
JSON). Like a worker, it ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from consona.app import App
from consona.cli.loading import load, own_traceback
from consona.cli.serving import Visiting
from consona.cli.terminal import complain
from consona.errors import ConfigurationError, ConsonaError
from consona.resilience import Policy, RateLimit
from consona.rest.client.api_client import APIClient
from consona.telemetry import logs

__all__ = ["visit"]

log = logging.getLogger("consona.visitors")

Walk = Callable[[APIClient, random.Random], Awaitable[None]]
PAUSE_S = 2.0
"""The longest pause between two visits, and the pause after one that failed."""


async def visit(visiting: Visiting, stop: asyncio.Event, *, seed: int = 1) -> None:
    """Send visitors, each again and again, until `stop` is set.

    Args:
        visiting: How many, where to, and what they do.
        stop: Ends it; a visit under way is cut off.
        seed: Two runs with one seed make the same choices.
    """
    walk: Walk = load(visiting.walk, Path(visiting.folder))
    rate = visiting.requests_per_second * visiting.count
    policy = Policy(timeout=10.0, rate=RateLimit(rate=rate, burst=visiting.count))
    api = APIClient(visiting.url, policy=policy, name="visitors")
    async with App("visitors", parts=[api], ops=visiting.ops), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_keep_visiting(walk, api, random.Random(seed * 1000 + n)), name=f"visitor {n}")  # noqa: S311
            for n in range(visiting.count)
        ]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def _keep_visiting(walk: Walk, api: APIClient, rng: random.Random) -> None:
    while True:
        try:
            await walk(api, rng)
        except ConsonaError as error:
            log.info("a visit ended early: %s", error.message or type(error).__name__)
            await asyncio.sleep(PAUSE_S)
        except Exception as error:  # noqa: BLE001 - the walk is the user's; the other visitors go on
            log.warning("a visit failed:\n%s", own_traceback(error))
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(rng.uniform(0, PAUSE_S))


async def _main(visiting: Visiting) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="consona-supervisor-watch", daemon=True).start()
    await visit(visiting, stop)


if __name__ == "__main__":
    logs.configure(stream=sys.stderr)
    try:
        asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Visiting)))
    except ConsonaError as problem:
        complain(problem)
        sys.exit(2 if isinstance(problem, ConfigurationError) else 1)
