"""The tree of a filter: what it asks of a document.

`Field` asks the values at a path; the others combine. `test` makes a node a function of one document; `place`
finds the element of an array that made it true, which the positional `$` of updates and projections names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from consona.documents.collation import Collation
from consona.documents.conditions import AllOf, Condition, ElementMatches, ElementPasses, Inverse
from consona.documents.expressions import truth
from consona.documents.paths import places, reader
from consona.documents.values import Document

__all__ = ["AllPass", "AnyPasses", "Computed", "DocumentTest", "Field", "Node", "NotPasses", "lifted"]

DocumentTest = Callable[[Any], bool]


class Node(Protocol):
    """A part of a filter."""

    def test(self, collation: Collation | None) -> DocumentTest:
        """The question as a function of a document."""

    def place(self, document: Document, collation: Collation | None) -> int | None:
        """Of a document that passes: which element of an array did, or None where none was looked at."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value at the path passes the condition."""

    path: tuple[str, ...]
    condition: Condition

    def test(self, collation: Collation | None) -> DocumentTest:
        read = reader(self.path, expand=not self.condition.whole)
        test = self.condition.test(collation)

        def passes(document: Any) -> bool:
            for value in read(document):  # noqa: SIM110  half the time of any() over a generator
                if test(value):
                    return True
            return False

        return passes

    def place(self, document: Document, collation: Collation | None) -> int | None:
        condition = self.condition
        test = condition.test(collation)
        for value, place in places(document, self.path, expand=not condition.whole):
            if test(value):
                if isinstance(condition, ElementMatches | ElementPasses):
                    return condition.place(value, collation)
                return place
        return None


@dataclass(frozen=True, slots=True)
class AllPass:
    """`$and`; without nodes every document passes."""

    nodes: Sequence[Node] = ()

    def test(self, collation: Collation | None) -> DocumentTest:
        tests = [node.test(collation) for node in self.nodes]
        if len(tests) == 1:
            return tests[0]
        if len(tests) == 2:
            first, second = tests
            return lambda document: first(document) and second(document)

        def passes(document: Any) -> bool:
            for test in tests:  # noqa: SIM110  half the time of all() over a generator
                if not test(document):
                    return False
            return True

        return passes

    def place(self, document: Document, collation: Collation | None) -> int | None:
        found = [node.place(document, collation) for node in self.nodes]
        return next((place for place in reversed(found) if place is not None), None)


@dataclass(frozen=True, slots=True)
class AnyPasses:
    """`$or`."""

    nodes: Sequence[Node]

    def test(self, collation: Collation | None) -> DocumentTest:
        tests = [node.test(collation) for node in self.nodes]
        return lambda document: any(test(document) for test in tests)

    def place(self, document: Document, collation: Collation | None) -> int | None:
        for node in self.nodes:
            if node.test(collation)(document):
                return node.place(document, collation)
        return None


@dataclass(frozen=True, slots=True)
class NotPasses:
    """`$nor` of one, and every negation."""

    node: Node

    def test(self, collation: Collation | None) -> DocumentTest:
        test = self.node.test(collation)
        return lambda document: not test(document)

    def place(self, document: Document, collation: Collation | None) -> int | None:  # noqa: ARG002
        return None


@dataclass(frozen=True, slots=True)
class Computed:
    """`$expr` and `$jsonSchema`: the function gives something true for the document."""

    expression: Callable[[Any], Any]

    def test(self, collation: Collation | None) -> DocumentTest:  # noqa: ARG002  the expression compares by it already
        expression = self.expression
        return lambda document: truth(expression(document))

    def place(self, document: Document, collation: Collation | None) -> int | None:  # noqa: ARG002
        return None


def lifted(path: tuple[str, ...], condition: Condition) -> Node:
    """The condition on the values at a path: `$and` and `$not` are asked of the document, the others of a value.

    `{"a": {"$gt": 1, "$lt": 3}}` may be passed by two elements of an array, and `{"a": {"$ne": 1}}` by none.
    """
    if isinstance(condition, AllOf):
        nodes = [lifted(path, item) for item in condition.conditions]
        return nodes[0] if len(nodes) == 1 else AllPass(nodes)
    if isinstance(condition, Inverse):
        return NotPasses(lifted(path, condition.condition))
    return Field(path, condition)
