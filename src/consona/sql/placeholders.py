"""One placeholder style for every engine: `?` and `:name` become what the driver wants.

    compiled = compile_statement("SELECT * FROM users WHERE age > :age AND note = '?'", POSTGRESQL)
    compiled.text                       # SELECT * FROM users WHERE age > $1 AND note = '?'
    compiled.values({"age": 28})        # (28,)

A tokenizer, not a search: strings, quoted names, comments (nested ones of PostgreSQL too), dollar
quotes, `::casts`, array slices and the JSON operators of PostgreSQL stay as they are. There the
operator `?` is written `??`; `?|` and `?&` are recognised (`? || x` with a space is a placeholder).

Values never enter the text. Sources: https://www.sqlite.org/lang.html,
https://www.postgresql.org/docs/current/sql-syntax-lexical.html,
https://dev.mysql.com/doc/refman/8.4/en/language-structure.html.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from consona.errors import FieldProblem, ValidationError
from consona.sql.dialect import Dialect

__all__ = ["READING", "WRITING", "Statement", "Token", "compile_statement", "split_statements", "tokens"]

READING: Final = frozenset({"SELECT", "VALUES", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "PRAGMA", "TABLE"})
WRITING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE"})


class Token(NamedTuple):
    """A piece of SQL. `kind` is one of `space comment text name word number named mark cast end other`."""

    kind: str
    at: int
    """Where it begins, counted from 0."""
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in the words of one engine, with what is known of it without asking the database."""

    text: str
    """With the driver's placeholders."""
    source: str
    """As the user wrote it."""
    names: tuple[str, ...] | None
    """The name of each placeholder, where they are `:names`; None where they are `?`."""
    places: tuple[int, ...]
    """Where its placeholders are in `source`, counted from 0: one for each value it takes."""
    verb: str
    """Its first word in capitals: `SELECT`, `INSERT`, …; of a `WITH`, that of what follows."""
    target: str
    """The first table that it names, as written, or nothing."""
    reads: bool
    """Whether it looks as if it changed nothing. The database has the last word."""
    shifts: tuple[tuple[int, int], ...] = ()
    """Where `text` and `source` are side by side again, behind each piece that differs."""

    def place(self, offset: int) -> str:
        """Where in `source` that is what stands at `offset` of `text`: `line 2, character 5`."""
        behind = [shift for shift in self.shifts if shift[0] <= offset]
        in_text, in_source = behind[-1] if behind else (0, 0)
        return _place(self.source, min(in_source + offset - in_text, len(self.source)))

    def values(self, given: Sequence[Any]) -> Sequence[Any]:
        """The values in the order of the driver's placeholders.

        Raises:
            ValidationError: Too few or too many of them, or names that do not fit.
        """
        if self.names is None:
            if len(given) != len(self.places):
                raise _wrong_count(self, given)
            return given
        if len(given) != 1 or not isinstance(given[0], Mapping):
            raise _refused(
                f"The statement has {_list(self.names)}, so its values are one mapping; got {len(given)} value(s).",
                hint='Write execute(sql, {"name": value}).',
            )
        mapping = given[0]
        missing = [name for name in dict.fromkeys(self.names) if name not in mapping]
        unknown = [str(name) for name in mapping if name not in self.names]
        if missing or unknown:
            problems = [FieldProblem(name, "is missing") for name in missing]
            problems += [FieldProblem(name, "is not in the statement") for name in unknown]
            raise _refused(f"The statement has {_list(self.names)}; the values do not fit.", problems)
        return tuple(mapping[name] for name in self.names)


def tokens(sql: str, dialect: Dialect) -> Iterator[Token]:
    """The pieces of SQL, in order and without gaps.

    Raises:
        ValidationError: A string, a quoted name or a comment has no end, or a placeholder is not one of ours.
    """
    pattern = _pattern(dialect)
    at, end = 0, len(sql)
    while at < end:
        found = pattern.match(sql, at)
        assert found is not None
        kind, stop = str(found.lastgroup), found.end()
        if kind == "escaped":
            kind = "text"
        elif kind == "dollar":
            kind, stop = "text", _find(sql, found[0], stop, at, "dollar-quoted string")
        elif kind == "nested":
            kind, stop = "comment", _comment_end(sql, at)
        elif kind == "open":
            raise _refused(f"What begins with {found[0]!r} at {_place(sql, at)} has no end.")
        elif kind == "foreign":
            raise _refused(
                f"{found[0]!r} at {_place(sql, at)} is the engine's own kind of placeholder.",
                hint="Write ? or :name, which work on every engine.",
            )
        yield Token(kind, at, sql[at:stop])
        at = stop


def compile_statement(sql: str, dialect: Dialect) -> Statement:
    """Rewrite one statement for an engine.

    Raises:
        ValidationError: It is no text, is empty, has a NUL, mixes `?` with `:name`, holds more than one statement,
            or something in it has no end.
    """
    if not isinstance(sql, str):
        raise _refused(f"A statement is text; got {type(sql).__name__}.")
    if "\0" in sql:
        raise _refused(f"The statement has a NUL character at {_place(sql, sql.index(chr(0)))}.")
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise _refused(f"The statement has half of a surrogate pair at {_place(sql, error.start)}.") from None
    pieces = list(tokens(sql, dialect))
    _one_statement(sql, dialect)
    marks = [token for token in pieces if token.kind == "mark"]
    named = [token for token in pieces if token.kind == "named"]
    if marks and named:
        raise _refused(
            f"The statement mixes ? (at {_place(sql, marks[0].at)}) with {named[0].text}"
            f" (at {_place(sql, named[0].at)}).",
            hint="Use one of the two.",
        )
    names = tuple(token.text[1:] for token in named) if named else None
    verb, target, reads = _nature(pieces)
    text, shifts = _rewritten(pieces, dialect)
    places = tuple(token.at for token in marks or named)
    return Statement(
        text=text, source=sql, shifts=shifts, names=names, places=places, verb=verb, target=target, reads=reads
    )


def split_statements(sql: str, dialect: Dialect) -> list[Token]:
    """The statements of a script, without the semicolons between them. Bodies of triggers and routines stay whole.

    Example:
        >>> from consona.sql.dialect import SQLITE
        >>> [token.text for token in split_statements("SELECT ';'; /* then */ SELECT 2;", SQLITE)]
        ["SELECT ';'", 'SELECT 2']
    """
    found: list[Token] = []
    words: list[str] = []
    begin, stop, depth = -1, 0, 0
    for token in tokens(sql, dialect):
        if token.kind == "end" and depth <= 0:
            if begin >= 0:
                found.append(Token("statement", begin, sql[begin:stop]))
            words, begin, depth = [], -1, 0
            continue
        if token.kind in {"space", "comment"}:
            continue
        if begin < 0:
            begin = token.at
        stop = token.at + len(token.text)
        if token.kind == "word":
            words.append(token.text.upper())
            depth += _deeper(words)
    if begin >= 0:
        found.append(Token("statement", begin, sql[begin:stop]))
    return found


_ROUTINES: Final = frozenset({"TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE"})
_NOT_COUNTED: Final = frozenset({"IF", "LOOP", "WHILE", "REPEAT", "FOR"})


def _deeper(words: list[str]) -> int:
    """By how much the last word opens (1) or closes (-1) the body of a routine."""
    if words[0] != "CREATE" or not _ROUTINES.intersection(words[1:8]):
        return 0
    word, before = words[-1], words[-2] if len(words) > 1 else ""
    if word in _NOT_COUNTED and before == "END":
        return 1  # `END IF` closes what was never counted, so its END is taken back
    if word == "CASE":
        return 0 if before == "END" else 1
    return {"BEGIN": 1, "END": -1}.get(word, 0)


def _rewritten(pieces: Sequence[Token], dialect: Dialect) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text for the driver, and its `shifts`."""
    written: list[str] = []
    shifts: list[tuple[int, int]] = []
    number = length = 0
    for kind, at, text in pieces:
        ours = text
        if kind in {"mark", "named"}:
            number += 1
            ours = f"${number}" if dialect.placeholder == "$1" else dialect.placeholder
        elif kind == "operator":
            ours = text.replace("??", "?")
        written.append(ours)
        length += len(ours)
        if len(ours) != len(text):
            shifts.append((length, at + len(text)))
    return "".join(written), tuple(shifts)


def _one_statement(sql: str, dialect: Dialect) -> None:
    statements = split_statements(sql, dialect)
    if not statements:
        raise _refused("The statement is empty.")
    if len(statements) > 1:
        raise _refused(
            f"There is a second statement at {_place(sql, statements[1].at)}.",
            hint="Execute one statement at a time, or a whole script with execute_script().",
        )


def _nature(pieces: Sequence[Token]) -> tuple[str, str, bool]:
    """Verb, first table, and whether it seems only to read."""
    telling = [token for token in pieces if token.kind in {"word", "name", "other"}]
    words = [token.text.upper() for token in telling if token.kind == "word"]
    verb = words[0] if words else ""
    if verb == "WITH":
        verb = next((word for word in words if word in WRITING), "SELECT")
        reads = verb == "SELECT"
    else:
        reads = verb in READING and not (verb == "SELECT" and "INTO" in words)
        if verb == "EXPLAIN":
            reads = not ("ANALYZE" in words and WRITING.intersection(words))
    return verb, _first_table(telling), reads


_BEFORE_TABLE: Final = frozenset({"FROM", "INTO", "UPDATE", "TABLE", "JOIN"})
_BETWEEN: Final = frozenset({"IF", "NOT", "EXISTS", "ONLY", "OR", "ROLLBACK", "ABORT", "FAIL", "IGNORE", "REPLACE"})


def _first_table(telling: Sequence[Token]) -> str:
    expected = False
    for token in telling:
        word = token.text.upper() if token.kind == "word" else ""
        if word in _BEFORE_TABLE:
            expected = True
        elif expected and word in _BETWEEN:
            continue
        elif expected:
            if token.kind in {"word", "name"}:
                return token.text.strip('"`[]')[:80]
            expected = False
    return ""


@functools.cache
def _pattern(dialect: Dialect) -> re.Pattern[str]:
    line_end = r"\n" if dialect.name == "sqlite" else r"\r\n"
    comments = [rf"(?P<comment>--[^{line_end}]*"]
    if dialect.backslash:  # MySQL wants a space after the dashes, and has a second sign
        comments = [r"(?P<comment>--(?=[\s\x00-\x1f]|\Z)[^\n]*|\#[^\n]*"]
    comments.append(r")|(?P<nested>/\*)" if dialect.nested_comments else r"|/\*.*?(?:\*/|\Z))")
    inside = r"(?:[^{0}\\]|{0}{0}|\\.)*+" if dialect.backslash else r"(?:[^{0}]|{0}{0})*+"
    # Possessive (`*+`): else a text without an end would be read as one that ends at its first doubled quote.
    text = rf"'{inside.format(chr(39))}'"
    names = [rf'"{inside.format(chr(34))}"']
    if dialect.name != "postgresql":
        names.append(r"`(?:[^`]|``)*+`")
    if dialect.name == "sqlite":
        names.append(r"\[[^\]]*\]")
    parts = [r"(?P<space>\s+)", "".join(comments)]
    if dialect.dollar_quotes:
        parts += [r"(?P<escaped>[eE]'(?:[^'\\]|''|\\.)*+')", r"(?P<dollar>\$(?:[^\W\d]\w*)?\$)"]
    parts.append(rf"(?P<text>{text})|(?P<name>{'|'.join(names)})")
    parts += [r"(?P<word>[^\W\d][\w$]*)", r"(?P<number>\d[\w.]*)", r"(?P<cast>::|:=)"]
    parts.append(r"(?P<named>(?<![\w)\]\"':]):[^\W\d]\w*)")
    if dialect.json_operators:
        parts.append(r"(?P<operator>\?\?[|&]?|\?\|(?!\|)|\?&(?!&)|@\?)")
    foreign = [r"\?\d+"]
    if dialect.native_parameters:
        foreign.append(rf"[{re.escape(dialect.native_parameters)}](?:\w+)")
    parts += [rf"(?P<foreign>{'|'.join(foreign)})", r"(?P<mark>\?)", r"(?P<end>;)"]
    parts.append(r"(?P<open>['\"]" + ("" if dialect.name == "postgresql" else "|`") + r")|(?P<other>.)")
    return re.compile("|".join(parts), re.DOTALL)


def _find(sql: str, closer: str, start: int, at: int, what: str) -> int:
    found = sql.find(closer, start)
    if found < 0:
        raise _refused(f"The {what} that begins at {_place(sql, at)} has no end.")
    return found + len(closer)


def _comment_end(sql: str, at: int) -> int:
    depth = 0
    for found in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    raise _refused(f"The comment that begins at {_place(sql, at)} has no end.")


def _place(sql: str, at: int) -> str:
    line = sql.count("\n", 0, at) + 1
    column = at - sql.rfind("\n", 0, at)
    return f"character {column}" if "\n" not in sql else f"line {line}, character {column}"


def _wrong_count(statement: Statement, given: Sequence[Any]) -> ValidationError:
    count = len(statement.places)
    hint = "Give one value for each ?."
    if not count and given:
        hint = "Write ? where each value goes, or :name with one mapping; %s and $1 are no placeholders here."
    if len(given) == 1 and isinstance(given[0], list | tuple) and count != 1:
        hint = "Give the values one by one: execute(sql, *values)."
    elif len(given) == 1 and isinstance(given[0], Mapping):
        hint = "A mapping fits placeholders with names: write :name instead of ?."
    elif len(given) < count:
        number = len(given) + 1
        hint = f"The {_ordinal(number)} placeholder has no value: it is at {_place(statement.source, statement.places[number - 1])}."
    return _refused(f"The statement has {count} placeholder(s) and {len(given)} value(s).", hint=hint)


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(f":{name}" for name in dict.fromkeys(names))


def _refused(message: str, problems: Sequence[FieldProblem] = (), *, hint: str | None = None) -> ValidationError:
    return ValidationError(message, fields=problems or [FieldProblem("sql", message)], hint=hint)
