"""The triggers of MariaDB and MySQL that count changes, and what the cache asks about a table.

Each watched table has three triggers: after each row that is inserted, updated or deleted they count one up in
`consona_changes`, in a row that their own session alone writes, so that writers never wait for each other. The count is
committed, or undone, together with the change. Their names hold a token that no other table has; so a table that
is renamed to another's name is not taken for it.

What fires no trigger is seen in other ways: TRUNCATE empties the table, and whether it is empty is asked too; DDL is
seen in the schema. Tables that other tables' keys change (ON DELETE CASCADE) cannot be watched.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from consona.errors import DatabaseLocked
from consona.sql.dialect import MYSQL
from consona.sql.engine import Begin, Rows, Session
from consona.sql.placeholders import compile_statement
from consona.storage.place import caller_place

__all__ = ["ABOUT", "DIGEST", "DIGESTED", "ISOLATION", "TRIGGERS", "asked", "find", "token_of", "watch"]

EVENTS: Final = ("insert", "update", "delete")
PREFIX: Final = "consona_changed_"
LOCK_S: Final = 5
"""Seconds to wait for a table that is in use, and for another process that watches."""
MANY_SESSIONS: Final = 200
"""From so many rows on, those of the sessions are added up."""

TABLE: Final = """CREATE TABLE IF NOT EXISTS consona_changes (
  token CHAR(16) CHARACTER SET ascii NOT NULL, session BIGINT UNSIGNED NOT NULL, version BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (token, session)) ENGINE=InnoDB"""
COUNT: Final = """INSERT INTO consona_changes VALUES ('TOKEN', connection_id(), 1)
  ON DUPLICATE KEY UPDATE version = version + 1"""
LOCK: Final = "SELECT get_lock(concat('consona_changes ', left(sha1(database()), 40)), ?)"
UNLOCK: Final = "SELECT release_lock(concat('consona_changes ', left(sha1(database()), 40)))"

ISOLATION: Final = "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')"
ABOUT: Final = """
SELECT t.TABLE_TYPE, t.ENGINE, t.CREATE_OPTIONS,
  (SELECT count(*) FROM information_schema.REFERENTIAL_CONSTRAINTS r
    WHERE r.CONSTRAINT_SCHEMA = database() AND r.TABLE_NAME = t.TABLE_NAME
      AND (r.UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR r.DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')))
FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = database() AND t.TABLE_NAME = ?"""
"""Of a table: its kind, its engine, how it was made, and how many of its keys let other tables change it."""
TRIGGERS: Final = """
SELECT EVENT_MANIPULATION, TRIGGER_NAME FROM information_schema.TRIGGERS
WHERE EVENT_OBJECT_SCHEMA = database() AND EVENT_OBJECT_TABLE = ? AND TRIGGER_NAME LIKE 'consona!_changed!_%' ESCAPE '!'"""

_DIGESTED: Final = (
    ("COLUMNS", "TABLE_SCHEMA", "TABLE_NAME", "ORDINAL_POSITION, COLUMN_NAME, COLUMN_TYPE, coalesce(COLLATION_NAME, ''), coalesce(GENERATION_EXPRESSION, '')"),
    ("TABLES", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_TYPE, ENGINE, CREATE_TIME, CREATE_OPTIONS"),
    ("TRIGGERS", "EVENT_OBJECT_SCHEMA", "EVENT_OBJECT_TABLE", "TRIGGER_NAME, CREATED"),
    ("REFERENTIAL_CONSTRAINTS", "CONSTRAINT_SCHEMA", "TABLE_NAME", "CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE"),
)  # fmt: skip
"""Views of the schema, and what in them says that a table is another now."""


def _digest(view: str, schema: str, name: str, columns: str) -> str:
    hashed = f"conv(left(md5(concat_ws('|', {columns})), 15), 16, 10)"
    return (
        f"(SELECT concat(count(*), ':', coalesce(bit_xor({hashed}), 0)) FROM information_schema.{view}"  # noqa: S608
        f" WHERE {schema} = database() AND {name} = ?)"
    )


DIGEST: Final = f"concat_ws(' ', {', '.join(_digest(*view) for view in _DIGESTED)})"
"""Another text as soon as a table is made, altered, dropped or replaced, or its triggers are. Takes its name, as often
as `DIGESTED` says."""
DIGESTED: Final = len(_DIGESTED)


def asked(tables: Sequence[str]) -> str:
    """The question for the state of some tables: the sum of their changes; of each its digest, and whether it is empty.

    Its values: the tokens, then the names for each digest.
    """
    marks = ", ".join("?" * len(tables))
    counted = f"(SELECT coalesce(sum(version), 0) FROM consona_changes WHERE token IN ({marks}))"  # noqa: S608  ours
    each = (f"{DIGEST}, EXISTS (SELECT 1 FROM {MYSQL.identifier(table)})" for table in tables)  # noqa: S608  quoted
    return f"SELECT {counted}, {', '.join(each)}"


async def watch(session: Session, tables: Sequence[str]) -> None:
    """Make the triggers that are not there yet.

    Args:
        session: One connection, whose settings may be changed.
        tables: Tables of its database.
    """
    await _run(session, f"SET SESSION lock_wait_timeout = {LOCK_S}")
    [[got]] = (await find(session, LOCK, LOCK_S)).rows
    if got != 1:
        raise DatabaseLocked("Another process makes triggers in this database.", hint="Call watch_tables again.")
    try:
        await _run(session, TABLE)
        for table in tables:
            rows = (await find(session, TRIGGERS, table)).rows
            if token_of(rows) is None:
                await _make(session, table, [name for _, name in rows])
        await _add_up(session)
    finally:
        await find(session, UNLOCK)


async def _make(session: Session, table: str, old: Sequence[str]) -> None:
    for name in old:  # of a table that was watched in part
        await _run(session, f"DROP TRIGGER IF EXISTS {MYSQL.identifier(name)}")
    token = secrets.token_hex(8)
    for event in EVENTS:
        name, place = f"{PREFIX}{token}_{event}", MYSQL.identifier(table)
        count = COUNT.replace("TOKEN", token)
        await _run(session, f"CREATE TRIGGER {name} AFTER {event} ON {place} FOR EACH ROW {count}")


async def _add_up(session: Session) -> None:
    """Make one row of those that many sessions left. The sums stay; rows that a transaction uses are left alone."""
    [[count]] = (await find(session, "SELECT count(*) FROM consona_changes WHERE session <> 0")).rows
    if count < MANY_SESSIONS:
        return
    tx = await session.begin(Begin(name="consona_changes", where=caller_place()))
    try:
        found = await find(
            tx, "SELECT token, session, version FROM consona_changes WHERE session <> 0 FOR UPDATE SKIP LOCKED"
        )
        sums: dict[str, int] = defaultdict(int)
        for token, _, version in found.rows:
            sums[token] += version
        if sums:
            gone = compile_statement("DELETE FROM consona_changes WHERE token = ? AND session = ?", MYSQL)
            await tx.execute_many(gone, [(token, number) for token, number, _ in found.rows])
            sum_up = "INSERT INTO consona_changes VALUES (?, 0, ?) ON DUPLICATE KEY UPDATE version = version + VALUES(version)"
            await tx.execute_many(compile_statement(sum_up, MYSQL), list(sums.items()))
        await tx.commit()
    except BaseException:
        await tx.rollback()
        raise


async def find(session: Session, sql: str, *values: object) -> Rows:
    return await session.fetch(compile_statement(sql, MYSQL), values)


async def _run(session: Session, sql: str) -> None:
    await session.execute(compile_statement(sql, MYSQL), ())


def token_of(triggers: Sequence[Sequence[str]]) -> str | None:
    """The token of a table, from its triggers (event, name); None where it does not have all three of one token."""
    names = {event.lower(): name for event, name in triggers}
    token = next(iter(names.values()), "").removeprefix(PREFIX).partition("_")[0]
    wanted = {event: f"{PREFIX}{token}_{event}" for event in EVENTS}
    return token if token and names == wanted and len(triggers) == len(EVENTS) else None
