"""A filter's tree as SQL: `bounds.py` says what comes out, `conditions.py` what is asked of one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

from consona.documents import conditions as ask
from consona.documents.collation import Collation
from consona.documents.conditions import Condition
from consona.documents.filter_nodes import AllPass, AnyPasses, Field, Node, NotPasses
from consona.documents.paths import is_index
from consona.documents.sqlite.bounds import NONE, OPEN, Bounds, Sql, all_of, any_of, inverse
from consona.documents.sqlite.conditions import Question, question
from consona.documents.sqlite.indexes import elements_table
from consona.documents.sqlite.keys import encoded_id, json_path, key_of, key_sql
from consona.documents.sqlite.tables import Table

__all__ = ["Place", "Places", "filter_bounds"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values of a path are, to SQL.

    Attributes:
        parts: The path.
        key: SQL for its key.
        encode: Makes keys of values.
        has_arrays: Whether a document may have an array on the path.
        has_odd: Whether a document may have an odd number there.
        elements: SQL for the table with the keys of array elements: of the first field of an index.
        indexed: Whether the key is the first column of an index.
    """

    parts: tuple[str, ...]
    key: str
    encode: Callable[[Any], Any] = key_of
    has_arrays: bool = True
    has_odd: bool = True
    elements: str | None = None
    indexed: bool = False


_ODD_KEYS: Final = "{key} >= x'0a' AND {key} < x'0b'"


@dataclass(slots=True)
class Places:
    """The paths of one query, each looked at once: what its index knows of arrays and odd numbers makes SQL shorter."""

    db: apsw.Connection
    table: Table
    _known: dict[tuple[str, ...], Place] = field(default_factory=dict)

    def __getitem__(self, parts: tuple[str, ...]) -> Place:
        place = self._known.get(parts)
        if place is None:
            place = self._known[parts] = self._look_up(parts)
        return place

    def _look_up(self, parts: tuple[str, ...]) -> Place:
        if parts == ("_id",):
            return Place(parts, "id", encoded_id, has_arrays=False, indexed=True)
        key = key_sql(parts)
        index = next((index for index in self.table.indexes if index.paths[0] == parts), None)
        if index is None:
            return Place(parts, key)
        elements = elements_table(self.table, index)
        odd = _ODD_KEYS.format(key=key)
        has_odd, has_arrays, odd_elements = next(
            self.db.execute(
                f"SELECT EXISTS (SELECT 1 FROM {self.table.sql} WHERE {odd}), EXISTS (SELECT 1 FROM {self.table.sql} WHERE {key} = x'19'),"
                f" EXISTS (SELECT 1 FROM {elements} WHERE {_ODD_KEYS.format(key='key')})"
            )
        )
        return Place(
            parts,
            key,
            has_arrays=bool(has_arrays),
            has_odd=bool(has_odd or odd_elements),
            elements=elements,
            indexed=True,
        )


def filter_bounds(node: Node, places: Places, collation: Collation | None) -> Bounds:
    """The filter as SQL about the rows of its collection's table."""
    if isinstance(node, AllPass):
        return all_of(filter_bounds(inner, places, collation) for inner in node.nodes)
    if isinstance(node, AnyPasses):
        return any_of(filter_bounds(inner, places, collation) for inner in node.nodes)
    if isinstance(node, NotPasses):
        return inverse(filter_bounds(node.node, places, collation))
    if isinstance(node, Field):
        return _field(node.path, node.condition, places, collation)
    return OPEN


def _field(path: tuple[str, ...], condition: Condition, places: Places, collation: Collation | None) -> Bounds:
    if path[0] == "_id" and len(path) > 1:
        return OPEN  # the id is no document to SQL
    place = places[path]
    numbered = any(is_index(part) for part in path)
    if isinstance(condition, ask.ElementMatches):
        return Bounds(NONE.sure, _element_maybe(path, condition, places, collation))
    if isinstance(condition, ask.ElementPasses):
        return Bounds(NONE.sure, _array(place))
    if isinstance(condition, ask.Exists | ask.Size | ask.TypeIs):
        if place.key == "id":
            return OPEN
        return _shape(place, condition)
    asked = question(condition, collation, place.encode)
    if asked is None:
        return OPEN
    return _asked(place, asked, numbered=numbered)


def _array(place: Place) -> Sql:
    """Documents with an array on the path."""
    return Sql(f"{place.key} = x'19'") if place.has_arrays else NONE.maybe


def _odd(key: str) -> Sql:
    return Sql(f"({_ODD_KEYS.format(key=key)})")


def _asked(place: Place, asked: Question, *, numbered: bool) -> Bounds:
    sure, maybe = asked.sure(place.key), asked.maybe(place.key)
    if asked.odd and place.has_odd:
        maybe |= _odd(place.key)
    if not place.has_arrays:
        return Bounds(sure, maybe)
    if place.elements is None or asked.arrays or numbered:
        return Bounds(sure, maybe | _array(place))
    of_elements = asked.maybe("key")
    if asked.odd and place.has_odd:
        of_elements |= _odd("key")
    return Bounds(
        sure | _among(place.elements, asked.sure("key")),
        maybe | _among(place.elements, of_elements),
    )


def _among(elements: str, condition: Sql) -> Sql:
    """Documents with an element whose key meets the condition."""
    if condition == NONE.sure:
        return condition
    return Sql(f"seq IN (SELECT doc FROM {elements} WHERE {condition.text})", condition.values)


def _element_maybe(
    path: tuple[str, ...], condition: ask.ElementMatches, places: Places, collation: Collation | None
) -> Sql:
    """What documents with such an element surely have: an array, and for each field of the element a value that fits."""
    maybe = _array(places[path])
    for inner in condition.node.nodes if isinstance(condition.node, AllPass) else [condition.node]:
        if isinstance(inner, Field) and not inner.condition.whole:
            maybe &= _field((*path, *inner.path), inner.condition, places, collation).maybe
    return maybe


# Questions about the value's type and shape, which its key does not always tell.

_TYPE_TESTS: Final[dict[str, str]] = {
    "double": "{type} = 'real'",
    "string": "{type} = 'text'",
    "object": "({key} >= x'14' AND {key} < x'15')",
    "array": "{type} = 'array'",
    "binData": "({key} >= x'1e' AND {key} < x'1f')",
    "objectId": "({key} >= x'23' AND {key} < x'24')",
    "bool": "{type} IN ('true', 'false')",
    "date": "({key} >= x'2d' AND {key} < x'2e')",
    "null": "{type} = 'null'",
    "regex": "({key} >= x'32' AND {key} < x'33')",
    "timestamp": "({key} >= x'2f' AND {key} < x'30')",
    "int": "({type} = 'integer' AND {key} BETWEEN -2147483648 AND 2147483647)",
    "long": "({type} = 'integer' AND {key} NOT BETWEEN -2147483648 AND 2147483647)",
}


def _shape(place: Place, condition: ask.Exists | ask.Size | ask.TypeIs) -> Bounds:
    path = json_path(place.parts)
    kind = f"json_type(data,{path})"
    behind_array = _array(place) & Sql(f"{kind} IS NULL") if len(place.parts) > 1 else NONE.sure
    if isinstance(condition, ask.Exists):
        sure = Sql(f"{kind} IS NOT NULL")
        return Bounds(sure, sure | behind_array)
    if isinstance(condition, ask.Size):
        sure = Sql(f"({kind} = 'array' AND json_array_length(data,{path}) = ?)", (condition.size,))
        return Bounds(sure, sure | behind_array)
    tests = [test for name, test in _TYPE_TESTS.items() if name in condition.names]
    sure = NONE.sure
    for test in tests:
        sure |= Sql(test.format(key=place.key, type=kind))
    maybe = sure | _array(place)
    if condition.names & {"double", "decimal", "minKey", "maxKey"}:
        maybe |= _odd(place.key)
    return Bounds(sure, maybe)
