"""What can be computed of the events of a window: counts, sums, means, extremes, percentiles, distinct values.

Each is a small state that is added to, merged with another's (sessions that grow together), and kept as
plain data, so that it survives the process.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol

from consona.errors import ConfigurationError, FieldProblem, ValidationError

__all__ = ["Aggregate", "count", "distinct", "largest", "mean", "percentile", "smallest", "total"]

Value = Callable[[Any], Any]
"""Takes the event, gives the number (or what is to be counted)."""


class Aggregate(Protocol):
    """One figure of a window. `state` is plain data: numbers, texts, lists and dicts."""

    def zero(self) -> Any:
        """The state of a window without events."""

    def add(self, state: Any, event: Any) -> Any:
        """The state with one event more."""

    def merge(self, one: Any, other: Any) -> Any:
        """The state of both windows' events."""

    def result(self, state: Any) -> Any:
        """The figure."""


@dataclass(frozen=True, slots=True)
class _Count:
    def zero(self) -> int:
        return 0

    def add(self, state: int, event: Any) -> int:  # noqa: ARG002  whatever it is
        return state + 1

    def merge(self, one: int, other: int) -> int:
        return one + other

    def result(self, state: int) -> int:
        return state


@dataclass(frozen=True, slots=True)
class _Total:
    value: Value

    def zero(self) -> str:
        return "0"

    def add(self, state: str, event: Any) -> str:
        return str(Decimal(state) + _decimal(self.value(event)))

    def merge(self, one: str, other: str) -> str:
        return str(Decimal(one) + Decimal(other))

    def result(self, state: str) -> Decimal:
        return Decimal(state)


@dataclass(frozen=True, slots=True)
class _Mean:
    value: Value

    def zero(self) -> list[Any]:
        return [0, "0"]

    def add(self, state: list[Any], event: Any) -> list[Any]:
        return [state[0] + 1, str(Decimal(state[1]) + _decimal(self.value(event)))]

    def merge(self, one: list[Any], other: list[Any]) -> list[Any]:
        return [one[0] + other[0], str(Decimal(one[1]) + Decimal(other[1]))]

    def result(self, state: list[Any]) -> float | None:
        return float(Decimal(state[1]) / state[0]) if state[0] else None


@dataclass(frozen=True, slots=True)
class _Extreme:
    value: Value
    choose: Callable[[Decimal, Decimal], Decimal]

    def zero(self) -> None:
        return None

    def add(self, state: str | None, event: Any) -> str:
        number = _decimal(self.value(event))
        return str(number if state is None else self.choose(Decimal(state), number))

    def merge(self, one: str | None, other: str | None) -> str | None:
        if one is None or other is None:
            return other if one is None else one
        return str(self.choose(Decimal(one), Decimal(other)))

    def result(self, state: str | None) -> Decimal | None:
        return None if state is None else Decimal(state)


_GAMMA: Final = 1.02
"""Neighbouring buckets differ by 2 %, so a percentile is within 1 % of a value that was there."""
_LOG_GAMMA: Final = math.log(_GAMMA)
_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True)
class _Percentile:
    """Buckets of growing width. Source: Masson, Rim, Lee, "DDSketch", PVLDB 12 (2019)."""

    share: float
    value: Value

    def zero(self) -> dict[str, int]:
        return {}

    def add(self, state: dict[str, int], event: Any) -> dict[str, int]:
        bucket = _bucket(float(_decimal(self.value(event))))
        state[bucket] = state.get(bucket, 0) + 1
        return state

    def merge(self, one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
        return {bucket: one.get(bucket, 0) + other.get(bucket, 0) for bucket in {*one, *other}}

    def result(self, state: dict[str, int]) -> float | None:
        rank = self.share * (sum(state.values()) - 1)
        for value, times in sorted((_middle(bucket), times) for bucket, times in state.items()):
            rank -= times
            if rank < 0:
                return value
        return None


def _bucket(value: float) -> str:
    """`0`, or sign and number: `+17`, `-3`."""
    if abs(value) < _TINY:
        return "0"
    return f"{'-' if value < 0 else '+'}{math.ceil(math.log(abs(value)) / _LOG_GAMMA)}"


def _middle(bucket: str) -> float:
    if bucket == "0":
        return 0.0
    size = 2 * _GAMMA ** int(bucket[1:]) / (_GAMMA + 1)
    return -size if bucket[0] == "-" else size


_EXACT: Final = 256
_BITS: Final = 12
_REGISTERS: Final = 1 << _BITS


@dataclass(frozen=True, slots=True)
class _Distinct:
    """Exact up to 256 values, then within about 2 %.

    Source: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", AofA 2007.
    """

    value: Value

    def zero(self) -> list[int]:
        return []

    def add(self, state: Any, event: Any) -> Any:
        digest = hashlib.blake2b(repr(self.value(event)).encode(errors="surrogatepass"), digest_size=8).digest()
        return self._with(state, [int.from_bytes(digest) >> 1])  # 63 bits: MessagePack's integers are signed

    def merge(self, one: Any, other: Any) -> Any:
        if isinstance(one, list):
            return self._with(other, one)
        if isinstance(other, list):
            return self._with(one, other)
        return bytes(map(max, one, other))

    def result(self, state: Any) -> int:
        if isinstance(state, list):
            return len(state)
        estimate: float = 0.7213 / (1 + 1.079 / _REGISTERS) * _REGISTERS**2 / sum(2.0**-register for register in state)
        empty = state.count(0)
        if estimate <= 2.5 * _REGISTERS and empty:
            estimate = _REGISTERS * math.log(_REGISTERS / empty)
        return round(estimate)

    def _with(self, state: Any, hashes: list[int]) -> Any:
        if isinstance(state, list):
            known = sorted({*state, *hashes})
            if len(known) <= _EXACT:
                return known
            state, hashes = bytes(_REGISTERS), known
        registers = bytearray(state)
        for number in hashes:
            place, rest = number & (_REGISTERS - 1), number >> _BITS
            rank = (63 - _BITS) - rest.bit_length() + 1
            registers[place] = max(registers[place], rank)
        return bytes(registers)


def count() -> Aggregate:
    """How many events."""
    return _Count()


def total(value: Value) -> Aggregate:
    """The sum of a number, exact: a `Decimal`."""
    return _Total(value)


def mean(value: Value) -> Aggregate:
    """The mean of a number; None without events."""
    return _Mean(value)


def smallest(value: Value) -> Aggregate:
    """The smallest of a number: a `Decimal`."""
    return _Extreme(value, min)


def largest(value: Value) -> Aggregate:
    """The largest of a number: a `Decimal`."""
    return _Extreme(value, max)


def percentile(share: float, value: Value) -> Aggregate:
    """The number that this share (0 to 1) of the events does not exceed, within 1 %.

    Raises:
        ConfigurationError: The share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ConfigurationError(f"percentile({share}): expected a share from 0 to 1, such as 0.95.")
    return _Percentile(share, value)


def distinct(value: Value) -> Aggregate:
    """How many different values: exact up to 256, then within about 2 %."""
    return _Distinct(value)


def _decimal(value: Any) -> Decimal:
    try:
        number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    except (ArithmeticError, TypeError, ValueError):
        number = Decimal("NaN")
    if not number.is_finite():
        problem = f"expected a finite number, got {type(value).__name__}"
        raise ValidationError("An aggregate was given no number.", fields=[FieldProblem("value", problem)])
    return number
