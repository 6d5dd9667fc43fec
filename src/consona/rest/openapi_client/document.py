"""An OpenAPI document as it is read: decoded, of a version that we know, its references followed.

Everything that is wrong with it is told with its JSON pointer. What makes the document useless as a
whole is raised (`InvalidDocument`); what concerns one place is collected as a `Note`, and the module is
written around it.

Source: OpenAPI 3.0.4 and 3.1.1, https://spec.openapis.org; RFC 6901 (JSON Pointer).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec

from consona.errors import FieldProblem, MissingExtra, ValidationError

__all__ = ["Document", "InvalidDocument", "Note", "child", "read_document"]

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_HOPS: Final = 50
MAX_DEPTH: Final = 200
MAX_VALUES: Final = 2_000_000
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class InvalidDocument(ValidationError):
    """It is no OpenAPI document that a client can be made of; `fields` names each fault by its JSON pointer."""

    code = "validation.openapi"
    hint = "An OpenAPI validator tells more about such a document: openapi-spec-validator, for example."


class Note(NamedTuple):
    """Something in the document that the client could not be made of as it stands, and what was done instead."""

    pointer: str
    message: str


def read_document(data: bytes, *, name: str = "The document") -> dict[str, Any]:
    """Decode JSON, or YAML where the package PyYAML is there.

    Args:
        data: The file's bytes.
        name: What errors call it.

    Raises:
        InvalidDocument: It is neither JSON nor YAML, or no object.
        MissingExtra: It is not JSON, and there is no PyYAML.

    Example:
        >>> read_document(b'{"openapi": "3.1.0"}')
        {'openapi': '3.1.0'}
    """
    if len(data) > MAX_BYTES:
        raise _invalid(name, [("", f"has {len(data)} bytes; at most {MAX_BYTES} are read")])
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        found = msgspec.json.decode(data) if data.lstrip()[:1] in {b"{", b"["} else _yaml(data, name)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(name, [("", f"is not JSON that can be read: {error}")]) from error
    if not isinstance(found, dict):
        raise _invalid(name, [("", f"is a {type(found).__name__}, and no object")])
    return found


def _yaml(data: bytes, name: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        raise MissingExtra(
            f"{name} is not JSON, and to read YAML the package PyYAML is needed.",
            hint="Run: pip install 'consona[yaml]', or convert it to JSON.",
        ) from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # it is imported at run time
        """Keeps dates as text, as JSON does."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        # Through JSON, so that keys become text (`200:`) and aliases cannot make cycles.
        return msgspec.json.decode(msgspec.json.encode(_TextKeys().of(yaml.load(data, Loader))))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise _invalid(name, [("", f"is not YAML that can be read: {' '.join(str(error).split())[:300]}")]) from error


class _TextKeys:
    """Copies what YAML gave, with keys as text. Counts, since a few aliases can stand for billions of values."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise ValueError("nested too deeply" if depth > MAX_DEPTH else "too large once its aliases are followed")
        if isinstance(value, dict):
            return {_text(key): self.of(member, depth + 1) for key, member in value.items()}
        if isinstance(value, list):
            return [self.of(member, depth + 1) for member in value]
        return value


def _text(key: Any) -> str:
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    return str(key)


def child(pointer: str, *names: str | int) -> str:
    """The pointer of a member.

    Example:
        >>> child("#/paths", "/users/{id}", "get")
        '#/paths/~1users~1{id}/get'
    """
    return "/".join([pointer, *(str(name).replace("~", "~0").replace("/", "~1") for name in names)])


class Document:
    """A decoded document, and what was noted about it.

    Args:
        data: The decoded document.
        name: What errors call it.

    Raises:
        InvalidDocument: Its version is not 3.0 or 3.1, or a part of it is not what it must be.
    """

    def __init__(self, data: Mapping[str, Any], *, name: str = "The document") -> None:
        self.data = data
        self.name = name
        self.notes: list[Note] = []
        self._check()

    def _check(self) -> None:
        problems: list[tuple[str, str]] = []
        version = self.data.get("openapi")
        if not isinstance(version, str) or not re.match(r"3\.[01](\.|$)", version):
            old = " (it is Swagger 2.0: convert it first)" if "swagger" in self.data else ""
            problems.append(("#/openapi", f"is {version!r:.40}, expected 3.0.x or 3.1.x{old}"))
        wanted: dict[str, type] = {"info": dict, "paths": dict, "components": dict, "servers": list, "tags": list}
        problems += [
            (
                f"#/{name}",
                f"is a {type(self.data[name]).__name__}, expected {'an object' if kind is dict else 'a list'}",
            )
            for name, kind in wanted.items()
            if name in self.data and not isinstance(self.data[name], kind)
        ]
        if not problems and not isinstance(self.data.get("paths"), dict):
            problems.append(("#/paths", "is missing: there is nothing to call"))
        components = self.data.get("components")
        if isinstance(components, dict):
            problems += [
                (child("#/components", name), f"is a {type(group).__name__}, expected an object")
                for name, group in components.items()
                if not isinstance(group, dict) and not name.startswith("x-")
            ]
        if problems:
            raise _invalid(self.name, problems)

    @property
    def is_3_0(self) -> bool:
        return str(self.data["openapi"]).startswith("3.0")

    def note(self, pointer: str, message: str) -> None:
        """Keep a remark, once."""
        if (pointer, message) not in self.notes:
            self.notes.append(Note(pointer, message))

    def part(self, *names: str) -> dict[str, Any]:
        """An object of the document; empty where it is not there."""
        found: Any = self.data
        for name in names:
            found = found.get(name, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def resolve(self, value: Any, pointer: str) -> tuple[dict[str, Any], str]:
        """Follow `$ref` until there is none: the object, and where it stands.

        What cannot be followed is noted, and gives an empty object.
        """
        for _ in range(MAX_HOPS):
            if not isinstance(value, dict):
                self.note(pointer, f"is a {type(value).__name__}, expected an object; it is left out")
                return {}, pointer
            reference = value.get("$ref")
            if reference is None:
                return value, pointer
            if not isinstance(reference, str) or not reference.startswith("#"):
                self.note(child(pointer, "$ref"), f"{str(reference)[:200]!r} is in another document, which is not read")
                return {}, pointer
            found = self._at(reference)
            if found is None:
                self.note(child(pointer, "$ref"), f"{reference[:200]!r} leads nowhere")
                return {}, pointer
            value, pointer = found[0], reference
        self.note(pointer, "its references lead in circles")
        return {}, pointer

    def _at(self, reference: str) -> tuple[Any] | None:
        found: Any = self.data
        for step in reference.removeprefix("#").split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        return (found,)


def _invalid(name: str, problems: list[tuple[str, str]]) -> InvalidDocument:
    words = "; ".join(f"{pointer} {message}".strip() for pointer, message in problems)
    return InvalidDocument(
        f"{name} cannot be made a client of: {words}.",
        fields=[FieldProblem(pointer or "#", message) for pointer, message in problems],
    )
