"""Updates: `{"$set": {"price": 5}, "$push": {"tags": "new"}}` is understood once, then applied to documents.

`parse_update` reads what the update says. What each operator does to one value stands in `update_operators.py`;
here is where the value stands: dotted paths, and the positional `$`, `$[]` and `$[name]`.

Source: https://www.mongodb.com/docs/manual/reference/operator/update/
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from bson import ObjectId

from consona.documents.collation import Collation
from consona.documents.conditions import Compare
from consona.documents.document import checked_document, checked_value
from consona.documents.errors import OperatorError, unknown_operator
from consona.documents.expressions import moment
from consona.documents.filter_nodes import AllPass, Field, Node
from consona.documents.filters import Filter, parse_filter
from consona.documents.paths import get, is_index, split
from consona.documents.pipeline_update import PipelineUpdate, parse_pipeline_update
from consona.documents.update_operators import OPERATORS, Change, constant
from consona.documents.values import MISSING, Document, identical

__all__ = ["Replacement", "Update", "parse_replacement", "parse_update", "upserted"]

MOST_PADDING: Final = 1_500_000
"""How many nulls a `$set` behind the end of an array may fill in."""
_PLACEHOLDER: Final = re.compile(r"\$\[([a-z][a-zA-Z0-9]*)\]")


@dataclass(frozen=True, slots=True)
class Step:
    """One change at one path."""

    path: tuple[str, ...]
    change: Change
    on_insert: bool = False
    """Only where the document is new (`$setOnInsert`)."""


@dataclass(frozen=True, slots=True)
class Update:
    """An update that was understood.

    Attributes:
        raw: As it was given.
        steps: What is changed where, in MongoDB's order: by path.
        renames: Pairs of paths, from and to.
        filters: Name of a placeholder `$[name]` -> whether an element is meant.
    """

    raw: Mapping[str, Any]
    steps: Sequence[Step] = ()
    renames: Sequence[tuple[tuple[str, ...], tuple[str, ...]]] = ()
    filters: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    updates: ClassVar = True

    @property
    def needs_place(self) -> bool:
        """Whether it names the element that the filter found (`$`)."""
        return any("$" in step.path for step in self.steps)

    def apply(self, document: Document, *, place: int | None = None, inserting: bool = False) -> bool:
        """Change a document in place. Returns whether anything is different now.

        Args:
            document: A checked one, the caller's to change. After an error it is of no use.
            place: The element that the filter found, for the positional `$`.
            inserting: Whether the document is new.

        Raises:
            OperatorError: The update does not fit the document: `$inc` of a text, `$push` into a number, …
        """
        identity = document.get("_id", MISSING)
        editor = _Editor(self.filters, place)
        changed = False
        for source, target in self.renames:
            value = get(document, source)
            if value is not MISSING:
                _refuse_arrays(document, source, target)
                editor.edit(document, source, 0, _REMOVE)
                editor.edit(document, target, 0, constant(value))
                changed = True
        for step in self.steps:
            if (inserting or not step.on_insert) and editor.edit(document, step.path, 0, step.change):
                changed = True
        if changed and identity is not MISSING and not identical(document.get("_id", MISSING), identity):
            raise OperatorError(
                "The update would change the _id of a document, which never changes.",
                hint="Insert a new document, and delete the old one.",
            )
        return changed


_REMOVE: Final = Change(lambda _: MISSING, creates=False)


def _refuse_arrays(document: Document, *paths: tuple[str, ...]) -> None:
    for path in paths:
        if any(type(get(document, path[:end])) is list for end in range(1, len(path))):
            raise OperatorError(f"$rename cannot go through an array: {'.'.join(path)!r}.", operator="$rename")


@dataclass(frozen=True, slots=True)
class _Editor:
    """Finds the places that a path means in one document, and changes what is there."""

    filters: Mapping[str, Callable[[Any], bool]]
    place: int | None

    def edit(self, container: Any, path: tuple[str, ...], at: int, change: Change) -> bool:
        """Returns whether anything is different now."""
        kind = type(container)
        if kind is dict:
            return self._edit_field(container, path, at, change)
        if kind is list:
            changed = [
                self._edit_element(container, index, path, at, change)
                for index in self._places(container, path, at, change)
            ]
            return any(changed)
        if not change.creates and not path[at].startswith("$"):
            return False
        raise OperatorError(
            f"Cannot change {'.'.join(path)!r}: {'.'.join(path[:at])!r} is there, and is no document.",
            hint="Set the outer field to a document first.",
        )

    def _edit_field(self, document: Document, path: tuple[str, ...], at: int, change: Change) -> bool:
        name = path[at]
        if name == "$" or name.startswith("$["):
            raise OperatorError(
                f"{'.'.join(path)!r}: {'.'.join(path[:at]) or 'the document'} is no array, so {name} has no place."
            )
        old = document.get(name, MISSING)
        if at + 1 < len(path):
            if old is not MISSING:
                return self.edit(old, path, at + 1, change)
            if path[at + 1] == "$" or path[at + 1].startswith("$["):
                raise OperatorError(f"{'.'.join(path[: at + 1])!r} must exist so that {path[at + 1]} can change it.")
            if not change.creates:
                return False
            inner: Document = {}
            self.edit(inner, path, at + 1, change)
            document[name] = inner
            return True
        new = change.make(old)
        if new is MISSING:
            return document.pop(name, MISSING) is not MISSING
        if new is old or identical(new, old):
            return False
        document[name] = new
        return True

    def _edit_element(self, array: list[Any], index: int, path: tuple[str, ...], at: int, change: Change) -> bool:
        if index >= len(array):
            if not change.creates:
                return False
            if index - len(array) > MOST_PADDING:
                raise OperatorError(
                    f"{'.'.join(path)!r} is more than {MOST_PADDING} places behind the end of the array."
                )
            array.extend([None] * (index - len(array)))
            if at + 1 < len(path):
                array.append({})
                self.edit(array[index], path, at + 1, change)
            else:
                array.append(change.make(MISSING))
            return True
        if at + 1 < len(path):
            return self.edit(array[index], path, at + 1, change)
        new = change.make(array[index])
        if new is MISSING:
            new = None  # the places of the others stay
        if identical(new, array[index]):
            return False
        array[index] = new
        return True

    def _places(self, array: list[Any], path: tuple[str, ...], at: int, change: Change) -> Iterator[int]:
        part = path[at]
        if is_index(part):
            yield int(part)
        elif part == "$[]":
            yield from range(len(array))
        elif part == "$":
            if self.place is None:
                raise OperatorError(
                    f"{'.'.join(path)!r}: the filter found no element for the positional $.",
                    hint="Name the array in the filter, or use $[] or $[name] with array_filters.",
                )
            yield self.place
        elif found := _PLACEHOLDER.fullmatch(part):
            test = self.filters[found[1]]
            yield from [index for index, element in enumerate(array) if test(element)]
        elif change.creates:
            raise OperatorError(
                f"Cannot set the field {part!r} of {'.'.join(path[:at])!r}, which is an array.",
                hint="Name an element by its place, or use $, $[] or $[name].",
            )


def parse_update(
    raw: Any,
    *,
    array_filters: Sequence[Mapping[str, Any]] | None = None,
    collation: Collation | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    let: Mapping[str, Any] | None = None,
    inserted: Document | None = None,
) -> Update | PipelineUpdate:
    """Understand an update.

    Args:
        raw: Operators or a pipeline, as PyMongo takes them.
        array_filters: What `$[name]` means: `[{"name.grade": {"$gte": 85}}]`.
        collation: How the filters of `$pull` and `array_filters` compare texts.
        now: What `$currentDate` sets, and `$$NOW` gives.
        let: The variables of a pipeline.
        inserted: What an upsert by a pipeline inserts; by default what the pipeline makes of the filter.

    Raises:
        OperatorError: An operator does not exist, lacks what it needs, or two change the same field.

    Example:
        >>> raise_price = parse_update({"$inc": {"price": 2}, "$addToSet": {"tags": "dear"}})
        >>> product = {"price": 5, "tags": ["new"]}
        >>> raise_price.apply(product), product
        (True, {'price': 7, 'tags': ['new', 'dear']})
    """
    if isinstance(raw, list | tuple):
        if array_filters:
            raise OperatorError("array_filters belong to operators, not to a pipeline.", hint="Use $map or $filter.")
        variables = {**moment(now), **(let or {})}
        return parse_pipeline_update(raw, variables=variables, collation=collation, inserted=inserted)
    if not isinstance(raw, Mapping) or not raw:
        raise OperatorError("An update is a document of operators.", hint='{"$set": {"field": value}}')
    steps: list[Step] = []
    renames: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for name, fields in raw.items():
        if not str(name).startswith("$"):
            raise OperatorError(
                f"An update takes operators, and {name!r} is none.",
                hint=f'{{"$set": {{"{name}": …}}}} changes the field; replace_one replaces the whole document.',
            )
        if name != "$rename" and name not in OPERATORS:
            raise unknown_operator(name, [*OPERATORS, "$rename"], "an update")
        if not isinstance(fields, Mapping):
            raise OperatorError(f"{name} takes a document of fields, not a {type(fields).__name__}.", operator=name)
        for path, value in fields.items():
            parts = _parse_path(name, path)
            if name == "$rename":
                renames.append((parts, _parse_target(parts, value)))
            else:
                change = OPERATORS[name](name, value, collation, now)
                steps.append(Step(parts, change, on_insert=name == "$setOnInsert"))
    _refuse_conflicts([step.path for step in steps] + [path for pair in renames for path in pair])
    steps.sort(key=lambda step: [(is_index(part), int(part) if is_index(part) else 0, part) for part in step.path])
    return Update(raw, steps, renames, _parse_array_filters(array_filters or (), steps, collation))


def _parse_path(name: str, path: Any) -> tuple[str, ...]:
    if not isinstance(path, str):
        raise OperatorError(f"{name} names fields by text, not by {path!r}.", operator=name)
    parts = split(path, name)
    for part in parts:
        if part.startswith("$") and part not in {"$", "$[]", "$ref", "$id", "$db"} and not _PLACEHOLDER.fullmatch(part):
            raise OperatorError(f"{name}: {part!r} in {path!r} is no name of a field.", operator=name)
    if parts[0].startswith("$"):
        raise OperatorError(f"{name}: the path {path!r} begins with a positional operator.", operator=name)
    if parts.count("$") > 1:
        raise OperatorError(f"{name}: {path!r} has more than one positional $.", operator=name)
    checked_value({part: 0 for part in parts if not part.startswith("$")}, stored=True)
    return parts


def _parse_target(source: tuple[str, ...], value: Any) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise OperatorError("$rename takes the new name as text.", operator="$rename")
    target = _parse_path("$rename", value)
    if any(part.startswith("$") for part in (*source, *target)):
        raise OperatorError("$rename cannot name elements of arrays.", operator="$rename")
    return target


def _refuse_conflicts(paths: list[tuple[str, ...]]) -> None:
    ordered = sorted(paths)
    for one, other in itertools.pairwise(ordered):
        if other[: len(one)] == one:
            raise OperatorError(
                f"The update would change {'.'.join(other)!r} twice.",
                hint="Name each field once, and not its parent too.",
            )


def _parse_array_filters(
    raw: Sequence[Mapping[str, Any]], steps: list[Step], collation: Collation | None
) -> dict[str, Callable[[Any], bool]]:
    used = {found[1] for step in steps for part in step.path if (found := _PLACEHOLDER.fullmatch(part))}
    tests: dict[str, Callable[[Any], bool]] = {}
    for item in raw:
        names = set(_identifiers(item))
        if len(names) != 1:
            raise OperatorError("Each of array_filters speaks of one name.", hint='[{"name.field": {"$gt": 1}}]')
        [name] = names
        if name in tests:
            raise OperatorError(f"array_filters has two filters for {name!r}.", hint="Join them with $and.")
        if name not in used:
            raise OperatorError(f"array_filters speaks of {name!r}, which the update does not use.")
        tests[name] = _on_element(name, parse_filter(item, collation).matches)
    for name in used - tests.keys():
        raise OperatorError(f"$[{name}] has no filter.", hint=f'array_filters=[{{"{name}": …}}]')
    return tests


def _on_element(name: str, matches: Callable[[Document], bool]) -> Callable[[Any], bool]:
    return lambda element: matches({name: element})


def _identifiers(raw: Any) -> Iterator[str]:
    if not isinstance(raw, Mapping):
        raise OperatorError("array_filters is a list of filters.")
    for key, value in raw.items():
        if key in {"$and", "$or", "$nor"} and isinstance(value, list | tuple):
            for item in value:
                yield from _identifiers(item)
        else:
            yield str(key).partition(".")[0]


@dataclass(frozen=True, slots=True)
class Replacement:
    """A whole new document in the place of another; its `_id` stays."""

    document: Document

    needs_place: ClassVar = False
    updates: ClassVar = False

    def apply(self, document: Document, *, place: int | None = None, inserting: bool = False) -> bool:  # noqa: ARG002
        """Change a document in place. Returns whether anything is different now.

        Raises:
            OperatorError: The new one has another `_id`.
        """
        new = self.document
        if "_id" in document:
            if "_id" in new and not identical(new["_id"], document["_id"]):
                raise OperatorError("The replacement has another _id than the document.", hint="Leave the _id out.")
            new = {"_id": document["_id"], **new}
        if identical(document, new):
            return False
        document.clear()
        document.update(new)
        return True


def parse_replacement(raw: Any) -> Replacement:
    """Check a replacement.

    Raises:
        OperatorError: It holds operators.
        DocumentRefused: It cannot be kept.
    """
    if isinstance(raw, Mapping) and any(str(name).startswith("$") for name in raw):
        raise OperatorError(
            "A replacement is a whole document, without operators.", hint="Use update_one for operators."
        )
    return Replacement(checked_document(raw))


def upserted(query: Filter, change: Update | PipelineUpdate | Replacement) -> Document:
    """The document that an upsert inserts: what the filter says must be equal, then the update.

    Raises:
        OperatorError: The filter says of a field that it equals two things.
    """
    document: Document = {}
    editor = _Editor({}, None)
    for path, value in _equalities(query.node):
        if isinstance(change, Replacement) and path != ("_id",):
            continue
        if get(document, path) is not MISSING:
            raise OperatorError(f"The filter names {'.'.join(path)!r} twice, so the new document cannot be known.")
        editor.edit(document, path, 0, constant(value))
    change.apply(document, inserting=True)
    identity = document.pop("_id", MISSING)
    return checked_document({"_id": ObjectId() if identity is MISSING else identity, **document})


def _equalities(node: Node) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, AllPass):
        for inner in node.nodes:
            yield from _equalities(inner)
    elif isinstance(node, Field) and isinstance(node.condition, Compare) and node.condition.op == "$eq":
        yield node.path, node.condition.value
