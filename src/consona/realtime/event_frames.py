"""What a stream of server-sent events carries besides the messages of channels."""

from __future__ import annotations

from typing import Any, Final

from consona.rest.server.events import Event, encode_event

__all__ = ["COMMENT", "answer_event", "gap_event"]

COMMENT: Final = b":\n\n"
"""A heartbeat: browsers leave it out."""


def gap_event(channel: str, token: str | None, *, wrapped: bool) -> bytes:
    """Tells that messages of a channel were lost; what comes now is behind `token`."""
    data = {"channel": channel} if token is None else {"channel": channel, "position": token}
    if wrapped:
        return encode_event(Event({"gap": channel, **data}, id=token))
    return encode_event(Event(data, event="gap", id=token))


def answer_event(fields: dict[str, Any], *, wrapped: bool) -> bytes:
    """What is for one client alone: it has no id, so that a browser comes back to where it was in its channels."""
    if wrapped:
        return encode_event(Event(fields))
    return encode_event(Event(fields.get("data"), event=fields.get("event", "")))
