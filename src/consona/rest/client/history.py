"""What a client's history keeps of a call: names and sizes; headers and bodies where they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from consona.rest.client.response import Response
from consona.telemetry.redaction import DEFAULT as REDACTION
from consona.telemetry.redaction import MASK

if TYPE_CHECKING:
    from consona.rest.client.call import Call

__all__ = ["HistoryDetail", "describe"]

HistoryDetail = Literal["sizes", "headers", "bodies"]
"""How much of a call is kept: each includes what stands before it."""

MAX_KEPT_BYTES: Final = 64 * 1024
"""A longer body is kept as its size alone."""


def describe(call: Call, response: Response | None, credentials: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """What the history keeps of a call.

    Args:
        call: The call, after its last try.
        response: Its answer, where there was one.
        credentials: The headers that show who is asking: masked whatever they are called.
    """
    url = call.url
    known: dict[str, Any] = {"url": _without_secrets(url) if "?" in url else url, "attempts": call.attempts}
    if response is not None:
        known["status"] = response.status
        if response.cache:
            known["cache"] = response.cache
        known["bytes"] = len(response.content)
    if call.client.settings.history != "sizes":
        known |= _asked_for(call, response, {name.lower() for name, _ in credentials})
    return known


@functools.lru_cache(maxsize=1024)
def _without_secrets(url: str) -> str:
    return REDACTION.url(url)


def _asked_for(call: Call, response: Response | None, credentials: set[str]) -> dict[str, Any]:
    bodies = call.client.settings.history == "bodies"
    headers = REDACTION.headers(call.headers)
    kept: dict[str, Any] = {
        "headers": {name: MASK if name.lower() in credentials else value for name, value in headers.items()}
    }
    if bodies and isinstance(call.payload.body, bytes):
        kept["body"] = _decoded(call.payload.body)
    if response is not None:
        kept["answer_headers"] = REDACTION.headers(response.headers)
        if bodies:
            kept["answer_body"] = _decoded(response.content)
    return kept


def _decoded(body: bytes) -> Any:
    """JSON with its secrets masked; None for what is no JSON, or too long."""
    if len(body) > MAX_KEPT_BYTES:
        return None
    try:
        return REDACTION.data(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
