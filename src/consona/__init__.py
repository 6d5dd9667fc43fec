"""Consona: the framework with which an application works with everything around it.

The public names of all parts, each loaded when it is first used: `import consona` loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from consona.address import Address
    from consona.app import App
    from consona.auth.account_settings import AccountSettings
    from consona.auth.authentication_system import AuthenticationSystem
    from consona.auth.jwt_manager import JWTManager, TokenSettings
    from consona.auth.keys import SigningKey
    from consona.auth.oauth.facebook import Facebook
    from consona.auth.oauth.github import GitHub
    from consona.auth.oauth.google import Google
    from consona.auth.oauth.oauth2 import OAuth2
    from consona.auth.oauth.oidc import OIDC
    from consona.auth.social import SocialAuthManager
    from consona.documents import DocumentDatabase
    from consona.errors import (
        AddressError,
        APIError,
        AuthenticationError,
        BulkheadFull,
        CircuitOpen,
        CommitUnknown,
        ConfigurationError,
        Conflict,
        ConnectError,
        ConnectionLost,
        ConsonaError,
        ConstraintFailed,
        DatabaseCorrupt,
        DatabaseLocked,
        DatabaseReadOnly,
        DeadlineExceeded,
        DeliveryError,
        DiskFull,
        FieldProblem,
        GapError,
        LeaseLost,
        LockLost,
        LockTimeout,
        MigrationError,
        MissingExtra,
        NotFound,
        NotStarted,
        PermissionDenied,
        PipelineError,
        PoolTimeout,
        QueryError,
        QueueFull,
        RateLimited,
        StatementError,
        TransactionConflict,
        TransactionOpen,
        ValidationError,
        WorkCancelled,
        WorkFailed,
    )
    from consona.events.bus import EventBus
    from consona.events.cloudevents import CloudEvent
    from consona.events.event import event
    from consona.events.records import Received
    from consona.mail import Mail, Mailer
    from consona.messaging.queue import MessageQueue
    from consona.part import Health, Part, Status
    from consona.pipelines.api_source import APISource
    from consona.pipelines.api_target import APITarget
    from consona.pipelines.document_source import DocumentSource
    from consona.pipelines.document_target import DocumentTarget
    from consona.pipelines.expressions import col
    from consona.pipelines.file_source import FileSource
    from consona.pipelines.file_target import FileTarget
    from consona.pipelines.pipeline import Pipeline
    from consona.pipelines.source import RowsSource
    from consona.pipelines.sql_source import SQLSource
    from consona.pipelines.sql_target import SQLTarget
    from consona.realtime.settings import RealtimeSettings
    from consona.realtime.sse_server import SSEServer
    from consona.realtime.websocket_server import WebSocketServer
    from consona.resilience import Breaker, Bulkhead, Policy, RateLimit, Retry
    from consona.rest.caching.transport import HTTPCache
    from consona.rest.client.api_client import APIClient, ClientSettings
    from consona.rest.client.authentication import APIKey, Basic, Bearer, ClientCredentials
    from consona.rest.client.connection_settings import TLS, ConnectionSettings
    from consona.rest.recorder.transport import Recorder
    from consona.rest.server.api_server import APIServer
    from consona.rest.server.guards import CurrentUser
    from consona.rest.server.problems import HTTPError
    from consona.rest.server.settings import ServerSettings
    from consona.rest.transport import Timeouts
    from consona.sql.cache.strict import Strict
    from consona.sql.database import SQLDatabase
    from consona.sql.engine import Done
    from consona.sql.transaction import Transaction
    from consona.sql.values import Array, Json
    from consona.storage.store import Change, Item, Store, open_store

    __version__: str

__all__ = [
    "OIDC",
    "TLS",
    "APIClient",
    "APIError",
    "APIKey",
    "APIServer",
    "APISource",
    "APITarget",
    "AccountSettings",
    "Address",
    "AddressError",
    "App",
    "Array",
    "AuthenticationError",
    "AuthenticationSystem",
    "Basic",
    "Bearer",
    "Breaker",
    "Bulkhead",
    "BulkheadFull",
    "Change",
    "CircuitOpen",
    "ClientCredentials",
    "ClientSettings",
    "CloudEvent",
    "CommitUnknown",
    "ConfigurationError",
    "Conflict",
    "ConnectError",
    "ConnectionLost",
    "ConnectionSettings",
    "ConsonaError",
    "ConstraintFailed",
    "CurrentUser",
    "DatabaseCorrupt",
    "DatabaseLocked",
    "DatabaseReadOnly",
    "DeadlineExceeded",
    "DeliveryError",
    "DiskFull",
    "DocumentDatabase",
    "DocumentSource",
    "DocumentTarget",
    "Done",
    "EventBus",
    "Facebook",
    "FieldProblem",
    "FileSource",
    "FileTarget",
    "GapError",
    "GitHub",
    "Google",
    "HTTPCache",
    "HTTPError",
    "Health",
    "Item",
    "JWTManager",
    "Json",
    "LeaseLost",
    "LockLost",
    "LockTimeout",
    "Mail",
    "Mailer",
    "MessageQueue",
    "MigrationError",
    "MissingExtra",
    "NotFound",
    "NotStarted",
    "OAuth2",
    "Part",
    "PermissionDenied",
    "Pipeline",
    "PipelineError",
    "Policy",
    "PoolTimeout",
    "QueryError",
    "QueueFull",
    "RateLimit",
    "RateLimited",
    "RealtimeSettings",
    "Received",
    "Recorder",
    "Retry",
    "RowsSource",
    "SQLDatabase",
    "SQLSource",
    "SQLTarget",
    "SSEServer",
    "ServerSettings",
    "SigningKey",
    "SocialAuthManager",
    "StatementError",
    "Status",
    "Store",
    "Strict",
    "Timeouts",
    "TokenSettings",
    "Transaction",
    "TransactionConflict",
    "TransactionOpen",
    "ValidationError",
    "WebSocketServer",
    "WorkCancelled",
    "WorkFailed",
    "__version__",
    "col",
    "event",
    "open_store",
]

# The same names as above, by the module that has them. A test holds the two lists equal.
_NAMES: Final[dict[str, str]] = {
    "consona.address": "Address",
    "consona.app": "App",
    "consona.documents": "DocumentDatabase",
    "consona.auth.account_settings": "AccountSettings",
    "consona.auth.authentication_system": "AuthenticationSystem",
    "consona.auth.jwt_manager": "JWTManager TokenSettings",
    "consona.auth.keys": "SigningKey",
    "consona.auth.oauth.facebook": "Facebook",
    "consona.auth.oauth.github": "GitHub",
    "consona.auth.oauth.google": "Google",
    "consona.auth.oauth.oauth2": "OAuth2",
    "consona.auth.oauth.oidc": "OIDC",
    "consona.auth.social": "SocialAuthManager",
    "consona.errors": (
        "APIError AddressError AuthenticationError BulkheadFull CircuitOpen CommitUnknown"
        " ConfigurationError Conflict ConnectError ConnectionLost ConsonaError ConstraintFailed"
        " DatabaseCorrupt DatabaseLocked DatabaseReadOnly DeadlineExceeded DeliveryError DiskFull"
        " FieldProblem GapError LeaseLost LockLost LockTimeout MigrationError MissingExtra NotFound NotStarted PermissionDenied"
        " PipelineError PoolTimeout QueryError QueueFull RateLimited StatementError TransactionConflict TransactionOpen"
        " ValidationError WorkCancelled WorkFailed"
    ),
    "consona.mail": "Mail Mailer",
    "consona.events.bus": "EventBus",
    "consona.events.cloudevents": "CloudEvent",
    "consona.events.event": "event",
    "consona.events.records": "Received",
    "consona.messaging.queue": "MessageQueue",
    "consona.part": "Health Part Status",
    "consona.pipelines.api_source": "APISource",
    "consona.pipelines.api_target": "APITarget",
    "consona.pipelines.document_source": "DocumentSource",
    "consona.pipelines.document_target": "DocumentTarget",
    "consona.pipelines.expressions": "col",
    "consona.pipelines.file_source": "FileSource",
    "consona.pipelines.file_target": "FileTarget",
    "consona.pipelines.pipeline": "Pipeline",
    "consona.pipelines.source": "RowsSource",
    "consona.pipelines.sql_source": "SQLSource",
    "consona.pipelines.sql_target": "SQLTarget",
    "consona.resilience": "Breaker Bulkhead Policy RateLimit Retry",
    "consona.realtime.settings": "RealtimeSettings",
    "consona.realtime.sse_server": "SSEServer",
    "consona.realtime.websocket_server": "WebSocketServer",
    "consona.rest.client.authentication": "APIKey Basic Bearer ClientCredentials",
    "consona.rest.client.api_client": "APIClient ClientSettings",
    "consona.rest.client.connection_settings": "TLS ConnectionSettings",
    "consona.rest.caching.transport": "HTTPCache",
    "consona.rest.recorder.transport": "Recorder",
    "consona.rest.transport": "Timeouts",
    "consona.rest.server.guards": "CurrentUser",
    "consona.rest.server.problems": "HTTPError",
    "consona.rest.server.api_server": "APIServer",
    "consona.rest.server.settings": "ServerSettings",
    "consona.sql.cache.strict": "Strict",
    "consona.sql.database": "SQLDatabase",
    "consona.sql.engine": "Done",
    "consona.sql.transaction": "Transaction",
    "consona.sql.values": "Array Json",
    "consona.storage.store": "Change Item Store open_store",
}
_HOME: Final[dict[str, str]] = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("consona")
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'consona' has no attribute {name!r}")
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
