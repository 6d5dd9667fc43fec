"""`$jsonSchema`: documents that a JSON Schema describes, as MongoDB has it (draft 4, with `bsonType`).

`{"$jsonSchema": {"required": ["name"], "properties": {"name": {"bsonType": "string", "minLength": 1}}}}`

A schema is understood once. Keywords that MongoDB does not have (`$ref`, `format`, `default`, …) are refused.

Source: https://www.mongodb.com/docs/manual/reference/operator/query/jsonSchema/
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bson import Decimal128

from consona.documents.document import checked_value
from consona.documents.errors import OperatorError
from consona.documents.patterns import PatternTime, compile_pattern
from consona.documents.values import TYPE_NAMES, is_number, order, type_name

__all__ = ["parse_schema"]

MAX_NESTING: Final = 100

Test = Callable[[Any], bool]
Builder = Callable[[str, Any, "_Parser"], Test]

_JSON_TYPES: Final[dict[str, frozenset[str]]] = {
    "object": frozenset({"object"}),
    "array": frozenset({"array"}),
    "number": frozenset({"int", "long", "double", "decimal"}),
    "boolean": frozenset({"bool"}),
    "string": frozenset({"string"}),
    "null": frozenset({"null"}),
}
_WORDS: Final = frozenset({"title", "description"})
"""What a schema may say to people."""


@dataclass(frozen=True, slots=True)
class _Parser:
    """Understands one schema and those within it."""

    time: PatternTime
    depth: int = 0

    def parse(self, raw: Any) -> Test:
        if not isinstance(raw, Mapping):
            raise _wrong("a schema", "is a document")
        if self.depth > MAX_NESTING:
            raise OperatorError(f"The schema is nested more than {MAX_NESTING} levels deep.", operator="$jsonSchema")
        inner = _Parser(self.time, self.depth + 1)
        _refuse_pairs(raw)
        tests: list[Test] = []
        for name, value in raw.items():
            build = _KEYWORDS.get(name)
            if build is not None:
                tests.append(build(name, (value, raw), inner))
            elif name in _WORDS:
                if not isinstance(value, str):
                    raise _wrong(name, "is text")
            elif name not in _BESIDE:
                raise OperatorError(
                    f"$jsonSchema: {name!r} is no keyword of a schema here.",
                    hint=f"There are {', '.join(sorted([*_KEYWORDS, *_BESIDE, *_WORDS]))}.",
                    operator="$jsonSchema",
                )
        return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)


def parse_schema(raw: Any) -> Test:
    """Understand a schema: a function that says whether a document fits it.

    Raises:
        OperatorError: It has a keyword that does not exist, or a value that the keyword does not take.

    Example:
        >>> fits = parse_schema({"required": ["price"], "properties": {"price": {"bsonType": "number", "minimum": 0}}})
        >>> fits({"price": 5}), fits({"price": -1}), fits({})
        (True, False, False)
    """
    return _Parser(PatternTime()).parse(raw)


def _wrong(name: str, words: str) -> OperatorError:
    return OperatorError(f"$jsonSchema: {name} {words}.", operator="$jsonSchema")


def _refuse_pairs(raw: Mapping[str, Any]) -> None:
    if "type" in raw and "bsonType" in raw:
        raise _wrong("type", "and bsonType stand side by side; take one of them")
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in raw and limit not in raw:
            raise _wrong(exclusive, f"stands without {limit}")
        if not isinstance(raw.get(exclusive, False), bool):
            raise _wrong(exclusive, "is true or false")


def _of(kind: Callable[[Any], bool], test: Test) -> Test:
    """A test that asks only values of a kind; all others pass."""
    return lambda value: not kind(value) or test(value)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_array(value: Any) -> bool:
    return type(value) is list


def _is_document(value: Any) -> bool:
    return type(value) is dict


def _finite(value: Any) -> Any:
    return value.to_decimal() if type(value) is Decimal128 else value


# Any value.


def _type(name: str, raw: Any, _: _Parser) -> Test:
    wanted = raw[0] if isinstance(raw[0], list | tuple) else [raw[0]]
    names: set[str] = set()
    for item in wanted:
        if not isinstance(item, str):
            raise _wrong(name, "names types by text")
        if name == "type" and item in _JSON_TYPES:
            names |= _JSON_TYPES[item]
        elif name == "bsonType" and item == "number":
            names |= _JSON_TYPES["number"]
        elif name == "bsonType" and item in TYPE_NAMES.values():
            names.add(item)
        else:
            raise _wrong(name, f"knows no type {item!r}; whole numbers are bsonType int or long")
    if not names:
        raise _wrong(name, "names at least one type")
    return lambda value: type_name(value) in names


def _enum(name: str, raw: Any, _: _Parser) -> Test:
    if not isinstance(raw[0], list | tuple) or not raw[0]:
        raise _wrong(name, "is a list of at least one value")
    keys = {order(checked_value(item)) for item in raw[0]}
    return lambda value: order(value) in keys


def _several(join: Callable[[Any], bool]) -> Builder:
    def build(name: str, raw: Any, parser: _Parser) -> Test:
        if not isinstance(raw[0], list | tuple) or not raw[0]:
            raise _wrong(name, "is a list of at least one schema")
        tests = [parser.parse(item) for item in raw[0]]
        return lambda value: join(test(value) for test in tests)

    return build


def _not(_: str, raw: Any, parser: _Parser) -> Test:
    test = parser.parse(raw[0])
    return lambda value: not test(value)


# Numbers.


def _number(name: str, value: Any) -> Any:
    if not is_number(value) or not math.isfinite(_finite(value)):
        raise _wrong(name, "is a number")
    return value


def _minimum(name: str, raw: Any, _: _Parser) -> Test:
    limit = order(_number(name, raw[0]))
    if raw[1].get("exclusiveMinimum"):
        return _of(is_number, lambda value: order(value) > limit)
    return _of(is_number, lambda value: order(value) >= limit)


def _maximum(name: str, raw: Any, _: _Parser) -> Test:
    limit = order(_number(name, raw[0]))
    if raw[1].get("exclusiveMaximum"):
        return _of(is_number, lambda value: order(value) < limit)
    return _of(is_number, lambda value: order(value) <= limit)


def _multiple_of(name: str, raw: Any, _: _Parser) -> Test:
    divisor = _number(name, raw[0])
    if order(divisor) <= order(0):
        raise _wrong(name, "is above 0")

    def test(value: Any) -> bool:
        if type(value) is Decimal128 or type(divisor) is Decimal128:
            one, other = (Decimal128(str(item)).to_decimal() for item in (value, divisor))
            return one.is_finite() and bool(one % other == 0)
        return math.isfinite(value) and math.fmod(value, divisor) == 0

    return _of(is_number, test)


# Texts.


def _limit(name: str, value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise _wrong(name, "is a whole number from 0")
    return value


def _counted(kind: Callable[[Any], bool], *, most: bool) -> Builder:
    def build(name: str, raw: Any, _: _Parser) -> Test:
        limit = _limit(name, raw[0])
        if most:
            return _of(kind, lambda value: len(value) <= limit)
        return _of(kind, lambda value: len(value) >= limit)

    return build


def _pattern(name: str, raw: Any, parser: _Parser) -> Test:
    if not isinstance(raw[0], str):
        raise _wrong(name, "is text")
    return _of(_is_text, compile_pattern(raw[0], time=parser.time).found_in)


# Arrays.


def _items(_: str, raw: Any, parser: _Parser) -> Test:
    if isinstance(raw[0], list | tuple):
        tests = [parser.parse(item) for item in raw[0]]
        return _of(_is_array, lambda value: all(test(item) for test, item in zip(tests, value, strict=False)))
    test = parser.parse(raw[0])
    return _of(_is_array, lambda value: all(map(test, value)))


def _additional_items(_: str, raw: Any, parser: _Parser) -> Test:
    known = raw[1].get("items")
    first = len(known) if isinstance(known, list | tuple) else None
    test = (lambda _: raw[0]) if isinstance(raw[0], bool) else parser.parse(raw[0])
    if first is None:
        return lambda _: True
    return _of(_is_array, lambda value: all(map(test, value[first:])))


def _unique_items(name: str, raw: Any, _: _Parser) -> Test:
    if not isinstance(raw[0], bool):
        raise _wrong(name, "is true or false")
    if not raw[0]:
        return lambda _: True
    return _of(_is_array, lambda value: len({order(item) for item in value}) == len(value))


# Documents.


def _names(name: str, raw: Any) -> list[str]:
    if not isinstance(raw, list | tuple) or not raw or not all(isinstance(item, str) for item in raw):
        raise _wrong(name, "is a list of at least one name")
    if len(set(raw)) != len(raw):
        raise _wrong(name, "has a name twice")
    return list(raw)


def _required(name: str, raw: Any, _: _Parser) -> Test:
    names = _names(name, raw[0])
    return _of(_is_document, lambda value: all(each in value for each in names))


def _schemas(name: str, raw: Any, parser: _Parser) -> dict[str, Test]:
    if not isinstance(raw, Mapping):
        raise _wrong(name, "is a document of schemas")
    return {field: parser.parse(schema) for field, schema in raw.items()}


def _properties(name: str, raw: Any, parser: _Parser) -> Test:
    tests = _schemas(name, raw[0], parser)
    return _of(_is_document, lambda value: all(test(value[key]) for key, test in tests.items() if key in value))


def _by_pattern(name: str, raw: Any, parser: _Parser) -> list[tuple[Test, Test]]:
    tests = _schemas(name, raw, parser)
    return [(compile_pattern(pattern, time=parser.time).found_in, test) for pattern, test in tests.items()]


def _pattern_properties(name: str, raw: Any, parser: _Parser) -> Test:
    pairs = _by_pattern(name, raw[0], parser)

    def test(value: Any) -> bool:
        return all(fits(item) for key, item in value.items() for found, fits in pairs if found(key))

    return _of(_is_document, test)


def _additional_properties(_: str, raw: Any, parser: _Parser) -> Test:
    known: Collection[str] = raw[1].get("properties", {})
    patterns = _by_pattern("patternProperties", raw[1].get("patternProperties", {}), parser)
    fits = (lambda _: raw[0]) if isinstance(raw[0], bool) else parser.parse(raw[0])

    def test(value: Any) -> bool:
        return all(
            fits(item)
            for key, item in value.items()
            if key not in known and not any(found(key) for found, _ in patterns)
        )

    return _of(_is_document, test)


def _dependencies(name: str, raw: Any, parser: _Parser) -> Test:
    if not isinstance(raw[0], Mapping):
        raise _wrong(name, "is a document")
    tests = {
        field: parser.parse(needed) if isinstance(needed, Mapping) else _required(name, (needed, {}), parser)
        for field, needed in raw[0].items()
    }
    return _of(_is_document, lambda value: all(test(value) for key, test in tests.items() if key in value))


_BESIDE: Final = frozenset({"exclusiveMinimum", "exclusiveMaximum"})
"""Read together with another keyword."""

_KEYWORDS: Final[dict[str, Builder]] = {
    "additionalItems": _additional_items,
    "additionalProperties": _additional_properties,
    "allOf": _several(all),
    "anyOf": _several(any),
    "bsonType": _type,
    "dependencies": _dependencies,
    "enum": _enum,
    "items": _items,
    "maxItems": _counted(_is_array, most=True),
    "maxLength": _counted(_is_text, most=True),
    "maxProperties": _counted(_is_document, most=True),
    "maximum": _maximum,
    "minItems": _counted(_is_array, most=False),
    "minLength": _counted(_is_text, most=False),
    "minProperties": _counted(_is_document, most=False),
    "minimum": _minimum,
    "multipleOf": _multiple_of,
    "not": _not,
    "oneOf": _several(lambda tests: sum(tests) == 1),
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "properties": _properties,
    "required": _required,
    "type": _type,
    "uniqueItems": _unique_items,
}
