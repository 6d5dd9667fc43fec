"""Dotted paths: `specifications.connectivity`, `reviews.0.rating`.

MongoDB's rules for a filter's path, part by part. In a document the part is the name of a field. In an
array it is tried on each element that is a document, and, where the part is a number, as the place of
an element too. An array at the end of the path stands for its elements and for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.values import MISSING

__all__ = ["Reader", "get", "is_index", "places", "reader", "split"]

MAX_DEPTH: Final = 100
"""Parts of a path, as MongoDB limits the depth of documents."""

Reader = Callable[[Any], Sequence[Any]]


def split(path: str, where: str = "a filter") -> tuple[str, ...]:
    """The parts of a path.

    Raises:
        OperatorError: It is empty, has an empty part, or more than 100.
    """
    parts = tuple(path.split("."))
    if not all(parts) or "\0" in path:
        raise OperatorError(
            f"{path!r} is no path of {where}.", hint="Write names of fields with single dots between them: address.city"
        )
    if len(parts) > MAX_DEPTH:
        raise OperatorError(f"A path of {where} has {len(parts)} parts; at most {MAX_DEPTH} are allowed.")
    return parts


def is_index(part: str) -> bool:
    """Whether the part can be the place of an element: `0`, `1`, `17`, but not `01`."""
    return part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")


def get(document: Any, parts: Sequence[str]) -> Any:
    """The value at a path that goes through documents and numbered elements only, or `MISSING`."""
    value = document
    for part in parts:
        if type(value) is dict:
            value = value.get(part, MISSING)
        elif type(value) is list and is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def reader(parts: Sequence[str], *, expand: bool = True) -> Reader:
    """A function that gives all values at a path of a document, `MISSING` where a document lacks the field.

    Args:
        parts: Of `split`.
        expand: Whether an array at the end of the path gives its elements (and then itself), or itself alone.

    Example:
        >>> shelf = {"books": [{"title": "Emma", "tags": ["old", "love"]}, {"title": "Dune"}, 7]}
        >>> list(reader(split("books.tags"))(shelf))
        ['old', 'love', ['old', 'love'], MISSING]
        >>> list(reader(split("books.1.title"))(shelf))
        [MISSING, MISSING, 'Dune']
    """
    if len(parts) == 1:
        name = parts[0]
        if not expand:
            return lambda document: (document.get(name, MISSING),)

        def read_field(document: Any) -> Sequence[Any]:
            value = document.get(name, MISSING)
            return [*value, value] if type(value) is list else (value,)

        return read_field

    parts = tuple(parts)

    def read(document: Any) -> Sequence[Any]:
        found: list[Any] = []
        _gather(document, parts, 0, found, expand)
        return found

    return read


def _gather(document: dict[str, Any], parts: tuple[str, ...], at: int, found: list[Any], expand: bool) -> None:  # noqa: FBT001
    value = document.get(parts[at], MISSING)
    at += 1
    kind = type(value)
    if at == len(parts):
        if kind is list and expand:
            found.extend(value)
        found.append(value)
    elif kind is dict:
        _gather(value, parts, at, found, expand)
    elif kind is list:
        _gather_elements(value, parts, at, found, expand)
    else:
        found.append(MISSING)


def _gather_elements(array: list[Any], parts: tuple[str, ...], at: int, found: list[Any], expand: bool) -> None:  # noqa: FBT001
    part = parts[at]
    index = int(part) if is_index(part) else -1
    last = at + 1 == len(parts)
    for place, element in enumerate(array):
        kind = type(element)
        if kind is dict:
            _gather(element, parts, at, found, expand)
        if place != index:
            continue
        if last:
            found.append(element)  # named by its place, so not expanded
        elif kind is dict:
            _gather(element, parts, at + 1, found, expand)
        elif kind is list:
            _gather_elements(element, parts, at + 1, found, expand)


def places(document: Any, parts: Sequence[str], *, expand: bool = True) -> list[tuple[Any, int | None]]:
    """As `reader`, with the place of the element in the outermost array that was gone through, else None."""
    found: list[tuple[Any, int | None]] = []
    _place(document, tuple(parts), None, found, expand)
    return found


def _place(
    document: dict[str, Any],
    parts: tuple[str, ...],
    place: int | None,
    found: list[tuple[Any, int | None]],
    expand: bool,  # noqa: FBT001
) -> None:
    value = document.get(parts[0], MISSING)
    rest = parts[1:]
    if type(value) is list:
        if rest:
            _place_elements(value, rest, place, found, expand)
            return
        if expand:
            found.extend((element, at if place is None else place) for at, element in enumerate(value))
        found.append((value, place))
    elif rest and type(value) is dict:
        _place(value, rest, place, found, expand)
    else:
        found.append((MISSING if rest else value, place))


def _place_elements(
    array: list[Any],
    parts: tuple[str, ...],
    place: int | None,
    found: list[tuple[Any, int | None]],
    expand: bool,  # noqa: FBT001
) -> None:
    for at, element in enumerate(array):
        outermost = at if place is None else place
        if type(element) is dict:
            _place(element, parts, outermost, found, expand)
        if parts[0] != str(at):
            continue
        if len(parts) == 1:
            found.append((element, place))  # named by its place: no array was gone through for it
        elif type(element) is dict:
            _place(element, parts[1:], place, found, expand)
        elif type(element) is list:
            _place_elements(element, parts[1:], place, found, expand)
