"""Expressions over the fields of a row: `col("price") * col("quantity")`.

As in SQL, what is computed with None is None, and a comparison with None is None, which a filter takes for false;
`is_null()` and `fill()` are there for it. A field that is missing is an error, not None.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from consona.errors import ConfigurationError
from consona.pipelines.batch import Row

__all__ = ["Expression", "col", "concat", "lit", "parse", "when"]

Compute = Callable[[Row], Any]


class Expression:
    """Made by `col`, `lit`, `when`, and by computing with those.

    Example:
        >>> total = col("price") * col("quantity")
        >>> total, total({"price": 3, "quantity": 2}), total({"price": None, "quantity": 2})
        (price * quantity, 6, None)
    """

    __slots__ = ("_atom", "_compute", "_text", "fields")
    __hash__ = object.__hash__

    def __init__(self, compute: Compute, text: str, fields: frozenset[str], *, atom: bool = False) -> None:
        self._compute = compute
        self._text = text
        self._atom = atom
        self.fields = fields
        """The fields that it reads."""

    def __call__(self, row: Row) -> Any:
        return self._compute(row)

    def __repr__(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        raise ConfigurationError(
            "An expression has no truth of its own: it is computed for each row.",
            hint="Join conditions with & and |, and turn one round with ~.",
        )

    # Arithmetic.

    def __add__(self, other: Any) -> Expression:
        return _two(self, "+", other, operator.add)

    def __radd__(self, other: Any) -> Expression:
        return _two(other, "+", self, operator.add)

    def __sub__(self, other: Any) -> Expression:
        return _two(self, "-", other, operator.sub)

    def __rsub__(self, other: Any) -> Expression:
        return _two(other, "-", self, operator.sub)

    def __mul__(self, other: Any) -> Expression:
        return _two(self, "*", other, operator.mul)

    def __rmul__(self, other: Any) -> Expression:
        return _two(other, "*", self, operator.mul)

    def __truediv__(self, other: Any) -> Expression:
        return _two(self, "/", other, operator.truediv)

    def __rtruediv__(self, other: Any) -> Expression:
        return _two(other, "/", self, operator.truediv)

    def __floordiv__(self, other: Any) -> Expression:
        return _two(self, "//", other, operator.floordiv)

    def __mod__(self, other: Any) -> Expression:
        return _two(self, "%", other, operator.mod)

    def __neg__(self) -> Expression:
        return self._of("-{}", operator.neg)

    # Comparisons and logic. That of None is SQL's: false & None is false, true | None is true, the rest is None.

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return _two(self, "==", other, operator.eq)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return _two(self, "!=", other, operator.ne)

    def __lt__(self, other: Any) -> Expression:
        return _two(self, "<", other, operator.lt)

    def __le__(self, other: Any) -> Expression:
        return _two(self, "<=", other, operator.le)

    def __gt__(self, other: Any) -> Expression:
        return _two(self, ">", other, operator.gt)

    def __ge__(self, other: Any) -> Expression:
        return _two(self, ">=", other, operator.ge)

    def __and__(self, other: Any) -> Expression:
        return _logic(self, "&", other, False)  # noqa: FBT003

    def __or__(self, other: Any) -> Expression:
        return _logic(self, "|", other, True)  # noqa: FBT003

    def __invert__(self) -> Expression:
        return self._of("~{}", operator.not_)

    # Values.

    def is_null(self) -> Expression:
        compute = self._compute
        return Expression(lambda row: compute(row) is None, f"{self._text}.is_null()", self.fields, atom=True)

    def fill(self, value: Any) -> Expression:
        """`value` (or what that expression gives) in the place of None."""
        compute, other = self._compute, _expression(value)

        def filled(row: Row) -> Any:
            found = compute(row)
            return other._compute(row) if found is None else found

        return Expression(filled, f"{self._text}.fill({other})", self.fields | other.fields, atom=True)

    def is_in(self, values: Any) -> Expression:
        among = frozenset(values)
        return self._of("{}.is_in(…)", lambda value: value in among)

    def map(self, function: Callable[[Any], Any]) -> Expression:
        """What a function of yours makes of it; it is not called with None."""
        return self._of("{}.map(" + getattr(function, "__name__", "…") + ")", function)

    def cast(self, kind: type) -> Expression:
        """As another type: int, float, Decimal, str, bool, date or datetime. See `cast_value` for the rules."""
        return self._of(f"{{}}.cast({kind.__name__})", lambda value: cast_value(value, kind))

    def round(self, digits: int = 0) -> Expression:
        return self._of(f"{{}}.round({digits})", lambda value: round(value, digits))

    # Text.

    def upper(self) -> Expression:
        return self._of("{}.upper()", str.upper)

    def lower(self) -> Expression:
        return self._of("{}.lower()", str.lower)

    def strip(self) -> Expression:
        return self._of("{}.strip()", str.strip)

    def replace(self, old: str, new: str) -> Expression:
        return self._of(f"{{}}.replace({old!r}, {new!r})", lambda value: value.replace(old, new))

    def contains(self, part: str) -> Expression:
        return self._of(f"{{}}.contains({part!r})", lambda value: part in value)

    def starts_with(self, part: str) -> Expression:
        return self._of(f"{{}}.starts_with({part!r})", lambda value: value.startswith(part))

    def length(self) -> Expression:
        return self._of("{}.length()", len)

    # Times.

    def year(self) -> Expression:
        return self._of("{}.year()", operator.attrgetter("year"))

    def month(self) -> Expression:
        return self._of("{}.month()", operator.attrgetter("month"))

    def date(self) -> Expression:
        """The day of a moment, in its own zone."""
        return self._of("{}.date()", lambda value: value.date())

    def _of(self, text: str, function: Callable[[Any], Any]) -> Expression:
        compute = self._compute

        def applied(row: Row) -> Any:
            value = compute(row)
            return None if value is None else function(value)

        inner = self._text if self._atom else f"({self._text})"
        return Expression(applied, text.format(inner), self.fields, atom=True)


def col(name: str) -> Expression:
    """The field of this name.

    Example:
        >>> col("price")({"price": 3})
        3
    """
    return Expression(operator.itemgetter(name), name, frozenset({name}), atom=True)


def lit(value: Any) -> Expression:
    """The same value for each row."""
    return Expression(lambda row: value, repr(value), frozenset(), atom=True)  # noqa: ARG005


def concat(*parts: Any, separator: str = "") -> Expression:
    """Texts joined; None where one of them is.

    Example:
        >>> concat(col("first"), col("last"), separator=" ")({"first": "Ada", "last": "Lovelace"})
        'Ada Lovelace'
    """
    joined = [_expression(part) for part in parts]

    def compute(row: Row) -> Any:
        values = [part._compute(row) for part in joined]
        return None if any(value is None for value in values) else separator.join(map(str, values))

    fields = frozenset[str]().union(*(part.fields for part in joined))
    return Expression(compute, f"concat({', '.join(map(repr, joined))})", fields, atom=True)


def when(condition: Expression, then: Any, otherwise: Any = None) -> Expression:
    """`then` where the condition holds, else `otherwise`.

    Example:
        >>> when(col("total") > 100, "large", "small")({"total": 250})
        'large'
    """
    yes, no = _expression(then), _expression(otherwise)
    asked = condition._compute
    return Expression(
        lambda row: yes._compute(row) if asked(row) else no._compute(row),
        f"when({condition}, {yes}, {no})",
        condition.fields | yes.fields | no.fields,
        atom=True,
    )


def cast_value(value: Any, kind: type) -> Any:
    """A value as another type, by rules that lose nothing without a word.

    Text becomes a number where all of it is one; a number with a fraction becomes no int; times are read as
    ISO 8601; `true`, `yes`, `1` and `false`, `no`, `0` become bool, also with capitals.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value if kind is not date or not isinstance(value, datetime) else value.date()
    if kind is str:
        return value.isoformat() if isinstance(value, date) else str(value)
    text = value.strip() if isinstance(value, str) else value
    if kind is bool:
        word = str(text).lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise ValueError("is neither true nor false")
    if kind is int:
        made = int(text)
        if not isinstance(text, str) and made != text:
            raise ValueError("has a fraction, and int has none")
        return made
    if kind in {date, datetime}:
        if not isinstance(text, str):
            raise ValueError(f"is no text of a {kind.__name__}")
        return kind.fromisoformat(text)
    if kind is Decimal:
        return Decimal(repr(text) if isinstance(text, float) else text)
    return kind(text)


_TRUE: Final = frozenset({"true", "yes", "1", "t", "y"})
_FALSE: Final = frozenset({"false", "no", "0", "f", "n"})


def _expression(value: Any) -> Expression:
    return value if isinstance(value, Expression) else lit(value)


def _two(left: Any, sign: str, right: Any, function: Callable[[Any, Any], Any]) -> Expression:
    one, two = _expression(left), _expression(right)
    first, second = one._compute, two._compute

    def compute(row: Row) -> Any:
        a, b = first(row), second(row)
        return None if a is None or b is None else function(a, b)

    return Expression(compute, f"{_inner(one)} {sign} {_inner(two)}", one.fields | two.fields)


def _logic(left: Any, sign: str, right: Any, decides: bool) -> Expression:  # noqa: FBT001
    one, two = _expression(left), _expression(right)
    first, second = one._compute, two._compute

    def compute(row: Row) -> Any:
        a = first(row)
        if a is not None and bool(a) is decides:
            return decides
        b = second(row)
        if b is not None and bool(b) is decides:
            return decides
        return None if a is None or b is None else not decides

    return Expression(compute, f"{_inner(one)} {sign} {_inner(two)}", one.fields | two.fields)


def _inner(expression: Expression) -> str:
    return repr(expression) if expression._atom else f"({expression})"


# Expressions as text, for pipelines that are written in TOML.

_BINARY: Final[dict[type[ast.operator], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_COMPARE: Final[dict[type[ast.cmpop], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_KINDS: Final = {kind.__name__: kind for kind in (int, float, str, bool, Decimal, date, datetime)}
_METHODS: Final = frozenset(
    [
        "is_null",
        "fill",
        "is_in",
        "cast",
        "round",
        "upper",
        "lower",
        "strip",
        "replace",
        "contains",
        "starts_with",
        "length",
        "year",
        "month",
        "date",
    ]
)


def parse(text: str) -> Expression:
    """The expression that a text describes: fields by name, numbers, quoted texts, the operators and methods above.

    Nothing else of Python is understood, so a text can run no code.

    Raises:
        ConfigurationError: It is no expression; the message says which part.

    Example:
        >>> parse("price * quantity + 1")({"price": 2, "quantity": 3})
        7
    """
    try:
        return _expression(_parsed(ast.parse(text, mode="eval").body, text))
    except (SyntaxError, ValueError) as error:
        raise ConfigurationError(f"This is no expression: {text!r} ({error.args[0]}).") from error


def _parsed(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return col(node.id)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_parsed(each, text) for each in node.elts]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_expression(_parsed(node.left, text)), _parsed(node.right, text))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
        inner = _expression(_parsed(node.operand, text))
        return -inner if isinstance(node.op, ast.USub) else ~inner
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        return _COMPARE[type(node.ops[0])](_expression(_parsed(node.left, text)), _parsed(node.comparators[0], text))
    if isinstance(node, ast.Call) and not node.keywords:
        return _called(node, text)
    raise _unknown(node, text)


def _called(node: ast.Call, text: str) -> Expression:
    function = node.func
    if isinstance(function, ast.Name) and function.id in {"col", "lit", "when", "concat"}:
        made = {"col": col, "lit": lit, "when": when, "concat": concat}[function.id]
        built: Expression = made(*[_parsed(each, text) for each in node.args])  # type: ignore[operator]
        return built
    if isinstance(function, ast.Attribute) and function.attr in _METHODS:
        arguments = [
            _KINDS[each.id]
            if function.attr == "cast" and isinstance(each, ast.Name) and each.id in _KINDS
            else _parsed(each, text)
            for each in node.args
        ]
        found: Expression = getattr(_expression(_parsed(function.value, text)), function.attr)(*arguments)
        return found
    raise _unknown(node, text)


def _unknown(node: ast.expr, text: str) -> ConfigurationError:
    part = ast.get_source_segment(text, node) or text
    return ConfigurationError(
        f"Expressions know nothing like {part!r}, in {text!r}.",
        hint="They have names of fields, numbers, quoted texts, + - * / // % == != < <= > >= & | ~, and methods.",
    )
