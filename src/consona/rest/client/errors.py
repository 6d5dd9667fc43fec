"""What can go wrong between a client and a server, beside an answer that says so (`APIError`).

ConsonaError
├── ConnectError            (foundation) nothing was sent
├── DeadlineExceeded        (foundation) connecting apart: the time for an answer was over
├── BulkheadFull            (foundation) no connection came free in time; nothing was sent
├── ExchangeError           something was sent, and no usable answer came
│   ├── ConnectionLost      the connection broke before the answer was whole
│   ├── BadAnswer           what came is not HTTP, or not what its headers say it is
│   ├── AnswerTooLarge      the answer is longer than the client accepts
│   └── TooManyRedirects    the server sends the client in circles

├── FileNotWritten          what was downloaded could not be kept
└── ValidationError         (foundation)
    └── InvalidAnswer           the answer is JSON, and does not fit the type that was asked for

Whether a `ConnectionLost` is `retryable` depends on the request: see `safe_retry.py`.
"""

from __future__ import annotations

from consona.errors import ConsonaError, ValidationError

__all__ = [
    "AnswerTooLarge",
    "BadAnswer",
    "ConnectionLost",
    "ExchangeError",
    "FileNotWritten",
    "InvalidAnswer",
    "TooManyRedirects",
]


class ExchangeError(ConsonaError):
    """A request was sent, or part of it, and no usable answer came. The server may have done the work."""

    code = "exchange"
    status = 502
    hint = "Whether the server did the work is not known: look before you repeat it."


class ConnectionLost(ExchangeError):
    """The connection broke after something was sent, before the answer was whole."""

    code = "exchange.connection_lost"
    retryable = True  # where the request may be repeated: `APIClient` sets it to False where it may not


class BadAnswer(ExchangeError):
    """What came back is not HTTP, or not what its headers say it is (encoding, charset, JSON)."""

    code = "exchange.bad_answer"
    hint = "Check that the address is that of an HTTP server, and what stands between (proxies)."


class AnswerTooLarge(ExchangeError):
    """The answer, after decompression, is longer than the client accepts. The rest was not read."""

    code = "exchange.answer_too_large"
    hint = "Raise `max_answer_bytes`, or read it piece by piece with `api.stream(...)`."


class TooManyRedirects(ExchangeError):
    """The server redirected more often than the client follows."""

    code = "exchange.too_many_redirects"
    hint = "The server sends the client in circles, or ask for the final address at once."


class FileNotWritten(ConsonaError):
    """What was downloaded could not be written to its file: the disk is full, or it may not be written there."""

    code = "download.not_written"
    status = 507
    hint = "Check that the folder is there, and who may write in it."


class InvalidAnswer(ValidationError):
    """The answer is JSON, and does not fit the type that was asked for with `into=`."""

    code = "validation.answer"
    status = 502  # towards a client of ours: the fault is behind us, not with what it sent
    hint = "The server changed, or the type is wrong: compare the two."
