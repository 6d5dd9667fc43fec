"""The documents that a pipeline gives: copies of their own, of a size that a document may have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from consona.documents.document import MAX_BYTES, MAX_DEPTH, SURELY_SMALL, bson_size
from consona.documents.errors import OperatorError
from consona.documents.values import Document

__all__ = ["delivered"]

_DEEPEST: Final = 2 * MAX_DEPTH
"""As MongoDB lets results be deeper than what is kept."""


def delivered(documents: Iterator[Document]) -> Iterator[Document]:
    """Each document as the caller's own: expressions make values that several documents share.

    Raises:
        OperatorError: One is larger than 16 MiB, or nested too deeply.
    """
    try:
        for document in documents:
            copy = _Copy()
            own = copy.value(document, 0)
            if copy.weight > SURELY_SMALL and bson_size(own) > MAX_BYTES:
                raise _too_large()
            yield own
    except RecursionError as error:
        raise OperatorError("The pipeline, or a value that it makes, is nested too deeply.") from error


def _too_large() -> OperatorError:
    return OperatorError(
        f"The pipeline makes a document of more than {MAX_BYTES} bytes.",
        hint="Give several smaller ones: leave out a $push, or $unwind at the end.",
    )


class _Copy:
    """One walk over one document."""

    __slots__ = ("weight",)

    def __init__(self) -> None:
        self.weight = 0
        """At most the size in BSON, at least a hundredth of it: a key of an array has 3 bytes, an empty array 5."""

    def value(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self.weight += 3
        if kind is str or kind is bytes:
            self.weight += len(value)
        elif kind is dict:
            self._inward(depth)
            return {name: self.value(item, depth + 1) for name, item in value.items()}
        elif kind is list:
            self._inward(depth)
            return [self.value(item, depth + 1) for item in value]
        return value

    def _inward(self, depth: int) -> None:
        self.weight += 5
        if self.weight > MAX_BYTES:
            raise _too_large()
        if depth > _DEEPEST:
            raise OperatorError(f"The pipeline makes a document of more than {_DEEPEST} levels.")
