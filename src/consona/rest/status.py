"""The words for a status."""

from __future__ import annotations

import http

__all__ = ["title_of"]


def title_of(status: int) -> str:
    """The standard's words for a status; `Error` for those that it does not know.

    Source: RFC 9110, section 15.

    Example:
        >>> title_of(404)
        'Not Found'
    """
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"
