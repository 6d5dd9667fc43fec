"""Pieces of Python source, laid out as `ruff format` (and Black) lay them out, with 88 columns.

Whatever comes from a document goes through `literal`, `docstring` or `comment`, so that it stays data:
no text can end the place that it stands in.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Final

__all__ = ["WIDTH", "comment", "docstring", "literal", "piece", "plain_text", "shifted", "split_at", "type_lines"]

WIDTH: Final = 88
INDENT: Final = "    "
_LIST: Final = re.compile(r"\s*(?:[-*+] |\d+[.)] )")
QUOTES: Final = 6
"""What a docstring of one line has beside its text."""


def literal(value: Any) -> str:
    """A value of JSON as Python source.

    Example:
        >>> print(literal({"a": [1, None, 'say "hi"']}))
        {"a": [1, None, 'say "hi"']}
    """
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return f"{value:.1f}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")


def _string(text: str) -> str:
    quote = "'" if '"' in text and text.count("'") < text.count('"') else '"'
    shown = []
    for character in text:
        if character in {"\\", quote}:
            shown.append("\\" + character)
        elif character in "\n\r\t":
            shown.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character])
        elif _is_visible(character):
            shown.append(character)
        else:
            number = ord(character)
            shown.append(
                f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
            )
    return f"{quote}{''.join(shown)}{quote}"


def _is_visible(character: str) -> bool:
    """Whether a reader sees it as what it is: no control character, none that turns the direction of reading."""
    return character == " " or unicodedata.category(character)[0] not in {"C", "Z"}


def plain_text(text: Any) -> str:
    """Text of a document as a reader may see it: without control characters, lines ended by line feeds."""
    lines = str(text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4).split("\n")
    return "\n".join("".join(c if _is_visible(c) else " " for c in line).rstrip() for line in lines).strip("\n")


def comment(text: str, *, indent: int = 0) -> list[str]:
    """A remark, wrapped."""
    prefix = INDENT * indent + "# "
    words = " ".join(plain_text(text).split())
    return textwrap.wrap(
        words, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False, break_on_hyphens=False
    )


def docstring(paragraphs: Iterable[str], *, indent: int = 1) -> list[str]:
    """A docstring of several paragraphs; empty ones are left out. Lines that are too long are wrapped, others kept."""
    prefix = INDENT * indent
    lines: list[str] = []
    for paragraph in paragraphs:
        found = _wrapped(paragraph, WIDTH - len(prefix))
        if found:
            lines += [*([""] if lines else []), *found]
    if not lines:
        return []
    lines = [line.replace("\\", "\\\\").replace('"""', "'''").replace('"""', "'''") for line in lines]
    lines[1:] = textwrap.dedent("\n".join(lines[1:])).split("\n") if len(lines) > 1 else []  # as the formatter would
    if lines[0].startswith('"'):
        lines[0] = "'" + lines[0][1:]
    if len(lines) == 1 and not lines[0].endswith(('"', "\\")):
        return [f'{prefix}"""{lines[0]}"""']
    first = lines[0].lstrip()
    return [f'{prefix}"""{first}', *((prefix + line).rstrip() for line in lines[1:]), f'{prefix}"""']


def _wrapped(paragraph: str, width: int) -> list[str]:
    """A paragraph (or several), wrapped where its lines are too long. Lists, tables and code keep their lines."""
    lines: list[str] = []
    fenced = False
    for line in plain_text(paragraph).split("\n"):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        if not line.strip():
            lines += [""] if lines and lines[-1] else []
        elif fenced or fence or line[0] in " |#>" or _LIST.match(line) or not lines or not _flows(lines[-1]):
            lines.append(line)
        else:
            lines[-1] += f" {line}"
    while lines and not lines[-1]:
        lines.pop()
    return [each for line in lines for each in _folded(line, width - QUOTES)]


def _flows(line: str) -> bool:
    """Whether the next line goes on where this one ends."""
    return bool(line) and line[0] not in " |#>`" and not line.endswith(("  ", ":"))


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    begin = _LIST.match(line)
    indent = len(line) - len(line.lstrip())
    hang = " " * (len(begin[0]) if begin else indent + 4 if indent else 0)
    return textwrap.wrap(line, width, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)


def piece(head: str, items: Sequence[str], tail: str, *, column: int = 0) -> str:
    """`head(items)tail` in one line where it fits behind `column`, else an item a line.

    Items of several lines are indented further. `head` ends with its bracket.

    Example:
        >>> piece("f(", ["a", "b"], ")")
        'f(a, b)'
        >>> print(piece("f(", ["a" * 50, "b" * 50], ")"))
        f(
            aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,
            bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb,
        )
    """
    one = f"{head}{', '.join(items)}{tail}"
    if column + len(one) < WIDTH and not any("\n" in item for item in items):  # a comma may follow
        return one
    return "\n".join([head, *(shifted(f"{item},") for item in items), tail])


def shifted(text: str, levels: int = 1) -> str:
    """The lines of a text, indented."""
    return "\n".join(f"{INDENT * levels}{line}".rstrip() for line in text.split("\n"))


def split_at(expr: str, separator: str) -> list[str]:
    """The parts of an expression between separators that stand in no bracket and no quotes.

    Example:
        >>> split_at("dict[str, int] | Literal['a | b'] | None", " | ")
        ['dict[str, int]', "Literal['a | b']", 'None']
    """
    parts, depth, begin, quote, position = [], 0, 0, "", 0
    while position < len(expr):
        character = expr[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif not depth and expr.startswith(separator, position):
            parts.append(expr[begin:position])
            begin = position + len(separator)
            position = begin - 1
        position += 1
    return [*parts, expr[begin:]]


def type_lines(head: str, expr: str) -> str:
    """`head` followed by a type expression, as a statement of a module."""
    if len(head) + len(expr) <= WIDTH:
        return head + expr
    members = split_at(expr, " | ")
    if len(members) == 1:
        return head + _subscript(expr, 0)
    if len(INDENT) + len(expr) <= WIDTH:
        return f"{head}(\n{INDENT}{expr}\n)"
    shown = [_subscript(member, 4 + (2 if number else 0)) for number, member in enumerate(members)]
    return (
        f"{head}(\n" + "\n".join(shifted(f"| {each}" if number else each) for number, each in enumerate(shown)) + "\n)"
    )


def _subscript(expr: str, column: int) -> str:
    """A subscript over several lines; whatever fits behind `column`, or is none, as it is."""
    if not expr.endswith("]") or (column and column + len(expr) < WIDTH):
        return expr
    name, _, inner = expr[:-1].partition("[")
    arguments = split_at(inner, ", ")
    if len(INDENT) + len(inner) <= WIDTH:
        return f"{name}[\n{INDENT}{inner}\n]"
    if len(arguments) == 1:
        return f"{name}[\n{shifted(_subscript(inner, len(INDENT)))}\n]"
    return f"{name}[\n" + "\n".join(shifted(f"{each},") for each in arguments) + "\n]"
