"""A body as it lies in a recording: readable where it can be, without secrets, and the same bytes again.

    {"json": {...}, "layout": "indent 2"}      JSON, and how it was laid out
    {"text": ["a line and", "the next"]}       text, line by line with their ends
    {"base64": "…"}                            anything else

A value whose name is secret by the rules of `telemetry.redaction` is masked: texts become `***`, numbers 0.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from consona.errors import ConfigurationError
from consona.telemetry.redaction import MASK, Redaction

__all__ = ["Recorded", "comparable", "differences", "readable", "restored", "url_of"]

Recorded = dict[str, Any]

NOT_SECRET: Final = frozenset({"tokentype", "tokenendpoint", "tokenurl"})
"""Names that look secret, and whose values a client needs (RFC 6749, RFC 8414)."""
MAX_DEPTH: Final = 100

LAYOUTS: Final[dict[str, Callable[[Any], str]]] = {
    "compact": lambda data: json.dumps(data, ensure_ascii=False, separators=(",", ":")),
    "spaced": lambda data: json.dumps(data, ensure_ascii=False),
    "compact ascii": lambda data: json.dumps(data, separators=(",", ":")),
    "spaced ascii": json.dumps,
    "indent 2": lambda data: json.dumps(data, ensure_ascii=False, indent=2),
    "indent 4": lambda data: json.dumps(data, ensure_ascii=False, indent=4),
}

_BOUNDARY = re.compile(r'(?i)boundary="?([^";,\s]+)"?')
_PART = re.compile(r'(?s)(name="([^"]*)"[^\r\n]*(?:\r\n[^\r\n]+)*\r\n\r\n)(.*?)(?=\r\n--boundary)')
_TEXT_TYPES = re.compile(r"(?i)text/|application/(?:[\w.+-]*\+)?(?:json|xml|javascript|x-www-form-urlencoded|yaml)")


def readable(body: bytes, content_type: str, redaction: Redaction) -> Recorded | None:
    """What a recording holds for a body; None for an empty one."""
    if not body:
        return None
    boundary = _BOUNDARY.search(content_type) if "multipart/" in content_type.lower() else None
    if boundary is not None:  # chosen by chance each time
        body = body.replace(boundary[1].encode(), b"boundary")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode("ascii")}
    if "json" in content_type.lower() and (found := _json(text, redaction)) is not None:
        return found
    if "x-www-form-urlencoded" in content_type.lower():
        return {"text": _form(text, redaction)}
    if boundary is not None:
        text = _multipart(text, redaction)
    if boundary is not None or _TEXT_TYPES.match(content_type) or (not content_type and text.isprintable()):
        lines = redaction.text(text).splitlines(keepends=True)
        return {"text": lines if len(lines) > 1 else "".join(lines)}
    return {"base64": base64.b64encode(body).decode("ascii")}


def _json(text: str, redaction: Redaction) -> Recorded | None:
    try:
        data = json.loads(text)
        layout = next((name for name, laid_out in LAYOUTS.items() if laid_out(data) == text), None)
        masked = _masked(data, redaction)
    except (ValueError, RecursionError):
        return None
    if layout is None and masked == data:
        return None  # it cannot be laid out again as it was, so it is kept as the text that it is
    return {"json": masked, "layout": layout or "compact"}


def _masked(value: Any, redaction: Redaction, *, secret: bool = False, depth: int = 0) -> Any:
    """The same shape and types, so that what reads it still can."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return {
            name: _masked(item, redaction, secret=secret or _is_secret(name, redaction), depth=depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item, redaction, secret=secret, depth=depth + 1) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if secret:
        return MASK if isinstance(value, str) else type(value)(0)
    if isinstance(value, str):
        return url_of(value, redaction) if value.startswith(("http://", "https://")) else redaction.text(value)
    return value


def _is_secret(name: str, redaction: Redaction) -> bool:
    return redaction.is_secret(name) and re.sub(r"[^a-z]", "", name.lower()) not in NOT_SECRET


def _form(text: str, redaction: Redaction) -> str:
    names = [pair.partition("=")[0] for pair in text.split("&")]
    return redaction.query(text) if any(redaction.is_secret(name) for name in names) else text


def _multipart(text: str, redaction: Redaction) -> str:
    return _PART.sub(lambda part: part[1] + (MASK if _is_secret(part[2], redaction) else part[3]), text)


def url_of(url: str, redaction: Redaction) -> str:
    """The URL without secrets; one without any stays as it was written."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return redaction.text(url)
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return redaction.url(url) if "@" in parts.netloc or any(redaction.is_secret(name) for name in names) else url


def restored(recorded: Recorded | None) -> bytes:
    """The bytes that a recording stands for.

    Raises:
        ConfigurationError: It is none of the three forms.
    """
    match recorded:
        case None:
            return b""
        case {"json": data, "layout": str(layout)} if layout in LAYOUTS:
            return LAYOUTS[layout](data).encode()
        case {"json": data} if "layout" not in recorded:
            return LAYOUTS["compact"](data).encode()
        case {"text": list(lines)} if all(isinstance(line, str) for line in lines):
            return "".join(lines).encode()
        case {"text": str(text)}:
            return text.encode()
        case {"base64": str(text)}:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                pass
    raise ConfigurationError(
        f"A recorded body is neither json, text nor base64: it has {', '.join(sorted(recorded)) or 'nothing'}.",
        hint='Write {"json": …}, {"text": "…"} or {"base64": "…"}, or record it anew.',
    )


def comparable(recorded: Recorded | None) -> Any:
    """What two bodies must have in common to be the same: their data, not how it is laid out."""
    if recorded is None:
        return None
    if "json" in recorded:
        return ("json", recorded["json"])
    if "text" in recorded:
        text = recorded["text"] if isinstance(recorded["text"], str) else "".join(recorded["text"])
        if text[:1] in {"{", "["}:  # JSON that was laid out by hand
            with contextlib.suppress(ValueError, RecursionError):
                return ("json", json.loads(text))
        return ("text", text)
    return ("base64", recorded.get("base64"))


def differences(one: Any, other: Any, where: str = "body") -> str:
    """The first place in which two recorded bodies differ; places, never values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in [*one, *other]:
            if name not in one or name not in other:
                return f"{where}.{name} is only in one of them"
            if one[name] != other[name]:
                return differences(one[name], other[name], f"{where}.{name}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                return differences(left, right, f"{where}[{index}]")
    return f"{where} differs"
