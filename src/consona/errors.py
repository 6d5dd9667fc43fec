"""Every error that Consona raises, as one tree.

    ConsonaError
    ├── ConfigurationError          the program or its settings are wrong; nothing was tried
    │   ├── AddressError            a URL that no adapter understands
    │   ├── MissingExtra            the adapter's package is not installed
    │   └── NotStarted              a part was used before start() or after stop()
    ├── ValidationError             data does not fit its declared type; names every wrong field
    ├── NotFound
    ├── Conflict
    ├── AuthenticationError         nobody knows who is asking
    ├── PermissionDenied            somebody who may not
    ├── RateLimited                 too many, too fast
    ├── ConnectError                the other side could not be reached; nothing was sent
    ├── DeadlineExceeded            the time for the call is over
    ├── CircuitOpen                 the dependency failed too often; it was not tried
    ├── BulkheadFull                too many calls are under way and waiting
    ├── APIError                    an HTTP answer with status 400 or above
    ├── QueryError                  a database refused or lost a statement
    │   ├── CommitUnknown           nobody can tell whether the commit happened
    │   ├── ConnectionLost          the connection broke; nothing was written
    │   ├── ConstraintFailed        a UNIQUE, NOT NULL, CHECK or foreign key rule of the schema
    │   ├── DatabaseCorrupt         the file is damaged, or is no database
    │   ├── DatabaseLocked          somebody else held it for too long; nothing was written
    │   ├── DatabaseReadOnly
    │   ├── DiskFull
    │   ├── LockLost                a lock by name ended before the work that it was for
    │   ├── LockTimeout             somebody else had the lock for too long
    │   ├── PoolTimeout             no connection was free in time; the message says who holds them
    │   ├── StatementError          the statement cannot be understood: its syntax, or a name that does not exist
    │   ├── TransactionConflict     others were in the way: a deadlock, or changes that cannot be put in an order
    │   └── TransactionOpen         a call that would wait for its own task's transaction
    ├── MigrationError
    ├── DeliveryError               a message was not delivered or not acknowledged
    │   ├── LeaseLost               the message is somebody else's by now
    │   ├── QueueFull
    │   ├── WorkCancelled           somebody did not want it any more
    │   └── WorkFailed              no attempt is left
    ├── GapError                    a reader of a log fell behind what is kept
    └── PipelineError

Each error carries a stable `code`, a `hint` that says what to do, a `context` of names, sizes and
counts (never a secret), whether it is `retryable`, after how many seconds (`retry_after`), and the
HTTP `status` that a server answers with. The original error is its `__cause__`.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

__all__ = [
    "APIError",
    "AddressError",
    "AuthenticationError",
    "BulkheadFull",
    "CircuitOpen",
    "CommitUnknown",
    "ConfigurationError",
    "Conflict",
    "ConnectError",
    "ConnectionLost",
    "ConsonaError",
    "ConstraintFailed",
    "DatabaseCorrupt",
    "DatabaseLocked",
    "DatabaseReadOnly",
    "DeadlineExceeded",
    "DeliveryError",
    "DiskFull",
    "FieldProblem",
    "GapError",
    "LeaseLost",
    "LockLost",
    "LockTimeout",
    "MigrationError",
    "MissingExtra",
    "NotFound",
    "NotStarted",
    "PermissionDenied",
    "PipelineError",
    "PoolTimeout",
    "QueryError",
    "QueueFull",
    "RateLimited",
    "StatementError",
    "TransactionConflict",
    "TransactionOpen",
    "ValidationError",
    "WorkCancelled",
    "WorkFailed",
]


class ConsonaError(Exception):
    """The root of the tree: catch it to catch everything that Consona raises on purpose.

    Args:
        message: What was wrong, and where, in one sentence.
        hint: What to do about it; the class has a general one.
        retryable: Whether the same call may work later; the class has a default.
        retry_after: Seconds to wait before that, where the other side said so.
        context: Names, sizes and counts that help to find the cause. Never a secret.

    Example:
        >>> error = NotFound("There is no post 7.", post=7)
        >>> error.code, error.status, error.context
        ('not_found', 404, {'post': 7})
    """

    code: ClassVar[str] = "consona"
    status: int = 500
    hint: str = ""
    retryable: bool = False
    retry_after: float | None = None
    context: dict[str, Any]

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        **context: Any,
    ) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
        if retryable is not None:
            self.retryable = retryable
        if retry_after is not None:
            self.retry_after = retry_after
        self.context = context

    @property
    def message(self) -> str:
        """What was wrong, without the hint."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        text = self.message or type(self).__name__
        return f"{text} {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args` alone, which fails for subclasses that ask for more.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ConsonaError], args: tuple[Any, ...], state: dict[str, Any]) -> ConsonaError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(ConsonaError):
    """The program or its settings are wrong; nothing was tried."""

    code = "configuration"


class AddressError(ConfigurationError):
    """A URL that no adapter understands."""

    code = "configuration.address"


class MissingExtra(ConfigurationError):
    """The adapter's package is not installed."""

    code = "configuration.missing_extra"


class NotStarted(ConfigurationError):
    """A part was used before `start()` or after `stop()`."""

    code = "configuration.not_started"
    hint = "Use it inside `async with part:`, or call `await part.start()` first."


class FieldProblem(NamedTuple):
    """One wrong field: where it is, and what is wrong with it."""

    path: str
    """The place in dotted form: `body.items[2].price`, `query.limit`."""
    message: str
    """What was expected, and what was found instead (a type or a size, never a secret)."""


class ValidationError(ConsonaError):
    """Data does not fit its declared type. `fields` names everything that is wrong, not the first only.

    Example:
        >>> ValidationError("The order is not valid.", fields=[FieldProblem("body.total", "expected a number")]).fields
        (FieldProblem(path='body.total', message='expected a number'),)
    """

    code = "validation"
    status = 422
    fields: tuple[FieldProblem, ...]

    def __init__(self, message: str = "", *, fields: Any = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.fields = tuple(FieldProblem(*field) for field in fields)


class NotFound(ConsonaError):
    """What was asked for does not exist."""

    code = "not_found"
    status = 404


class Conflict(ConsonaError):
    """The request does not fit the present state: it exists already, or was changed meanwhile."""

    code = "conflict"
    status = 409


class AuthenticationError(ConsonaError):
    """Nobody knows who is asking: no proof of identity, or a wrong one."""

    code = "authentication"
    status = 401


class PermissionDenied(ConsonaError):
    """It is known who is asking, and they may not."""

    code = "permission_denied"
    status = 403


class RateLimited(ConsonaError):
    """Too many calls in too short a time; `retry_after` says in how many seconds one is free."""

    code = "rate_limited"
    status = 429
    retryable = True


class ConnectError(ConsonaError):
    """The other side could not be reached; no byte of the call was sent, so it is safe to try again."""

    code = "connect"
    status = 503
    retryable = True
    hint = "Check that the address is right and that the server runs."


class DeadlineExceeded(ConsonaError):
    """The time for the call is over. Whether the other side did the work is not known."""

    code = "deadline_exceeded"
    status = 504
    hint = "Give the call more time (`timeout=`), or find out what is slow in the trace."


class CircuitOpen(ConsonaError):
    """The dependency failed too often, so it was not tried; `retry_after` says when it will be."""

    code = "circuit_open"
    status = 503
    hint = "The dependency is failing: look at its errors. It is tried again by itself after a while."


class BulkheadFull(ConsonaError):
    """So many calls are under way, and so many wait, that this one was refused at once."""

    code = "bulkhead_full"
    status = 503
    retryable = True
    hint = "Send less at once, or raise the bulkhead's `limit` or `queue`."


class APIError(ConsonaError):
    """An HTTP answer that says that the request failed.

    Attributes:
        status: The answer's status, 400 to 599. (A server whose handler lets this error through
            answers 502: the fault is behind it, not with its client.)
        response: The whole answer (a `consona.rest.client.api_client.Response`), or None after pickling.
        problem: The members of an `application/problem+json` body (RFC 9457); empty where there was none.
    """

    code = "api"
    response: Any
    problem: dict[str, Any]

    def __init__(
        self,
        message: str = "",
        *,
        status: int,
        response: Any = None,
        problem: dict[str, Any] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.status = status
        self.response = response
        self.problem = problem or {}

    def __reduce__(self) -> tuple[Any, ...]:
        # An answer holds on to its connection, which cannot leave the process.
        return _rebuild, (type(self), self.args, {**self.__dict__, "response": None})


class QueryError(ConsonaError):
    """A database refused a statement, or lost it."""

    code = "query"


class CommitUnknown(QueryError):
    """The connection broke during COMMIT: it may have happened or not. Never retried by itself."""

    code = "query.commit_unknown"
    hint = "Read the data again to see whether the change is there before you repeat it."


class ConnectionLost(QueryError):
    """The connection to the database broke while it was used. Nothing was written, so it is safe to try again."""

    code = "query.connection_lost"
    status = 503
    retryable = True
    hint = "Run it again; a transaction as a whole."


class ConstraintFailed(QueryError):
    """The change breaks a rule of the schema: UNIQUE, NOT NULL, CHECK, a foreign key, a type.

    Which one is in its attributes, each empty where the database does not tell it.

    Attributes:
        rule: `unique`, `not null`, `check`, `foreign key`, `type`, or `other` (a trigger's).
        table: The table's name.
        columns: The columns that the rule is about.
        constraint: The rule's own name.

    Example:
        >>> ConstraintFailed("…", rule="unique", table="users", columns=("email",)).columns
        ('email',)
    """

    code = "query.constraint"
    status = 409

    @property
    def rule(self) -> str:
        return str(self.context.get("rule", ""))

    @property
    def table(self) -> str:
        return str(self.context.get("table", ""))

    @property
    def columns(self) -> tuple[str, ...]:
        column = self.context.get("column")
        return tuple(self.context.get("columns", () if column is None else (column,)))

    @property
    def constraint(self) -> str:
        return str(self.context.get("constraint", ""))


class DatabaseLocked(QueryError):
    """Somebody else held the database for too long. Nothing was written, so it is safe to try again."""

    code = "query.locked"
    status = 503
    retryable = True


class DiskFull(QueryError):
    """There is no room to write. What was committed before is safe, and reading goes on."""

    code = "query.disk_full"
    status = 507
    hint = "Free some space on that disk."


class DatabaseCorrupt(QueryError):
    """The file is damaged, or is no database at all."""

    code = "query.corrupt"
    hint = "Restore it from a backup, or rescue what is readable with `sqlite3 FILE .recover`."


class DatabaseReadOnly(QueryError):
    """The database, its folder or this connection may only be read."""

    code = "query.read_only"
    hint = "Check who may write the file and its folder, and whether the disk is mounted read-only."


class LockLost(QueryError):
    """A lock by name ended before the work that it was for: its connection broke. Somebody else may have had it meanwhile."""

    code = "query.lock_lost"
    hint = "Look at what the work changed. Where it must never overlap, let the database decide: a transaction, a UNIQUE rule."


class LockTimeout(QueryError):
    """Somebody else had a lock by name for too long; the work that it is for did not begin. The message says who."""

    code = "query.lock_timeout"
    status = 503
    retryable = True
    hint = "Wait longer (`wait=`), or leave the work to whoever does it now."


class PoolTimeout(QueryError):
    """No connection to the database was free in time; nothing was sent. The message says who holds them."""

    code = "query.pool_timeout"
    status = 503
    retryable = True
    hint = "Look at who holds the connections: shorten that work, or raise `max_size` within what the server allows."


class StatementError(QueryError):
    """The database does not understand the statement: its syntax, or a table, column or function that is not there.

    Attributes:
        place: Where in the statement as you wrote it (`line 2, character 5`); empty where it is not known.
    """

    code = "query.statement"
    hint = "Look at the statement there, and whether the migrations ran."

    @property
    def place(self) -> str:
        return str(self.context.get("place", ""))


class TransactionConflict(QueryError):
    """Other transactions were in the way: a deadlock, or changes that cannot be put in an order. Nothing was written."""

    code = "query.conflict"
    status = 409
    retryable = True
    hint = "Run the transaction again as a whole: run_in_transaction() does it."


class TransactionOpen(QueryError):
    """A call beside the same task's open transaction would wait for itself for ever."""

    code = "query.transaction_open"
    hint = "Pass the open transaction: `tx=tx`."


class MigrationError(ConsonaError):
    """A migration failed, was edited after it ran, or is missing."""

    code = "migration"


class DeliveryError(ConsonaError):
    """A message was not delivered, or its receipt could not be confirmed."""

    code = "delivery"


class LeaseLost(DeliveryError):
    """The worker took longer than its lease, so the message was given to another."""

    code = "queue.lease_lost"
    hint = "Raise `lease` above the longest handling time, or call message.extend() while working."


class WorkFailed(DeliveryError):
    """All attempts to handle a message failed; it lies among the dead letters."""

    code = "queue.work_failed"
    hint = "Look at it with `consona queue peek`; when the cause is mended, put it back with `redrive`."


class WorkCancelled(DeliveryError):
    """Somebody cancelled a message before it was handled to the end."""

    code = "queue.work_cancelled"
    hint = "Put it again, if it is still wanted."


class QueueFull(DeliveryError):
    """The queue holds as many messages as it may. Nothing was put, so it is safe to try again later."""

    code = "queue.full"
    status = 503
    retryable = True
    hint = "Wait until the workers have caught up, add workers, or raise `max_messages`."


class GapError(ConsonaError):
    """A reader fell so far behind that records were trimmed before it read them.

    Attributes:
        stream: Whose records.
        after: Where the reader stood.
        begin: Behind which position the records begin that are kept.
    """

    code = "log.gap"
    status = 410
    hint = "Begin again at `begin` and accept the loss, or keep more: raise the retention above the longest pause."

    def __init__(self, message: str = "", *, stream: str, after: int, begin: int, **details: Any) -> None:
        super().__init__(message, **details)
        self.stream, self.after, self.begin = stream, after, begin


class PipelineError(ConsonaError):
    """A pipeline run stopped."""

    code = "pipeline"
