"""SQL texts made comparable: without what is only spelling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from consona.sql.dialect import Dialect
from consona.sql.engine import Session
from consona.sql.placeholders import Statement, compile_statement, tokens

__all__ = ["Schema", "ask", "is_ours", "plain", "raw"]

Schema: TypeAlias = dict[str, dict[str, str]]


def raw(sql: str, verb: str = "", *, reads: bool = False) -> Statement:
    """A statement that goes to the engine as it is: it has no placeholders."""
    return Statement(sql, sql, None, (), verb, "", reads)


async def ask(session: Session, dialect: Dialect, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return (await session.fetch(compile_statement(sql, dialect), values)).rows


def is_ours(name: str) -> bool:
    """Whether a table is one of Consona's own."""
    return name.startswith("consona_")


def plain(sql: str, dialect: Dialect) -> str:
    """Without comments, needless quotes, and with one space between words.

    Example:
        >>> from consona.sql.dialect import SQLITE
        >>> plain('CREATE TABLE "a"(x  INT) -- why', SQLITE)
        'create table a ( x int )'
    """
    return " ".join(_words(sql, dialect))


def _words(sql: str, dialect: Dialect) -> Sequence[str]:
    words: list[str] = []
    for token in tokens(sql, dialect):
        if token.kind in {"space", "comment"}:
            continue
        if token.kind == "word":
            words.append(token.text.lower())
        elif token.kind == "name" and re.fullmatch(r"\w+", token.text[1:-1]):
            words.append(token.text[1:-1].lower())
        else:
            words.append(token.text)
    return words
