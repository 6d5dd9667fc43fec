"""The triggers of PostgreSQL that tell of changes, and what the cache asks the catalog.

`consona_changed` is a trigger after each statement that changes a table. It sends the table's name on the
channel `consona_changed`; made with `strict`, it also counts the change in `consona_changes`, in a row that its
own session alone writes, so that writers never wait for each other. A sum over these rows that is the same as
before means that nothing was committed in between.

It fires for every role and every client, also in replication (`ENABLE ALWAYS`), and runs with the rights of
who made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from consona.sql.dialect import POSTGRESQL
from consona.storage.postgresql.engine import PostgreSQLEngine

__all__ = ["ABOUT", "ASKED", "BEAT", "CHANNEL", "SPREADING", "quoted", "watch"]

CHANNEL: Final = "consona_changed"

PREPARE: Final = (
    "SET LOCAL lock_timeout = '5s'",
    """CREATE TABLE IF NOT EXISTS consona_changes (
         changed_table oid NOT NULL, session integer NOT NULL, version bigint NOT NULL,
         PRIMARY KEY (changed_table, session)) WITH (fillfactor = 50)""",
    """CREATE OR REPLACE FUNCTION consona_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
       SET search_path FROM CURRENT AS $consona$
       BEGIN
         PERFORM pg_notify('consona_changed', TG_TABLE_NAME);
         IF TG_NARGS > 0 THEN
           INSERT INTO consona_changes AS c VALUES (TG_RELID, pg_backend_pid(), 1)
           ON CONFLICT (changed_table, session) DO UPDATE SET version = c.version + 1;
         END IF;
         RETURN NULL;
       END $consona$""",
    """WITH gone AS (
         DELETE FROM consona_changes WHERE session <> 0 AND session NOT IN (SELECT pid FROM pg_stat_activity)
         RETURNING changed_table, version),
       sums AS (SELECT changed_table, sum(version)::bigint AS version FROM gone GROUP BY changed_table)
       INSERT INTO consona_changes AS c SELECT changed_table, 0, version FROM sums
       ON CONFLICT (changed_table, session) DO UPDATE SET version = c.version + excluded.version""",
)

_TRIGGER: Final = "t.tgname = 'consona_changed' AND t.tgenabled = 'A'"
_RELATION: Final = "LEFT JOIN pg_class c ON c.oid = to_regclass(n.name)"

_DIGEST: Final = """
md5(concat_ws(':', c.oid, c.xmin, c.relfilenode,
  (SELECT string_agg(a.attnum || '.' || a.xmin::text, '.' ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
  (SELECT string_agg(t.oid::text || '.' || t.xmin::text, '.' ORDER BY t.oid) FROM pg_trigger t WHERE t.tgrelid = c.oid)))"""
"""Another text as soon as the table is made, altered, dropped or replaced, or its triggers are."""

ABOUT: Final = f"""
SELECT {_DIGEST}, c.oid::bigint, c.relkind::text,
  c.relpersistence <> 't' AND NOT c.relispartition
    AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)),
  c.relrowsecurity,
  coalesce((SELECT CASE WHEN t.tgnargs > 0 THEN 'strict' ELSE 'told' END
            FROM pg_trigger t WHERE t.tgrelid = c.oid AND {_TRIGGER}), '')
FROM unnest($1::text[]) WITH ORDINALITY AS n(name, place) {_RELATION} ORDER BY n.place"""  # noqa: S608  ours
"""Of each name: its digest, oid and kind, whether it is a plain table, whether it has row security, its trigger."""

BEAT: Final = f"""
SELECT (SELECT array_agg({_DIGEST} ORDER BY n.place)
        FROM unnest($1::text[]) WITH ORDINALITY AS n(name, place) {_RELATION}),
  concat_ws(',',
    (SELECT count(*) || ':' || coalesce(max(xmin::text::bigint), 0) FROM pg_trigger WHERE NOT tgisinternal),
    (SELECT count(*) || ':' || coalesce(max(xmin::text::bigint), 0) FROM pg_constraint WHERE contype = 'f'),
    (SELECT count(*) || ':' || coalesce(max(xmin::text::bigint), 0) FROM pg_rewrite)),
  pg_notify($2, $3)"""  # noqa: S608  ours
"""The digests of the names, what tells of new triggers, keys and rules anywhere, and the beat itself."""

ASKED: Final = f"""
SELECT (SELECT coalesce(sum(version), 0)::bigint FROM consona_changes WHERE changed_table = ANY ($1::bigint[])),
  (SELECT array_agg({_DIGEST} ORDER BY n.place) FROM unnest($2::text[]) WITH ORDINALITY AS n(name, place) {_RELATION})
"""  # noqa: S608  ours

SPREADING: Final = """
SELECT c.relname::text FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v') AND (
  EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname <> 'consona_changed')
  OR EXISTS (SELECT 1 FROM pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f'
             AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd')))
  OR EXISTS (SELECT 1 FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1')
  OR c.relkind = 'v' AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace))"""


async def watch(engine: PostgreSQLEngine, tables: Sequence[str], *, strict: bool) -> None:
    """Make the triggers that are not there yet, all or none."""
    names = [quoted(table) for table in tables]
    rows = (await engine.ask(ABOUT, [names], reads=True)).rows
    wanted = {"strict"} if strict else {"strict", "told"}
    missing = [name for name, row in zip(names, rows, strict=True) if row[-1] not in wanted]
    if not missing:
        return
    async with engine.lock("consona_changed"), engine.transaction(name="watch_tables") as tx:
        for statement in PREPARE:
            await tx.ask(statement)
        for name in missing:
            for statement in _trigger(name, strict=strict):
                await tx.ask(statement)


def _trigger(name: str, *, strict: bool) -> Iterator[str]:
    yield f"DROP TRIGGER IF EXISTS consona_changed ON {name}"
    argument = "'strict'" if strict else ""
    yield (
        f"CREATE TRIGGER consona_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {name}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION consona_changed({argument})"
    )
    yield f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER consona_changed"


def quoted(table: str) -> str:
    """`schema.table` as SQL."""
    return POSTGRESQL.identifier(*table.split("."))
