"""The rules of a collection: a filter that each document must pass before it is kept.

MongoDB calls it a validator; a JSON Schema is one, as `{"$jsonSchema": {...}}`.

Source: https://www.mongodb.com/docs/manual/core/schema-validation/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from consona.documents.extended_json import dumps, loads
from consona.documents.filters import Filter, parse_filter
from consona.documents.values import Document
from consona.errors import ValidationError

__all__ = ["check_rules"]

Check = Callable[[Document], None]


def check_rules(rules: Mapping[str, Any] | None, check: Check | None) -> Check | None:
    """The rules and the check as one, which raises where a document breaks either.

    Raises:
        ValidationError: (when called) The document does not pass the rules.
    """
    if not rules:
        return check
    passes = _parsed(dumps(rules)).matches

    def check_both(document: Document) -> None:
        if not passes(document):
            raise ValidationError(
                "The document breaks a rule of its collection.", hint="`collection.options()` shows it."
            )
        if check is not None:
            check(document)

    return check_both


_OF_A_MOMENT: Final = ("$$NOW", "$reg", "pattern")
"""What a filter keeps state of: the time it was understood at, the time that its patterns may still take."""


def _parsed(rules: str) -> Filter:
    if any(name in rules for name in _OF_A_MOMENT):
        return parse_filter(loads(rules))
    return _remembered(rules)


@lru_cache(maxsize=64)
def _remembered(rules: str) -> Filter:
    return parse_filter(loads(rules))
