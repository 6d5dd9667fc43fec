"""Writes in a SQLite file: on the writing connection, within its transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import apsw

from consona.documents.engine import Check, Delete, Found, Insert, Modify, Query, Write, Written
from consona.documents.rules import check_rules
from consona.documents.sqlite.changes import REPLACED, log_new_table
from consona.documents.sqlite.indexes import duplicate, keep_keys, unique_indexes
from consona.documents.sqlite.reading import found_rows
from consona.documents.sqlite.rows import row_of
from consona.documents.sqlite.tables import Table, created, found_table
from consona.documents.values import Document
from consona.documents.writing import changed_document, new_document, require_version
from consona.errors import ConsonaError

__all__ = ["do_writes"]

T = TypeVar("T")

_SAVEPOINT: Final = "SAVEPOINT consona_document"
_RELEASE: Final = "RELEASE consona_document"
_UNDO: Final = "ROLLBACK TO consona_document"


def do_writes(
    db: apsw.Connection,
    collection: str,
    writes: Sequence[Write],
    *,
    ordered: bool,
    atomic: bool = False,
    check: Check | None,
    now: float,
) -> list[Written | ConsonaError]:
    """Do the writes in order, each all or nothing. Gives an answer or an error for each."""
    table = found_table(db, collection) or log_new_table(db, created(db, collection))
    work = Work(db, table, check_rules(table.rules, check), int(now * 1e6))
    answers: list[Written | ConsonaError] = []
    for write in writes:
        try:
            answers.append(work.do(write))
        except ConsonaError as error:
            if atomic:
                raise
            answers.append(error)
            if ordered:
                break
    return answers


class Work:
    """Writes to one collection."""

    def __init__(self, db: apsw.Connection, table: Table, check: Check | None, version: int) -> None:
        self.db = db
        self.table = table
        self.check = check
        self.version = version
        """Of a new document; after it was deleted and made anew, it differs."""
        self.unique = bool(unique_indexes(table))
        self._insert_sql = f"INSERT INTO {table.sql} (id, data, version) VALUES (?, jsonb(?), ?)"
        self._update_sql = f"UPDATE {table.sql} SET data = jsonb(?), version = version + ? WHERE seq = ?"
        self._delete_sql = f"DELETE FROM {table.sql} WHERE seq = ?"

    def do(self, write: Write) -> Written:
        if isinstance(write, Insert):
            if self.check is not None:
                self.check(write.document)
            if self.unique:
                self._all_or_nothing(lambda: self.insert(write.document))
            else:
                self.insert(write.document)  # one statement is all or nothing by itself
            return Written(modified=1)
        if isinstance(write, Delete):
            return self._all_or_nothing(lambda: self._delete(write))
        return self._all_or_nothing(lambda: self._modify(write))

    def _all_or_nothing(self, step: Callable[[], T]) -> T:
        self.db.execute(_SAVEPOINT)
        try:
            answer = step()
        except BaseException:
            self.db.execute(_UNDO)
            self.db.execute(_RELEASE)
            raise
        self.db.execute(_RELEASE)
        return answer

    def insert(self, document: Document) -> None:
        identity, text = row_of(document)
        try:
            self.db.execute(self._insert_sql, (identity, text, self.version))
        except apsw.ConstraintError as error:
            raise duplicate(self.table) from error
        if self.unique:
            keep_keys(self.db, self.table, self.db.last_insert_rowid(), document, new=True)

    def _chosen(self, write: Modify | Delete) -> list[tuple[int, int, Document]]:
        query = Query(filter=write.filter, sort=write.sort, limit=None if write.many else 1, hint=write.hint)
        return list(found_rows(self.db, self.table, query))

    def _delete(self, write: Delete) -> Written:
        rows = self._chosen(write)
        answer = Written(matched=len(rows), modified=len(rows))
        for seq, version, document in rows:
            found = Found(document, version)
            require_version(found, write)
            self.db.execute(self._delete_sql, (seq,))
            if write.give != "none":
                answer.given = found
        return answer

    def _modify(self, write: Modify) -> Written:
        rows = self._chosen(write)
        if not rows and write.upsert:
            new = new_document(write, self.check)
            self.insert(new)
            given = Found(new, self.version) if write.give == "after" else None
            return Written(upserted=True, upserted_id=new["_id"], given=given)
        answer = Written(matched=len(rows))
        step = 1 if write.change.updates else REPLACED
        for seq, version, document in rows:
            found = Found(document, version)
            require_version(found, write)
            changed = changed_document(document, write, self.check)
            if changed is not None:
                self._replace(seq, changed, step)
                answer.modified += 1
            if write.give == "before":
                answer.given = found
            elif write.give == "after":
                answer.given = found if changed is None else Found(changed, version + step)
        return answer

    def _replace(self, seq: int, document: Document, step: int) -> None:
        _, text = row_of(document)
        self.db.execute(self._update_sql, (text, step, seq))
        if self.unique:
            keep_keys(self.db, self.table, seq, document, new=False)
