"""The browser's client, as a file of the server."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from consona.rest.server.responses import Response

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["serve_script"]


def serve_script(server: APIServer, path: str) -> None:
    """Answer `/consona.js`, also below `path`, where the server is mounted there."""
    headers = {"cache-control": "public, max-age=300", "x-content-type-options": "nosniff"}
    text = files("consona.realtime").joinpath("consona.js").read_text(encoding="utf-8")

    async def script() -> Response:
        return Response(text, media_type="text/javascript; charset=utf-8", headers=headers)

    for place in dict.fromkeys(("/consona.js", f"{path}/consona.js")):
        server.get(place, public=True, documented=False)(script)
