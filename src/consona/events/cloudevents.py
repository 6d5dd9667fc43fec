"""CloudEvents 1.0: an event as any system can read it, in its three forms.

    event = CloudEvent(type="order.placed", source="/shop", data=b'{"id": 7}')
    structured(event)                   # one JSON document, application/cloudevents+json
    headers, body = binary(event)       # over HTTP: attributes as ce-… headers, the data as the body
    received(headers, body)             # either form, and batches, back again

Source: CloudEvents specification 1.0.2, its JSON event format 1.0.2, and its HTTP protocol binding 1.0.2.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote
from uuid import uuid4

import msgspec

from consona.errors import FieldProblem, ValidationError

__all__ = ["BATCH", "STRUCTURED", "CloudEvent", "batch", "binary", "received", "structured"]

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"
PREFIX: Final = "ce-"

_ATTRIBUTE: Final = re.compile(r"[a-z0-9]+\Z")
_OWN: Final = frozenset(
    {"id", "source", "type", "specversion", "time", "subject", "datacontenttype", "dataschema", "data", "data_base64"}
)
_REQUIRED: Final = ("id", "source", "type")
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# What stays as it is in a header: printable ASCII but the space, the quote and the per cent sign (HTTP binding, 3.1.3.2).
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """An event with its context.

    Args:
        type: What happened: `order.placed`.
        source: Where: a URI reference, such as `/shop`. With `id` it names the event.
        data: What there is to say about it, in the form that `datacontenttype` names; None for nothing.
        extensions: More attributes; their names are small letters and digits.

    Raises:
        ValidationError: A required attribute is empty, or a name or value is not allowed.
    """

    type: str
    source: str
    data: bytes | None = None
    id: str = field(default_factory=lambda: str(uuid4()))
    time: datetime | None = field(default_factory=lambda: datetime.now(UTC))
    subject: str | None = None
    datacontenttype: str | None = JSON
    dataschema: str | None = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            FieldProblem(name, "expected text of at least one character, without control characters")
            for name in (*_REQUIRED, "subject", "datacontenttype", "dataschema")
            if not _is_text(getattr(self, name), optional=name not in _REQUIRED)
        ]
        if not _is_moment(self.time):
            problems.append(FieldProblem("time", "expected a time with its zone"))
        problems += _wrong_extensions(self.extensions)
        if problems:
            raise ValidationError("This is no CloudEvent.", fields=problems)

    @property
    def is_json(self) -> bool:
        """Whether its data is JSON."""
        kind = (self.datacontenttype or JSON).partition(";")[0].strip().lower()
        return kind == JSON or kind.endswith("+json")

    def json(self, into: Any = Any) -> Any:
        """Its data, read as JSON.

        Raises:
            ValidationError: It is no JSON, or does not fit `into`.
        """
        try:
            return msgspec.json.decode(b"null" if self.data is None else self.data, type=into)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValidationError(
                f"The data of the event {self.type!r} cannot be read.", fields=[FieldProblem("data", str(error))]
            ) from error

    def attributes(self) -> dict[str, str]:
        """All attributes but the data, as texts by name."""
        found: dict[str, Any] = {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type}
        if self.time is not None:
            found["time"] = self.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
        for name in ("subject", "datacontenttype", "dataschema"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        for name, value in self.extensions.items():
            found[name] = ("true" if value else "false") if isinstance(value, bool) else str(value)
        return found

    @classmethod
    def of(cls, attributes: Mapping[str, Any], data: bytes | None) -> CloudEvent:
        """The event with these attributes.

        Raises:
            ValidationError: One is missing or not allowed.
        """
        version = attributes.get("specversion")
        if version != "1.0":
            problem = "is missing" if version is None else f'expected "1.0", got {str(version)[:20]!r}'
            raise ValidationError("This is no CloudEvent.", fields=[FieldProblem("specversion", problem)])
        missing = [FieldProblem(name, "is missing") for name in _REQUIRED if name not in attributes]
        if missing:
            raise ValidationError("This is no CloudEvent.", fields=missing)
        return cls(
            data=data,
            id=attributes["id"],
            source=attributes["source"],
            type=attributes["type"],
            time=_time(attributes.get("time")),
            subject=attributes.get("subject"),
            datacontenttype=attributes.get("datacontenttype"),
            dataschema=attributes.get("dataschema"),
            extensions={name: value for name, value in attributes.items() if name not in _OWN and value is not None},
        )


def structured(event: CloudEvent) -> bytes:
    """The event as one JSON document (`application/cloudevents+json`)."""
    return msgspec.json.encode(_document(event))


def batch(events: Sequence[CloudEvent]) -> bytes:
    """Several events as one JSON array (`application/cloudevents-batch+json`)."""
    return msgspec.json.encode([_document(event) for event in events])


def binary(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """The event as HTTP headers and a body, the data as it is."""
    headers = {}
    for name, text in event.attributes().items():
        if name == "datacontenttype":
            headers["content-type"] = text
        else:
            headers[f"{PREFIX}{name}"] = quote(text, safe=_SAFE)
    return headers, b"" if event.data is None else event.data


def received(headers: Mapping[str, str], body: bytes) -> list[CloudEvent]:
    """The events of an HTTP message (or of one of a broker), whatever their form.

    Args:
        headers: By name, in any case.
        body: As it came.

    Raises:
        ValidationError: This is none; every wrong attribute is named.
    """
    found = {name.lower(): value for name, value in headers.items()}
    kind = found.get("content-type", "").partition(";")[0].strip().lower()
    if kind == STRUCTURED:
        return [_read(_decoded(body))]
    if kind == BATCH:
        documents = _decoded(body)
        if not isinstance(documents, list):
            raise ValidationError(
                "This is no batch of CloudEvents.", fields=[FieldProblem("body", "expected an array")]
            )
        return [_read(document) for document in documents]
    attributes = {
        name[len(PREFIX) :]: _unquoted(name, value)
        for name, value in found.items()
        if name.startswith(PREFIX) and name != f"{PREFIX}datacontenttype"
    }
    if "content-type" in found:
        attributes["datacontenttype"] = found["content-type"]
    return [CloudEvent.of(attributes, body or None)]


def _unquoted(name: str, value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise ValidationError("This is no CloudEvent.", fields=[FieldProblem(name, "expected UTF-8")]) from error


def _document(event: CloudEvent) -> dict[str, Any]:
    document: dict[str, Any] = {**event.attributes(), **event.extensions}
    if event.data is None:
        return document
    if event.is_json:
        try:
            msgspec.json.decode(event.data)
        except msgspec.DecodeError as error:
            raise ValidationError(
                "The event says that its data is JSON, and it is not.", fields=[FieldProblem("data", str(error))]
            ) from error
        document["data"] = msgspec.Raw(event.data)
    else:
        try:
            document["data"] = event.data.decode() if (event.datacontenttype or "").startswith("text/") else None
        except UnicodeDecodeError:
            document["data"] = None
        if document["data"] is None:
            del document["data"]
            document["data_base64"] = base64.b64encode(event.data).decode()
    return document


def _read(document: Any) -> CloudEvent:
    if not isinstance(document, dict):
        raise ValidationError("This is no CloudEvent.", fields=[FieldProblem("body", "expected an object")])
    attributes = {name: value for name, value in document.items() if name not in {"data", "data_base64"}}
    if "data" in document and "data_base64" in document:
        raise ValidationError(
            "This is no CloudEvent.", fields=[FieldProblem("data", "expected either data or data_base64, got both")]
        )
    kind = attributes.get("datacontenttype")
    if "data_base64" in document:
        try:
            data: bytes | None = base64.b64decode(document["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise ValidationError(
                "This is no CloudEvent.", fields=[FieldProblem("data_base64", "expected Base64")]
            ) from error
    elif "data" not in document:
        data = None
    elif isinstance(document["data"], str) and isinstance(kind, str) and not _json_kind(kind):
        data = document["data"].encode()
    else:
        data = msgspec.json.encode(document["data"])
    return CloudEvent.of(attributes, data)


def _json_kind(kind: str) -> bool:
    kind = kind.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationError(
            "This is no CloudEvent.", fields=[FieldProblem("body", f"expected JSON: {error}")]
        ) from error


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise ValidationError(
            "This is no CloudEvent.", fields=[FieldProblem("time", "expected a time as RFC 3339 writes it")]
        ) from error


def _is_moment(value: Any) -> bool:
    return value is None or (isinstance(value, datetime) and value.tzinfo is not None)


def _is_text(value: Any, *, optional: bool) -> bool:
    if value is None:
        return optional
    return isinstance(value, str) and bool(value) and not _UNFIT.search(value)


def _wrong_extensions(extensions: Mapping[Any, Any]) -> list[FieldProblem]:
    problems = []
    for name, value in extensions.items():
        if not isinstance(name, str) or not _ATTRIBUTE.match(name) or name in _OWN:
            problems.append(
                FieldProblem(str(name)[:40], "expected a name of small letters and digits, not used otherwise")
            )
        elif isinstance(value, bool | int):
            if not -(2**31) <= value < 2**31:
                problems.append(FieldProblem(name, "expected a number of 32 bits"))
        elif not isinstance(value, str) or _UNFIT.search(value):
            problems.append(
                FieldProblem(name, "expected text without control characters, a whole number, true or false")
            )
    return problems
