"""One request to an ASGI application, byte by byte as a test wants it: no client between."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Answered:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


async def call(
    app: Any,
    method: str,
    path: str,
    *,
    query: str | bytes = b"",
    body: bytes | list[bytes] = b"",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    **scope: Any,
) -> Answered:
    """The answer. `path` is percent-encoded; a list of bodies arrives piece by piece, None in it disconnects."""
    from urllib.parse import unquote

    parts = [body] if isinstance(body, bytes) else list(body)
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if part is None
        else {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    sent: list[dict[str, Any]] = []
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()  # a client that neither sends nor leaves
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(dict(message))

    whole = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode() if isinstance(query, str) else query,
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        **scope,
    }
    await app(whole, receive, send)
    start, *bodies = sent or [{"type": "none", "status": 0, "headers": []}]
    return Answered(
        start["status"],
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]],
        b"".join(message.get("body", b"") for message in bodies),
    )


def as_json(value: Any) -> dict[str, Any]:
    """The body and headers of a request with JSON."""
    return {"body": json.dumps(value).encode(), "headers": {"content-type": "application/json"}}
