"""PostgreSQL, on the engine of `storage`: its pool, its prepared statements, its transactions.

Values go as what they are; Json as the text of a `jsonb` or `json` column, Array as an array. A datetime goes
into TIMESTAMPTZ, which keeps the moment; into a DATE or TIMESTAMP it would be cut, so it is refused there.

The key that an INSERT generated comes with its answer: `RETURNING` is added for the table's identity or serial
column, or its primary key with a default, which is looked up once for each table.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Protocol

from consona.address import Address
from consona.sql.cache.postgresql import PostgreSQLFreshness
from consona.sql.cache.postgresql_watching import watch
from consona.sql.dialect import POSTGRESQL
from consona.sql.engine import Begin, Done, Rows
from consona.sql.placeholders import WRITING, Statement, tokens
from consona.sql.values import Array
from consona.storage.postgresql.connections import Answer
from consona.storage.postgresql.engine import PostgreSQLEngine, open_postgresql
from consona.storage.postgresql.transaction import PostgreSQLTransaction

__all__ = ["PostgreSQL", "PostgreSQLOpenTransaction", "PostgreSQLSession"]

_GENERATED: Final = """
    SELECT a.attname FROM pg_attribute a
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
      AND (a.attidentity <> '' OR (a.attgenerated = '' AND d.adbin IS NOT NULL
           AND (i.indexrelid IS NOT NULL OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')))
      AND has_column_privilege(a.attrelid, a.attnum, 'SELECT')
    ORDER BY i.indexrelid IS NULL, a.attidentity = '', a.attnum LIMIT 1"""
"""The column of a table that the database fills, and whose value is the key of a new row."""


class Asking(Protocol):
    """What is asked: an engine, one of its connections, or a transaction."""

    async def ask(self, text: str, values: Sequence[Any], *, reads: bool = False, first: bool = False) -> Answer: ...

    async def ask_many(self, text: str, rows: Sequence[Sequence[Any]]) -> list[Any]: ...

    def stream(self, text: str, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Answer]: ...


class PostgreSQLSession:
    """Statements of the port, for whatever is asked."""

    def __init__(self, asking: Any, keys: Keys) -> None:
        self._asking = asking
        self._keys = keys

    async def execute(self, statement: Statement, values: Sequence[Any]) -> Done:
        text = statement.text
        if statement.verb == "INSERT":
            text = await self._keys.returning(statement, self._asking, self._schema)
        answer = await self._asking.ask(text, encoded(values), reads=statement.reads)
        key = answer.rows[-1][0] if text is not statement.text and answer.rows else None
        return Done(answer.changed if statement.verb in WRITING else 0, key)

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> Done:
        """The driver tells no counts for many rows, so each row that is changed is to give one back."""
        text, keyed = statement.text, False
        if statement.verb == "INSERT":
            text = await self._keys.returning(statement, self._asking, self._schema)
            keyed = text is not statement.text
        if not keyed and statement.verb in {"INSERT", "UPDATE", "DELETE"} and not _returns(statement):
            text = _with_returning(statement, "1")
        given = await self._asking.ask_many(text, [encoded(row) for row in rows])
        return Done(len(given) if statement.verb in WRITING else 0, given[-1][0] if keyed and given else None)

    async def load(self, table: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
        schema = table[0] if len(table) == 2 else None
        encoded_rows = [encoded(row) for row in rows]
        copied: int = await self._asking.copy(table[-1], encoded_rows, columns=columns, schema=schema)
        return copied

    async def fetch(self, statement: Statement, values: Sequence[Any], *, limit: int | None = None) -> Rows:
        first = limit == 1 and statement.reads
        columns, rows, _ = await self._asking.ask(statement.text, encoded(values), reads=statement.reads, first=first)
        return Rows(columns, rows if limit is None else rows[:limit])

    async def stream(self, statement: Statement, values: Sequence[Any], *, batch: int) -> AsyncGenerator[Rows]:
        async with aclosing(self._asking.stream(statement.text, encoded(values), batch=batch)) as batches:
            async for columns, rows, _ in batches:
                yield Rows(columns, rows)

    async def begin(self, how: Begin) -> PostgreSQLOpenTransaction:
        transaction: PostgreSQLTransaction = self._asking.transaction(
            name=how.name,
            where=how.where,
            isolation=how.isolation,
            read_only=how.read_only,
            deadline=how.deadline_s,
        )
        await transaction.begin()
        return PostgreSQLOpenTransaction(transaction, self._keys)

    @property
    def _schema(self) -> int | None:
        """For which schema a key that was looked up holds; None where it is not for others."""
        return self._asking.schema  # type: ignore[no-any-return]


class PostgreSQL(PostgreSQLSession):
    """`postgresql://user:password@host/database`."""

    dialect = POSTGRESQL

    def __init__(self, address: Address) -> None:
        super().__init__(None, Keys())
        self._address = address

    async def open(self) -> None:
        self._asking = await open_postgresql(self._address)

    async def close(self) -> None:
        engine, self._asking = self.native, None
        await engine.close()

    @property
    def native(self) -> PostgreSQLEngine:
        assert self._asking is not None, "the front checks that it is started"
        return self._asking  # type: ignore[no-any-return]

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[PostgreSQLSession]:
        async with self.native.pinned() as pinned:
            yield PostgreSQLPinned(pinned, self._keys)

    async def execute_script(self, sql: str) -> None:
        await self.native.run_script(sql)

    async def explain(self, statement: Statement, values: Sequence[Any], *, analyze: bool) -> str:
        async with self.native.transaction(name="explain") as tx:
            how = "EXPLAIN (ANALYZE, BUFFERS) " if analyze else "EXPLAIN "
            answer = await tx.ask(f"{how}{statement.text}", encoded(values))
            await tx.rollback()
        return "\n".join(line for (line,) in answer.rows)

    def freshness(self) -> PostgreSQLFreshness:
        return PostgreSQLFreshness(self.native)

    async def watch_tables(self, tables: Sequence[str], *, strict: bool) -> None:
        await watch(self.native, tables, strict=strict)

    async def ping(self) -> None:
        await self.native.ping()

    def stats(self) -> dict[str, Any]:
        return self.native.stats()


class PostgreSQLPinned(PostgreSQLSession):
    """One connection: what it has in its session, others do not see."""

    _schema = None


class PostgreSQLOpenTransaction(PostgreSQLSession):
    """An open transaction, or a savepoint in one."""

    @property
    def native(self) -> PostgreSQLTransaction:
        return self._asking  # type: ignore[no-any-return]

    async def begin(self, how: Begin) -> PostgreSQLOpenTransaction:
        nested = self.native.transaction(name=how.name, where=how.where)
        await nested.begin()
        return PostgreSQLOpenTransaction(nested, self._keys)

    async def commit(self) -> None:
        await self.native.commit()

    async def rollback(self) -> None:
        await self.native.rollback()

    @property
    def _schema(self) -> int | None:
        """What it did to tables itself is nobody else's yet."""
        return None if self.native.connection.remade else self.native.engine.schema


class Keys:
    """Which column of a table the database fills; found out once, and again when the schema changed."""

    def __init__(self) -> None:
        self._schema: int | None = None
        self._texts: dict[str, str] = {}

    async def returning(self, statement: Statement, asking: Asking, schema: int | None) -> str:
        """The INSERT with `RETURNING` of the generated key; its own text where there is none, or it has one."""
        if schema is None:
            return await self._found(statement, asking)
        if schema != self._schema:
            self._texts.clear()
            self._schema = schema
        text = self._texts.get(statement.text)
        if text is None:
            text = await self._found(statement, asking)
            if len(self._texts) < 1000:
                self._texts[statement.text] = text
        return text

    async def _found(self, statement: Statement, asking: Asking) -> str:
        table = _target(statement)
        if not table:
            return statement.text
        rows = (await asking.ask(_GENERATED, [table])).rows
        return _with_returning(statement, POSTGRESQL.identifier(rows[0][0])) if rows else statement.text


def encoded(values: Sequence[Any]) -> Sequence[Any]:
    """The values as the driver takes them."""
    for value in values:
        if type(value) is Array:
            return [list(value.items) if type(value) is Array else value for value in values]
    return values


def _with_returning(statement: Statement, what: str) -> str:
    text = statement.text
    for token in tokens(statement.source, POSTGRESQL):
        if token.kind == "end":  # after the last semicolon there are comments at most
            text = text[: len(text) - (len(statement.source) - token.at)]
    return f"{text}\nRETURNING {what}"  # on a line of its own: the text may end with a comment


def _words(statement: Statement) -> Iterable[tuple[str, str]]:
    for token in tokens(statement.source, POSTGRESQL):
        if token.kind not in {"space", "comment"}:
            yield token.kind, token.text


def _returns(statement: Statement) -> bool:
    return any(kind == "word" and text.upper() == "RETURNING" for kind, text in _words(statement))


def _target(statement: Statement) -> str:
    """The table of an INSERT as it is written, with its schema; nothing where it says itself what it returns."""
    if _returns(statement):
        return ""
    words = list(_words(statement))
    for number, (kind, text) in enumerate(words):
        if kind == "word" and text.upper() == "INTO":
            name = ""
            for kind_, text_ in words[number + 1 :]:
                if kind_ in {"word", "name"} and (not name or name.endswith(".")):
                    name += text_
                elif text_ == "." and name:
                    name += "."
                else:
                    break
            return name
    return ""
