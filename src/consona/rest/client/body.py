"""What a request carries: JSON, a form (with files: `multipart.py`), bytes, text, or a stream.

A stream that is handed in as a function (`content=lambda: read_file(path)`) can be sent again when the
policy retries; one that is handed in as an iterator can not, and is only retried before its first byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from consona.errors import ConfigurationError
from consona.rest.client.multipart import Files, Multipart
from consona.rest.client.url import Params, encode_params
from consona.rest.transport import Body

__all__ = ["Content", "Payload", "no_payload", "payload_of"]

Content = bytes | bytearray | memoryview | str | AsyncIterable[bytes] | Callable[[], AsyncIterable[bytes]]

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

_encode = msgspec.json.Encoder().encode


class Payload:
    """A body, and what is known of it."""

    __slots__ = ("_make", "begun", "body", "content_type", "measure", "repeatable")

    def __init__(
        self,
        body: Body,
        content_type: str = "",
        *,
        make: Callable[[], AsyncIterable[bytes]] | None = None,
        repeatable: bool = True,
        measure: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self.body = body
        self.content_type = content_type
        self._make = make
        self.repeatable = repeatable
        """Whether it can be sent a second time."""
        self.begun = False
        """Whether something of a body that is not repeatable was taken already."""
        self.measure = measure
        """Looks how long it is, before each try; None where that is known (bytes), or its end will tell."""

    def next(self) -> Body:
        """The body for one try."""
        if self._make is None:
            return self.body
        return aiter(self._make()) if self.repeatable else self._noted(self._make())

    async def _noted(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        self.begun = True
        async for piece in body:
            yield piece


no_payload: Final = Payload(None)


def payload_of(json: Any, data: Params | None, content: Content | None, files: Files | None = None) -> Payload:
    """The body that a call asks for.

    Raises:
        ConfigurationError: More than one was given, or one that cannot be sent.
    """
    form = data is not None or files is not None
    if (json is not None) + form + (content is not None) > 1:
        raise ConfigurationError(
            "A request has one body: give `json=`, `content=`, or a form (`data=`, `files=`), and not two of them."
        )
    if json is not None:
        try:
            return Payload(_encode(json), JSON)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise ConfigurationError(
                f"`json=` got a {type(json).__name__} that cannot be written as JSON: {type(error).__name__}.",
                hint="Use a msgspec.Struct, a dataclass, or plain dicts, lists, text, numbers, dates and UUIDs.",
            ) from error
    if data is not None and not isinstance(data, Mapping | list | tuple):
        raise ConfigurationError(
            f"`data=` is a form: a dict or pairs, not {type(data).__name__}.", hint="Bytes and text: `content=`."
        )
    if files is not None:
        several = Multipart(data or (), files)
        return Payload(
            None,
            several.content_type,
            make=several.pieces,
            measure=several.measure,
            repeatable=several.repeatable,
        )
    if data is not None:
        return Payload(encode_params(data).replace("%20", "+").encode("ascii"), FORM)
    if isinstance(content, bytes | bytearray | memoryview):
        return Payload(bytes(content), "application/octet-stream")
    if isinstance(content, str):
        return Payload(content.encode(), "text/plain; charset=utf-8")
    if isinstance(content, AsyncIterable):
        once = aiter(content)
        return Payload(None, "application/octet-stream", make=lambda: once, repeatable=False)
    if callable(content):
        return Payload(None, "application/octet-stream", make=content)
    raise ConfigurationError(
        f"`content=` is bytes, text, or an async iterable of bytes, not {type(content).__name__}.",
        hint="Read a file in pieces with an async generator, so that the event loop is not blocked.",
    )
