"""Takes `multipart/form-data` apart while it arrives: the head of each part, its bytes, its end.

Source: RFC 7578; WHATWG HTML, "Multipart form data" (how browsers escape names).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from consona.rest.server.problems import BadRequest, UnsupportedMediaType

__all__ = ["PART_END", "Event", "MultipartParser", "PartEnd", "PartHead"]

# It logs a warning for every broken form, and strangers decide how many of them there are.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

PLAIN_ENCODINGS: Final = frozenset({"", "binary", "7bit", "8bit"})


@dataclass(frozen=True, slots=True)
class PartHead:
    """A part begins."""

    name: str
    filename: str | None
    """What the client calls the file; None for a field."""
    type: str
    """Its media type, in lower case; empty where the client does not say."""


class PartEnd:
    """A part is whole."""


PART_END: Final = PartEnd()

Event = PartHead | PartEnd | bytes


class MultipartParser:
    """One form.

    Args:
        boundary: The parameter of the content type.

    Raises:
        BadRequest: The boundary is empty or too long.
    """

    def __init__(self, boundary: str) -> None:
        if not boundary:
            raise BadRequest("The content type multipart/form-data has no boundary.")
        self._events: list[Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._ended = False
        try:
            self._parser = python_multipart.MultipartParser(
                boundary.encode("latin-1"),
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_begin": self._begin_header,
                    "on_header_field": self._add_name,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_head,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise BadRequest(f"The boundary of the form cannot be used: {error}.") from error

    def feed(self, data: bytes) -> list[Event]:
        """What the next piece of the body brings.

        Raises:
            BadRequest: It is not what RFC 7578 says.
            UnsupportedMediaType: A part is encoded in a way that is not read.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequest(f"The form is broken: {error}.") from error
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """Call it when the body is at its end.

        Raises:
            BadRequest: The form is not.
        """
        if not self._ended:
            raise BadRequest("The form ends in its middle: its last boundary is missing.")

    def _begin_header(self) -> None:
        self._name = self._value = b""

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value

    def _end_head(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise BadRequest("A part of the form has no name (Content-Disposition: form-data; name=…).")
        try:
            name = _unescaped(options[b"name"].decode())
        except UnicodeDecodeError:
            raise BadRequest("The name of a part of the form is not UTF-8.") from None
        encoding = self._headers.get(b"content-transfer-encoding", b"").decode("latin-1").strip().lower()
        if encoding not in PLAIN_ENCODINGS:
            raise UnsupportedMediaType(
                "A part of the form is encoded, which is not read here (RFC 7578, section 4.7).",
                fields=[(f"form.{name}", f"has Content-Transfer-Encoding {encoding!r}")],
            )
        filename = options.get(b"filename")
        media_type = self._headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        shown = None if filename is None else _unescaped(filename.decode(errors="replace"))
        self._events.append(PartHead(name, shown, media_type))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _end_part(self) -> None:
        self._events.append(PART_END)

    def _end(self) -> None:
        self._ended = True


def _unescaped(text: str) -> str:
    """What browsers write in place of the three characters that would end a name."""
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
