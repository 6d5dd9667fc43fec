"""What an event is called on the wire, and how its older versions are read.

    @event("order.placed", version=2)
    class OrderPlaced(msgspec.Struct):
        id: int
        total: Decimal

Any Struct or dataclass is an event; without the decorator its class' name is its type, and its version 1.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from consona.errors import ConfigurationError, FieldProblem, ValidationError
from consona.validation import wrong_fields

__all__ = ["EventType", "Upcasters", "event", "event_type", "matcher"]

T = TypeVar("T")
MAX_TYPE_BYTES: Final = 200
_TYPE: Final = re.compile(r"[^\s\x00-\x1f\x7f.*>]+(\.[^\s\x00-\x1f\x7f.*>]+)*\Z")
_PATTERN: Final = re.compile(r"(\*|[^\s\x00-\x1f\x7f.*>]+)(\.(\*|[^\s\x00-\x1f\x7f.*>]+))*(\.>)?\Z|>\Z")
_ATTRIBUTE: Final = "__consona_event__"


class EventType(NamedTuple):
    """The name and version of a type of events."""

    name: str
    version: int = 1


def event(name: str, *, version: int = 1) -> Callable[[type[T]], type[T]]:
    """Name a type of events, and say which version of it this class is.

    Args:
        name: Words with dots between them: `shop.order.placed`; up to 200 bytes.
        version: Raise it when a reader of the old form could not read the new one, and add an upcaster.

    Raises:
        ConfigurationError: The name has an empty word, a space or a wildcard, or the version is below 1.
    """
    if not _TYPE.match(name) or len(name.encode()) > MAX_TYPE_BYTES:
        raise ConfigurationError(
            f"{name!r} is no name for events.", hint="Use words with dots between them: shop.order.placed"
        )
    if version < 1:
        raise ConfigurationError(f"event({name!r}, version={version}): the first version is 1.")

    def name_it(declared: type[T]) -> type[T]:
        setattr(declared, _ATTRIBUTE, EventType(name, version))
        return declared

    return name_it


def event_type(declared: Any) -> EventType:
    """The name and version of a class of events.

    Raises:
        ConfigurationError: It is neither a Struct nor a dataclass.
    """
    if isinstance(declared, type):
        named = declared.__dict__.get(_ATTRIBUTE)
        if isinstance(named, EventType):
            return named
        if is_declared(declared):
            return EventType(declared.__name__)
    raise ConfigurationError(
        f"{getattr(declared, '__name__', declared)!r} is no type of events.",
        hint="Use a msgspec.Struct or a dataclass.",
    )


def is_declared(kind: Any) -> bool:
    """Whether it is a class that can be a type of events."""
    return isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind))


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether the name of a type matches one of the patterns.

    `*` stands for one word, `>` at the end for one and more: `order.*`, `order.>`, `>`.

    Raises:
        ConfigurationError: A pattern is none.

    Example:
        >>> of_orders = matcher(["order.>"])
        >>> of_orders("order.placed"), of_orders("order.item.added"), of_orders("order")
        (True, True, False)
    """
    exact: set[str] = set()
    parts: list[str] = []
    for pattern in patterns:
        if not _PATTERN.match(pattern):
            raise ConfigurationError(
                f"{pattern!r} is no pattern for events.",
                hint="* stands for one word, > (at the end) for all that follow: order.* or order.>",
            )
        if "*" in pattern or ">" in pattern:
            words = [r"[^.]+" if w == "*" else r".+" if w == ">" else re.escape(w) for w in pattern.split(".")]
            parts.append(r"\.".join(words))
        else:
            exact.add(pattern)
    wild = re.compile("|".join(f"(?:{part})" for part in parts)) if parts else None
    if wild is None:
        return exact.__contains__
    return lambda name: name in exact or wild.fullmatch(name) is not None


class Upcasters:
    """The steps from old versions of events to the newest."""

    def __init__(self) -> None:
        self._steps: dict[EventType, Callable[[dict[str, Any]], Mapping[str, Any]]] = {}

    def add(self, declared: type, version: int, step: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """`step` makes version `version + 1` of what it gets."""
        name, newest = event_type(declared)
        if not 1 <= version < newest:
            raise ConfigurationError(f"An upcaster of {name!r} leads from a version between 1 and {newest - 1}.")
        if EventType(name, version) in self._steps:
            raise ConfigurationError(f"{name!r} has an upcaster from version {version} already.")
        self._steps[EventType(name, version)] = step

    def decode(self, declared: Any, name: str, version: int, data: bytes) -> Any:
        """The event in `data`, as an instance of `declared` (or as plain data, where that is `Any`).

        Raises:
            ValidationError: It does not fit; every wrong field is named. Or its version is unknown.
        """
        newest = event_type(declared) if is_declared(declared) else EventType(name, version)
        try:
            if version == newest.version or name != newest.name:
                return msgspec.json.decode(data, type=declared)
            return msgspec.convert(self._raised(name, version, newest.version, data), declared, str_keys=True)
        except msgspec.ValidationError:
            plain = msgspec.json.decode(data) if version == newest.version else {}
            problems = list(wrong_fields(plain, declared, "data"))
            raise ValidationError(f"An event {name!r} does not fit its type.", fields=problems) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValidationError(
                f"The data of an event {name!r} is no JSON.", fields=[FieldProblem("data", str(error))]
            ) from error

    def _raised(self, name: str, version: int, newest: int, data: bytes) -> Any:
        plain: Any = msgspec.json.decode(data)
        for step in range(version, newest):
            upcast = self._steps.get(EventType(name, step))
            if upcast is None:
                raise ValidationError(
                    f"An event {name!r} has version {version}, and nothing here reads it.",
                    fields=[FieldProblem("version", f"expected {newest}, or an upcaster from version {step}")],
                )
            plain = upcast(plain)
        if version > newest:
            raise ValidationError(
                f"An event {name!r} has version {version}; this program knows versions up to {newest}.",
                fields=[FieldProblem("version", f"expected at most {newest}")],
            )
        return plain
