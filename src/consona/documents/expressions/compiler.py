"""How an expression becomes a function: constants, field paths, variables, and operators from the families' tables.

An expression is compiled once, into closures, and then called for each document with a scope: the values of the
variables, `ROOT` and `CURRENT` among them. A field that is not there is `MISSING`, which is not null.

Source: https://www.mongodb.com/docs/manual/reference/aggregation-quick-reference/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bson import Decimal128

from consona.documents.collation import Collation
from consona.documents.document import Literal, checked_value
from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.paths import split
from consona.documents.values import MISSING, Key, is_number, order, type_name

__all__ = [
    "MAX_ELEMENTS",
    "MAX_TEXT",
    "NULL",
    "Builder",
    "Compiler",
    "Constant",
    "Expression",
    "Scope",
    "is_null",
    "of_one",
    "of_several",
    "truth",
    "whole_number",
    "wrong",
]

MAX_NESTING: Final = 100
MAX_TEXT: Final = 16 * 1024 * 1024
"""Letters of a text that an expression makes."""
MAX_ELEMENTS: Final = 2_000_000
"""Elements of an array that an expression makes."""

Scope = dict[str, Any]
"""Name of a variable, without its dollars -> its value."""
Expression = Callable[[Scope], Any]
Builder = Callable[[str, Any, "Compiler"], Expression]
"""Makes an expression of an operator's name and its arguments."""

_SYSTEM: Final = frozenset({"ROOT", "CURRENT", "NOW", "REMOVE"})


@dataclass(frozen=True, slots=True)
class Constant:
    """An expression that is the same for every document."""

    value: Any

    def __call__(self, _: Scope) -> Any:
        return self.value


NULL: Final = Constant(None)


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles expressions.

    Attributes:
        operators: Name -> what builds it.
        names: The variables that there are, beside those of the system.
        collation: How texts compare.
    """

    operators: Mapping[str, Builder]
    names: frozenset[str] = frozenset()
    collation: Collation | None = None
    depth: int = 0

    @property
    def order(self) -> Callable[[Any], Key]:
        """Makes keys that compare as the values do."""
        return order if self.collation is None else self.collation.order

    def knowing(self, names: Collection[Any], operator: str) -> Compiler:
        """The same with more variables.

        Raises:
            OperatorError: A name is none that a variable may have.
        """
        for name in names:
            if not isinstance(name, str) or not name.isidentifier() or not ("a" <= name[0] <= "z" or name[0] > "\x7f"):
                raise OperatorError(
                    f"{operator}: {name!r} is no name of a variable.",
                    hint="Begin with a small letter, and go on with letters, digits and underscores.",
                    operator=operator,
                )
        return replace(self, names=self.names | set(names))

    def compile(self, raw: Any) -> Expression:
        """Make an expression into a function of a scope.

        Raises:
            OperatorError: An operator or a variable does not exist, or lacks what it needs.
        """
        if isinstance(raw, str):
            return self._text(raw)
        if isinstance(raw, Mapping):
            return self._deeper()._document(raw)
        if isinstance(raw, list | tuple):
            return self._deeper()._array(raw)
        return Constant(checked_value(raw.value if isinstance(raw, Literal) else raw))

    def _deeper(self) -> Compiler:
        if self.depth >= MAX_NESTING:
            raise OperatorError(f"The expression is nested more than {MAX_NESTING} levels deep.")
        return replace(self, depth=self.depth + 1)

    def _text(self, raw: str) -> Expression:
        if raw.startswith("$$"):
            name, _, path = raw[2:].partition(".")
            if name not in self.names and name not in _SYSTEM:
                raise OperatorError(
                    f"There is no variable {raw.partition('.')[0]!r} here.",
                    hint=f"There are {', '.join('$$' + known for known in sorted(self.names | _SYSTEM))}.",
                )
            return _variable(name, split(path, "an expression") if path or raw.endswith(".") else ())
        if raw.startswith("$"):
            path = raw[1:]
            if path.startswith("$") or ".$" in path:
                raise OperatorError(f"{raw!r} is no path of an expression.", hint="Take $literal for such a text.")
            return _variable("CURRENT", split(path, "an expression"))
        return Constant(checked_value(raw))

    def _document(self, raw: Mapping[str, Any]) -> Expression:
        first = next(iter(raw), None)
        if isinstance(first, str) and first.startswith("$"):
            if len(raw) != 1:
                raise OperatorError(
                    f"An expression is one operator, and {first} stands beside {len(raw) - 1} more.",
                    hint="Put each into a document of its own.",
                    operator=first,
                )
            build = self.operators.get(first)
            if build is None:
                raise unknown_operator(first, self.operators, "an expression")
            return build(first, raw[first], self)
        fields = {self._name(name): self.compile(value) for name, value in raw.items()}
        if all(isinstance(field, Constant) for field in fields.values()):
            return Constant({name: field({}) for name, field in fields.items()})
        pairs = tuple(fields.items())

        def evaluate(scope: Scope) -> Any:
            made = {}
            for name, field in pairs:
                value = field(scope)
                if value is not MISSING:
                    made[name] = value
            return made

        return evaluate

    def _name(self, name: Any) -> str:
        if not isinstance(name, str) or not name or "." in name or name.startswith("$") or "\0" in name:
            raise OperatorError(
                f"{name!r} is no field that an expression could make.",
                hint="Nest documents in the place of dots; $setField takes any name.",
            )
        return str(checked_value(name))

    def _array(self, raw: Sequence[Any]) -> Expression:
        items = [self.compile(item) for item in raw]
        if all(isinstance(item, Constant) for item in items):
            return Constant([item({}) for item in items])

        def evaluate(scope: Scope) -> Any:
            values = [item(scope) for item in items]
            return [None if value is MISSING else value for value in values]

        return evaluate

    # What the families build with.

    def many(self, name: str, raw: Any, least: int = 0, most: int | None = None) -> list[Expression]:
        """The arguments of an operator that takes a list; a single one may stand without it."""
        items = raw if isinstance(raw, list | tuple) else [raw]
        if len(items) < least or (most is not None and len(items) > most):
            count = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            raise OperatorError(f"{name} takes {count} arguments, not {len(items)}.", operator=name)
        inner = self._deeper()
        return [inner.compile(item) for item in items]

    def one(self, name: str, raw: Any) -> Expression:
        """The argument of an operator that takes one, alone or in a list."""
        [item] = self.many(name, raw, 1, 1)
        return item

    def named(
        self, name: str, raw: Any, required: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, Expression]:
        """The arguments of an operator that takes a document of them."""
        self.check_names(name, raw, required, optional)
        inner = self._deeper()
        return {key: inner.compile(value) for key, value in raw.items()}

    def check_names(self, name: str, raw: Any, required: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Refuse arguments that the operator does not have, or lacks."""
        wanted = ", ".join([*required, *optional])
        if not isinstance(raw, Mapping):
            raise OperatorError(f"{name} takes a document with {wanted}.", operator=name)
        for key in raw:
            if key not in required and key not in optional:
                raise OperatorError(f"{name} has no argument {key!r}.", hint=f"It takes {wanted}.", operator=name)
        for key in required:
            if key not in raw:
                raise OperatorError(f"{name} lacks its argument {key!r}.", operator=name)


def _variable(name: str, path: tuple[str, ...]) -> Expression:
    """The value at a path of a variable: through arrays it gives the values of all their documents."""
    if not path:
        return lambda scope: scope.get(name, MISSING)
    if len(path) == 1:
        field = path[0]

        def read_field(scope: Scope) -> Any:
            value = scope[name]
            return value.get(field, MISSING) if type(value) is dict else _deep(value, path, 0)

        return read_field
    return lambda scope: _deep(scope[name], path, 0)


def _deep(value: Any, path: tuple[str, ...], at: int) -> Any:
    for place in range(at, len(path)):
        if type(value) is dict:
            value = value.get(path[place], MISSING)
        elif type(value) is list:
            found = (_deep(item, path, place) for item in value if type(item) is dict)
            return [item for item in found if item is not MISSING]
        else:
            return MISSING
    return value


def is_null(value: Any) -> bool:
    """Whether it is null or missing."""
    return value is None or value is MISSING


def truth(value: Any) -> bool:
    """Whether a value counts as true: everything but false, null, 0 and what is missing."""
    if value is None or value is MISSING or value is False:
        return False
    if type(value) is Decimal128:
        return bool(value.to_decimal() != 0)
    return not (is_number(value) and value == 0)


def wrong(name: str, wanted: str, value: Any) -> OperatorError:
    """The error for an argument of another type than an operator takes. The value itself is not told."""
    return OperatorError(f"{name} takes {wanted}, not a value of type {type_name(value)}.", operator=name)


def whole_number(name: str, what: str, value: Any) -> int:
    """A number without a fraction that fits into 32 bits, as an int.

    Raises:
        OperatorError: It is none.
    """
    if is_number(value):
        number = value.to_decimal() if type(value) is Decimal128 else value
        if math.isfinite(number) and number == int(number) and abs(number) < 1 << 31:
            return int(number)
        raise OperatorError(f"{name} takes a whole number as {what}, of at most 32 bits.", operator=name)
    raise wrong(name, f"a whole number as {what}", value)


def of_one(function: Callable[[str, Any], Any], *, nulls: bool = True) -> Builder:
    """An operator of one argument; `function` gets its name and the value. With `nulls`, null and missing give null."""

    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        argument = compiler.one(name, raw)

        def evaluate(scope: Scope) -> Any:
            value = argument(scope)
            if nulls and (value is None or value is MISSING):
                return None
            return function(name, value)

        return evaluate

    return build


def of_several(
    function: Callable[..., Any], least: int, most: int | None = None, *, nulls: bool = True, exactly: bool = False
) -> Builder:
    """An operator of several arguments; `function` gets its name and the values. With `nulls`, one null gives null."""
    if exactly:
        most = least

    def build(name: str, raw: Any, compiler: Compiler) -> Expression:
        arguments = compiler.many(name, raw, least, most)

        def evaluate(scope: Scope) -> Any:
            values = [argument(scope) for argument in arguments]
            if nulls:
                for value in values:
                    if value is None or value is MISSING:
                        return None
            return function(name, *values)

        return evaluate

    return build
