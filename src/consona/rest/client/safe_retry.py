"""When a request may be sent again.

- No byte was sent (`ConnectError`, no free connection): always.
- The method is idempotent, or the call was declared so (then an `Idempotency-Key` goes with it, the same on
  each try), and its body can be sent twice: also after a lost connection, a read timeout, and the statuses
  of `RETRY_STATUSES` (and 409 where it says when), after the seconds that `Retry-After` names.
- Otherwise never: the server may have done the work.

Source: RFC 9110, sections 9.2.2 and 10.2.3; RFC 6585 (429); RFC 8470 (425);
draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from typing import Final

from consona.errors import APIError, BulkheadFull, ConnectError, DeadlineExceeded
from consona.rest.client.errors import ConnectionLost

__all__ = ["IDEMPOTENT", "RETRY_STATUSES", "if_safe", "if_unsent", "retry_after"]

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
RETRY_STATUSES: Final = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that tell of a passing state. 500 does not: the same request would most likely fail the same way."""


def if_unsent(error: BaseException) -> bool:
    """Whether to try again a request that may have effects."""
    return isinstance(error, ConnectError | BulkheadFull) and error.retryable


def if_safe(error: BaseException) -> bool:
    """Whether to try again a request that may be repeated."""
    if isinstance(error, APIError):
        # 409 with Retry-After: the first try with this Idempotency-Key is still under way.
        return error.status in RETRY_STATUSES or (error.status == 409 and error.retry_after is not None)
    if isinstance(error, DeadlineExceeded):
        return "phase" in error.context  # a step of this try took too long; the call's own deadline has no phase
    return isinstance(error, ConnectionLost) or if_unsent(error)


def retry_after(text: str | None, *, clock: Callable[[], float] = time.time) -> float | None:
    """The seconds that a `Retry-After` header asks for, in either of its forms; None where it cannot be read.

    Example:
        >>> retry_after("120")
        120.0
        >>> retry_after("Thu, 01 Jan 1970 00:01:00 GMT", clock=lambda: 20.0)
        40.0
    """
    if not text:
        return None
    text = text.strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - clock())
    except (ValueError, OverflowError):
        return None
