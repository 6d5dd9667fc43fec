"""Names everything that is wrong with data, where the parser stops at the first mistake.

Called only after parsing failed, so it may be slow: it walks the data and its declared type side by
side, down to the members that do not fit.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from consona.errors import FieldProblem

__all__ = ["fields_of", "plain_words", "wrong_fields"]

MAX_DEPTH: Final = 64
_AT: Final = re.compile(r" - at `(?:key in )?\$(.*)`$")
_MISSING: Final = re.compile(r"Object missing required field `(.*)`$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`$")


def wrong_fields(value: Any, declared: Any, path: str, *, strict: bool = True) -> Iterator[FieldProblem]:
    """Each field of `value` (decoded JSON or MessagePack) that does not fit `declared`.

    Example:
        >>> class Point(msgspec.Struct):
        ...     x: int
        ...     y: int
        >>> [str(problem.path) for problem in wrong_fields({"x": "a"}, Point, "body")]
        ['body.x', 'body.y']
    """
    yield from _walk(value, declared, path, strict=strict, depth=0)


def _walk(value: Any, declared: Any, path: str, *, strict: bool, depth: int) -> Iterator[FieldProblem]:
    error = _mismatch(value, declared, strict=strict)
    if error is None:
        return
    inner = list(_members(value, declared, path, strict=strict, depth=depth)) if depth < MAX_DEPTH else []
    if inner:
        yield from inner
    else:  # nothing below is wrong, so it is this value itself
        yield _problem(path, error)


def _mismatch(value: Any, declared: Any, *, strict: bool) -> str | None:
    try:
        msgspec.convert(value, declared, strict=strict, str_keys=True)
    except (
        msgspec.ValidationError,
        ValueError,
    ) as error:  # of a date beyond all years, msgspec lets a ValueError through
        return str(error)
    except RecursionError:
        return "Nested too deeply"
    return None


def _members(value: Any, declared: Any, path: str, *, strict: bool, depth: int) -> Iterator[FieldProblem]:
    declared = _the_one(declared)
    origin = get_origin(declared) or declared
    arguments = get_args(declared)
    if isinstance(value, dict):
        fields = fields_of(declared)
        if fields is not None:
            yield from _object(value, declared, fields, path, strict=strict, depth=depth)
        elif origin is dict and len(arguments) == 2:
            for key, member in value.items():
                yield from _walk(member, arguments[1], f"{path}.{key}", strict=strict, depth=depth + 1)
    elif isinstance(value, list) and origin in {list, set, frozenset, tuple} and arguments:
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            pairs = list(zip(value, arguments, strict=False))
        else:
            pairs = [(member, arguments[0]) for member in value]
        for position, (member, kind) in enumerate(pairs):
            yield from _walk(member, kind, f"{path}[{position}]", strict=strict, depth=depth + 1)


def _object(
    value: dict[Any, Any],
    declared: Any,
    fields: list[tuple[str, Any, bool]],
    path: str,
    *,
    strict: bool,
    depth: int,
) -> Iterator[FieldProblem]:
    for name, kind, required in fields:
        if name in value:
            yield from _walk(value[name], kind, f"{path}.{name}", strict=strict, depth=depth + 1)
        elif required:
            yield FieldProblem(f"{path}.{name}", "is missing")
    config = getattr(declared, "__struct_config__", None)
    if config is not None and config.forbid_unknown_fields:
        known = {name for name, _, _ in fields} | {config.tag_field}
        for name in value:
            if name not in known:
                yield FieldProblem(f"{path}.{name}", "is not known here")


def _the_one(declared: Any) -> Any:
    """The type itself where the annotation adds constraints or None to it."""
    if get_origin(declared) is Annotated:
        return _the_one(get_args(declared)[0])
    if get_origin(declared) in {Union, types.UnionType}:
        members = [member for member in get_args(declared) if member is not type(None)]
        if len(members) == 1:
            return _the_one(members[0])
    return declared


def fields_of(declared: Any) -> list[tuple[str, Any, bool]] | None:
    """(name on the wire, type, required) of each field of a declared object; None where it is none."""
    kind = get_origin(declared) or declared
    if not isinstance(kind, type):
        return None
    if issubclass(kind, msgspec.Struct):
        if kind.__struct_config__.array_like:
            return None
        return [(field.encode_name, field.type, field.required) for field in msgspec.structs.fields(declared)]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return [
            (
                field.name,
                hints[field.name],
                field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(kind)
            if field.init
        ]
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        required: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
        # Where annotations are text (`from __future__ import annotations`), Python's own set misses these marks.
        marked = {typing.Required: True, typing.NotRequired: False}
        return [
            (name, _without_required(hint), marked.get(get_origin(hint), name in required))
            for name, hint in hints.items()
        ]
    return None


def _without_required(hint: Any) -> Any:
    if get_origin(hint) in {typing.Required, typing.NotRequired}:
        return get_args(hint)[0]
    return hint


def _problem(path: str, message: str) -> FieldProblem:
    """The parser's sentence as a field and plain words."""
    at = _AT.search(message)
    if at:
        path += at[1]
        message = message[: at.start()]
    for pattern, words in ((_MISSING, "is missing"), (_UNKNOWN, "is not known here")):
        found = pattern.match(message)
        if found:
            return FieldProblem(f"{path}.{found[1]}", words)
    return FieldProblem(path, plain_words(message))


def plain_words(message: str) -> str:
    """`Expected `int`, got `str`` as `expected int, got str`."""
    message = message.replace("`", "")
    return message[:1].lower() + message[1:]
