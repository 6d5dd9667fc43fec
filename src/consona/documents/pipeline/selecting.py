"""Stages that choose and order documents: `$match`, `$sort`, `$limit`, `$skip`, `$sample`, `$unwind`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation-pipeline/
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.filters import parse_filter
from consona.documents.pipeline.stages import (
    Builder,
    Context,
    Run,
    Stage,
    count_of,
    field_path,
    fields_of,
    with_value,
)
from consona.documents.sorting import Sort, parse_sort
from consona.documents.values import MISSING, Document

__all__ = ["STAGES", "limited", "parsed_sort", "sorting"]


def _match(name: str, raw: Any, context: Context) -> Stage:
    if not isinstance(raw, Mapping):
        raise OperatorError(f"{name} takes a filter.", operator=name)
    matches = parse_filter(raw, context.collation, variables=context.variables).matches
    return lambda documents, _: filter(matches, documents)


def parsed_sort(name: str, raw: Any, context: Context) -> Sort:
    """What `$sort` takes: fields, each with 1 or -1."""
    if not isinstance(raw, Mapping) or not raw:
        raise OperatorError(f"{name} takes at least one field with 1 or -1.", operator=name)
    return parse_sort(raw, collation=context.collation)


def sorting(sort: Sort, count: int | None = None) -> Stage:
    """Sorts, and gives the first `count` documents only, where it is known that no more are wanted."""

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        held = _held(documents, run)
        yield from sort.sorted(held) if count is None else sort.first(documents, count)

    return stage


def _held(documents: Iterator[Document], run: Run) -> Iterator[Document]:
    budget = run.budget("$sort")
    for document in documents:
        budget.hold(document)
        yield document


def _sort(name: str, raw: Any, context: Context) -> Stage:
    return sorting(parsed_sort(name, raw, context))


def limited(name: str, raw: Any, _: Context) -> Stage:
    count = count_of(name, raw, 1)
    return lambda documents, _: islice(documents, count)


def _skip(name: str, raw: Any, _: Context) -> Stage:
    count = count_of(name, raw)
    return lambda documents, _: islice(documents, count, None)


def _sample(name: str, raw: Any, _: Context) -> Stage:
    size = count_of(name, fields_of(name, raw, ["size"])["size"], 1)

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        budget, kept = run.budget(name), []
        for at, document in enumerate(documents):  # each document stays with the same chance
            if at < size:
                budget.hold(document)
                kept.append(document)
            elif (place := random.randrange(at + 1)) < size:  # noqa: S311  not for secrets
                kept[place] = document
        random.shuffle(kept)
        yield from kept

    return stage


def _unwind(name: str, raw: Any, _: Context) -> Stage:
    options = fields_of(
        name,
        {"path": raw} if isinstance(raw, str) else raw,
        ["path"],
        ["includeArrayIndex", "preserveNullAndEmptyArrays"],
    )
    path, index = field_path(name, options["path"], dollar=True), options.get("includeArrayIndex")
    place = None if index is None else field_path(name, index)
    keeps = options.get("preserveNullAndEmptyArrays", False)
    if not isinstance(keeps, bool):
        raise OperatorError(f"{name}: preserveNullAndEmptyArrays is true or false.", operator=name)

    def stage(documents: Iterator[Document], _: Run) -> Iterator[Document]:
        for document in documents:
            value = _nested(document, path)
            if type(value) is list and value:
                for at, item in enumerate(value):
                    each = with_value(document, path, item)
                    yield each if place is None else with_value(each, place, at)
            elif keeps or not (value is None or value is MISSING or value == []):
                alone = _without(document, path) if value == [] else document
                yield alone if place is None else with_value(alone, place, None)

    return stage


def _nested(document: Document, path: tuple[str, ...]) -> Any:
    """The value at a path that goes through documents only."""
    value: Any = document
    for part in path:
        if type(value) is not dict:
            return MISSING
        value = value.get(part, MISSING)
    return value


def _without(document: Document, path: tuple[str, ...]) -> Document:
    name, *rest = path
    if rest:
        return {**document, name: _without(document[name], tuple(rest))}
    return {key: value for key, value in document.items() if key != name}


STAGES: Final[dict[str, Builder]] = {
    "$limit": limited,
    "$match": _match,
    "$sample": _sample,
    "$skip": _skip,
    "$sort": _sort,
    "$unwind": _unwind,
}
