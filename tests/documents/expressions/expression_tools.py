"""For tests of expressions."""

from consona.documents.expressions import parse_expression
from consona.documents.values import MISSING, identical


def value_of(expression, document=None, **options):
    return parse_expression(expression, **options)(document or {})


def check(expression, document, expected):
    found = value_of(expression, document)
    if expected is MISSING or found is MISSING:
        assert found is expected
    else:
        assert identical(found, expected), f"{found!r} is not {expected!r}"
