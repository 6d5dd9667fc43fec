"""A migration written in SQL: its sections, its directives, its statements.

    -- up
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);

    -- down
    DROP TABLE users;

A section may be for some engines only (`-- up postgresql`, `-- up sqlite, mysql`); it goes before one
for all. A file without any such line is one `-- up`. Directives stand in a section, before its first
statement: `-- no transaction` runs each statement by itself (CREATE INDEX CONCURRENTLY, VACUUM), and
`-- foreign keys off` lets SQLite rebuild a table that others refer to.

Statements are found by a tokenizer: semicolons in strings, comments, dollar quotes and the bodies of
triggers and routines end nothing. `DELIMITER` is understood for MariaDB and MySQL. The lines of dbmate
(`-- migrate:up`) and goose (`-- +goose Up`) mean the same.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from consona.errors import ValidationError
from consona.sql.dialect import MYSQL, POSTGRESQL, SQLITE, Dialect
from consona.sql.migrations.errors import wrong_file
from consona.sql.placeholders import Token, split_statements, tokens

__all__ = ["Direction", "SQLStatement", "Script", "read_script"]

Direction = Literal["up", "down"]

ENGINES: Final = {
    "sqlite": SQLITE.name,
    "postgresql": POSTGRESQL.name,
    "postgres": POSTGRESQL.name,
    "mysql": MYSQL.name,
    "mariadb": MYSQL.name,
}
_MARKER: Final = re.compile(
    r"^--[ \t]*(?:migrate:|\+goose[ \t]+)?(up|down)\b[ \t]*(.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE
)
_DIRECTIVE: Final = re.compile(
    r"^--[ \t]*(?:(?P<alone>(?:\+goose[ \t]+)?no[ -]transaction)|(?P<unchecked>foreign[ -]keys[ -]off))[ \t]*$",
    re.IGNORECASE,
)
_KEEPS_TRANSACTIONS: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT", "SET", "WITH"})
_TRANSACTION_WORDS: Final = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "START", "END", "SAVEPOINT", "RELEASE"})


@dataclass(frozen=True, slots=True)
class SQLStatement:
    """One statement of a script."""

    text: str
    line: int
    """Where it begins in its file, counted from 1."""

    @property
    def verb(self) -> str:
        """Its first word, in capitals."""
        found = re.search(r"[A-Za-z]+", _without_comments(self.text))
        return found[0].upper() if found else ""

    @property
    def keeps_transactions(self) -> bool:
        """Whether it can be part of a transaction on every engine: MariaDB and MySQL do not commit at it."""
        return self.verb in _KEEPS_TRANSACTIONS

    @property
    def summary(self) -> str:
        """Its beginning, on one line, for people."""
        flat = " ".join(_without_comments(self.text).split())
        return flat if len(flat) <= 60 else f"{flat[:59]}…"


@dataclass(frozen=True, slots=True)
class Script:
    """What one section says, for one engine."""

    statements: tuple[SQLStatement, ...]
    text: str
    """The whole section, its line endings normalised: what the checksum is made of."""
    transaction: bool = True
    """Whether its statements happen together; False after `-- no transaction`."""
    foreign_keys: bool = True
    """False after `-- foreign keys off`."""


@dataclass(frozen=True, slots=True)
class _Section:
    direction: Direction
    engines: frozenset[str]
    """Empty: for all."""
    begin: int
    end: int
    line: int

    def is_for(self, dialect: Dialect) -> bool:
        return not self.engines or dialect.name in self.engines


def read_script(file: Path, text: str, dialect: Dialect) -> dict[Direction, Script]:
    """The sections of a file that are for one engine.

    Raises:
        MigrationFileError: The file cannot be understood; the message has its line.
    """
    scripts: dict[Direction, Script] = {}
    sections = _sections(file, text, dialect)
    for direction in ("up", "down"):
        chosen = _chosen(file, [section for section in sections if section.direction == direction], dialect)
        if chosen is None:
            continue
        script = _script(file, text, chosen, dialect)
        if script.statements or chosen.engines:  # nothing to do for a named engine is an answer; else a forgotten one
            scripts[direction] = script
    if "up" not in scripts:
        raise _without_up(file, sections, dialect)
    return scripts


def normalised(text: str) -> str:
    """Without what editors and systems change by themselves: line endings, spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def _sections(file: Path, text: str, dialect: Dialect) -> list[_Section]:
    found: list[_Section] = []
    direction: Direction
    direction, engines, begin, line = "up", frozenset[str](), 0, 1
    while True:
        ours = not engines or dialect.name in engines
        marker = _next_marker(file, text, begin, dialect if ours else None)
        end = marker.start() if marker else len(text)
        found.append(_Section(direction, engines, begin, end, line))
        if marker is None:
            break
        begin, line = marker.end(), text.count("\n", 0, marker.start()) + 1
        direction, engines = _read_marker(file, marker, line)
    if len(found) > 1:
        head = found.pop(0)
        if statements := _script(file, text, head, dialect).statements:
            raise wrong_file(
                file,
                f"the statement {statements[0].summary!r} stands before the first `-- up`.",
                line=statements[0].line,
                hint="Move it below `-- up` or `-- down`.",
            )
    return found


def _next_marker(file: Path, text: str, begin: int, dialect: Dialect | None) -> re.Match[str] | None:
    """The next line that begins a section; in one for another engine (None), whatever looks like one."""
    if dialect is None:
        return next((marker for marker in _MARKER.finditer(text, begin) if not _is_prose(marker)), None)
    for token in _tokens(file, text, begin, len(text), dialect):
        if token.kind == "comment" and (token.at == 0 or text[token.at - 1] == "\n"):
            marker = _MARKER.match(text, token.at)
            if marker is not None and not _is_prose(marker):
                return marker
    return None


def _is_prose(marker: re.Match[str]) -> bool:
    """Whether it is a sentence that happens to begin with the word: `-- up to here all is old`."""
    words = marker[2].lower().split()
    return len(words) > 1 and "," not in marker[2] and any(word not in ENGINES for word in words)


def _read_marker(file: Path, marker: re.Match[str], line: int) -> tuple[Direction, frozenset[str]]:
    direction = cast("Direction", marker[1].lower())
    names = [name.lower() for name in re.split(r"[,\s]+", marker[2]) if name]
    if names == ["transaction:false"]:  # dbmate's way
        raise wrong_file(
            file,
            "`transaction:false` is not understood.",
            line=line,
            hint="Write `-- no transaction` on the next line.",
        )
    unknown = [name for name in names if name not in ENGINES]
    if unknown:
        raise wrong_file(
            file,
            f"there is no engine {unknown[0]!r}.",
            line=line,
            hint=f"After `-- {direction}` may stand: {', '.join(ENGINES)}.",
        )
    return direction, frozenset(ENGINES[name] for name in names)


def _chosen(file: Path, sections: list[_Section], dialect: Dialect) -> _Section | None:
    for named in (True, False):
        fitting = [section for section in sections if bool(section.engines) is named and section.is_for(dialect)]
        if len(fitting) > 1:
            raise wrong_file(
                file,
                f"there is a second `-- {fitting[1].direction}` (the first is in line {fitting[0].line}).",
                line=fitting[1].line,
                hint="Put the statements of both into one.",
            )
        if fitting:
            return fitting[0]
    return None


def _script(file: Path, text: str, section: _Section, dialect: Dialect) -> Script:
    directives = _directives(file, text, section, dialect)
    statements = tuple(_statements(file, text, section, dialect))
    for statement in statements:
        if statement.verb in _TRANSACTION_WORDS and not re.match(
            r"BEGIN\s+NOT\s+ATOMIC", statement.text, re.IGNORECASE
        ):
            raise wrong_file(
                file,
                f"{statement.summary!r} begins or ends a transaction, which is the runner's work.",
                line=statement.line,
                hint="Take it out. `-- no transaction` runs each statement by itself.",
            )
    return Script(
        statements=statements,
        text=normalised(text[section.begin : section.end]),
        transaction="alone" not in directives,
        foreign_keys="unchecked" not in directives,
    )


def _directives(file: Path, text: str, section: _Section, dialect: Dialect) -> set[str]:
    found: set[str] = set()
    begun = False
    for token in _tokens(file, text, section.begin, section.end, dialect):
        if token.kind == "comment":
            directive = _DIRECTIVE.match(token.text)
            if directive is not None and begun:
                raise wrong_file(
                    file,
                    f"`{token.text.strip()}` stands after the first statement.",
                    line=text.count("\n", 0, token.at) + 1,
                    hint=f"Move it to the line below `-- {section.direction}`.",
                )
            if directive is not None:
                found.add(str(directive.lastgroup))
            elif dialect.name == MYSQL.name and re.match(r"/\*M?!", token.text):
                raise wrong_file(
                    file,
                    "what stands in `/*! … */` would be executed, and is no comment.",
                    line=text.count("\n", 0, token.at) + 1,
                    hint="Write it as a plain statement.",
                )
        elif token.kind != "space":
            begun = True
    return found


def _statements(file: Path, text: str, section: _Section, dialect: Dialect) -> Iterator[SQLStatement]:
    for begin, end, delimiter in _stretches(file, text, section, dialect):
        if delimiter == ";":
            pieces = _split(file, text, begin, end, dialect)
        else:
            pieces = _split_at(file, text, begin, end, delimiter, dialect)
        for at, statement in pieces:
            yield SQLStatement(statement, text.count("\n", 0, at) + 1)


def _stretches(file: Path, text: str, section: _Section, dialect: Dialect) -> Iterator[tuple[int, int, str]]:
    """The parts of a section between its `DELIMITER` lines, and what ends a statement in each."""
    begin, delimiter = section.begin, ";"
    if dialect.name == MYSQL.name:
        for token in _tokens(file, text, section.begin, section.end, dialect):
            if token.kind != "word" or token.text.upper() != "DELIMITER" or token.at < begin:
                continue
            line_begin = text.rfind("\n", 0, token.at) + 1
            line_end = text.find("\n", token.at) % (len(text) + 1)
            words = text[line_begin:line_end].split()
            if len(words) == 2 and words[0].upper() == "DELIMITER":
                yield begin, line_begin, delimiter
                begin, delimiter = min(line_end, section.end), words[1]
    yield begin, section.end, delimiter


def _split(file: Path, text: str, begin: int, end: int, dialect: Dialect) -> Iterator[tuple[int, str]]:
    try:
        for token in split_statements(_padded(text, begin, end), _raw(dialect)):
            yield begin + token.at - text.count("\n", 0, begin), token.text
    except ValidationError as error:
        raise wrong_file(file, error.message) from error


def _split_at(
    file: Path, text: str, begin: int, end: int, delimiter: str, dialect: Dialect
) -> Iterator[tuple[int, str]]:
    """The statements between `delimiter`s that stand outside of strings and comments."""
    at = begin
    while at < end:
        first, stop = -1, end
        for token in _tokens(file, text, at, end, dialect):
            if text.startswith(delimiter, token.at):
                stop = token.at
                break
            if first < 0 and token.kind not in {"space", "comment"}:
                first = token.at
        if first >= 0:
            yield first, text[first:stop].rstrip()
        at = stop + len(delimiter)


def _tokens(file: Path, text: str, begin: int, end: int, dialect: Dialect) -> Iterator[Token]:
    padding = text.count("\n", 0, begin)
    try:
        for token in tokens(_padded(text, begin, end), _raw(dialect)):
            if token.at >= padding:
                yield Token(token.kind, begin + token.at - padding, token.text)
            elif token.at + len(token.text) > padding:  # white space that begins in the padding
                yield Token(token.kind, begin, token.text[padding - token.at :])
    except ValidationError as error:
        raise wrong_file(file, error.message) from error


def _padded(text: str, begin: int, end: int) -> str:
    """A part of a text, after so many empty lines that its lines have their numbers in the messages."""
    return "\n" * text.count("\n", 0, begin) + text[begin:end]


@functools.cache
def _raw(dialect: Dialect) -> Dialect:
    """The dialect for text without placeholders: `@variable` and `$1` mean what the engine says."""
    return dataclasses.replace(dialect, native_parameters="")


def _without_comments(text: str) -> str:
    return re.sub(r"\A(?:\s+|--[^\n]*|/\*.*?\*/)*", "", text, flags=re.DOTALL)


def _without_up(file: Path, sections: list[_Section], dialect: Dialect) -> Exception:
    up = next((section for section in sections if section.direction == "up"), None)
    if up is None:
        return wrong_file(file, "it has a `-- down` and no `-- up`.", hint="Begin what is to be run with `-- up`.")
    if up.is_for(dialect):
        return wrong_file(file, "there is no statement to run.", line=up.line, hint="Write one below `-- up`.")
    return wrong_file(
        file,
        f"it has no `-- up` for {dialect.name}.",
        line=up.line,
        hint=f"Add one: `-- up {dialect.name}`, or `-- up` for all other engines.",
    )
