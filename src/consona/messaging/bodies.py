"""What a message carries: any value that is put becomes bytes with a content type, and comes back as its type."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from consona.errors import FieldProblem, ValidationError
from consona.validation import wrong_fields

__all__ = ["CONTENT_TYPE", "TYPE", "decoded", "encoded"]

CONTENT_TYPE: Final = "content-type"
TYPE: Final = "type"
"""The header with the name of the value's class, for people and for handlers that tell several apart."""

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
_HALVES: Final = re.compile(r"[\ud800-\udfff]")


def encoded(value: Any) -> tuple[bytes, dict[str, str]]:
    """The bytes of `value`, and headers that tell what they are.

    Bytes stay as they are and text becomes UTF-8; all else (Structs, dataclasses, dicts, lists, numbers) becomes JSON.

    Raises:
        ValidationError: It holds something that is no data, or half a character.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), {CONTENT_TYPE: BYTES}
    if isinstance(value, str):
        if _HALVES.search(value):
            raise _refused("the text holds half of a surrogate pair")
        return value.encode(), {CONTENT_TYPE: TEXT}
    try:
        body = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise _refused(str(error) or "it is nested too deeply") from error
    headers = {CONTENT_TYPE: JSON}
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        headers[TYPE] = type(value).__name__
    return body, headers


def decoded(body: bytes, headers: Mapping[str, str], into: Any = Any) -> Any:
    """What was put: bytes, text or JSON by its content type; checked against `into` and made one.

    Raises:
        ValidationError: The body is no JSON, or does not fit; every wrong field is named.
    """
    kind = headers.get(CONTENT_TYPE, BYTES).partition(";")[0].strip().lower()
    if into is bytes:
        return body
    if kind == "text/plain" or into is str:
        return _text(body)
    if kind != JSON and not kind.endswith("+json") and into is Any:
        return body
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.ValidationError:
        problems = list(wrong_fields(msgspec.json.decode(body), into, "message"))
        raise ValidationError("The message does not fit its type.", fields=problems) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationError(
            "The message is no JSON.", fields=[FieldProblem("message", f"expected JSON: {error}")]
        ) from error


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ValidationError("The message is no text.", fields=[FieldProblem("message", "expected UTF-8")]) from error


def _refused(problem: str) -> ValidationError:
    return ValidationError(
        f"This value cannot be put into a queue: {problem}.", fields=[FieldProblem("message", problem)]
    )
