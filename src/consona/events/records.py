"""How events lie in the log: the attributes of a CloudEvent as headers, its data as the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import msgspec

from consona.errors import FieldProblem, ValidationError
from consona.events.cloudevents import CloudEvent
from consona.events.event import event_type
from consona.log.log import Entry, Record

__all__ = ["KEY", "TRACE", "VERSION", "Received", "entry_of", "event_of", "received_of", "wrapped"]

KEY: Final = "partitionkey"
"""The attribute with the key within which order is kept. Source: CloudEvents, Partitioning extension."""
TRACE: Final = "traceparent"
"""Source: CloudEvents, Distributed Tracing extension."""
VERSION: Final = "dataversion"
"""The attribute with the version of the event's type, where it is not 1."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a handler can know beyond the event itself; it gets it where a parameter has this type."""

    event: CloudEvent
    """All attributes, and the data as bytes."""
    position: int
    """In the bus's log."""
    at: float
    """When it came into the log: seconds since the epoch."""
    attempt: int
    """1 on the first delivery."""

    @property
    def key(self) -> str:
        """The key within which order is kept; empty for none."""
        return str(self.event.extensions.get(KEY, ""))

    @property
    def version(self) -> int:
        """The version of the event's type."""
        text = str(self.event.extensions.get(VERSION, 1))
        if not text.isdecimal() or len(text) > 9:
            raise ValidationError(
                "The event cannot be read.", fields=[FieldProblem(VERSION, "expected a whole number above 0")]
            )
        return int(text)


def wrapped(event: Any, *, source: str, key: str, subject: str, id: str, extensions: Mapping[str, Any]) -> CloudEvent:  # noqa: A002  the attribute's name
    """An event of a declared type as a CloudEvent.

    Raises:
        ConfigurationError: It is no Struct and no dataclass.
        ValidationError: It holds something that is no data.
    """
    name, version = event_type(type(event))
    try:
        data = msgspec.json.encode(event)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise ValidationError(
            f"The event {name!r} cannot be written as JSON.", fields=[FieldProblem("data", str(error) or "too deep")]
        ) from error
    more = dict(extensions)
    if key:
        more[KEY] = key
    if version != 1:
        more[VERSION] = str(version)
    return CloudEvent(
        type=name, source=source, data=data, id=id or str(uuid4()), subject=subject or None, extensions=more
    )


def entry_of(event: CloudEvent) -> Entry:
    return Entry(event.data or b"", event.attributes())


def event_of(record: Record) -> CloudEvent:
    """The event in a record of the log.

    Raises:
        ValidationError: The record holds none.
    """
    return CloudEvent.of(record.headers, record.body or None)


def received_of(record: Record, attempt: int = 1) -> Received:
    return Received(event_of(record), record.position, record.at, attempt)
