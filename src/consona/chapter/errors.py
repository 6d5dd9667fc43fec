"""The chapter's names for errors. Each is an error of `consona.errors`, so either name catches it."""

from __future__ import annotations

from typing import Any

from consona import errors
from consona.chapter.exchange import response_dict

__all__ = [
    "APIError",
    "AuthenticationError",
    "DatabaseConnectionError",
    "DatabaseQueryError",
    "NoSQLConnectionError",
    "NoSQLOperationError",
    "OAuthError",
    "RouteNotFoundError",
    "ValidationError",
]

RouteNotFoundError = errors.NotFound
"""There is no such route, or not the thing that it names: answered with 404."""

AuthenticationError = errors.AuthenticationError
"""Nobody knows who is asking: answered with 401."""

ValidationError = errors.ValidationError
"""The data is not what it should be: answered with 400 by the chapter's server."""


DatabaseConnectionError = errors.ConnectError
"""The database cannot be reached, or `connect` was not called."""

DatabaseQueryError = errors.QueryError
"""The database refused a statement, or lost it."""

NoSQLConnectionError = errors.ConnectError
"""The document database cannot be reached, or `connect` was not called."""

NoSQLOperationError = errors.QueryError
"""An operator does not exist or does not fit, or a key is there already."""

OAuthError = errors.AuthenticationError
"""Signing in with another service did not work: answered with 401."""


class APIError(errors.APIError):
    """An answer with a status of 400 or above.

    Attributes:
        status_code: The answer's status, 400 to 599.
        response: The answer: a dict with `status_code`, `data` and `headers`.

    Example:
        >>> error = APIError("HTTP 404 error", 404, {"status_code": 404, "data": None, "headers": {}})
        >>> error.status_code, error.response["data"]
        (404, None)
    """

    code = "api.chapter"

    def __init__(self, message: str, status_code: int, response: dict[str, Any] | None = None) -> None:
        super().__init__(message, status=status_code, response=response)

    @property
    def status_code(self) -> int:
        return self.status

    @classmethod
    def of(cls, error: errors.APIError) -> APIError:
        """The same error in the chapter's form."""
        if isinstance(error, cls):
            return error
        made = cls(error.message, error.status, response_dict(error.response))
        made.problem, made.hint, made.retryable, made.retry_after = (
            error.problem,
            error.hint,
            error.retryable,
            error.retry_after,
        )
        return made
