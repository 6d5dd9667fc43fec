"""Documents as values: `$mergeObjects`, `$objectToArray`, `$arrayToObject`, `$getField`, `$setField`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/#object-expression-operators
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from consona.documents.document import bson_size
from consona.documents.errors import OperatorError
from consona.documents.expressions.arrays import array
from consona.documents.expressions.compiler import (
    Builder,
    Compiler,
    Constant,
    Expression,
    Scope,
    is_null,
    of_one,
    of_several,
    wrong,
)
from consona.documents.values import MISSING, Document

__all__ = ["OPERATORS"]


def _document(name: str, value: Any) -> Document:
    if type(value) is not dict:
        raise wrong(name, "a document", value)
    return value


def _merge_objects(name: str, *values: Any) -> Document:
    merged: Document = {}
    for value in values:
        if not is_null(value):
            merged.update(_document(name, value))
    return merged


def _object_to_array(name: str, value: Any) -> list[Document]:
    return [{"k": key, "v": item} for key, item in _document(name, value).items()]


def _array_to_object(name: str, value: Any) -> Document:
    made: Document = {}
    for item in array(name, value):
        if type(item) is list and len(item) == 2:
            key, found = item
        elif type(item) is dict and item.keys() == {"k", "v"}:
            key, found = item["k"], item["v"]
        else:
            raise OperatorError(
                f"{name} takes pairs: [[key, value]] or [{{k: key, v: value}}], all of them.", operator=name
            )
        if type(key) is not str or "\0" in key:
            raise OperatorError(f"{name} takes keys that are text, without NUL.", operator=name)
        made[key] = found
    return made


def _field_name(name: str, raw: Any, compiler: Compiler) -> str:
    """A field's name, which is the same for every document; it may have dots and dollars."""
    if isinstance(raw, str) and raw.startswith("$"):
        raise OperatorError(f"{name} takes a name, and {raw!r} is a path.", hint="Wrap it in $literal.", operator=name)
    found = compiler.compile(raw)
    if not isinstance(found, Constant) or type(found.value) is not str:
        raise OperatorError(f"{name} takes the name of a field as text.", operator=name)
    return found.value


def _get_field(name: str, raw: Any, compiler: Compiler) -> Expression:
    if not isinstance(raw, dict) or next(iter(raw), "").startswith("$"):
        raw = {"field": raw}
    compiler.check_names(name, raw, ["field"], ["input"])
    field, of = _field_name(name, raw["field"], compiler), compiler.compile(raw.get("input", "$$CURRENT"))

    def evaluate(scope: Scope) -> Any:
        value = of(scope)
        if type(value) is dict:
            return value.get(field, MISSING)
        return None if is_null(value) else MISSING

    return evaluate


def _set_field(name: str, raw: Any, compiler: Compiler) -> Expression:
    removes = name == "$unsetField"
    compiler.check_names(name, raw, ["field", "input"] if removes else ["field", "input", "value"])
    field, of = _field_name(name, raw["field"], compiler), compiler.compile(raw["input"])
    make = Constant(MISSING) if removes else compiler.compile(raw["value"])

    def evaluate(scope: Scope) -> Any:
        value = of(scope)
        if is_null(value):
            return None
        changed, new = dict(_document(name, value)), make(scope)
        if new is MISSING:
            changed.pop(field, None)
        else:
            changed[field] = new
        return changed

    return evaluate


def _binary_size(name: str, value: Any) -> int:
    if type(value) is str:
        return len(value.encode())
    if isinstance(value, bytes):  # bson.Binary is one
        return len(value)
    if type(value) is UUID:
        return 16
    raise wrong(name, "text or binary data", value)


OPERATORS: Final[dict[str, Builder]] = {
    "$arrayToObject": of_one(_array_to_object),
    "$binarySize": of_one(_binary_size),
    "$bsonSize": of_one(lambda name, value: bson_size(_document(name, value))),
    "$getField": _get_field,
    "$mergeObjects": of_several(_merge_objects, 0, nulls=False),
    "$objectToArray": of_one(_object_to_array),
    "$setField": _set_field,
    "$unsetField": _set_field,
}
