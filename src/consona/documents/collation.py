"""How texts compare where letters alone shall not decide: `{"locale": "en", "strength": 2}` ignores case.

Three strengths, by what Unicode's decomposition and case folding tell apart: 1 letters, 2 letters and accents,
3 (the default) case too. `numericOrdering` reads digits as numbers. Order within a strength is by code point of the
folded letters, which is right for English; the tailorings of other languages are not made.

Source: https://www.mongodb.com/docs/manual/reference/collation/
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.values import order, rank

__all__ = ["Collation", "parse_collation"]

_DIGITS: Final = re.compile(r"(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Collation:
    """What counts when texts are compared.

    Attributes:
        strength: 1 letters; 2 accents too; 3 case too.
        case_level: With strength 1 or 2, whether case counts though.
        numeric: Whether digits compare as the numbers that they write: `item2` before `item10`.
    """

    strength: int = 3
    case_level: bool = False
    numeric: bool = False

    def text(self, text: str) -> tuple[Any, ...]:
        """A key of a text: equal ones are the same text to this collation."""
        return _text_key(self, text)

    def order(self, value: Any) -> tuple[Any, ...]:
        """As `values.order`, with texts compared by this collation, also those within arrays and documents."""
        kind = type(value)
        if kind is str:
            return (order(value)[0], self.text(value))
        if kind is list:
            return (order([])[0], tuple([self.order(item) for item in value]))
        if kind is dict:
            return (order({})[0], tuple([(rank(item), name, self.order(item)) for name, item in value.items()]))
        return order(value)


@lru_cache(maxsize=4096)
def _text_key(collation: Collation, text: str) -> tuple[Any, ...]:
    apart = unicodedata.normalize("NFD", text)
    letters = "".join(letter for letter in apart if not unicodedata.combining(letter)).casefold()
    first: Any = _numbers(letters) if collation.numeric else letters
    levels: list[Any] = [first]
    if collation.strength >= 2:
        levels.append(apart.casefold())
    if collation.strength >= 3 or collation.case_level:
        levels.append("".join("1" if letter.isupper() else "0" for letter in apart))  # small letters come first
    return tuple(levels)


def _numbers(text: str) -> tuple[tuple[int, Any], ...]:
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in _DIGITS.split(text) if part)


_IGNORED: Final = frozenset(
    {"locale", "caseFirst", "alternate", "maxVariable", "backwards", "normalization", "version"}
)


def parse_collation(raw: Any) -> Collation | None:
    """Understand a collation as PyMongo has it; None compares letter by letter (`{"locale": "simple"}`).

    Raises:
        OperatorError: An option does not exist, or asks for what is not made here.
    """
    if raw is None or isinstance(raw, Collation):
        return raw
    raw = getattr(raw, "document", raw)  # PyMongo's own class
    if not isinstance(raw, Mapping) or not isinstance(raw.get("locale"), str):
        raise OperatorError("A collation is a document with a locale.", hint='{"locale": "en", "strength": 2}')
    if raw["locale"] == "simple":
        return None
    for name, value in raw.items():
        if name not in _IGNORED | {"strength", "caseLevel", "numericOrdering"}:
            raise OperatorError(f"{name!r} is no option of a collation.")
        if name in {"alternate", "caseFirst", "backwards"} and value not in {"non-ignorable", "off", "lower", False}:
            raise OperatorError(f"The collation's {name} {value!r} is not made here.", hint="Leave it out.")
    strength = raw.get("strength", 3)
    if strength not in {1, 2, 3} or isinstance(strength, bool):
        raise OperatorError(f"The collation's strength must be 1, 2 or 3; it is {strength!r}.")
    return Collation(int(strength), bool(raw.get("caseLevel", False)), bool(raw.get("numericOrdering", False)))
