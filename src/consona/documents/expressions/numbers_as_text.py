"""Numbers as MongoDB writes them into texts: a double without a fraction has no `.0`."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["number_text"]


def number_text(value: Any) -> str:
    """An int, a double or a Decimal128 as text.

    Example:
        >>> number_text(2.5), number_text(3.0), number_text(float("-inf"))
        ('2.5', '3', '-Infinity')
    """
    if type(value) is not float:
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value).removesuffix(".0")
