"""The smallest ASGI application that the tests of `consona run` and `consona up` serve."""

from __future__ import annotations

from pathlib import Path

SOURCE = """
import asyncio, os, pathlib

here = pathlib.Path(__file__).parent


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                print("said goodbye", flush=True)
                return
    if scope["path"] == "/slow":  # until the test lets it go on
        (here / "under-way").touch()
        while not (here / "go-on").exists():
            await asyncio.sleep(0.01)
    if scope["path"] == "/hang":
        import time
        (here / "under-way").touch()
        time.sleep(600)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def write_app(folder: Path, *, name: str = "hello.py", before: str = "") -> None:
    (folder / name).write_text(before + SOURCE, "utf-8")
