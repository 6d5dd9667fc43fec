"""What goes through a WebSocket: text, bytes, and values as JSON (text) or MessagePack (binary).

Both ends use it: the server's `WebSocket`, and the client that a test has.

Source: RFC 6455, sections 5.6 and 7.4; the IANA registry of WebSocket close codes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import msgspec

from consona.errors import ConfigurationError, ConsonaError, ValidationError
from consona.validation import wrong_fields

__all__ = [
    "PACKED",
    "InvalidMessage",
    "Message",
    "WebSocketClosed",
    "check_code",
    "cut_reason",
    "decode_message",
    "encode_message",
]

Message = str | bytes

WRONG_KIND: Final = 1003
UNREADABLE: Final = 1007
POLICY: Final = 1008
TOO_LONG: Final = 1009

MAX_REASON_BYTES: Final = 123

PACKED: Final = "msgpack"
"""The subprotocol with which values go as MessagePack."""


class WebSocketClosed(ConsonaError):
    """The WebSocket is closed, by either side; nothing more comes or goes.

    Attributes:
        close_code: 1000 for a normal end, 1001 for a page that was left, 1005 or 1006 where no word was said, 1012
            for a server that stops; 4000 to 4999 are an application's own.
        reason: What the side that closed it wrote.
    """

    code = "websocket.closed"
    status = 499
    hint = "A message for a client that has gone must be kept, or dropped; the client may connect again."

    def __init__(self, message: str = "", *, close_code: int = 1006, reason: str = "", **details: Any) -> None:
        super().__init__(message or f"The WebSocket is closed ({close_code}).", **details)
        self.close_code = close_code
        self.reason = reason


class InvalidMessage(ValidationError):
    """A message came that is not what was asked for. Whoever reads may answer it; else the WebSocket is closed.

    Attributes:
        close_code: 1003 for text in place of bytes (or the reverse), 1007 where it is no JSON or MessagePack, 1008
            where its fields are wrong, 1009 where it is too long.
        fields: What is wrong, field by field.
    """

    code = "websocket.invalid_message"

    def __init__(self, message: str = "", *, close_code: int = POLICY, fields: Any = (), **details: Any) -> None:
        super().__init__(message, fields=fields, **details)
        self.close_code = close_code


def encode_message(value: Any, *, packed: bool) -> Message:
    r"""What is sent for a value: text and bytes as they are, anything else as JSON, or packed as MessagePack.

    Example:
        >>> encode_message({"x": 1}, packed=False), encode_message({"x": 1}, packed=True)
        ('{"x":1}', b'\x81\xa1x\x01')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return _to_msgpack(value) if packed else _to_json(value).decode()


_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode


def decode_message(message: Message, into: Any) -> Any:
    """A message as the type that is asked for: text is read as JSON, bytes as MessagePack; `str` and `bytes` as such.

    Raises:
        InvalidMessage: It is not that.

    Example:
        >>> decode_message('{"x": 1}', dict[str, int])
        {'x': 1}
    """
    if into is str or into is bytes:
        if isinstance(message, into):
            return message
        words = ("text", "bytes") if into is str else ("bytes", "text")
        raise InvalidMessage(f"A message came as {words[1]}, and {words[0]} was expected.", close_code=WRONG_KIND)
    from_json, from_msgpack = _decoders(into)
    try:
        return from_json(message) if isinstance(message, str) else from_msgpack(message)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _explained(message, into, error) from None


@functools.lru_cache(maxsize=256)
def _decoders(into: Any) -> tuple[Callable[[str], Any], Callable[[bytes], Any]]:
    return msgspec.json.Decoder(into).decode, msgspec.msgpack.Decoder(into).decode


def _explained(message: Message, into: Any, error: BaseException) -> InvalidMessage:
    if isinstance(error, msgspec.ValidationError):  # what is wrong is known so far; is the rest even readable?
        try:
            value = msgspec.json.decode(message) if isinstance(message, str) else msgspec.msgpack.decode(message)
        except (msgspec.DecodeError, ValueError, RecursionError) as found:
            error = found
        else:
            fields = list(wrong_fields(value, into, "message"))
            named = ", ".join(field.path for field in fields)
            return InvalidMessage(f"A message has wrong fields: {named}.", fields=fields)
    if isinstance(error, RecursionError):
        return InvalidMessage("A message is nested too deeply.", close_code=UNREADABLE)
    name = "JSON" if isinstance(message, str) else "MessagePack"
    return InvalidMessage(f"A message is not {name} that can be read.", close_code=UNREADABLE)


def check_code(code: int) -> None:
    """Refuse a close code that may not be sent.

    Raises:
        ConfigurationError: It is none of 1000 to 1003, 1007 to 1014 and 3000 to 4999.

    Source: RFC 6455, section 7.4.2.
    """
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise ConfigurationError(
            f"A WebSocket cannot be closed with the code {code}.",
            hint="Use 1000 (all is done), 1008 (a rule was broken), or one of your own from 4000 to 4999.",
        )


def cut_reason(reason: str) -> str:
    """A reason that fits in a close frame: 123 bytes of UTF-8.

    Example:
        >>> len(cut_reason("é" * 100))
        61
    """
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
