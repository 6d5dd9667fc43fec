"""Aggregation expressions: `{"$multiply": ["$price", "$quantity"]}` is compiled once, then asked of many documents.

    total = parse_expression({"$multiply": ["$price", "$quantity"]})
    total({"price": 3, "quantity": 2})      # 6

Source: https://www.mongodb.com/docs/manual/reference/mql/expressions/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from consona.documents.collation import Collation
from consona.documents.errors import OperatorError
from consona.documents.expressions import (
    arrays,
    choosing,
    converting,
    date_arithmetic,
    date_parts,
    date_texts,
    iterating,
    mathematics,
    objects,
    reducing,
    regular,
    sets,
    texts,
)
from consona.documents.expressions.compiler import Builder, Compiler, Constant, Expression, Scope, truth
from consona.documents.values import MISSING, Document

__all__ = [
    "OPERATORS",
    "Compiler",
    "Expression",
    "Scope",
    "compiler_for",
    "known_operators",
    "moment",
    "parse_expression",
    "truth",
]

OPERATORS: Final[Mapping[str, Builder]] = {
    **arrays.OPERATORS,
    **choosing.OPERATORS,
    **converting.OPERATORS,
    **date_arithmetic.OPERATORS,
    **date_parts.OPERATORS,
    **date_texts.OPERATORS,
    **iterating.OPERATORS,
    **mathematics.OPERATORS,
    **objects.OPERATORS,
    **reducing.OPERATORS,
    **regular.OPERATORS,
    **sets.OPERATORS,
    **texts.OPERATORS,
}


def moment(now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Scope:
    """The variables of one query: `$$NOW` is the same for all its documents."""
    date = now()
    return {"NOW": date.replace(microsecond=date.microsecond // 1000 * 1000)}


def compiler_for(variables: Scope, collation: Collation | None = None) -> Compiler:
    """What compiles the expressions of a query with these variables."""
    return Compiler(OPERATORS, frozenset(variables) - {"NOW"}, collation)


def parse_expression(
    raw: Any, variables: Scope | None = None, collation: Collation | None = None
) -> Callable[[Document], Any]:
    """Understand an expression: a function of a document, which gives `MISSING` where the result is missing.

    Args:
        raw: As MongoDB writes it.
        variables: What `$$name` stands for, beside `$$ROOT`, `$$CURRENT` and `$$REMOVE`; it may change between calls.
        collation: How texts are compared.

    Raises:
        OperatorError: An operator or a variable does not exist, or lacks what it needs.

    Example:
        >>> discount = parse_expression({"$cond": [{"$gte": ["$amount", 10]}, "10 %", "none"]})
        >>> discount({"amount": 12}), discount({"amount": 3})
        ('10 %', 'none')
    """
    variables = moment() if variables is None else variables
    evaluate = compiler_for(variables, collation).compile(raw)
    if isinstance(evaluate, Constant):
        value = evaluate.value
        return lambda _: value
    if isinstance(raw, str) and raw[1:].isidentifier():  # one field of the document, as most are
        name = raw[1:]
        return lambda document: document.get(name, MISSING)

    def of_document(document: Document) -> Any:
        try:
            return evaluate({**variables, "ROOT": document, "CURRENT": document})
        except RecursionError as error:
            raise OperatorError("The expression, or a value that it makes, is nested too deeply.") from error

    return of_document


def known_operators() -> Sequence[str]:
    """The operators of expressions, for the reference."""
    return sorted(OPERATORS)
