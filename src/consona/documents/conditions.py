"""What a filter asks of one value: `$lt: 100`, `$in: [...]`, `$size: 2`, …

A condition is plain data, so that engines can translate it; `test` makes it a function of one value. Whether the
elements of an array are tried too is the path's matter (`filter_nodes.Field`), by `whole`.

Source: https://www.mongodb.com/docs/manual/reference/operator/query-comparison/ and its neighbours
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from bson import Binary, Decimal128, MaxKey, MinKey, Regex

from consona.documents.collation import Collation
from consona.documents.patterns import Pattern
from consona.documents.values import MISSING, is_number, order, rank, type_name

if TYPE_CHECKING:  # nodes are made of conditions, and $elemMatch is a condition made of nodes
    from consona.documents.filter_nodes import Node

__all__ = [
    "AllOf",
    "Bits",
    "Compare",
    "Condition",
    "ElementMatches",
    "ElementPasses",
    "Exists",
    "In",
    "Inverse",
    "Matches",
    "Mod",
    "Never",
    "Size",
    "Test",
    "TypeIs",
]

Test = Callable[[Any], bool]


class Condition(Protocol):
    """One question about one value (`MISSING` where there is none)."""

    whole: ClassVar[bool]
    """Whether an array is asked as a whole, and not its elements."""

    def test(self, collation: Collation | None) -> Test:
        """The question as a function."""


_OPERATIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$eq": operator.eq,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_PLAIN_NUMBERS: Final = frozenset({int, float})


@dataclass(frozen=True, slots=True)
class Compare:
    """`$eq`, `$gt`, `$gte`, `$lt`, `$lte`: with values of the same type only (all numbers are of one)."""

    whole: ClassVar = False
    op: str
    value: Any

    def test(self, collation: Collation | None) -> Test:
        value, compare = self.value, _OPERATIONS[self.op]
        if value is None:
            return _is_null if self.op not in {"$gt", "$lt"} else _never
        if type(value) in {MinKey, MaxKey}:
            return self._test_extreme()
        if type(value) is str and collation is None:
            return lambda other: type(other) is str and compare(other, value)
        if type(value) in _PLAIN_NUMBERS and not math.isnan(value):
            return self._test_number(compare)
        make = order if collation is None else collation.order
        key, own = make(value), rank(value)
        if is_number(value) and key == order(math.nan) and self.op in {"$gt", "$lt"}:
            return _never
        nan = order(math.nan)
        if is_number(value) and key != nan:
            return lambda other: rank(other) == own and (found := make(other)) != nan and compare(found, key)
        if is_number(value):
            return lambda other: rank(other) == own and make(other) == key
        return lambda other: rank(other) == own and compare(make(other), key)

    def _test_number(self, compare: Callable[[Any, Any], bool]) -> Test:
        value, key = self.value, order(self.value)

        def test(other: Any) -> bool:
            if type(other) in _PLAIN_NUMBERS:
                return compare(other, value)
            return type(other) is Decimal128 and not other.to_decimal().is_nan() and compare(order(other), key)

        return test

    def _test_extreme(self) -> Test:
        """`MinKey` is below every value, `MaxKey` above, whatever its type."""
        own, key, compare = type(self.value), order(self.value), _OPERATIONS[self.op]
        if self.op == "$eq":
            return lambda other: type(other) is own
        return lambda other: other is not MISSING and compare(order(other), key)


def _is_null(value: Any) -> bool:
    return value is None or value is MISSING


def _never(_: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class In:
    """`$in`: equal to one of the values, or matching one of the patterns."""

    whole: ClassVar = False
    values: Sequence[Any]
    patterns: Sequence[Pattern] = ()

    def test(self, collation: Collation | None) -> Test:
        make = order if collation is None else collation.order
        keys = {make(value) for value in self.values}
        if None in self.values:
            keys.add(order(MISSING))
        if not self.patterns:
            return lambda value: make(value) in keys
        matches = [Matches(pattern).test(None) for pattern in self.patterns]
        return lambda value: make(value) in keys or any(match(value) for match in matches)


@dataclass(frozen=True, slots=True)
class Matches:
    """`$regex`: a text in which the pattern occurs, or the same pattern as a value."""

    whole: ClassVar = False
    pattern: Pattern

    def test(self, collation: Collation | None) -> Test:  # noqa: ARG002  collations leave patterns alone
        pattern, found = self.pattern, self.pattern.found_in

        def test(value: Any) -> bool:
            if type(value) is str:
                return found(value)
            return type(value) is Regex and pattern.equals(value)

        return test


@dataclass(frozen=True, slots=True)
class Exists:
    """`$exists: true`; `false` is its inverse."""

    whole: ClassVar = False

    def test(self, collation: Collation | None) -> Test:  # noqa: ARG002
        return lambda value: value is not MISSING


@dataclass(frozen=True, slots=True)
class TypeIs:
    """`$type`: names of BSON types."""

    whole: ClassVar = False
    names: frozenset[str]

    def test(self, collation: Collation | None) -> Test:  # noqa: ARG002
        names = self.names
        return lambda value: type_name(value) in names


@dataclass(frozen=True, slots=True)
class Size:
    """`$size`: an array with so many elements."""

    whole: ClassVar = True
    size: int

    def test(self, collation: Collation | None) -> Test:  # noqa: ARG002
        size = self.size
        return lambda value: type(value) is list and len(value) == size


@dataclass(frozen=True, slots=True)
class Mod:
    """`$mod`: a number that leaves this remainder, which has the sign of the number; fractions are cut off."""

    whole: ClassVar = False
    divisor: int
    remainder: int

    def test(self, collation: Collation | None) -> Test:  # noqa: ARG002
        divisor, remainder = abs(self.divisor), self.remainder

        def test(value: Any) -> bool:
            if not is_number(value):
                return False
            if type(value) is Decimal128:
                value = value.to_decimal()
            if not math.isfinite(value):
                return False
            whole = int(value)
            return (whole % divisor if whole >= 0 else -(-whole % divisor)) == remainder

        return test


@dataclass(frozen=True, slots=True)
class Bits:
    """`$bitsAllSet`, `$bitsAnySet`, `$bitsAllClear`, `$bitsAnyClear`: of whole numbers and binary data."""

    whole: ClassVar = False
    op: str
    positions: Sequence[int]

    def test(self, collation: Collation | None) -> Test:  # noqa: ARG002
        join = all if "All" in self.op else any
        wanted = self.op.endswith("Set")
        positions = self.positions

        def test(value: Any) -> bool:
            bits = _bits(value)
            return bits is not None and join((bits >> position & 1 == 1) is wanted for position in positions)

        return test


def _bits(value: Any) -> int | None:
    """The bits of a value as a number; of a negative one without end, as two's complement has them."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer() and -(2.0**63) <= value < 2.0**63:
        return int(value)
    if type(value) in {bytes, Binary}:
        return int.from_bytes(value, "little")
    return None


@dataclass(frozen=True, slots=True)
class ElementPasses:
    """`$elemMatch` with operators: an array with an element that passes all of the conditions."""

    whole: ClassVar = True
    condition: Condition

    def test(self, collation: Collation | None) -> Test:
        test = self.condition.test(collation)
        return lambda value: type(value) is list and any(test(element) for element in value)

    def place(self, value: Any, collation: Collation | None) -> int | None:
        """Which element it is."""
        test = self.condition.test(collation)
        return next((at for at, element in enumerate(value) if test(element)), None) if type(value) is list else None


@dataclass(frozen=True, slots=True)
class ElementMatches:
    """`$elemMatch` with fields: an array with a document that matches the filter."""

    whole: ClassVar = True
    node: Node

    def test(self, collation: Collation | None) -> Test:
        test = self._test_element(collation)
        return lambda value: type(value) is list and any(test(element) for element in value)

    def place(self, value: Any, collation: Collation | None) -> int | None:
        """Which element it is."""
        test = self._test_element(collation)
        return next((at for at, element in enumerate(value) if test(element)), None) if type(value) is list else None

    def _test_element(self, collation: Collation | None) -> Test:
        test = self.node.test(collation)

        def test_element(element: Any) -> bool:
            if type(element) is list:  # an array's fields are its places
                element = {str(at): item for at, item in enumerate(element)}
            return type(element) is dict and test(element)

        return test_element


@dataclass(frozen=True, slots=True)
class AllOf:
    """All conditions at once."""

    whole: ClassVar = False
    conditions: Sequence[Condition]

    def test(self, collation: Collation | None) -> Test:
        tests = [condition.test(collation) for condition in self.conditions]
        if len(tests) == 1:
            return tests[0]
        return lambda value: all(test(value) for test in tests)


@dataclass(frozen=True, slots=True)
class Inverse:
    """`$not`, `$ne`, `$nin`, `$exists: false`: whatever does not pass."""

    whole: ClassVar = False
    condition: Condition

    def test(self, collation: Collation | None) -> Test:
        test = self.condition.test(collation)
        return lambda value: not test(value)


@dataclass(frozen=True, slots=True)
class Never:
    """`$all: []` and `$in: []`: no value passes."""

    whole: ClassVar = False

    def test(self, collation: Collation | None) -> Test:  # noqa: ARG002
        return _never
