"""What stages are made with, and what they run in.

A stage is a function of documents, which it never changes, and of the run. What must hold documents, because it cannot
give the first before it has seen the last, says so to its `Budget`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from consona.documents.collation import Collation
from consona.documents.document import MAX_DEPTH
from consona.documents.errors import OperatorError
from consona.documents.expressions import Compiler, Expression, Scope, compiler_for, parse_expression
from consona.documents.paths import split
from consona.documents.values import Document

if TYPE_CHECKING:  # stages hold pipelines, and pipelines stages; engines know updates, and those stages
    from consona.documents.engine import Query, Source
    from consona.documents.pipeline.parsing import Pipeline

__all__ = [
    "MAX_HELD",
    "Budget",
    "Builder",
    "Context",
    "Run",
    "Stage",
    "count_of",
    "field_path",
    "fields_of",
    "no_pipelines",
    "no_source",
    "with_value",
]

MAX_HELD: Final = 100 * 1024 * 1024
"""Bytes that one stage may hold, about; as MongoDB has it."""

Stage = Callable[[Iterator[Document], "Run"], Iterator[Document]]
Builder = Callable[[str, Any, "Context"], Stage]
"""Makes a stage of its name and its specification."""


class Budget:
    """How much one stage may still hold. The weight of a value is about what it takes in memory."""

    __slots__ = ("_left", "_limit", "_name")

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._left = self._limit = limit

    def hold(self, value: Any) -> None:
        """Count a value that is kept from now on.

        Raises:
            OperatorError: It is too much.
        """
        self._weigh(value, 0)

    def release(self) -> None:
        """Nothing is kept any more."""
        self._left = self._limit

    def _weigh(self, value: Any, depth: int) -> None:
        kind = type(value)
        self._left -= _WEIGHTS.get(kind, 60)
        if kind is str or kind is bytes:
            self._left -= len(value)
        elif kind is dict:
            for name, item in value.items():
                self._left -= 60 + len(name)
                if type(item) not in _SMALL:
                    self._weigh(item, depth + 1)
        elif kind is list:
            for item in value:
                if type(item) in _SMALL:
                    self._left -= 36
                else:
                    self._weigh(item, depth + 1)
        if self._left < 0:
            raise OperatorError(
                f"{self._name} would hold more than {self._limit} bytes.",
                hint="Let fewer documents or fields come to it ($match, $project, $limit), or raise max_bytes.",
                operator=self._name,
            )
        if depth > 2 * MAX_DEPTH:
            raise OperatorError(f"{self._name}: a value is nested too deeply.", operator=self._name)


_SMALL: Final = frozenset({int, float, bool, type(None)})
_WEIGHTS: Final[dict[type, int]] = {dict: 120, list: 60, str: 50, bytes: 40}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a pipeline: how it reads other collections, and what each stage may hold."""

    source: Source
    max_bytes: int = MAX_HELD

    def budget(self, name: str) -> Budget:
        return Budget(name, self.max_bytes)


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage is understood with.

    Attributes:
        variables: What the variables stand for.
        collation: How texts compare.
        parse: Understands a pipeline within a stage.
        outer: The stages that this one stands in.
        reads: The other collections that the whole pipeline reads.
    """

    variables: Scope
    collation: Collation | None
    parse: Callable[[Any, Context], Pipeline]
    outer: tuple[str, ...] = ()
    reads: set[str] = field(default_factory=set)

    @property
    def holds_documents(self) -> bool:
        """Whether the pipeline gets documents that a stage holds, and asks no engine."""
        return self.outer[-1:] == ("$facet",)

    @property
    def compiler(self) -> Compiler:
        return compiler_for(self.variables, self.collation)

    def within(self, name: str, variables: Scope | None = None) -> Context:
        """The context of a pipeline inside of the stage."""
        return replace(self, outer=(*self.outer, name), variables=self.variables if variables is None else variables)

    def named(self, name: str, raw: Any) -> str:
        """The name of a collection of this database."""
        if not isinstance(raw, str) or not 0 < len(raw) <= 120 or "$" in raw or not raw.isprintable():
            raise OperatorError(f"{name} takes the name of a collection of this database.", operator=name)
        return raw

    def read(self, name: str, raw: Any) -> str:
        """The name of a collection that the stage reads."""
        self.reads.add(self.named(name, raw))
        return str(raw)

    def expression(self, raw: Any) -> Callable[[Document], Any]:
        """An expression as a function of a document."""
        return parse_expression(raw, self.variables, self.collation)

    def of_document(self, evaluate: Callable[[Document, Scope], Any]) -> Callable[[Document], Any]:
        """A function of a document and its scope as one of the document."""
        variables = self.variables
        return lambda document: evaluate(document, {**variables, "ROOT": document, "CURRENT": document})

    def constant(self, name: str, raw: Any) -> Any:
        """What an expression gives that asks no document.

        Raises:
            OperatorError: It asks one.
        """
        compiled: Expression = self.compiler.compile(raw)
        try:
            return compiled(dict(self.variables))
        except KeyError:
            raise OperatorError(f"{name} takes a constant there, which asks no document.", operator=name) from None


def no_pipelines(_: Any, context: Context) -> Pipeline:
    """For contexts in which no stage holds a pipeline."""
    raise OperatorError(f"{context.outer[-1]} cannot stand here.")


def no_source(collection: str, _: Query) -> Iterator[Document]:
    """For runs in which no stage reads a collection."""
    raise OperatorError(f"The collection {collection!r} cannot be read here.")


def fields_of(name: str, raw: Any, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """The specification of a stage that takes a document, checked for its keys."""
    wanted = ", ".join([*required, *optional])
    if not isinstance(raw, Mapping):
        raise OperatorError(f"{name} takes a document with {wanted}.", operator=name)
    for key in raw:
        if key not in required and key not in optional:
            raise OperatorError(f"{name} has no option {key!r}.", hint=f"It takes {wanted}.", operator=name)
    for key in required:
        if key not in raw:
            raise OperatorError(f"{name} lacks {key!r}.", operator=name)
    return raw


def field_path(name: str, raw: Any, *, dollar: bool = False) -> tuple[str, ...]:
    """The parts of a field's path, which begins with a dollar or must not."""
    if not isinstance(raw, str) or raw.startswith("$$") or raw.startswith("$") is not dollar:
        example = "$field" if dollar else "field"
        raise OperatorError(f"{name} takes a path there.", hint=f'Write "{example}".', operator=name)
    parts = split(raw[1:] if dollar else raw, name)
    if any(part.startswith("$") for part in parts):
        raise OperatorError(f"{name}: {raw!r} names no field.", operator=name)
    return parts


def count_of(name: str, value: Any, least: int = 0) -> int:
    """A whole number of documents."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value < 1 << 63:
        raise OperatorError(f"{name} takes a whole number from {least}.", operator=name)
    return value


def with_value(document: Document, path: Sequence[str], value: Any) -> Document:
    """A copy of the document in which the value stands at the path, through documents only."""
    name, *rest = path
    if rest:
        inner = document.get(name)
        value = with_value(inner if type(inner) is dict else {}, rest, value)
    return {**document, name: value}
