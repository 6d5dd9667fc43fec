"""The chapter's own classes, with its names, arguments and blocking style, each a thin layer over the real part.

    from consona.chapter import APIClient, APIServer, narrate, show

For readers of the chapter, and for programs that do not use `async`. What the same method does in the
chapter and here, and why, is told in one table of the docs. Each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from consona.chapter.api_client import APIClient
    from consona.chapter.api_server import APIServer
    from consona.chapter.authentication_system import AuthenticationSystem
    from consona.chapter.errors import (
        APIError,
        AuthenticationError,
        DatabaseConnectionError,
        DatabaseQueryError,
        NoSQLConnectionError,
        NoSQLOperationError,
        OAuthError,
        RouteNotFoundError,
        ValidationError,
    )
    from consona.chapter.jwt_manager import JWTManager
    from consona.chapter.message_queue import MessageQueue
    from consona.chapter.narration import narrate, show, think
    from consona.chapter.nosql_database import NoSQLDatabase
    from consona.chapter.oauth_provider import OAuthProvider
    from consona.chapter.social_auth_manager import SocialAuthManager
    from consona.chapter.sql_database import SQLDatabase

__all__ = [
    "APIClient",
    "APIError",
    "APIServer",
    "AuthenticationError",
    "AuthenticationSystem",
    "DatabaseConnectionError",
    "DatabaseQueryError",
    "JWTManager",
    "MessageQueue",
    "NoSQLConnectionError",
    "NoSQLDatabase",
    "NoSQLOperationError",
    "OAuthError",
    "OAuthProvider",
    "RouteNotFoundError",
    "SQLDatabase",
    "SocialAuthManager",
    "ValidationError",
    "narrate",
    "show",
    "think",
]

# The same names as above, by the module that has them. A test holds the two lists equal.
_NAMES: Final[dict[str, str]] = {
    "api_client": "APIClient",
    "api_server": "APIServer",
    "authentication_system": "AuthenticationSystem",
    "jwt_manager": "JWTManager",
    "errors": (
        "APIError AuthenticationError DatabaseConnectionError DatabaseQueryError NoSQLConnectionError"
        " NoSQLOperationError OAuthError RouteNotFoundError ValidationError"
    ),
    "message_queue": "MessageQueue",
    "narration": "narrate show think",
    "nosql_database": "NoSQLDatabase",
    "oauth_provider": "OAuthProvider",
    "social_auth_manager": "SocialAuthManager",
    "sql_database": "SQLDatabase",
}
_HOME: Final[dict[str, str]] = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'consona.chapter' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"consona.chapter.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
