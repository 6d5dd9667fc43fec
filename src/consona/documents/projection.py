"""Projections: which fields of a document are given out.

`{"name": 1}` or `["name"]` keeps fields, `{"secret": 0}` leaves them out; `$slice`, `$elemMatch` and the positional `$`
choose elements of arrays.

Source: https://www.mongodb.com/docs/manual/tutorial/project-fields-from-query-results/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from consona.documents.collation import Collation
from consona.documents.document import checked_value
from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.filters import Filter, parse_filter
from consona.documents.paths import split
from consona.documents.values import MISSING, Document, is_number

__all__ = ["Projection", "Tree", "excluded", "included", "parse_projection", "tree_of"]

Tree = dict[str, Any]
"""Field -> True for all of it, or the tree of what is meant within it."""

Choose = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Projection:
    """A projection that was understood.

    Attributes:
        keeps: Whether it names what is kept; else it names what is left out.
        tree: The fields that it names.
        choices: Path -> what becomes of the array there.
        places: The path whose array is cut down to the element that the filter found, if any.
    """

    keeps: bool
    tree: Tree
    choices: Mapping[tuple[str, ...], Choose] = field(default_factory=dict)
    places: tuple[str, ...] | None = None

    def apply(self, document: Document, query: Filter | None = None) -> Document:
        """The projected document; the given one stays as it is.

        Args:
            document: One that passed the filter.
            query: The filter, for the positional `$`.
        """
        projected = included(document, self.tree) if self.keeps else excluded(document, self.tree)
        for path, choose in self.choices.items():
            projected = _chosen(projected, document, path, choose)
        if self.places is not None:
            place = None if query is None else query.place(document)
            if place is None:
                raise OperatorError("The filter found no element for the positional $ of the projection.")
            projected = _chosen(projected, document, self.places, lambda array: array[place : place + 1])
        return projected


def included(value: Document, tree: Tree) -> Document:
    """The fields that the tree names, in the document's order."""
    kept: Document = {}
    for name, item in value.items():
        inner = tree.get(name)
        if inner is None:
            continue
        if inner is True:
            kept[name] = item
        elif type(item) is dict:
            kept[name] = included(item, inner)
        elif type(item) is list:
            kept[name] = _included_elements(item, inner)
    return kept


def _included_elements(array: list[Any], tree: Tree) -> list[Any]:
    kept: list[Any] = []
    for item in array:
        if type(item) is dict:
            kept.append(included(item, tree))
        elif type(item) is list:
            kept.append(_included_elements(item, tree))
    return kept


def excluded(value: Document, tree: Tree) -> Document:
    """The document without the fields that the tree names."""
    kept: Document = {}
    for name, item in value.items():
        inner = tree.get(name)
        if inner is None:
            kept[name] = item
        elif inner is not True:
            kept[name] = _excluded_value(item, inner)
    return kept


def _excluded_value(value: Any, tree: Tree) -> Any:
    if type(value) is dict:
        return excluded(value, tree)
    return [_excluded_value(item, tree) for item in value] if type(value) is list else value


def _chosen(projected: Document, document: Any, path: Sequence[str], choose: Choose) -> Document:
    """The projected document with the array at the path replaced by what is chosen of the document's own."""
    name, *rest = path
    value = document.get(name, MISSING)
    if rest:
        if type(value) is not dict or type(projected.get(name)) is not dict:
            return projected
        return {**projected, name: _chosen(projected[name], value, rest, choose)}
    if type(value) is not list:
        return projected
    chosen = choose(value)
    if chosen is MISSING:
        return {key: item for key, item in projected.items() if key != name}
    return {**projected, name: chosen}


def tree_of(paths: Sequence[tuple[str, ...]], where: str = "a projection") -> Tree:
    """The paths as one tree.

    Raises:
        OperatorError: One path leads through another.
    """
    tree: Tree = {}
    for path in paths:
        level = tree
        for part in path[:-1]:
            level = level.setdefault(part, {})
            if level is True:
                raise OperatorError(f"{where} names {'.'.join(path)!r} and its parent.", hint="Name one of them.")
        if path[-1] in level:
            raise OperatorError(f"{where} names {'.'.join(path)!r} twice, or its parent too.", hint="Name one of them.")
        level[path[-1]] = True
    return tree


def parse_projection(raw: Any, collation: Collation | None = None) -> Projection | None:
    """Understand a projection as PyMongo takes it; None and `{}` give whole documents.

    Raises:
        OperatorError: It keeps some fields and leaves out others, or an operator does not exist.

    Example:
        >>> parse_projection({"name": 1, "_id": 0}).apply({"_id": 1, "name": "Tea", "price": 4})
        {'name': 'Tea'}
    """
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        if isinstance(raw, str) or not isinstance(raw, Sequence):
            raise OperatorError("A projection is a list of fields or a document.", hint='["name"] or {"name": 1}')
        raw = dict.fromkeys(raw, 1) or {"_id": 1}
    if not raw:
        return None
    return _Parser(collation).parse(raw)


class _Parser:
    """Sorts the entries of one projection into those that keep, leave out, and choose."""

    def __init__(self, collation: Collation | None) -> None:
        self.collation = collation
        self.keep: list[tuple[str, ...]] = []
        self.leave: list[tuple[str, ...]] = []
        self.choices: dict[tuple[str, ...], Choose] = {}
        self.chosen: list[tuple[str, ...]] = []
        """Arrays that `$slice` cuts: whether their neighbours stay depends on the other entries."""
        self.places: tuple[str, ...] | None = None

    def parse(self, raw: Mapping[str, Any]) -> Projection:
        self.entries(raw, ())
        identity = ("_id",)
        keeps = bool(set(self.keep) - {identity}) or (identity in self.keep and not self.leave)
        if keeps and set(self.leave) - {identity}:
            raise OperatorError(
                "A projection either keeps fields or leaves fields out, save for _id.", hint="Give all 1, or all 0."
            )
        if keeps:
            paths = [*self.keep, *self.chosen]
            if identity not in paths and identity not in self.leave:
                paths.insert(0, identity)
        else:
            paths = self.leave
        return Projection(keeps, tree_of(paths), self.choices, self.places)

    def entries(self, raw: Mapping[str, Any], outer: tuple[str, ...]) -> None:
        for name, value in raw.items():
            if not isinstance(name, str):
                raise OperatorError(f"A projection names fields by text, not by {name!r}.")
            path = (*outer, *split(name, "a projection"))
            if path[-1] == "$":
                self.positional(path[:-1])
            elif any(part.startswith("$") for part in path):
                raise OperatorError(f"{name!r} is no field that a projection could name.")
            elif isinstance(value, bool) or is_number(value):
                (self.keep if value else self.leave).append(path)
            elif isinstance(value, Mapping) and value:
                self.document(path, value)
            else:
                raise OperatorError(
                    f"The projection of {name!r} is neither 1, 0 nor an operator.",
                    hint="Use $project of an aggregation to compute fields.",
                )

    def document(self, path: tuple[str, ...], value: Mapping[str, Any]) -> None:
        operator = next(iter(value))
        if not operator.startswith("$"):
            self.entries(value, path)
        elif operator == "$slice":
            self.choices[path] = _slice(value[operator])
            self.chosen.append(path)
        elif operator == "$elemMatch":
            self.keep.append(path)
            self.choices[path] = self.first_match(value[operator])
        else:
            raise unknown_operator(operator, ["$slice", "$elemMatch"], "a projection")

    def positional(self, path: tuple[str, ...]) -> None:
        if self.places is not None:
            raise OperatorError("A projection has one positional $ at most.")
        self.keep.append(path)
        self.places = path

    def first_match(self, raw: Any) -> Choose:
        query = parse_filter({"array": {"$elemMatch": raw}}, self.collation)

        def choose(array: list[Any]) -> Any:
            box = {"array": array}
            if not query.matches(box):
                return MISSING
            place = query.place(box)
            assert place is not None
            return array[place : place + 1]

        return choose


def _slice(raw: Any) -> Choose:
    raw = checked_value(raw, "$slice")
    numbers = raw if isinstance(raw, list) else [raw]
    if not all(type(item) is int for item in numbers) or len(numbers) not in {1, 2}:
        raise OperatorError(
            "$slice takes a whole number, or a list of two: how many to skip, and to give.", operator="$slice"
        )
    if len(numbers) == 1:
        count = numbers[0]
        return lambda array: array[:count] if count >= 0 else array[count:]
    skip, count = numbers
    if count <= 0:
        raise OperatorError("$slice gives at least one element: its second number must be above 0.", operator="$slice")

    def choose(array: list[Any]) -> list[Any]:
        start = skip if skip >= 0 else max(0, len(array) + skip)
        return array[start : start + count]

    return choose
