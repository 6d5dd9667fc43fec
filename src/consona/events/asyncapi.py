"""The AsyncAPI document of a bus: which events it has, what is in them, and who handles them.

Source: AsyncAPI Specification 3.0.0; the headers are those of CloudEvents 1.0.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from consona.events.cloudevents import JSON
from consona.events.event import event_type
from consona.rest.server.schemas import Schemas

if TYPE_CHECKING:
    from consona.events.handler import Subscription

__all__ = ["document"]

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")
_HEADERS: Final = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"type": "string", "const": "1.0"},
        "id": {"type": "string", "minLength": 1, "description": "Names the event, together with its source."},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "subject": {"type": "string", "minLength": 1},
        "partitionkey": {"type": "string", "description": "Events with the same key are handled in order."},
        "traceparent": {"type": "string"},
        "dataversion": {"type": "string", "description": "The version of the type, where it is not 1."},
    },
}


def document(
    *, title: str, version: str, subscriptions: Sequence[Subscription], publishes: Sequence[type]
) -> dict[str, Any]:
    """The document, as plain data.

    Args:
        title: What it describes: the program.
        version: Of the program's events, for readers.
        subscriptions: Who handles what; handlers of patterns are left out, since they name no type.
        publishes: The classes of events that the program publishes.
    """
    handled = [declared for each in subscriptions for declared in each.declared.values()]
    types = list(dict.fromkeys([*publishes, *handled]))
    schemas = Schemas(types)
    names = _names(types)
    operations: dict[str, Any] = {
        f"send.{names[declared]}": _operation("send", names[declared]) for declared in dict.fromkeys(publishes)
    }
    for each in subscriptions:
        for declared in each.declared.values():
            who = each.durable or getattr(each.handler, "__name__", "handler")
            operations[f"receive.{_UNFIT.sub('_', who)}.{names[declared]}"] = _operation("receive", names[declared])
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": JSON,
        "channels": {
            name: {
                "address": event_type(declared).name,
                "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            }
            for declared, name in names.items()
        },
        "operations": operations,
        "components": {
            "messages": {name: _message(declared, schemas) for declared, name in names.items()},
            "schemas": schemas.components,
        },
    }


def _names(types: Sequence[type]) -> dict[type, str]:
    """What each is called in the document, where few characters are allowed."""
    names: dict[type, str] = {}
    for declared in types:
        name = _UNFIT.sub("_", event_type(declared).name)
        while name in names.values():
            name += "_"
        names[declared] = name
    return names


def _operation(action: str, name: str) -> dict[str, Any]:
    channel = f"#/channels/{name}"
    return {"action": action, "channel": {"$ref": channel}, "messages": [{"$ref": f"{channel}/messages/{name}"}]}


def _message(declared: type, schemas: Schemas) -> dict[str, Any]:
    name, version = event_type(declared)
    said = (declared.__doc__ or "").strip().partition("\n")[0]
    # A Struct and a dataclass without a docstring get one that repeats their signature.
    told = {"summary": said} if said and not said.startswith(f"{declared.__name__}(") else {}
    return {
        "name": name,
        "title": f"{declared.__name__}, version {version}",
        **told,
        "contentType": JSON,
        "headers": _HEADERS,
        "payload": schemas.of(declared),
    }
