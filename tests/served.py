"""An ASGI application, really served on loopback by the test's own event loop.

async with served(app) as address: ...
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import uvicorn

BOUND_S = 20.0


@asynccontextmanager
async def served(app, *, port=0):
    """Serve an application on loopback; gives its address."""
    # The protocol is named so that asyncio turns Nagle's delay off: without, an answer may take 40 ms longer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(BOUND_S):
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
