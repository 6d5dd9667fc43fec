"""Reads request bodies: JSON and MessagePack into the declared type, or the raw bytes.

A body needs a content type. (A page of another site can make a browser send a body without one, or as
a form, without asking first; it cannot send JSON that way.)

Source: RFC 9110, sections 8.3 and 15.5.16; RFC 8259; https://msgpack.org.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from consona.errors import FieldProblem
from consona.rest.server.problems import BadRequest, UnsupportedMediaType
from consona.validation import wrong_fields

__all__ = ["MSGPACK_TYPES", "UNREADABLE", "BodyReader", "media_type_of"]

UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""What the parsers raise. (A `msgspec.ValidationError` is a `DecodeError`, a `UnicodeDecodeError` a `ValueError`.
msgspec 0.22 lets through what `datetime` says of the first second of the year 10000: a plain `ValueError`.)"""

MSGPACK_TYPES: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})
READ_TYPES: Final = "application/json, application/msgpack"


def media_type_of(content_type: bytes | None) -> tuple[str, dict[str, str]]:
    """The media type in lower case, and its parameters. Empty where there is none."""
    if content_type is None:
        return "", {}
    kind, *rest = content_type.decode("latin-1").split(";")
    parameters = {}
    for item in rest:
        name, _, value = item.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return kind.strip().lower(), parameters


class BodyReader:
    """Reads the body of one route.

    Args:
        declared: Its type; `bytes` and `str` take any content type as it is.
    """

    def __init__(self, declared: Any) -> None:
        self.declared = declared
        self.raw = declared in {bytes, str}
        if not self.raw:
            self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(declared).decode
            self.from_msgpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder(declared).decode

    def from_json(self, data: bytes) -> Any:
        """The body as declared. `39.0` is a whole number, as JSON Schema has it (2020-12, validation, 6.1.1).

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: It cannot be read.
        """
        try:
            return self._decode(data)
        except msgspec.ValidationError:
            return msgspec.convert(_with_whole_numbers(msgspec.json.decode(data)), self.declared, str_keys=True)

    def read(self, fields: dict[bytes, bytes], data: bytes) -> Any:
        """The body as declared; for every content type but plain `application/json`, which is read in line.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: It cannot be read.
            UnsupportedMediaType: It is neither JSON nor MessagePack.
        """
        if self.raw:
            return data if self.declared is bytes else data.decode()
        return (self.from_msgpack if self._is_msgpack(fields) else self.from_json)(data)

    def problems(self, fields: dict[bytes, bytes], data: bytes) -> Iterator[FieldProblem]:
        """Every wrong field of a body that could not be read.

        Raises:
            BadRequest: It is not even JSON (or MessagePack, or UTF-8).
            UnsupportedMediaType: It is neither JSON nor MessagePack.
        """
        if self.raw:
            raise BadRequest("The body is not UTF-8.")
        if not data:
            yield FieldProblem("body", "is missing")
            return
        packed = self._is_msgpack(fields)
        name = "MessagePack" if packed else "JSON"
        try:
            value = (
                msgspec.msgpack.decode(data, strict=False) if packed else _with_whole_numbers(msgspec.json.decode(data))
            )
        except RecursionError:
            raise BadRequest("The body is nested too deeply.") from None
        except UNREADABLE as error:
            raise BadRequest(f"The body is not {name} that can be read: {_reason(error)}.") from None
        yield from wrong_fields(value, self.declared, "body")

    def _is_msgpack(self, fields: dict[bytes, bytes]) -> bool:
        kind, parameters = media_type_of(fields.get(b"content-type"))
        encoding = fields.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity":
            raise UnsupportedMediaType(
                "The body is compressed, which is not read here.", headers={"accept-encoding": "identity"}
            )
        if kind in MSGPACK_TYPES:
            return True
        if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
            if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
                raise UnsupportedMediaType("JSON is read as UTF-8 only.", headers={"accept": READ_TYPES})
            return False
        raise UnsupportedMediaType(
            f"The body's content type is {kind!r}, which is not read here."
            if kind
            else "The body has no content type.",
            hint=f"Send one of: {READ_TYPES}.",
            headers={"accept": READ_TYPES},
        )


def _with_whole_numbers(value: Any) -> Any:
    """`value` with an int in place of each float that is one; a field of type float takes it just as well."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= 2**53 else value
    if isinstance(value, list):
        return [_with_whole_numbers(member) for member in value]
    if isinstance(value, dict):
        return {key: _with_whole_numbers(member) for key, member in value.items()}
    return value


def _reason(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start}"
    text = str(error).replace("JSON is malformed: ", "")
    return text[:1].lower() + text[1:].rstrip(".")
