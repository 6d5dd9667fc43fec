"""What goes over a WebSocket besides the messages of channels: what clients ask, and what they are answered.

| a client sends | and gets |
|---|---|
| `{"send": "chat.tea", "data": {...}}` | what the handler does; with an `"id"`: `{"answer": id, "data": ...}` |
| `{"join": "chat.tea"}`, with `"after": position` to resume | `{"joined": "chat.tea", "position": ..., "gap": false}` |
| `{"leave": "chat.tea"}` | `{"left": "chat.tea"}` |
| `{"history": "chat.tea", "limit": 20}` | `{"history": "chat.tea", "messages": [...]}` |
| `{"presence": "chat.tea"}` | `{"presence": "chat.tea", "members": [...]}` |

Whatever has an `"id"` is answered with `"answer": id`, also where it fails: `{"answer": id, "error": {...}}`.
Beside that a client gets `{"client": ..., "heartbeat": 25}` at the beginning, `{"gap": channel, "position": ...}`
where messages were lost, `{"beat": true}` where nothing else came for long, and `{"reconnect": seconds}` before the
server stops.
"""

from __future__ import annotations

from typing import Any

import msgspec

from consona.errors import ConsonaError, ValidationError
from consona.realtime.message import ASGIMessage, Message
from consona.rest.websocket_messages import encode_message

__all__ = ["Incoming", "described", "frame", "shown"]


class Incoming(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends: one of `send`, `join`, `leave`, `history` and `presence`."""

    send: str | None = None
    join: str | None = None
    leave: str | None = None
    history: str | None = None
    presence: str | None = None
    id: int | str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    after: str | None = None
    limit: int = 100

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """What it asks for: (verb, channel)."""
        return [
            (verb, channel)
            for verb in ("send", "join", "leave", "history", "presence")
            if (channel := getattr(self, verb)) is not None
        ]


def frame(fields: Any, *, packed: bool) -> ASGIMessage:
    """What is sent for some fields."""
    data = encode_message(fields, packed=packed)
    return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}


def shown(message: Message) -> dict[str, Any]:
    """A message of the history."""
    fields = {"channel": message.channel, "position": message.token, "at": message.at, "data": message.data}
    return fields | {"event": message.event} if message.event else fields


def described(error: Exception) -> dict[str, Any]:
    """An error as a client may see it: what it caused itself in full, of all else nothing."""
    if not isinstance(error, ConsonaError) or error.status >= 500:
        return {"code": "internal", "message": "Something went wrong inside the server."}
    fields: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.hint:
        fields["hint"] = error.hint
    if isinstance(error, ValidationError) and error.fields:
        fields["fields"] = [{"path": each.path, "message": each.message} for each in error.fields]
    return fields
