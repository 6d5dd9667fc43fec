"""An ASGI application, really served on loopback by the test's own event loop.

async with served(app) as address: ...
async with served_with_tls(app) as address: ...      # HTTP/2 and HTTP/1.1, as the client chooses
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config

import certificates

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


@asynccontextmanager
async def served_with_tls(app, *, alpn=("h2", "http/1.1"), **settings):
    """Serve an application on loopback with TLS, by hypercorn; gives its address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    config = Config()
    port = listener.getsockname()[1]
    config.bind = [f"fd://{listener.detach()}"]  # hypercorn closes it
    config.certfile = config.keyfile = certificates.certificate("localhost", "127.0.0.1")
    config.alpn_protocols = list(alpn)
    config.graceful_timeout = 1
    config.accesslog = config.errorlog = None
    for name, value in settings.items():
        setattr(config, name, value)
    stop = asyncio.Event()
    task = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        stop.set()
        await task
