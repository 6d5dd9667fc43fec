"""Stages that read other collections: `$lookup`, `$graphLookup`, `$unionWith`.

`$lookup` by fields asks for the partners of several documents at once: few at first, so that an index is used well,
then more and more, so that a collection without an index is read a few times and not once for each document.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/lookup/ and its neighbours
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from bson import Regex

from consona.documents.engine import Query
from consona.documents.errors import OperatorError
from consona.documents.expressions import Scope
from consona.documents.filters import parse_filter
from consona.documents.paths import Reader, reader
from consona.documents.pipeline.stages import (
    Budget,
    Builder,
    Context,
    Run,
    Stage,
    count_of,
    field_path,
    fields_of,
    with_value,
)
from consona.documents.values import MISSING, Document, Key

if TYPE_CHECKING:  # stages hold pipelines, and pipelines stages
    from consona.documents.pipeline.parsing import Pipeline

__all__ = ["STAGES"]

_FIRST: Final = 100
_MOST: Final = 10_000
"""Documents whose partners are asked for at once."""


def _lookup(name: str, raw: Any, context: Context) -> Stage:
    options = fields_of(name, raw, ["from", "as"], ["localField", "foreignField", "let", "pipeline"])
    source, target = context.read(name, options["from"]), field_path(name, options["as"])
    if ("localField" in options) is not ("foreignField" in options):
        raise OperatorError(f"{name} takes localField and foreignField together.", operator=name)
    if "localField" not in options and "pipeline" not in options:
        raise OperatorError(f"{name} takes localField and foreignField, or a pipeline.", operator=name)
    if "let" in options and "pipeline" not in options:
        raise OperatorError(f"{name} takes let together with a pipeline.", operator=name)
    pairs = None
    if "localField" in options:
        pairs = _Pairs(
            reader(field_path(name, options["localField"]), expand=False),
            ".".join(field_path(name, options["foreignField"])),
            context,
        )
    if "pipeline" not in options:
        assert pairs is not None
        return _by_fields(name, source, target, pairs)
    return _by_pipeline(name, source, target, pairs, _Inner(name, options, context))


def _local_values(read: Reader, document: Document) -> list[Any]:
    """What the partners must have; null where there is nothing."""
    values: list[Any] = []
    for value in read(document):
        if type(value) is list:
            values.extend(value)
        elif value is not MISSING:
            values.append(value)
    return values or [None]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Which documents of another collection belong to one of ours: those with an equal value at a path."""

    read: Reader
    foreign: str
    context: Context

    def filter(self, values: list[Any]) -> dict[str, Any]:
        """What documents of the other collection pass that belong to one of these values."""
        alike = [{self.foreign: {"$eq": value}} for value in values if isinstance(value, Regex)]
        others = [value for value in values if not isinstance(value, Regex)]
        return {"$or": [{self.foreign: {"$in": others}}, *alike]} if alike else {self.foreign: {"$in": others}}

    def query(self, values: list[Any]) -> Query:
        return Query(filter=parse_filter(self.filter(values), self.context.collation))

    def keys(self, document: Document) -> set[Key]:
        """The keys of a document of the other collection."""
        order = self.context.compiler.order
        read = reader(tuple(self.foreign.split(".")))
        return {order(None if value is MISSING else value) for value in read(document)}


def _by_fields(name: str, source: str, target: tuple[str, ...], pairs: _Pairs) -> Stage:
    order = pairs.context.compiler.order

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        size, budget = _FIRST, run.budget(name)
        while chunk := list(islice(documents, size)):
            size = min(size * 10, _MOST)
            budget.release()
            wanted = [[(order(value), value) for value in _local_values(pairs.read, document)] for document in chunk]
            different = {key: value for values in wanted for key, value in values}
            found = _partners(run, source, pairs, different, budget)
            for document, values in zip(chunk, wanted, strict=True):
                partners = {at: partner for key, _ in values for at, partner in found.get(key, ())}
                yield with_value(document, target, [partners[at] for at in sorted(partners)])

    return stage


def _partners(
    run: Run, source: str, pairs: _Pairs, different: Mapping[Key, Any], budget: Budget
) -> dict[Key, list[tuple[int, Document]]]:
    """The documents with one of the values, by the keys of the values, each with its place in the collection."""
    found: dict[Key, list[tuple[int, Document]]] = {}
    for at, document in enumerate(run.source(source, pairs.query(list(different.values())))):
        budget.hold(document)
        for key in pairs.keys(document):
            if key in different:
                found.setdefault(key, []).append((at, document))
    return found


class _Inner:
    """The pipeline of a `$lookup`, with variables that each of our documents sets."""

    def __init__(self, name: str, options: Mapping[str, Any], context: Context) -> None:
        given = options.get("let", {})
        if not isinstance(given, Mapping):
            raise OperatorError(f"{name}: let is a document of variables.", operator=name)
        context.compiler.knowing(given, name)
        self._outer = context.variables
        self._values = {key: context.expression(value) for key, value in given.items()}
        self._variables: Scope = {**self._outer, **dict.fromkeys(given)}
        self.pipeline: Pipeline = context.parse(options["pipeline"], context.within(name, self._variables))
        self.depends = bool(self._variables.keys() - {"NOW"})
        """Whether it can give something else for each of our documents."""

    def set(self, document: Document) -> None:
        values = {key: value(document) for key, value in self._values.items()}
        self._variables.clear()
        self._variables.update(self._outer)
        self._variables.update(values)


def _by_pipeline(name: str, source: str, target: tuple[str, ...], pairs: _Pairs | None, inner: _Inner) -> Stage:
    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        budget = run.budget(name)
        same: list[Document] | None = None
        for document in documents:
            if same is None or inner.depends or pairs is not None:
                budget.release()
                inner.set(document)
                more = None if pairs is None else pairs.filter(_local_values(pairs.read, document))
                same = []
                for partner in run.source(source, inner.pipeline.inner_query(run, more)):
                    budget.hold(partner)
                    same.append(partner)
            yield with_value(document, target, same)

    return stage


def _union_with(name: str, raw: Any, context: Context) -> Stage:
    options = fields_of(name, {"coll": raw} if isinstance(raw, str) else raw, ["coll"], ["pipeline"])
    source = context.read(name, options["coll"])
    pipeline = context.parse(options.get("pipeline", []), context.within(name))

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        yield from documents
        yield from run.source(source, pipeline.inner_query(run))

    return stage


def _graph_lookup(name: str, raw: Any, context: Context) -> Stage:
    options = fields_of(
        name,
        raw,
        ["from", "startWith", "connectFromField", "connectToField", "as"],
        ["maxDepth", "depthField", "restrictSearchWithMatch"],
    )
    source, target = context.read(name, options["from"]), field_path(name, options["as"])
    start, leads = context.expression(options["startWith"]), field_path(name, options["connectFromField"])
    restricted = options.get("restrictSearchWithMatch", {})
    parse_filter(restricted, context.collation, variables=context.variables)
    to = ".".join(field_path(name, options["connectToField"]))
    deepest = count_of(name, options["maxDepth"]) if "maxDepth" in options else None
    depth_path = field_path(name, options["depthField"]) if "depthField" in options else None
    read, order = reader(leads, expand=False), context.compiler.order

    def query(values: list[Any]) -> Query:
        both = {"$and": [{to: {"$in": values}}, restricted]}
        return Query(filter=parse_filter(both, context.collation, variables=context.variables))

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        budget = run.budget(name)
        for document in documents:
            budget.release()
            found: dict[Key, Document] = {}
            asked: set[Key] = set()
            value, depth = start(document), 0
            front = [item for item in (value if type(value) is list else [value]) if item is not MISSING]
            while front and (deepest is None or depth <= deepest):
                asked.update(map(order, front))
                new = [each for each in run.source(source, query(front)) if order(each["_id"]) not in found]
                for each in new:
                    budget.hold(each)
                    told = each if depth_path is None else with_value(each, depth_path, depth)
                    found[order(each["_id"])] = told
                front = _not_asked((item for each in new for item in _local_values(read, each)), asked, order)
                depth += 1
            yield with_value(document, target, list(found.values()))

    return stage


def _not_asked(values: Iterator[Any], asked: set[Key], order: Callable[[Any], Key]) -> list[Any]:
    different = {order(value): value for value in values if value is not None}
    return [value for key, value in different.items() if key not in asked]


STAGES: Final[dict[str, Builder]] = {
    "$graphLookup": _graph_lookup,
    "$lookup": _lookup,
    "$unionWith": _union_with,
}
