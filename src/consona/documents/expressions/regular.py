"""Regular expressions in expressions: `$regexMatch`, `$regexFind`, `$regexFindAll`, in bounded time.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/regexMatch/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from bson import Regex

from consona.documents.errors import OperatorError
from consona.documents.expressions.compiler import (
    MAX_ELEMENTS,
    Builder,
    Compiler,
    Constant,
    Expression,
    Scope,
    is_null,
    wrong,
)
from consona.documents.patterns import Pattern, PatternTime, compile_pattern

__all__ = ["OPERATORS"]

MOST_PATTERNS: Final = 64
"""Kept compiled, where the pattern comes from the documents."""


def _operator(give: Callable[[Pattern, str], Any], nothing: Callable[[], Any]) -> Builder:
    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        raw = {**raw, "regex": _constant(raw["regex"])} if isinstance(raw, dict) and "regex" in raw else raw
        parts = compiler.named(name, raw, ["input", "regex"], ["options"])
        text, source, options = parts["input"], parts["regex"], parts.get("options", Constant(None))
        pattern_of = _patterns(name, source, options)

        def evaluate(scope: Scope) -> Any:
            value, pattern = text(scope), pattern_of(scope)
            if is_null(value) or pattern is None:
                return nothing()
            if type(value) is not str:
                raise wrong(name, "text as its input", value)
            return give(pattern, value)

        return evaluate

    return build


def _constant(raw: Any) -> Any:
    return Regex.from_native(raw) if isinstance(raw, re.Pattern) else raw


def _patterns(name: str, source: Expression, options: Expression) -> Callable[[Scope], Pattern | None]:
    """A function that gives the pattern for a scope: the same one each time where it can be."""
    known: dict[Any, Pattern] = {}
    time = PatternTime()

    def pattern_of(scope: Scope) -> Pattern | None:
        wanted, letters = source(scope), options(scope)
        if is_null(wanted):
            return None
        if type(wanted) is not str and not isinstance(wanted, Regex):
            raise wrong(name, "a regular expression", wanted)
        if not is_null(letters) and type(letters) is not str:
            raise wrong(name, "letters as its options", letters)
        if isinstance(wanted, Regex) and letters and wanted.flags & ~re.UNICODE:
            raise OperatorError(f"{name} has options twice: in the pattern, and beside it.", operator=name)
        key = (wanted.pattern, wanted.flags, letters) if isinstance(wanted, Regex) else (wanted, letters)
        pattern = known.get(key)
        if pattern is None:
            if len(known) >= MOST_PATTERNS:
                known.clear()
            pattern = known[key] = compile_pattern(wanted, letters or "", time=time)
        return pattern

    if isinstance(source, Constant) and isinstance(options, Constant):
        pattern_of({})  # a mistake in it shows at once
    return pattern_of


def _found(pattern: Pattern, text: str) -> Iterator[dict[str, Any]]:
    start = 0
    while start <= len(text):
        match = pattern.match(text, start)
        if match is None:
            return
        yield {"match": match[0], "idx": match.start(), "captures": list(match.groups())}
        start = match.end() if match.end() > match.start() else match.end() + 1


def _find(pattern: Pattern, text: str) -> Any:
    return next(_found(pattern, text), None)


def _find_all(pattern: Pattern, text: str) -> list[Any]:
    found: list[Any] = []
    for match in _found(pattern, text):
        found.append(match)
        if len(found) > MAX_ELEMENTS:
            raise OperatorError(f"$regexFindAll would find more than {MAX_ELEMENTS} places.", operator="$regexFindAll")
    return found


OPERATORS: Final[dict[str, Builder]] = {
    "$regexFind": _operator(_find, lambda: None),
    "$regexFindAll": _operator(_find_all, list),
    "$regexMatch": _operator(Pattern.found_in, lambda: False),
}
