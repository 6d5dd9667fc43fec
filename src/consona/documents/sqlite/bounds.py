"""Filters as SQL: what surely passes, and what may pass.

SQL answers most of a filter exactly, and some of it not at all. So each part becomes two conditions: `sure`, which only
documents meet that pass, and `maybe`, which all documents meet that pass. Where the two are the same, SQL answers
alone; else Python looks again at what is `maybe` and not `sure`. Negation swaps them, so nothing is ever lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

__all__ = ["ALL", "NO", "NONE", "OPEN", "YES", "Bounds", "Sql", "all_of", "any_of", "inverse"]


class Sql(NamedTuple):
    """A condition and its values."""

    text: str
    values: tuple[Any, ...] = ()

    def __and__(self, other: Sql) -> Sql:
        return _joined("AND", self, other, YES, NO)

    def __or__(self, other: Sql) -> Sql:
        return _joined("OR", self, other, NO, YES)

    def __invert__(self) -> Sql:
        if self == YES:
            return NO
        return YES if self == NO else Sql(f"({self.text}) IS NOT TRUE", self.values)


def _joined(word: str, one: Sql, other: Sql, neutral: Sql, final: Sql) -> Sql:
    if final in {one, other}:
        return final
    if one in {neutral, other}:
        return other
    if other == neutral:
        return one
    return Sql(f"({one.text} {word} {other.text})", one.values + other.values)


YES: Final = Sql("1")
NO: Final = Sql("0")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What surely passes, and what may pass."""

    sure: Sql
    maybe: Sql

    @classmethod
    def exactly(cls, sql: Sql) -> Bounds:
        return cls(sql, sql)

    @property
    def exact(self) -> bool:
        """Whether SQL answers alone."""
        return self.sure == self.maybe

    @property
    def doubtful(self) -> Sql:
        """What Python must look at."""
        return NO if self.exact else self.maybe & ~self.sure


ALL: Final = Bounds(YES, YES)
NONE: Final = Bounds(NO, NO)
OPEN: Final = Bounds(NO, YES)
"""SQL knows nothing."""


def all_of(parts: Iterable[Bounds]) -> Bounds:
    sure, maybe = YES, YES
    for part in parts:
        sure, maybe = sure & part.sure, maybe & part.maybe
    return Bounds(sure, maybe)


def any_of(parts: Iterable[Bounds]) -> Bounds:
    sure, maybe = NO, NO
    for part in parts:
        sure, maybe = sure | part.sure, maybe | part.maybe
    return Bounds(sure, maybe)


def inverse(part: Bounds) -> Bounds:
    return Bounds(~part.maybe, ~part.sure)
