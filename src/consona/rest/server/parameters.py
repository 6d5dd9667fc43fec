"""What a handler asks for, read from its signature once, at start.

async def handler(
id: int,                                       # named in the path: its segment
limit: int = 10,                               # text-like: from the query
tags: list[str] = [],                          # list of text-like: a query name given several times
agent: Annotated[str, Header("user-agent")],   # marked: from there
post: NewPost,                                 # Struct, dataclass, TypedDict, list or dict of them: the body
request: Request,                              # the request itself
socket: WebSocket,                             # of a WebSocket route: the connection
db: SQLDatabase,                               # a part of the server, by type
session: Session,                              # what a provider function (`api.provide`) returns
): ...
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from consona.errors import ConfigurationError
from consona.rest.server.conditional import Precondition
from consona.rest.server.guards import WantsUser
from consona.rest.server.requests import Background, Request
from consona.rest.server.websocket import WebSocket

__all__ = ["Body", "Cookie", "Header", "Injected", "Parameter", "Path", "Query", "hints_of", "read_parameters"]

MISSING: Final = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True, slots=True)
class _Marker:
    name: str = ""


class Path(_Marker):
    """`Annotated[int, Path("post-id")]`: from the path (the default for names in the pattern)."""


class Query(_Marker):
    """`Annotated[int, Query("page-size")]`: from the query, under another name than the parameter's."""


class Header(_Marker):
    """`Annotated[str, Header()]`: from a header; by default the parameter's name with dashes."""


class Cookie(_Marker):
    """`Annotated[str, Cookie()]`: from a cookie."""


class Body(_Marker):
    """`Annotated[dict[str, int], Body()]`: the body, for types that are not taken for one by themselves.

    With `bytes` or `str` it is the raw body, of any content type.
    """


Place = Literal[
    "path",
    "query",
    "header",
    "cookie",
    "body",
    "request",
    "background",
    "precondition",
    "user",
    "value",
    "provider",
    "socket",
]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One parameter of a handler or provider, and where its value comes from."""

    name: str
    """In the signature."""
    place: Place
    type: Any
    alias: str
    """On the wire."""
    default: Any = MISSING
    many: bool = False
    """Whether the query name may be given several times."""
    source: Any = None
    """The injected value, or the `Injected` provider."""

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def from_text(self) -> bool:
        """Whether its value arrives as text: path, query, header, cookie."""
        return self.place in {"path", "query", "header", "cookie"}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Injected:
    """A provider function: what it returns (or yields, to be cleaned up after the handler), by type."""

    function: Callable[..., Any]
    type: Any
    parameters: tuple[Parameter, ...] = ()
    kind: Literal["async", "sync", "generator"] = "async"
    """A generator is an asynchronous one."""


Resolve = Callable[[str, Any], Any]
"""(parameter's name, its type) -> an `Injected`, a 1-tuple with a value, or None where nothing is provided."""


def read_parameters(
    function: Callable[..., Any],
    *,
    label: str,
    path_names: Sequence[str],
    namespace: Mapping[str, Any],
    resolve: Resolve,
) -> list[Parameter]:
    """Each parameter of `function`, in order.

    Raises:
        ConfigurationError: A parameter has no type, or one that cannot be bound; or the signature and
            the path do not fit each other.
    """
    hints = hints_of(function, label=label, namespace=namespace)
    found: list[Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise ConfigurationError(
                f"{label}: the parameter {parameter} cannot be bound.", hint="Name each parameter plainly."
            )
        if parameter.name not in hints:
            raise ConfigurationError(
                f"{label}: the parameter {parameter.name!r} has no type.", hint="Annotate it: its type is the contract."
            )
        found.append(
            _classify(parameter.name, hints[parameter.name], parameter.default, label, frozenset(path_names), resolve)
        )
    return found


def hints_of(function: Callable[..., Any], *, label: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluated annotations of a function.

    Raises:
        ConfigurationError: One names something that does not exist.
    """
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(target, localns=dict(namespace), include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"{label}: its annotations name {error.name!r}, which cannot be found.",
            hint="Import it in the handler's module, outside of `if TYPE_CHECKING:`.",
        ) from error


def _classify(
    name: str, hint: Any, default: Any, label: str, path_names: frozenset[str], resolve: Resolve
) -> Parameter:
    plain, extras = _unwrap(hint)
    if any(isinstance(extra, WantsUser) for extra in extras):
        return Parameter(name, "user", plain, name)
    marker = next((extra for extra in extras if isinstance(extra, _Marker)), None)
    declared = _without_markers(hint)
    if marker is not None:
        return _marked(name, declared, default, marker, label, path_names)
    if name in path_names:
        return _text(name, declared, MISSING, "path", name, label)
    if plain is Request:
        return Parameter(name, "request", plain, name)
    if plain is WebSocket:
        return Parameter(name, "socket", plain, name)
    if plain is Background:
        return Parameter(name, "background", plain, name)
    if plain is Precondition:
        return Parameter(name, "precondition", plain, name)
    provided = resolve(name, plain)
    if provided is not None:
        if isinstance(provided, Injected):
            return Parameter(name, "provider", plain, name, source=provided)
        return Parameter(name, "value", plain, name, source=provided[0])
    if is_text_like(plain) or _many_of(plain) is not None:
        return _text(name, declared, default, "query", name, label)
    if is_body_like(plain):
        return Parameter(name, "body", declared, name, default)
    raise ConfigurationError(
        f"{label}: the parameter {name!r} of type {_shown(plain)} cannot be bound.",
        hint="Declare a body as a msgspec.Struct, dataclass or TypedDict; hand in a part with parts=[...], "
        "or a provider function with @api.provide; or say where it is with Annotated[..., Body()].",
    )


def _marked(
    name: str, declared: Any, default: Any, marker: _Marker, label: str, path_names: frozenset[str]
) -> Parameter:
    if isinstance(marker, Path):
        alias = marker.name or name
        if alias not in path_names:
            raise ConfigurationError(f"{label}: {name!r} is to come from the path, which has no {{{alias}}}.")
        return _text(name, declared, MISSING, "path", alias, label)
    if isinstance(marker, Body):
        return Parameter(name, "body", declared, name, default)
    if isinstance(marker, Header):
        return _text(name, declared, default, "header", marker.name or name.replace("_", "-"), label)
    place: Place = "cookie" if isinstance(marker, Cookie) else "query"
    return _text(name, declared, default, place, marker.name or name, label)


def _text(name: str, declared: Any, default: Any, place: Place, alias: str, label: str) -> Parameter:
    plain, _ = _unwrap(declared)
    many = _many_of(plain) is not None and place == "query"
    if not many and not is_text_like(plain):
        raise ConfigurationError(
            f"{label}: {name!r} comes from the {place} as text, which cannot become {_shown(plain)}.",
            hint="Use str, int, float, bool, Decimal, UUID, date, time, datetime, an Enum or Literal"
            + (", or a list of one of them." if place == "query" else "."),
        )
    if plain is float and declared is float:
        declared = FiniteFloat
    return Parameter(name, place, declared, alias.lower() if place == "header" else alias, default, many)


FiniteFloat = Annotated[float, msgspec.Meta(ge=-1.7976931348623157e308, le=1.7976931348623157e308)]
"""`nan` and `inf` are numbers to a parser of text; no handler expects them."""

_TEXT_TYPES: Final = (
    str,
    int,
    float,
    bool,
    decimal.Decimal,
    uuid.UUID,
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
)


def is_text_like(hint: Any) -> bool:
    """Whether one piece of text can hold it."""
    plain, _ = _unwrap(hint)
    origin = get_origin(plain)
    if origin in {Union, types.UnionType}:
        return all(member is type(None) or is_text_like(member) for member in get_args(plain))
    if origin is Literal:
        return True
    return isinstance(plain, type) and (plain in _TEXT_TYPES or issubclass(plain, enum.Enum))


def _many_of(hint: Any) -> Any:
    """The member type, where the type is a list (tuple, set) of what text can hold; else None."""
    plain, _ = _unwrap(hint)
    origin = get_origin(plain)
    if origin in {Union, types.UnionType}:
        members = [member for member in get_args(plain) if member is not type(None)]
        return _many_of(members[0]) if len(members) == 1 else None
    arguments = get_args(plain)
    if origin in {list, set, frozenset} and is_text_like(arguments[0]):
        return arguments[0]
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis and is_text_like(arguments[0]):
        return arguments[0]
    return None


def is_body_like(hint: Any) -> bool:
    """Whether it is declared data: a Struct, dataclass, TypedDict or NamedTuple, or a collection or union of them."""
    plain, _ = _unwrap(hint)
    origin = get_origin(plain)
    if origin in {Union, types.UnionType}:
        members = [member for member in get_args(plain) if member is not type(None)]
        return bool(members) and all(is_body_like(member) for member in members)
    if origin in {list, tuple, set, frozenset}:
        return any(is_body_like(member) for member in get_args(plain) if member is not Ellipsis)
    if origin is dict or plain is dict:
        return True
    kind = origin if isinstance(origin, type) else plain
    return isinstance(kind, type) and (
        issubclass(kind, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or typing.is_typeddict(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        or hasattr(kind, "__attrs_attrs__")
    )


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        plain, *extras = get_args(hint)
        return plain, tuple(extras)
    return hint, ()


def _without_markers(hint: Any) -> Any:
    plain, extras = _unwrap(hint)
    kept = tuple(extra for extra in extras if not isinstance(extra, _Marker))
    return Annotated[(plain, *kept)] if kept else plain


def _shown(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)
