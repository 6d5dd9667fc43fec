"""What a queue refuses before it reaches an engine: names, headers and numbers that are none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from consona.errors import ConfigurationError, FieldProblem, ValidationError
from consona.messaging.engine import Power

__all__ = ["checked_headers", "checked_text", "known_powers", "positive", "refused"]

MAX_HEADERS_BYTES: Final = 64_000
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def known_powers(names: Iterable[str]) -> set[Power]:
    try:
        return {Power(name) for name in names}
    except ValueError as error:
        raise ConfigurationError(f"{error}.", hint=f"There are: {', '.join(sorted(Power))}.") from None


def checked_text(name: str, text: Any, limit: int) -> str:
    if not isinstance(text, str) or not text:
        raise refused(name, "expected text of at least one character")
    if _UNFIT.search(text):
        raise refused(name, "expected no control characters and no halves of surrogate pairs")
    if len(text.encode()) > limit:
        raise refused(name, f"expected at most {limit} bytes of UTF-8")
    return text


def checked_headers(headers: Mapping[Any, Any]) -> Mapping[str, str]:
    try:
        size = sum(len(name.encode()) + len(text.encode()) for name, text in headers.items())
    except AttributeError:
        raise refused("headers", "expected names and values to be text") from None
    except UnicodeEncodeError:
        raise refused("headers", "expected no halves of surrogate pairs") from None
    if size > MAX_HEADERS_BYTES:
        raise refused("headers", f"expected at most {MAX_HEADERS_BYTES} bytes, got {size}")
    return headers


def positive(name: str, seconds: float) -> float:
    if not seconds > 0:
        raise ConfigurationError(f"{name}={seconds!r}: expected seconds above 0.")
    return float(seconds)


def refused(name: str, problem: str) -> ValidationError:
    return ValidationError(f"The queue refused the {name}: {problem}.", fields=[FieldProblem(name, problem)])
