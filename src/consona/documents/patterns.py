r"""Regular expressions in bounded time.

Python's own `re` cannot be stopped once it has begun, and a pattern such as `(a|aa)+$` keeps it busy for
years. So it gets only what it surely finishes soon: simple patterns, on texts so short that trying every
way costs little. Everything else goes to the `regex` package, which stops when its time is over.

The dialect is MongoDB's (PCRE2) as far as `regex` has it: without the prefix `(*UCP)`, the classes `\w`,
`\d`, `\s` and `\b` know ASCII only; `i` ignores the case of all letters.

Source: https://www.mongodb.com/docs/manual/reference/operator/query/regex/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

from bson import Regex

from consona.documents.errors import OperatorError, PatternTooSlow

__all__ = ["OPTIONS", "Pattern", "PatternTime", "compile_pattern"]

OPTIONS: Final[dict[str, int]] = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE, "u": 0}
"""The letters of `$options`; `u` is accepted, and texts are Unicode with it or without."""

_FLAGS: Final = int(re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE)

MAX_LETTERS: Final = 32_764
"""Of a pattern, as PCRE limits it."""
BUDGET_S: Final = 1.0
"""For all the texts of one query together."""
FEW_STEPS: Final = 3_000_000
"""About 30 ms of `re` at most, for one text."""

# What `re` is trusted with: letters, classes and groups that mean the same to it and to PCRE, and no repeated group.
_TOKEN: Final = re.compile(
    r"""(?P<repeat>[*+?]\??|\{\d+(?:,\d*)?\}\??)
      | (?P<group>\((?:\?:)?)
      | (?P<end>\))
      | (?P<item>\\[wWdDsSbB] | \\[^a-zA-Z0-9] | \[\^?\]?(?:\\[wWdDsS]|\\[^a-zA-Z0-9]|[^\\\[\]])*\] | [^\\\[\](){}*+?])""",
    re.VERBOSE | re.DOTALL,
)


MOST_BRANCHES: Final = 8


def _repeats(pattern: str) -> int | None:
    """How many repeats a simple pattern has; None where it is not simple."""
    if pattern.count("|") > MOST_BRANCHES:
        return None
    at, count, after = 0, 0, ""
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        if token is None:
            return None
        if token.lastgroup == "repeat":
            if after != "item":
                return None  # a repeated group, or a repeat without anything before it
            count += 1
        after = token.lastgroup or ""
        at = token.end()
    return count


class PatternTime:
    """What is left of one query's time for patterns: `left_s`, in seconds."""

    __slots__ = ("left_s",)

    def __init__(self) -> None:
        self.left_s = BUDGET_S


class Pattern:
    """A compiled pattern, and what is left of one query's time for it.

    Attributes:
        source: The pattern's text.
        options: Its options as letters.
        prefix: What a matching text surely begins with; empty where that is not known.
    """

    __slots__ = ("_ordinary", "_patient", "_repeats", "_time", "_trusted", "options", "prefix", "source")

    def __init__(self, source: str, options: str, time: PatternTime | None = None) -> None:
        self.source = source
        self.options = options
        self._ordinary, self._repeats = _ordinary(source, options)
        self._patient: Callable[..., Any] | None = None if self._ordinary else _patient(source, options)
        self._trusted = FEW_STEPS // (len(source) + 1) >> source.count("|")
        self._time = time or PatternTime()
        self.prefix = _prefix(source, options)

    def found_in(self, text: str) -> bool:
        """Whether the pattern occurs in the text.

        Raises:
            PatternTooSlow: The query's time for this pattern is over.
        """
        if self._ordinary is not None and (len(text) + 1) ** (self._repeats + 1) <= self._trusted:
            return self._ordinary(text) is not None
        return self.match(text) is not None

    def equals(self, value: Regex[Any]) -> bool:
        """Whether a value is this very pattern."""
        return bool(value.pattern == self.source and value.flags & _FLAGS == self.flags)

    @property
    def flags(self) -> int:
        flags = 0
        for letter in self.options:
            flags |= OPTIONS[letter]
        return flags

    def match(self, text: str, start: int = 0) -> Any:
        """The first match at or after `start`, or None; an object like those of `re`."""
        if self._patient is None:
            self._patient = _patient(self.source, self.options)
        began = perf_counter()
        try:
            return self._patient(text, start, timeout=max(self._time.left_s, 0.001))
        except TimeoutError as error:
            raise PatternTooSlow(
                f"The regular expression took more than {BUDGET_S:g} s on the documents of this query.",
                letters=len(text),
            ) from error
        finally:
            self._time.left_s -= perf_counter() - began


def compile_pattern(source: Any, options: str = "", *, time: PatternTime | None = None) -> Pattern:
    """Make a pattern ready for one query.

    Args:
        source: Text, or a compiled pattern (`re.Pattern` or `bson.Regex`).
        options: Letters of `OPTIONS`; they replace those of a compiled pattern.
        time: Shared with the other patterns of the query; by default it has a time of its own.

    Raises:
        OperatorError: The pattern or an option is not valid.
    """
    if isinstance(source, Regex | re.Pattern):
        options = options or "".join(letter for letter, flag in OPTIONS.items() if source.flags & flag)
        source = source.pattern
    if not isinstance(source, str):
        raise OperatorError(f"A regular expression is text or a compiled pattern, not {type(source).__name__}.")
    if len(source) > MAX_LETTERS:
        raise OperatorError(f"The regular expression has {len(source)} letters; at most {MAX_LETTERS} are allowed.")
    if "\0" in source:
        raise OperatorError("The regular expression holds a NUL character.")
    for letter in options:
        if letter not in OPTIONS:
            raise OperatorError(f"{letter!r} is no option of $regex.", hint=f"There are {', '.join(OPTIONS)}.")
    return Pattern(source, "".join(sorted(set(options))), time)


@lru_cache(maxsize=256)
def _ordinary(source: str, options: str) -> tuple[Callable[[str], Any] | None, int]:
    repeats = _repeats(source) if "x" not in options and source.isascii() else None
    if repeats is None:
        return None, 0
    flags = 0
    for letter in options:
        flags |= OPTIONS[letter]
    source = _ascii_classes(source)
    try:
        return re.compile(source, flags).search, repeats
    except re.error as error:
        raise OperatorError(f"The regular expression is not valid: {error}.") from error


@lru_cache(maxsize=256)
def _patient(source: str, options: str) -> Callable[..., Any]:
    import regex  # noqa: PLC0415  a tenth of a second to import, and few patterns need it

    flags = regex.VERSION0
    for letter in options:
        flags |= getattr(regex, letter.upper())
    if source.startswith("(*UCP)"):
        source = source[6:]
    elif not source.startswith("(*UTF)"):
        source = _ascii_classes(source)
    try:
        return regex.compile(source.removeprefix("(*UTF)"), flags).search
    except regex.error as error:
        raise OperatorError(f"The regular expression is not valid: {error}.") from error


_ASCII: Final = {
    "w": "A-Za-z0-9_",
    "d": "0-9",
    "s": r"\t\n\v\f\r ",
}
_CLASS_ESCAPE: Final = re.compile(r"\\(.)|(\[)(\^?\]?)|(\])", re.DOTALL)


def _ascii_classes(source: str) -> str:
    r"""Write `\w`, `\d` and `\s` as the ASCII classes that they are to PCRE."""
    inside = False

    def rewrite(found: re.Match[str]) -> str:
        nonlocal inside
        if found[2]:
            if inside:
                return found[0]
            inside = True
        elif found[4]:
            inside = False
        elif (letter := found[1]) in _ASCII:
            return _ASCII[letter] if inside else f"[{_ASCII[letter]}]"
        elif letter.lower() in _ASCII and not inside:
            return f"[^{_ASCII[letter.lower()]}]"
        return found[0]

    return _CLASS_ESCAPE.sub(rewrite, source)


def _prefix(source: str, options: str) -> str:
    """The text after a leading `^` up to the first letter that can mean something else."""
    if not source.startswith("^") or set(options) & {"i", "m", "x"} or "|" in source:
        return ""
    plain = re.match(r"(?:[\w\s,:;@/'\"=<>~!%&#-]|\\[^a-zA-Z0-9])*", source[1:])
    assert plain is not None
    text, rest = plain[0], source[1 + plain.end() :]
    if rest and rest[0] in "*?{":  # the last letter may be absent
        text = text[:-2] if text[-2:-1] == "\\" else text[:-1]
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
