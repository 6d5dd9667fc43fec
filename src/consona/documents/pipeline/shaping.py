"""Stages that shape each document: `$project`, `$addFields`, `$set`, `$unset`, `$replaceRoot`, `$replaceWith`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/project/, .../addFields/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.expressions import Compiler, Expression, Scope
from consona.documents.paths import split
from consona.documents.pipeline.stages import Builder, Context, Run, Stage, fields_of
from consona.documents.projection import excluded, tree_of
from consona.documents.values import MISSING, Document, is_number, type_name

__all__ = ["STAGES"]


class _Fields:
    """What becomes of the fields of one document: kept, computed, or looked at within.

    Attributes:
        kept: Names that are kept as they are.
        computed: Name -> its expression, in the order in which they were named.
        inner: Name -> what becomes of the fields within it.
    """

    __slots__ = ("computed", "computes", "inner", "kept")

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.computed: dict[str, Expression] = {}
        self.inner: dict[str, _Fields] = {}
        self.computes = False

    def place(self, path: tuple[str, ...], value: Expression | None) -> None:
        """Say what becomes of the field at the path: None keeps it."""
        name, *rest = path
        self.computes = self.computes or value is not None
        if name in self.kept or name in self.computed or (not rest and name in self.inner):
            raise OperatorError(f"The field {'.'.join(path)!r} is named twice, or its parent too.", hint="Name one.")
        if rest:
            self.inner.setdefault(name, _Fields()).place(tuple(rest), value)
        elif value is None:
            self.kept.add(name)
        else:
            self.computed[name] = value

    def added(self, value: Any, scope: Scope) -> Any:
        """The value with the computed fields beside the others."""
        if type(value) is list:
            return [self.added(item, scope) for item in value]
        document = dict(value) if type(value) is dict else {}
        for name, inner in self.inner.items():
            document[name] = inner.added(document.get(name, MISSING), scope)
        for name, expression in self.computed.items():
            found = expression(scope)
            if found is MISSING:
                document.pop(name, None)
            else:
                document[name] = found
        return document

    def only(self, value: Any, scope: Scope) -> Any:
        """The value with the kept and computed fields alone; `MISSING` where it cannot have any."""
        if type(value) is list:
            found = (self.only(item, scope) for item in value)
            return [item for item in found if item is not MISSING]
        if type(value) is not dict:
            if not self.computes:
                return MISSING
            value = {}
        document: Document = {}
        for name, item in value.items():
            if name in self.kept:
                document[name] = item
            elif name in self.inner:
                inner = self.inner[name].only(item, scope)
                if inner is not MISSING:
                    document[name] = inner
        for name, fields in self.inner.items():
            if fields.computes and name not in value:
                document[name] = fields.only({}, scope)
        for name, expression in self.computed.items():
            found = expression(scope)
            if found is not MISSING:
                document[name] = found
        return document


def _project(name: str, raw: Any, context: Context) -> Stage:
    entries = list(_entries(name, raw, ()))
    if not entries:
        raise OperatorError(f"{name} takes at least one field.", operator=name)
    leaves_out = [path for path, value in entries if _is_switch(value) and not value]
    others = [(path, value) for path, value in entries if not (_is_switch(value) and not value)]
    if leaves_out and set(leaves_out) != {("_id",)} and others:
        raise OperatorError(
            f"{name} either keeps fields or leaves fields out, save for _id.",
            hint="Give all 1, or all 0.",
            operator=name,
        )
    if not others:
        return _leaving_out(leaves_out, name)
    fields, compiler = _Fields(), context.compiler
    if not leaves_out and all(path[0] != "_id" for path, _ in others):
        fields.place(("_id",), None)
    for path, value in others:
        fields.place(path, None if _is_switch(value) else compiler.compile(value))
    return _each(context.of_document(fields.only))


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool) or is_number(value)


def _entries(name: str, raw: Any, outer: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each path with its value: nested documents are looked into, expressions are not."""
    if not isinstance(raw, Mapping):
        raise OperatorError(f"{name} takes a document of fields.", operator=name)
    for key, value in raw.items():
        if not isinstance(key, str) or any(part.startswith("$") for part in split(key, name)):
            raise OperatorError(f"{name} names fields, and {key!r} is none.", operator=name)
        path = (*outer, *split(key, name))
        if isinstance(value, Mapping) and value and not str(next(iter(value))).startswith("$"):
            yield from _entries(name, value, path)
        elif isinstance(value, Mapping) and not value:
            raise OperatorError(
                f"{name}: {'.'.join(path)!r} is an empty document.", hint='{"$literal": {}} makes one.', operator=name
            )
        else:
            yield path, value


def _leaving_out(paths: list[tuple[str, ...]], name: str) -> Stage:
    tree = tree_of(paths, name)
    return lambda documents, _: (excluded(document, tree) for document in documents)


def _add_fields(name: str, raw: Any, context: Context) -> Stage:
    fields, compiler = _Fields(), context.compiler
    for path, value in _added_entries(name, raw, (), compiler):
        fields.place(path, value)
    if not fields.computes:
        raise OperatorError(f"{name} takes at least one field.", operator=name)
    return _each(context.of_document(fields.added))


def _added_entries(
    name: str, raw: Any, outer: tuple[str, ...], compiler: Compiler
) -> Iterator[tuple[tuple[str, ...], Expression]]:
    if isinstance(raw, Mapping) and not raw and outer:
        yield outer, compiler.compile(raw)
        return
    if not isinstance(raw, Mapping):
        raise OperatorError(f"{name} takes a document of fields.", operator=name)
    for key, value in raw.items():
        if not isinstance(key, str) or any(part.startswith("$") for part in split(key, name)):
            raise OperatorError(f"{name} names fields, and {key!r} is none.", operator=name)
        path = (*outer, *split(key, name))
        if isinstance(value, Mapping) and not str(next(iter(value), "")).startswith("$"):
            yield from _added_entries(name, value, path, compiler)
        else:
            yield path, compiler.compile(value)


def _unset(name: str, raw: Any, _: Context) -> Stage:
    paths = [raw] if isinstance(raw, str) else raw
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(path, str) for path in paths):
        raise OperatorError(f"{name} takes a field, or a list of fields.", operator=name)
    return _leaving_out([path for path, _ in _entries(name, dict.fromkeys(paths, 0), ())], name)


def _replace(name: str, raw: Any, context: Context) -> Stage:
    root = context.expression(fields_of(name, raw, ["newRoot"])["newRoot"] if name == "$replaceRoot" else raw)

    def document_of(document: Document) -> Document:
        found = root(document)
        if type(found) is not dict:
            raise OperatorError(
                f"{name} needs a document, and the expression gave a value of type {type_name(found)}.",
                hint="$mergeObjects or $ifNull can give one in its place.",
                operator=name,
            )
        return found

    return _each(document_of)


def _each(change: Callable[[Document], Document]) -> Stage:
    def stage(documents: Iterator[Document], _: Run) -> Iterator[Document]:
        return map(change, documents)

    return stage


STAGES: Final[dict[str, Builder]] = {
    "$addFields": _add_fields,
    "$project": _project,
    "$replaceRoot": _replace,
    "$replaceWith": _replace,
    "$set": _add_fields,
    "$unset": _unset,
}
