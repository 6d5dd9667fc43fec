"""The schema of a MariaDB or MySQL database."""

from __future__ import annotations

import re
from typing import Any, Final

from consona.sql.dialect import MYSQL
from consona.sql.engine import Session
from consona.sql.migrations.schema_text import Schema, ask, is_ours, raw

__all__ = ["read"]

_TEXTS: Final = {
    "view": "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = DATABASE()",
    "trigger": "SELECT trigger_name, CONCAT_WS(' ', action_timing, event_manipulation, 'on', event_object_table,"
    " action_statement) FROM information_schema.triggers WHERE trigger_schema = DATABASE()",
    "event": "SELECT event_name, CONCAT_WS(' ', event_type, execute_at, interval_value, interval_field, status,"
    " event_definition) FROM information_schema.events WHERE event_schema = DATABASE()",
    "routine": "SELECT routine_name, CONCAT_WS(' ', routine_type, (SELECT GROUP_CONCAT(CONCAT_WS(' ', parameter_mode,"
    " parameter_name, dtd_identifier) ORDER BY ordinal_position) FROM information_schema.parameters p WHERE"
    " p.specific_schema = r.routine_schema AND p.specific_name = r.specific_name), routine_definition)"
    " FROM information_schema.routines r WHERE routine_schema = DATABASE()",
}


async def read(session: Session) -> Schema:
    schema: Schema = {}
    [[database]] = await ask(session, MYSQL, "SELECT DATABASE()")
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type <> 'VIEW'"
    for (name,) in await ask(session, MYSQL, tables):
        if not is_ours(name):
            shown = raw(f"SHOW CREATE TABLE {MYSQL.identifier(name)}", "SHOW", reads=True)
            [row] = (await session.fetch(shown, ())).rows
            schema[f"table {name}"] = _table(str(row[1]))
    for kind, sql in _TEXTS.items():
        for name, text in await ask(session, MYSQL, sql):
            if kind == "trigger" and is_ours(name):
                continue
            schema[f"{kind} {name}"] = {"definition": _text(text, database)}
    return schema


def _table(definition: str) -> dict[str, str]:
    """What `SHOW CREATE TABLE` says: one line for each column and key, and a last one with the table's options."""
    details: dict[str, str] = {}
    *lines, options = definition.splitlines()[1:]
    for line in lines:
        text = line.strip().rstrip(",")
        column = re.match(r"`((?:[^`]|``)+)` (.*)", text)
        key = re.match(r"(PRIMARY KEY|(?:UNIQUE |FULLTEXT |SPATIAL )?KEY `[^`]+`|CONSTRAINT `[^`]+`) ?(.*)", text)
        if column is not None:
            details[f"column {column[1]}"] = column[2]
        elif key is not None:
            details[key[1].lower().replace("`", "")] = key[2].replace("`", "")
        else:
            details[f"rule {text}"] = "set"
    details["options"] = re.sub(r" AUTO_INCREMENT=\d+", "", options.lstrip(") "))
    return details


def _text(text: Any, database: str) -> str:
    """A body without the database's own name, which a scratch database has not."""
    return " ".join(str(text or "").replace(f"`{database}`.", "").split())
