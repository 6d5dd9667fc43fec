"""Errors on the wire: every failed request is answered with `application/problem+json`.

    {"type": "about:blank", "title": "Unprocessable Content", "status": 422, "code": "validation",
     "detail": "2 fields are wrong.", "request_id": "6f1c…-1a",
     "errors": [{"path": "body.title", "message": "is missing"}, …]}

What a client did wrong is told to it in full. What went wrong behind the server (500 and above) is
not: the client learns the code and the request id, and the log has the rest.

The errors here belong to HTTP alone; all others are in `consona.errors`.

    ConsonaError
    └── HTTPError                    any status, with words meant for the client
        ├── BadRequest               400: cannot be read
        ├── MethodNotAllowed         405
        ├── RequestTimeout           408: the client took too long to send it
        ├── PreconditionFailed       412: it is not the state that the client means
        ├── BodyTooLarge             413
        ├── URITooLong               414
        ├── UnsupportedMediaType     415
        ├── RangeNotSatisfiable      416
        ├── UpgradeRequired          426: only WebSockets are answered here
        ├── PreconditionRequired     428: the client must say which state it means
        ├── HeadersTooLarge          431
        ├── ServiceUnavailable       503: for now; `retry_after` says for how long
        └── StorageFull              507: no room for what the client sends

Source: RFC 9457, Problem Details for HTTP APIs; RFC 9110, section 15 (status codes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from consona.errors import APIError, ConsonaError, FieldProblem, ValidationError
from consona.rest.server.responses import Response
from consona.rest.status import title_of

__all__ = [
    "BadRequest",
    "BodyTooLarge",
    "HTTPError",
    "HeadersTooLarge",
    "MethodNotAllowed",
    "PreconditionFailed",
    "PreconditionRequired",
    "Problem",
    "ProblemField",
    "RangeNotSatisfiable",
    "RequestTimeout",
    "ServiceUnavailable",
    "StorageFull",
    "URITooLong",
    "UnsupportedMediaType",
    "UpgradeRequired",
    "problem_response",
]

PROBLEM_TYPE: Final = "application/problem+json"
MAX_FIELDS: Final = 100
"""How many wrong fields one answer names at most."""


class HTTPError(ConsonaError):
    """An answer with a status of your choice. Its message and hint are meant for the client.

    Args:
        message: What was wrong, in one sentence.
        status: 400 to 599.
        headers: Headers of the answer.
        fields: The parts of the request that are to blame: where they are, and what is wrong with them.

    Example:
        >>> error = HTTPError("The film is sold out.", status=410)
        >>> error.status, error.code
        (410, 'http')
    """

    code = "http"
    headers: dict[str, str]
    fields: tuple[FieldProblem, ...]

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        fields: Iterable[tuple[str, str]] = (),
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        if status is not None:
            self.status = status
        self.headers = headers or {}
        self.fields = tuple(FieldProblem(*field) for field in fields)


class BadRequest(HTTPError):
    """The request cannot be read: it is not the JSON, the UTF-8 or the encoding that it says it is."""

    code = "http.bad_request"
    status = 400


class MethodNotAllowed(HTTPError):
    """The path exists, and not for this method; `Allow` lists those that it has."""

    code = "http.method_not_allowed"
    status = 405


class RequestTimeout(HTTPError):
    """The client took too long to send its request."""

    code = "http.request_timeout"
    status = 408


class PreconditionFailed(HTTPError):
    """The present state is not the one that the client means: somebody changed it since."""

    code = "http.precondition_failed"
    status = 412


class PreconditionRequired(HTTPError):
    """The client must say which state it means to change (`If-Match`), so that nothing is lost."""

    code = "http.precondition_required"
    status = 428


class RangeNotSatisfiable(HTTPError):
    """The parts that the client asks for are beyond the end."""

    code = "http.range_not_satisfiable"
    status = 416


class BodyTooLarge(HTTPError):
    """The body is longer than the route accepts."""

    code = "http.body_too_large"
    status = 413


class URITooLong(HTTPError):
    """The URL is longer than the server accepts."""

    code = "http.uri_too_long"
    status = 414


class UnsupportedMediaType(HTTPError):
    """The body is of a type that the route does not read."""

    code = "http.unsupported_media_type"
    status = 415


class UpgradeRequired(HTTPError):
    """Only a WebSocket is answered at this path."""

    code = "http.upgrade_required"
    status = 426


class HeadersTooLarge(HTTPError):
    """There are more headers, or longer ones, than the server accepts."""

    code = "http.headers_too_large"
    status = 431


class ServiceUnavailable(HTTPError):
    """Not now: it starts, stops, is overloaded, or something that it needs is down."""

    code = "http.unavailable"
    status = 503
    retryable = True


class StorageFull(HTTPError):
    """There is no room to keep what the client sends. Free some space on the server's disk."""

    code = "http.storage_full"
    status = 507


class ProblemField(msgspec.Struct, frozen=True):
    """One wrong field of a request."""

    path: str
    """`body.items[2].price`, `query.limit`"""
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every failed answer (RFC 9457)."""

    title: str
    status: int
    code: str
    type: str = "about:blank"
    detail: str = ""
    hint: str = ""
    request_id: str = ""
    errors: list[ProblemField] = []


_encode = msgspec.json.Encoder().encode


def status_of(error: BaseException, *, validation_status: int = 422) -> int:
    """The status that a server answers with when a handler lets this error through."""
    if isinstance(error, APIError):
        return 502  # the fault is behind this server, not with its client
    if isinstance(error, ValidationError) and error.status == ValidationError.status:
        return validation_status
    status = error.status if isinstance(error, ConsonaError) else 500
    return status if 400 <= status <= 599 else 500


def problem_response(error: BaseException, *, request_id: str, validation_status: int = 422) -> Response:
    """The answer for an error: whole for mistakes of the client, and for the rest without its inside."""
    status = status_of(error, validation_status=validation_status)
    code = error.code if isinstance(error, ConsonaError) else "internal"
    told = isinstance(error, HTTPError) or (isinstance(error, ConsonaError) and status < 500)
    problem = Problem(
        title=title_of(status),
        status=status,
        code=code,
        detail=error.message if told and isinstance(error, ConsonaError) else _general(status),
        hint=error.hint if told and isinstance(error, ConsonaError) else "",
        request_id=request_id,
        errors=_fields(error) if told else [],
    )
    body = _with_constants(problem)
    response = Response(body, status=status, media_type=PROBLEM_TYPE)
    headers = response.headers
    headers["cache-control"] = "no-store"
    if isinstance(error, HTTPError):
        for name, value in error.headers.items():
            headers[name] = value
    if isinstance(error, ConsonaError) and error.retry_after is not None and status in {409, 413, 429, 503}:
        headers["retry-after"] = str(max(0, math.ceil(error.retry_after)))
    return response


def _with_constants(problem: Problem) -> bytes:
    # `omit_defaults` leaves out what is empty; the type is always written, since not every client knows its default.
    return b'{"type":"about:blank",' + _encode(problem)[1:]


def _fields(error: BaseException) -> list[ProblemField]:
    if not isinstance(error, ValidationError | HTTPError):
        return []
    return [ProblemField(path, message) for path, message in error.fields[:MAX_FIELDS]]


def _general(status: int) -> str:
    if status == 502:
        return "A server that this one depends on answered with an error."
    if status == 503:
        return "The service cannot answer now. Try again later."
    if status == 504:
        return "The answer was not ready in time."
    return "Something went wrong inside the server. Quote the request id when you report it."
