"""Stages that make one document of many: `$group`, `$count`, `$sortByCount`, `$bucket`, `$bucketAuto`.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/group/ and its neighbours
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.pipeline.accumulators import Accumulator, Field, parse_accumulator
from consona.documents.pipeline.stages import Builder, Context, Run, Stage, count_of, fields_of
from consona.documents.values import MISSING, Document, Key, rank

__all__ = ["STAGES", "renamed_count"]

_COUNTED: Final = {"count": {"$sum": 1}}


class _Groups:
    """The groups of one run: key -> its id and its accumulators."""

    def __init__(self, name: str, fields: Mapping[str, Field], run: Run) -> None:
        self._budget = run.budget(name)
        self._fields = tuple(fields.items())
        self._groups: dict[Any, tuple[Any, list[Accumulator]]] = {}

    def add(self, key: Key, identity: Any, document: Document) -> None:
        group = self._groups.get(key)
        if group is None:
            self._budget.hold(identity)
            self._budget.hold([None] * (4 + 3 * len(self._fields)))
            group = self._groups[key] = (identity, [field.make(self._budget) for _, field in self._fields])
        for (_, field), accumulator in zip(self._fields, group[1], strict=True):
            accumulator.add(field.argument(document))

    def documents(self) -> Iterator[Document]:
        for identity, accumulators in self._groups.values():
            made = {"_id": identity}
            for (name, _), accumulator in zip(self._fields, accumulators, strict=True):
                made[name] = accumulator.value()
            yield made


def _fields(name: str, raw: Mapping[str, Any], context: Context) -> dict[str, Field]:
    return {field: parse_accumulator(name, field, value, context) for field, value in raw.items()}


def _group(name: str, raw: Any, context: Context) -> Stage:
    if not isinstance(raw, Mapping) or "_id" not in raw:
        raise OperatorError(
            f"{name} takes a document with _id: what the documents of a group have in common.",
            hint='{"_id": "$category", "total": {"$sum": "$price"}}; with _id null, all are one group.',
            operator=name,
        )
    identity, order = context.expression(raw["_id"]), context.compiler.order
    fields = _fields(name, {field: value for field, value in raw.items() if field != "_id"}, context)

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        groups = _Groups(name, fields, run)
        for document in documents:
            value = identity(document)
            if value is MISSING:
                value = None
            groups.add(order(value), value, document)
        yield from groups.documents()

    return stage


def _counted(name: str, raw: Any) -> str:
    """The field that `$count` makes."""
    if not isinstance(raw, str) or not raw or raw.startswith("$") or "." in raw or "\0" in raw:
        raise OperatorError(f"{name} takes the name of a field.", operator=name)
    return raw


def _count(name: str, raw: Any, _: Context) -> Stage:
    field = _counted(name, raw)

    def stage(documents: Iterator[Document], _: Run) -> Iterator[Document]:
        count = sum(1 for _ in documents)
        if count:
            yield {field: count}

    return stage


def renamed_count(name: str, raw: Any) -> Stage:
    """`$count`, where the engine counted: its one document is `{"n": how many}`."""
    field = _counted(name, raw)
    return lambda documents, _: ({field: document["n"]} for document in documents if document["n"])


def _sort_by_count(name: str, raw: Any, context: Context) -> Stage:
    group = _group(name, {"_id": raw, **_COUNTED}, context)

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        yield from sorted(group(documents, run), key=lambda found: found["count"], reverse=True)

    return stage


def _bucket(name: str, raw: Any, context: Context) -> Stage:
    options = fields_of(name, raw, ["groupBy", "boundaries"], ["default", "output"])
    by, order = context.expression(options["groupBy"]), context.compiler.order
    if not isinstance(options["boundaries"], list | tuple) or len(options["boundaries"]) < 2:
        raise OperatorError(f"{name} takes a list of at least two boundaries.", operator=name)
    boundaries = [context.constant(name, item) for item in options["boundaries"]]
    keys = [order(item) for item in boundaries]
    if any(one >= other for one, other in itertools.pairwise(keys)) or len(set(map(rank, boundaries))) > 1:
        raise OperatorError(f"{name} takes boundaries of one type, each above the one before.", operator=name)
    other = context.constant(name, options["default"]) if "default" in options else MISSING
    if other is not MISSING and keys[0] <= order(other) < keys[-1]:
        raise OperatorError(f"{name}: the default is the id of a bucket beside the boundaries.", operator=name)
    fields = _fields(name, options.get("output", _COUNTED), context)

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        groups = _Groups(name, fields, run)
        for document in documents:
            place = bisect_right(keys, order(by(document)))
            found = boundaries[place - 1] if 0 < place < len(keys) else other
            if found is MISSING:
                raise OperatorError(
                    f"{name}: a document is outside of the boundaries.", hint="Give a default.", operator=name
                )
            groups.add(order(found), found, document)
        yield from sorted(groups.documents(), key=lambda made: order(made["_id"]))

    return stage


def _bucket_auto(name: str, raw: Any, context: Context) -> Stage:
    options = fields_of(name, raw, ["groupBy", "buckets"], ["output"])
    by, order = context.expression(options["groupBy"]), context.compiler.order
    count = count_of(name, options["buckets"], 1)
    fields = _fields(name, options.get("output", _COUNTED), context)

    def stage(documents: Iterator[Document], run: Run) -> Iterator[Document]:
        budget, rows = run.budget(name), []
        for document in documents:
            budget.hold(document)
            value = by(document)
            rows.append((order(None if value is MISSING else value), None if value is MISSING else value, document))
        rows.sort(key=lambda row: row[0])
        groups = _Groups(name, fields, run)
        for at, (start, end) in enumerate(_parts([row[0] for row in rows], count)):
            largest = rows[end][1] if end < len(rows) else rows[-1][1]
            identity = {"min": rows[start][1], "max": largest}
            for _, _, document in rows[start:end]:
                groups.add((at,), identity, document)
        yield from groups.documents()

    return stage


def _parts(keys: Sequence[Key], count: int) -> Iterator[tuple[int, int]]:
    """Where each of about equally large buckets begins and ends; equal keys stay together."""
    size, start, number = max(1, int(len(keys) / count + 0.5)), 0, 1
    while start < len(keys):
        end = len(keys) if number == count else min(start + size, len(keys))
        while end < len(keys) and keys[end] == keys[end - 1]:
            end += 1
        yield start, end
        start, number = end, number + 1


STAGES: Final[dict[str, Builder]] = {
    "$bucket": _bucket,
    "$bucketAuto": _bucket_auto,
    "$count": _count,
    "$group": _group,
    "$sortByCount": _sort_by_count,
}
