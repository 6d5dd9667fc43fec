"""The file of a `Recorder`: exchanges with a server, readable, without secrets, and written whole or not at all.

{"format": 1, "exchanges": [{"request": {...}, "answer": {...}}, ...]}
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec

from consona.errors import ConfigurationError
from consona.resilience import deadline as deadlines
from consona.rest.client.content_decoding import decoder_for
from consona.rest.client.errors import BadAnswer
from consona.rest.recorder.body import Recorded, readable, restored, url_of
from consona.telemetry.redaction import MASK, Redaction

__all__ = ["Exchange", "RecordedAnswer", "RecordedRequest", "load", "save"]

FORMAT: Final = 1

_URL_FIELDS: Final = frozenset({"location", "content-location", "referer"})
_OF_THE_MOMENT: Final = frozenset({"traceparent", "tracestate", "baggage", deadlines.HEADER})
"""They differ from run to run, and say nothing of the exchange."""
_FRAMING: Final = frozenset({"transfer-encoding", "connection", "keep-alive"})


class RecordedRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked."""

    method: str
    url: str
    headers: list[tuple[str, str]] = []
    body: Recorded | None = None


class RecordedAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came back."""

    status: int
    http_version: str = "1.1"
    headers: list[tuple[str, str]] = []
    body: Recorded | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer."""

    request: RecordedRequest
    answer: RecordedAnswer

    @property
    def title(self) -> str:
        return f"{self.request.method} {self.request.url}"


class _File(msgspec.Struct, kw_only=True):
    format: int
    exchanges: list[Exchange]


def request_of(
    method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes, redaction: Redaction
) -> RecordedRequest:
    """A request as it is recorded, and compared: without secrets."""
    pairs = list(headers)
    kind = next((text for name, text in pairs if name.lower() == "content-type"), "")
    left_out = _FRAMING | _OF_THE_MOMENT
    return RecordedRequest(
        method=method,
        url=url_of(url, redaction),
        headers=[(name, _field(name, text, redaction)) for name, text in pairs if name.lower() not in left_out],
        body=readable(body, kind, redaction),
    )


def answer_of(
    status: int, http_version: str, headers: Iterable[tuple[bytes, bytes]], body: bytes, redaction: Redaction
) -> RecordedAnswer:
    """An answer as it is recorded: decompressed, without secrets."""
    pairs = [(name.decode("latin-1"), text.decode("latin-1")) for name, text in headers]
    left_out = set(_FRAMING)
    coding = next((text for name, text in pairs if name.lower() == "content-encoding"), None)
    if coding is not None and body:
        unpacked = _unpacked(body, coding)
        if unpacked is not None:
            body = unpacked
            left_out.add("content-encoding")
    kind = next((text for name, text in pairs if name.lower() == "content-type"), "")
    recorded = readable(body, kind, redaction)
    if body:
        left_out.add("content-length")  # that of the body as it is recorded is told when it is given out
    return RecordedAnswer(
        status=status,
        http_version=http_version,
        headers=[(name, _field(name, text, redaction)) for name, text in pairs if name.lower() not in left_out],
        body=recorded,
    )


def _unpacked(body: bytes, coding: str) -> bytes | None:
    try:
        decoder = decoder_for(coding)
        if decoder is None:
            return body
        unpacked = b"".join(decoder.pieces(body))
        decoder.finish()
    except BadAnswer:
        return None  # the client must meet it as it came
    return unpacked


def _field(name: str, text: str, redaction: Redaction) -> str:
    if redaction.is_secret(name):
        return MASK
    if name.lower() == "link":
        return re.sub(r"<([^>]*)>", lambda found: f"<{url_of(found[1], redaction)}>", text)
    return url_of(text, redaction) if name.lower() in _URL_FIELDS else redaction.text(text)


# The file.


def load(path: Path) -> list[Exchange]:
    """The exchanges of a recording.

    Raises:
        ConfigurationError: The file is missing, is no recording, or is of a newer format.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
        for exchange in found.exchanges if found.format == FORMAT else ():
            restored(exchange.request.body)
            restored(exchange.answer.body)
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no recording {path}.", hint='Make it: Recorder(..., mode="record"), with the server running.'
        ) from None
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is no recording that can be read: {error}.", hint='Correct it, or record anew: mode="record".'
        ) from error
    if found.format != FORMAT:
        raise ConfigurationError(
            f"The recording {path} has format {found.format}; this release reads format {FORMAT}.",
            hint='Use a newer release, or record anew: mode="record".',
        )
    return found.exchanges


def save(path: Path, exchanges: Sequence[Exchange]) -> None:
    """Write the recording: whole, or not at all."""
    data: Any = msgspec.to_builtins({"format": FORMAT, "exchanges": list(exchanges)})
    text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with new.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
