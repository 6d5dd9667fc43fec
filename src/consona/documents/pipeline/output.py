"""Stages that write the result: `$out`, `$merge`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/out/, .../merge/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consona.documents.engine import Write
from consona.documents.errors import OperatorError
from consona.documents.operations import deletion, insertion, modification
from consona.documents.paths import get, split
from consona.documents.pipeline.stages import Context, Run, fields_of
from consona.documents.values import MISSING, Document

__all__ = ["OUTPUTS", "Merge", "Out", "Output"]


def _held(name: str, documents: Iterator[Document], run: Run) -> Iterator[Document]:
    """The documents that are to be written, which are held together."""
    budget = run.budget(name)
    for document in documents:
        budget.hold(document)
        yield document


@dataclass(frozen=True, slots=True)
class Out:
    """`$out`: the collection holds the result and nothing else from then on; its indexes and rules stay."""

    collection: str
    atomic = True
    must_match = False

    def held(self, documents: Iterator[Document], run: Run) -> Iterator[Document]:
        return _held("$out", documents, run)

    def writes(self, documents: Sequence[Document]) -> list[Write]:
        return [deletion({}, many=True), *map(insertion, documents)]


@dataclass(frozen=True, slots=True)
class Merge:
    """`$merge`: each document of the result is inserted, or changes the one that is there.

    Attributes:
        collection: Where.
        on: The fields that tell which document it is.
        matched: What happens to the one that is there: `replace`, `merge`, `keepExisting`, `fail`, or a pipeline.
        unmatched: What happens where none is there: `insert`, `discard`, `fail`.
        variables: Makes the variables of the pipeline of a document.
    """

    collection: str
    on: tuple[str, ...]
    matched: Any
    unmatched: str
    variables: Callable[[Document], dict[str, Any]]
    atomic = False

    @property
    def must_match(self) -> bool:
        """Whether a write that matches no document is an error."""
        return self.unmatched == "fail"

    def held(self, documents: Iterator[Document], run: Run) -> Iterator[Document]:
        return _held("$merge", documents, run)

    def writes(self, documents: Sequence[Document]) -> list[Write]:
        if self.matched == "keepExisting" and self.unmatched == "discard":
            return []
        return [self._write(document) for document in documents]

    def _write(self, document: Document) -> Write:
        if self.matched == "fail":
            return insertion(document)
        query: dict[str, Any] = {}
        for path in self.on:
            value = get(document, split(path, "$merge"))
            if path == "_id" and value is MISSING:
                return insertion(document)
            if value is None or value is MISSING or type(value) is list:
                raise OperatorError(
                    f"$merge: the field {path!r} of a document is missing, null or an array, so it names no document.",
                    operator="$merge",
                )
            query[path] = {"$eq": value}
        upsert = self.unmatched == "insert"
        if self.matched == "replace":
            return modification(query, document, replace=True, upsert=upsert)
        if self.matched == "keepExisting":
            return modification(query, {"$setOnInsert": document}, upsert=upsert)
        stages = [{"$replaceWith": {"$mergeObjects": ["$$ROOT", "$$new"]}}] if self.matched == "merge" else self.matched
        inserted = document if upsert else None
        return modification(query, stages, upsert=upsert, let=self.variables(document), inserted=inserted)


Output = Out | Merge


def _out(name: str, raw: Any, context: Context) -> Output:
    if isinstance(raw, Mapping):
        raise OperatorError(f"{name} writes into this database only.", hint='{"$out": "name"}', operator=name)
    return Out(context.named(name, raw))


_MATCHED: Final = ("replace", "merge", "keepExisting", "fail")
_UNMATCHED: Final = ("insert", "discard", "fail")


def _merge(name: str, raw: Any, context: Context) -> Output:
    options = fields_of(
        name, {"into": raw} if isinstance(raw, str) else raw, ["into"], ["on", "let", "whenMatched", "whenNotMatched"]
    )
    if isinstance(options["into"], Mapping):
        raise OperatorError(f"{name} writes into this database only.", hint='{"into": "name"}', operator=name)
    on = options.get("on", "_id")
    paths = [on] if isinstance(on, str) else on
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(path, str) for path in paths):
        raise OperatorError(f"{name}: on is a field, or a list of fields.", operator=name)
    for path in paths:
        split(path, name)
    matched, unmatched = options.get("whenMatched", "merge"), options.get("whenNotMatched", "insert")
    if not isinstance(matched, list | tuple) and matched not in _MATCHED:
        raise OperatorError(f"{name}: whenMatched is one of {', '.join(_MATCHED)}, or a pipeline.", operator=name)
    if unmatched not in _UNMATCHED:
        raise OperatorError(f"{name}: whenNotMatched is one of {', '.join(_UNMATCHED)}.", operator=name)
    given = options.get("let", {})
    if not isinstance(given, Mapping):
        raise OperatorError(f"{name}: let is a document of variables.", operator=name)
    values = {key: context.expression(value) for key, value in given.items()}

    def variables(document: Document) -> dict[str, Any]:
        return {"new": document, **{key: value(document) for key, value in values.items()}}

    if isinstance(matched, list | tuple):  # a mistake in it shows at once
        modification({}, matched, let={"new": {}, **dict.fromkeys(values)})
    return Merge(context.named(name, options["into"]), tuple(paths), matched, unmatched, variables)


OUTPUTS: Final[Mapping[str, Callable[[str, Any, Context], Output]]] = {"$merge": _merge, "$out": _out}
