"""What a handler asks for, read from its signature once, at start.

async def handler(
id: int,                                       # named in the path: its segment
limit: int = 10,                               # text-like: from the query
tags: list[str] = [],                          # list of text-like: a query name given several times
agent: Annotated[str, Header("user-agent")],   # marked: from there
post: NewPost,                                 # Struct, dataclass, TypedDict, list or dict of them: the body
title: Annotated[str, Form()],                 # a field of a form; with a Struct, the fields of the whole form
photo: UploadFile,                             # a file of a form (list[UploadFile]: several, `| None`: may be missing)
request: Request,                              # the request itself
socket: WebSocket,                             # of a WebSocket route: the connection
db: SQLDatabase,                               # a part of the server, by type
session: Session,                              # what a provider function (`api.provide`) returns
): ...
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from consona.errors import ConfigurationError
from consona.rest.server.conditional import Precondition
from consona.rest.server.forms import ANY_FILE, FileRules
from consona.rest.server.guards import WantsUser
from consona.rest.server.hints import FiniteFloat, is_body_like, is_text_like, many_of, shown, unwrap, without_none
from consona.rest.server.idempotency import IdempotencyKey
from consona.rest.server.pagination import maker_of
from consona.rest.server.requests import Background, Request
from consona.rest.server.uploads import UploadFile
from consona.rest.server.websocket import WebSocket
from consona.validation import fields_of

__all__ = [
    "Body",
    "Cookie",
    "File",
    "Form",
    "Header",
    "Injected",
    "Parameter",
    "Path",
    "Query",
    "hints_of",
    "read_parameters",
]

MISSING: Final = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True, slots=True)
class _Marker:
    name: str = ""


class Path(_Marker):
    """`Annotated[int, Path("id")]`: from the path (the default for names in the pattern)."""


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


class Form(_Marker):
    """`Annotated[str, Form()]`: a field of a form. `Annotated[NewPost, Form()]`: the fields of the whole form.

    An empty field counts as missing where its type is not text: browsers send what was left empty. A ticked
    checkbox (`on`) is true.
    """


@dataclasses.dataclass(frozen=True, slots=True)
class File(_Marker):
    """`Annotated[UploadFile, File(max_bytes=5_000_000, types=("image/png", "image/jpeg"))]`: what is accepted.

    Args:
        name: Of the field in the form, where it is another than the parameter's.
        max_bytes: A longer file is answered with 413. The route's `max_body` holds for the whole form.
        types: Media types that are accepted, or `image/*`; others are answered with 415. A type is what the client
            says it is.
    """

    max_bytes: int | None = None
    types: tuple[str, ...] = ()


Place = Literal[
    "path",
    "query",
    "header",
    "cookie",
    "form",
    "file",
    "body",
    "request",
    "background",
    "precondition",
    "idempotency",
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
    """Whether the name may be given several times."""
    rules: FileRules = ANY_FILE
    """What is accepted, of a file."""
    source: Any = None
    """The injected value, or the `Injected` provider."""

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def from_text(self) -> bool:
        """Whether its value arrives as text: path, query, header, cookie, field of a form."""
        return self.place in {"path", "query", "header", "cookie", "form"}


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
    plain, extras = unwrap(hint)
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
    if plain is IdempotencyKey:
        return Parameter(name, "idempotency", plain, name)
    if _file_of(plain) is not None:
        return _file(name, declared, default, File(), label)
    maker = maker_of(plain, extras)
    if maker is not None:
        parameters = read_parameters(maker, label=label, path_names=(), namespace={}, resolve=resolve)
        made = Injected(maker, get_origin(plain) or plain, tuple(parameters))
        return Parameter(name, "provider", plain, name, source=made)
    provided = resolve(name, plain)
    if provided is not None:
        if isinstance(provided, Injected):
            return Parameter(name, "provider", plain, name, source=provided)
        return Parameter(name, "value", plain, name, source=provided[0])
    if is_text_like(plain) or many_of(plain) is not None:
        return _text(name, declared, default, "query", name, label)
    if is_body_like(plain):
        return Parameter(name, "body", declared, name, default)
    raise ConfigurationError(
        f"{label}: the parameter {name!r} of type {shown(plain)} cannot be bound.",
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
    if isinstance(marker, File):
        return _file(name, declared, default, marker, label)
    if isinstance(marker, Form):
        if fields_of(declared) is not None:
            return _whole_form(name, declared, default, label)
        return _text(name, declared, default, "form", marker.name or name, label)
    if isinstance(marker, Header):
        return _text(name, declared, default, "header", marker.name or name.replace("_", "-"), label)
    place: Place = "cookie" if isinstance(marker, Cookie) else "query"
    return _text(name, declared, default, place, marker.name or name, label)


def _text(name: str, declared: Any, default: Any, place: Place, alias: str, label: str) -> Parameter:
    declared = without_none(declared)
    plain, _ = unwrap(declared)
    many = many_of(plain) is not None and place in {"query", "form"}
    if not many and not is_text_like(plain):
        raise ConfigurationError(
            f"{label}: {name!r} comes from the {place} as text, which cannot become {shown(plain)}.",
            hint="Use str, int, float, bool, Decimal, UUID, date, time, datetime, an Enum or Literal"
            + (", or a list of one of them." if place in {"query", "form"} else "."),
        )
    if plain is float and declared is float:
        declared = FiniteFloat
    return Parameter(name, place, declared, alias.lower() if place == "header" else alias, default, many)


def _whole_form(name: str, declared: Any, default: Any, label: str) -> Parameter:
    for field, kind, _ in fields_of(declared) or ():
        if many_of(kind) is None and not is_text_like(kind):
            raise ConfigurationError(
                f"{label}: the field {field!r} of {shown(declared)} comes as text, which cannot become {shown(kind)}.",
                hint="Forms are flat: use str, int, float, bool and the like, or a list of one of them.",
            )
    return Parameter(name, "form", declared, "", default)


def _file(name: str, declared: Any, default: Any, marker: File, label: str) -> Parameter:
    found = _file_of(declared)
    if found is None:
        raise ConfigurationError(
            f"{label}: {name!r} is a file of a form, which is no {shown(declared)}.",
            hint="Use UploadFile, UploadFile | None, or list[UploadFile].",
        )
    many, optional = found
    if optional and default is MISSING:
        default = None
    rules = FileRules(max_bytes=marker.max_bytes, types=marker.types)
    return Parameter(name, "file", declared, marker.name or name, default, many, rules=rules)


def _file_of(hint: Any) -> tuple[bool, bool] | None:
    """Whether there may be several, and none; None where it is no file."""
    plain, _ = unwrap(hint)
    origin, arguments = get_origin(plain), get_args(plain)
    if origin in {Union, types.UnionType} and type(None) in arguments and len(arguments) == 2:
        found = _file_of(next(member for member in arguments if member is not type(None)))
        return None if found is None else (found[0], True)
    if origin is list and arguments[0] is UploadFile:
        return True, False
    return (False, False) if plain is UploadFile else None


def _without_markers(hint: Any) -> Any:
    plain, extras = unwrap(hint)
    kept = tuple(extra for extra in extras if not isinstance(extra, _Marker))
    return Annotated[(plain, *kept)] if kept else plain
