"""Filters: `{"price": {"$lt": 100}}` is understood and checked once, and then asked of many documents.

    cheap = parse_filter({"price": {"$lt": 100}, "tags": "organic"})
    cheap.matches(document)

`parse_filter` reads what the filter says; what the parts of its tree mean stands in `filter_nodes.py` and
`conditions.py`. Engines translate what they can of the tree, and leave the rest to `matches`.

Source: https://www.mongodb.com/docs/manual/reference/operator/query/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import Binary, Regex

from consona.documents import conditions as ask
from consona.documents.collation import Collation
from consona.documents.conditions import Condition
from consona.documents.document import checked_value
from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.expressions import Scope, moment, parse_expression
from consona.documents.filter_nodes import AllPass, AnyPasses, Computed, DocumentTest, Field, Node, NotPasses, lifted
from consona.documents.json_schema import parse_schema
from consona.documents.paths import split
from consona.documents.patterns import compile_pattern
from consona.documents.values import MISSING, TYPE_NAMES, Document, is_number

__all__ = ["OF_DOCUMENTS", "Filter", "known_operators", "parse_condition", "parse_filter", "parse_node", "wanted_id"]

MAX_NESTING: Final = 100
MAX_BIT: Final = 1 << 20

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was understood.

    Attributes:
        raw: As it was given.
        node: The root of its tree.
        collation: How it compares texts; None for letter by letter.
    """

    raw: Raw
    node: Node
    collation: Collation | None = None
    matches: DocumentTest = field(init=False, repr=False, compare=False)
    """Whether a document passes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "matches", self.node.test(self.collation))

    def place(self, document: Document) -> int | None:
        """Of a document that passes: which element of an array did (the positional `$`)."""
        return self.node.place(document, self.collation)


def parse_filter(raw: Raw | None, collation: Collation | None = None, *, variables: Scope | None = None) -> Filter:
    """Understand a filter.

    Args:
        raw: As PyMongo takes it; None and `{}` let every document pass.
        collation: How texts are compared.
        variables: What the variables of `$expr` stand for; by default only those of the system are known.

    Raises:
        OperatorError: An operator does not exist, or does not have what it needs; the message names it.

    Example:
        >>> healthy = parse_filter({"tags": {"$in": ["organic", "vegan"]}, "price": {"$lt": 5}})
        >>> healthy.matches({"tags": ["new", "vegan"], "price": 4.5})
        True
        >>> parse_filter({"price": {"$lessThan": 5}})
        Traceback (most recent call last):
        consona.documents.errors.OperatorError: '$lessThan' is no operator of a filter. The reference lists the operators that there are.
    """
    top = _Top(moment() if variables is None else variables, collation)
    return Filter(raw or {}, parse_node({} if raw is None else raw, top=top), collation)


def wanted_id(query: Filter) -> Any:
    """The `_id` that a document must have to pass; `MISSING` where the filter names none."""
    if query.collation is not None:
        return MISSING
    nodes = query.node.nodes if isinstance(query.node, AllPass) else [query.node]
    for node in nodes:
        if isinstance(node, Field) and node.path == ("_id",):
            condition = node.condition
            if isinstance(condition, ask.Compare) and condition.op == "$eq":
                return condition.value
    return MISSING


@dataclass(frozen=True, slots=True)
class _Top:
    """What the operators need that ask the whole document; within `$elemMatch` they do not exist."""

    variables: Scope
    collation: Collation | None


def parse_node(raw: Any, depth: int = 0, top: _Top | None = None) -> Node:
    """Understand a filter, or a filter within one."""
    if not isinstance(raw, Mapping):
        raise OperatorError(f"A filter is a document, not {_kind(raw)}.", hint='{"field": value}')
    if depth > MAX_NESTING:
        raise OperatorError(f"The filter is nested more than {MAX_NESTING} levels deep.")
    nodes: list[Node] = []
    for name, value in raw.items():
        if not isinstance(name, str):
            raise OperatorError(f"A filter names fields and operators by text, not by {_kind(name)}.")
        if not name.startswith("$"):
            nodes.append(lifted(split(name), _parse_value(value, depth)))
        elif name in _LOGICAL:
            nodes.append(_LOGICAL[name](name, value, depth, top))
        elif name in OF_DOCUMENTS:
            if top is None:
                raise OperatorError(f"{name} asks whole documents, so it stands in no $elemMatch.", operator=name)
            nodes.append(OF_DOCUMENTS[name](name, value, top))
        elif name != "$comment":
            raise _misplaced(name)
    return nodes[0] if len(nodes) == 1 else AllPass(nodes)


def _misplaced(name: str) -> OperatorError:
    if name in _CONDITIONS:
        return OperatorError(
            f"{name} stands where the name of a field must be.", hint=f'{{"field": {{"{name}": …}}}}', operator=name
        )
    return unknown_operator(name, [*_LOGICAL, *OF_DOCUMENTS, *_CONDITIONS], "a filter")


# What is asked of a document.


def _parse_list(name: str, value: Any, depth: int, top: _Top | None) -> list[Node]:
    if not isinstance(value, list | tuple) or not value:
        raise OperatorError(f"{name} takes a list with at least one filter, not {_kind(value)}.", operator=name)
    return [parse_node(item, depth + 1, top) for item in value]


def _parse_and(name: str, value: Any, depth: int, top: _Top | None) -> Node:
    return AllPass(_parse_list(name, value, depth, top))


def _parse_or(name: str, value: Any, depth: int, top: _Top | None) -> Node:
    return AnyPasses(_parse_list(name, value, depth, top))


def _parse_nor(name: str, value: Any, depth: int, top: _Top | None) -> Node:
    return NotPasses(AnyPasses(_parse_list(name, value, depth, top)))


def _parse_expr(_: str, value: Any, top: _Top) -> Node:
    return Computed(parse_expression(value, top.variables, top.collation))


def _parse_schema(_: str, value: Any, __: _Top) -> Node:
    return Computed(parse_schema(value))


_LOGICAL: Final[dict[str, Callable[[str, Any, int, _Top | None], Node]]] = {
    "$and": _parse_and,
    "$or": _parse_or,
    "$nor": _parse_nor,
}
OF_DOCUMENTS: Final[dict[str, Callable[[str, Any, _Top], Node]]] = {
    "$expr": _parse_expr,
    "$jsonSchema": _parse_schema,
}


# What is asked of a value.


def parse_condition(value: Any) -> Condition:
    """Understand what may stand for a field: operators, a pattern, or the value that it must have."""
    return _parse_value(value, 0)


def _parse_value(value: Any, depth: int) -> Condition:
    """The condition that stands for a field: operators, a pattern, or the value that it must have."""
    if isinstance(value, Regex | re.Pattern):
        return ask.Matches(compile_pattern(value))
    if _has_operators(value):
        return _parse_operators(value, depth + 1)
    return ask.Compare("$eq", checked_value(value))


def _has_operators(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    first = next(iter(value))
    return isinstance(first, str) and first.startswith("$") and first not in {"$ref", "$id", "$db"}


def _parse_operators(operators: Raw, depth: int) -> Condition:
    if depth > MAX_NESTING:
        raise OperatorError(f"The filter is nested more than {MAX_NESTING} levels deep.")
    found: list[Condition] = []
    for name, value in operators.items():
        parse = _CONDITIONS.get(name)
        if parse is None:
            if name in _LOGICAL or name in OF_DOCUMENTS:
                raise OperatorError(
                    f"{name} stands below a field, where it does not belong.",
                    hint=f"Write it around or beside the fields: {{{name!r}: …}}.",
                    operator=name,
                )
            if not str(name).startswith("$"):
                raise OperatorError(
                    f"The field {name!r} stands beside operators.", hint="Name it with dots: outer.inner."
                )
            raise unknown_operator(name, _CONDITIONS, "a filter")
        if name == "$regex":
            value = (value, operators.get("$options"))  # noqa: PLW2901
        if name != "$options":
            found.append(parse(name, value, depth))
        elif "$regex" not in operators:
            raise OperatorError("$options stands without $regex.", operator=name)
    return found[0] if len(found) == 1 else ask.AllOf(found)


def _parse_compare(name: str, value: Any, _: int) -> Condition:
    if name != "$eq" and isinstance(value, Regex | re.Pattern):
        raise OperatorError(f"{name} cannot compare with a regular expression.", operator=name)
    return ask.Compare(name, checked_value(value))


def _parse_ne(name: str, value: Any, _: int) -> Condition:
    if isinstance(value, Regex | re.Pattern):
        raise OperatorError("$ne cannot take a regular expression.", hint='{"$not": pattern}', operator=name)
    return ask.Inverse(ask.Compare("$eq", checked_value(value)))


def _parse_in(name: str, value: Any, _: int) -> Condition:
    if not isinstance(value, list | tuple | set | frozenset):
        raise OperatorError(f"{name} takes a list of values, not {_kind(value)}.", operator=name)
    for item in value:
        if _has_operators(item):
            raise OperatorError(f"{name} cannot hold operators.", hint="Use $or.", operator=name)
    patterns = [compile_pattern(item) for item in value if isinstance(item, Regex | re.Pattern)]
    values = [checked_value(item) for item in value if not isinstance(item, Regex | re.Pattern)]
    return ask.In(values, patterns)


def _parse_nin(name: str, value: Any, depth: int) -> Condition:
    return ask.Inverse(_parse_in(name, value, depth))


def _parse_not(name: str, value: Any, depth: int) -> Condition:
    if isinstance(value, Regex | re.Pattern):
        return ask.Inverse(ask.Matches(compile_pattern(value)))
    if not _has_operators(value):
        raise OperatorError(f"$not takes operators or a pattern, not {_kind(value)}.", hint="Use $ne.", operator=name)
    return ask.Inverse(_parse_operators(value, depth + 1))


def _parse_exists(_: str, value: Any, __: int) -> Condition:
    return ask.Exists() if value else ask.Inverse(ask.Exists())


def _parse_type(name: str, value: Any, _: int) -> Condition:
    wanted = value if isinstance(value, list | tuple) else [value]
    names: set[str] = set()
    for item in wanted:
        known = TYPE_NAMES.get(int(item)) if is_number(item) and item == int(item) else item
        if known == "number":
            names |= {"int", "long", "double", "decimal"}
        elif known in TYPE_NAMES.values():
            names.add(str(known))
        else:
            raise OperatorError(
                f"$type: {item!r} is no BSON type.",
                hint=f"There are number, {', '.join(TYPE_NAMES.values())}.",
                operator=name,
            )
    if not names:
        raise OperatorError("$type takes at least one type.", operator=name)
    return ask.TypeIs(frozenset(names))


def _parse_regex(_: str, value: tuple[Any, Any], __: int) -> Condition:
    """The pattern, and the `$options` that stand beside it."""
    pattern, options = value
    if options is not None and not isinstance(options, str):
        raise OperatorError(f"$options takes letters, not {_kind(options)}.", operator="$options")
    return ask.Matches(compile_pattern(pattern, options or ""))


def _parse_size(name: str, value: Any, _: int) -> Condition:
    return ask.Size(_whole_number(name, value, least=0))


def _parse_mod(name: str, value: Any, _: int) -> Condition:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(is_number(item) for item in value):
        raise OperatorError("$mod takes a list of two numbers: [divisor, remainder].", operator=name)
    try:
        divisor, remainder = (int(float(str(item))) if type(item) is not int else item for item in value)
    except (ValueError, OverflowError):
        raise OperatorError("$mod takes finite numbers.", operator=name) from None
    if divisor == 0:
        raise OperatorError("$mod cannot divide by 0.", operator=name)
    return ask.Mod(divisor, remainder)


def _parse_all(name: str, value: Any, depth: int) -> Condition:
    if not isinstance(value, list | tuple):
        raise OperatorError(f"$all takes a list of values, not {_kind(value)}.", operator=name)
    if not value:
        return ask.Never()
    matches = [isinstance(item, Mapping) and "$elemMatch" in item for item in value]
    if any(matches):
        if not all(matches):
            raise OperatorError("$all takes either values or $elemMatch, not both.", operator=name)
        return ask.AllOf([_parse_operators(item, depth + 1) for item in value])
    if any(_has_operators(item) for item in value):
        raise OperatorError("$all can hold no operators beside $elemMatch.", operator=name)
    return ask.AllOf([_parse_value(item, depth) for item in value])


def _parse_elem_match(name: str, value: Any, depth: int) -> Condition:
    if not isinstance(value, Mapping):
        raise OperatorError(f"$elemMatch takes a document, not {_kind(value)}.", operator=name)
    if _has_operators(value) and next(iter(value)) not in _LOGICAL:
        return ask.ElementPasses(_parse_operators(value, depth + 1))
    return ask.ElementMatches(parse_node(value, depth + 1))


def _parse_bits(name: str, value: Any, _: int) -> Condition:
    if isinstance(value, list | tuple):
        return ask.Bits(name, [_whole_number(name, item, least=0) for item in value])
    mask = int.from_bytes(value, "little") if isinstance(value, bytes | Binary) else _whole_number(name, value, least=0)
    return ask.Bits(name, [at for at in range(mask.bit_length()) if mask >> at & 1])


def _whole_number(name: str, value: Any, *, least: int) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least or value.bit_length() > 63:
        raise OperatorError(f"{name} takes whole numbers from {least}, not {_shown(value)}.", operator=name)
    return int(value)


def _kind(value: Any) -> str:
    name = type(value).__name__
    return (
        "an empty list"
        if isinstance(value, list | tuple) and not value
        else f"{'an' if name[0] in 'aeio' else 'a'} {name}"
    )


def _shown(value: Any) -> str:
    return repr(value) if is_number(value) else _kind(value)


_CONDITIONS: Final[dict[str, Callable[[str, Any, int], Condition]]] = {
    "$eq": _parse_compare,
    "$gt": _parse_compare,
    "$gte": _parse_compare,
    "$lt": _parse_compare,
    "$lte": _parse_compare,
    "$ne": _parse_ne,
    "$in": _parse_in,
    "$nin": _parse_nin,
    "$not": _parse_not,
    "$exists": _parse_exists,
    "$type": _parse_type,
    "$regex": _parse_regex,
    "$options": _parse_regex,
    "$mod": _parse_mod,
    "$all": _parse_all,
    "$elemMatch": _parse_elem_match,
    "$size": _parse_size,
    "$bitsAllSet": _parse_bits,
    "$bitsAnySet": _parse_bits,
    "$bitsAllClear": _parse_bits,
    "$bitsAnyClear": _parse_bits,
}


def known_operators() -> Sequence[str]:
    """The operators of filters, for the reference."""
    return sorted([*_LOGICAL, *OF_DOCUMENTS, *_CONDITIONS, "$comment"])
