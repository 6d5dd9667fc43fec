"""The chapter's SQL database, over `consona.sql.database`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from consona import blocking
from consona.chapter.narration import think
from consona.errors import ConfigurationError, ConnectError, QueryError
from consona.sql.cache.strict import Strict
from consona.sql.database import SQLDatabase as Database
from consona.sql.placeholders import compile_statement
from consona.sql.transaction import Transaction
from consona.telemetry.observer import Entry

__all__ = ["SQLDatabase"]

CACHE_S: Final = 60.0
_TYPES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MySQL"}
_DONE: Final = {"type": "OTHER", "message": "Query executed successfully"}


class SQLDatabase:
    """A database; each method waits until it is done.

    Args:
        connection_string: Its address: `sqlite:///users.db`, `sqlite://` for memory, `postgresql://…`, `mysql://…`.
        database_type: What it is, to be sure: `SQLite`, `PostgreSQL`, `MySQL` or `MariaDB`.

    Raises:
        ConfigurationError: The address is of another type.
        AddressError: The address cannot be read, or no engine has its scheme.

    Attributes:
        database: The real part: `consona.SQLDatabase`.

    Example:
        >>> db = SQLDatabase("sqlite://chapter-example", "SQLite")
        >>> db.connect()
        True
        >>> db.execute_query("CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT)")
        {'type': 'OTHER', 'message': 'Query executed successfully'}
        >>> db.execute_query("INSERT INTO pets (name) VALUES (?)", ["Rex"])
        {'type': 'INSERT', 'rows_affected': 1, 'last_insert_id': 1}
        >>> db.execute_query("SELECT * FROM pets")["rows"]
        [{'id': 1, 'name': 'Rex'}]
        >>> db.close_connection()
    """

    def __init__(self, connection_string: str, database_type: str = "") -> None:
        self.connection_string = connection_string
        self.database = Database(connection_string)
        self.database_type = _TYPES[self.database.dialect.name]
        if database_type and _TYPES.get(database_type.lower()) != self.database_type:
            raise ConfigurationError(
                f"The database_type is {database_type!r}, and the address is one of {self.database_type}.",
                hint=f"Known types: {', '.join(sorted({*_TYPES.values(), 'MariaDB'}))}.",
            )
        self._of_thread = threading.local()
        think("SQL Database for", self.database.name, self.database_type)

    def connect(self, max_retries: int = 3) -> bool:
        """Open it, and try again where it cannot be reached, after 1, 2, 4, … seconds.

        Args:
            max_retries: How many times it is tried in all.

        Raises:
            DatabaseConnectionError: The last try failed too.
        """
        if max_retries < 1:
            raise ConfigurationError(f"connect(max_retries={max_retries}): it is tried once at least.")
        for attempt in range(0 if self.database.started else max_retries):
            try:
                blocking.enter(self.database)
                break
            except ConnectError:
                if attempt == max_retries - 1:
                    raise
                think("Connection attempt", attempt + 1, "failed")
                time.sleep(2**attempt)
        return True

    def execute_query(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        use_cache: bool = False,  # noqa: FBT001, FBT002  the chapter's own order
    ) -> dict[str, Any]:
        """Run one statement, in the transaction of this thread where there is one.

        Args:
            query: With a `?` for each value, or `:name`.
            parameters: The values in their order, or by name.
            use_cache: Whether the answer may be up to 60 seconds old while nothing changed. What writes always runs.

        Returns:
            Of what reads: `type` (`SELECT`), `rows`, `columns` and `row_count`. Of an INSERT, UPDATE or DELETE:
            `type` and `rows_affected`; of an INSERT `last_insert_id` too. Else `type` (`OTHER`) and `message`.

        Raises:
            DatabaseConnectionError: `connect` was not called.
            DatabaseQueryError: The database refused it.
            ValidationError: The values do not fit the statement.
        """
        statement = compile_statement(query, self.database.dialect)
        ends = {
            "BEGIN": self.begin_transaction,
            "COMMIT": self.commit_transaction,
            "ROLLBACK": self.rollback_transaction,
        }
        if statement.verb in ends and len(query.split()) <= 2:  # not ROLLBACK TO, which the real part refuses
            return ends[statement.verb]()
        values = () if parameters is None else (parameters,) if isinstance(parameters, Mapping) else tuple(parameters)
        asked = self._transaction or self._connected()
        if statement.reads:
            columns, rows = blocking.run(asked.fetch_rows(query, *values, cache=self._kept if use_cache else None))
            found = [dict(zip(columns, row, strict=True)) for row in rows]
            return {"type": "SELECT", "rows": found, "columns": list(columns), "row_count": len(found)}
        done = blocking.run(asked.execute(query, *values))
        if statement.verb in {"INSERT", "REPLACE"}:
            return {"type": "INSERT", "rows_affected": done.rows, "last_insert_id": done.key}
        if statement.verb in {"UPDATE", "DELETE"}:
            return {"type": statement.verb, "rows_affected": done.rows}
        return dict(_DONE)

    def begin_transaction(self) -> dict[str, Any]:
        """Begin a transaction on a connection that is this thread's until it commits or rolls back.

        Raises:
            DatabaseConnectionError: `connect` was not called.
            DatabaseQueryError: This thread has one open already, or somebody else held the database for too long.
        """
        if self._transaction is not None:
            raise QueryError("This thread has a transaction open already.", hint="Commit it, or roll it back.")
        name = threading.current_thread().name
        self._of_thread.transaction = blocking.run(self._connected().begin(name=name))
        return dict(_DONE)

    def commit_transaction(self) -> dict[str, Any]:
        """Make the transaction of this thread last.

        Raises:
            DatabaseQueryError: There is none, or the database refused it; then nothing of it happened.
        """
        blocking.run(self._ended().commit())
        return dict(_DONE)

    def rollback_transaction(self) -> dict[str, Any]:
        """Undo the transaction of this thread.

        Raises:
            DatabaseQueryError: There is none.
        """
        blocking.run(self._ended().rollback())
        return dict(_DONE)

    def get_performance_stats(self) -> dict[str, Any]:
        """Figures since it was made. Times in seconds."""
        stats = self.database.stats
        cache = self.database.detail().get("cache") or {"hits": 0}
        return {
            "total_queries": stats.total,
            "successful_queries": stats.succeeded,
            "failed_queries": stats.failed + stats.cancelled,
            "cache_hits": cache["hits"],
            "average_query_time": stats.mean,
        }

    def get_transaction_history(self) -> list[dict[str, Any]]:
        """The last hundred queries, oldest first, without their values."""
        return [_entry(entry) for entry in self.database.history]

    def clear_cache(self) -> None:
        """Forget all answers that are kept."""
        self.database.clear_cache()
        think("Query cache cleared")

    def close_connection(self) -> None:
        """Close it. A transaction of this thread is undone. It can be connected again."""
        if self._transaction is not None:
            self.rollback_transaction()
        blocking.run(self.database.stop())
        think("Database connection closed")

    @property
    def _transaction(self) -> Transaction | None:
        return getattr(self._of_thread, "transaction", None)

    @property
    def _kept(self) -> float | Strict:
        return Strict(CACHE_S) if self.database_type == "MySQL" else CACHE_S

    def _ended(self) -> Transaction:
        """The transaction of this thread, which is none any more."""
        transaction = self._transaction
        if transaction is None:
            raise QueryError("This thread has no transaction open.", hint="Call begin_transaction() first.")
        self._of_thread.transaction = None
        return transaction

    def _connected(self) -> Database:
        if not self.database.started:
            raise ConnectError("Not connected to database.", hint="Call connect() first.")
        return self.database


def _entry(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {
        "query": f"{entry.operation} {entry.target}".rstrip(),
        "result_count": entry.attributes.get("rows", 0),
        "execution_time": entry.duration,
        "timestamp": entry.at,
        "success": entry.success,
    }
    return told if entry.success else told | {"error": entry.error}
