"""The OpenAPI document of a server, made from the same signatures that its requests are bound by.

What it says is what happens: each parameter, body and answer with its type, and the errors that a
route can answer with, all as problems.

Source: OpenAPI 3.1.1, https://spec.openapis.org/oas/v3.1.1; its schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from consona.errors import AuthenticationError, ConsonaError, PermissionDenied, ValidationError
from consona.rest.server.events import EVENT_STREAM
from consona.rest.server.forms import MULTIPART, URLENCODED
from consona.rest.server.hints import FiniteFloat
from consona.rest.server.idempotency import KeyInProgress, KeyReused, OutcomeUnknown
from consona.rest.server.parameters import Parameter
from consona.rest.server.problems import (
    PROBLEM_TYPE,
    BadRequest,
    BodyTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    Problem,
    StorageFull,
    UnsupportedMediaType,
    status_of,
)
from consona.rest.server.responses import Response
from consona.rest.server.schemas import Schemas, as_text
from consona.rest.server.signature import Signature
from consona.rest.status import title_of

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["document"]

_PATH_SUFFIX: Final = re.compile(r":path\}")
_NOT_PARAMETERS: Final = frozenset({"accept", "content-type", "authorization"})
"""Headers that OpenAPI describes elsewhere (section 4.8.12.1)."""


def document(api: APIServer, signatures: Sequence[Signature], *, root_path: str = "") -> dict[str, Any]:
    """The document as plain data."""
    shown = [
        signature
        for signature in signatures
        if signature.route.options.get("documented", True) and not signature.is_websocket  # it has no words for those
    ]
    schemas = Schemas(_types(shown))
    paths: dict[str, dict[str, Any]] = {}
    for signature, name in zip(shown, _operation_ids(shown), strict=True):
        path = _PATH_SUFFIX.sub("}", signature.route.path)
        operation = _Operation(api, signature, schemas).build(name)
        paths.setdefault(path, {})[signature.route.method.lower()] = operation
    components: dict[str, Any] = {"schemas": schemas.components}
    if api.guard is not None and any(signature.guarded for signature in shown):
        components["securitySchemes"] = api.guard.security_schemes()
    info: dict[str, Any] = {"title": api.name, "version": api.version}
    if api.description:
        info["description"] = api.description
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": root_path or "/"}],
        "paths": paths,
        "components": components,
    }


def _operation_ids(signatures: Sequence[Signature]) -> list[str]:
    names = [getattr(signature.route.handler, "__name__", "handler") for signature in signatures]
    return [
        name
        if names.count(name) == 1
        else f"{name}_{signature.route.method.lower()}_{re.sub(r'[^A-Za-z0-9]+', '_', signature.route.path).strip('_')}"
        for name, signature in zip(names, signatures, strict=True)
    ]


def _types(signatures: Sequence[Signature]) -> Iterator[Any]:
    """All that needs a schema."""
    yield Problem
    for signature in signatures:
        for parameter in (*signature.texts, signature.body):
            if parameter is not None:
                yield _shown_type(parameter)
        if signature.yields:
            yield signature.event_data
        elif _has_schema(signature.returns):
            yield signature.returns


def _shown_type(parameter: Parameter) -> Any:
    return float if parameter.type is FiniteFloat else parameter.type


def _has_schema(returns: Any) -> bool:
    if returns in {inspect.Parameter.empty, Any, type(None)}:
        return False
    return not (isinstance(returns, type) and issubclass(returns, Response))


class _Operation:
    """Describes one route."""

    def __init__(self, api: APIServer, signature: Signature, schemas: Schemas) -> None:
        self.api = api
        self.signature = signature
        self.schemas = schemas

    def build(self, name: str) -> dict[str, Any]:
        """The operation object."""
        route, options = self.signature.route, self.signature.route.options
        text = inspect.getdoc(route.handler) or ""
        summary, _, description = text.partition("\n")
        operation: dict[str, Any] = {"operationId": name}
        operation["summary"] = options.get("summary") or summary.strip() or name.replace("_", " ").capitalize()
        if description.strip():
            operation["description"] = description.strip()
        if options.get("tags"):
            operation["tags"] = list(options["tags"])
        if options.get("deprecated"):
            operation["deprecated"] = True
        parameters = [self._parameter(p) for p in self.signature.texts if not self._is_elsewhere(p)]
        taken = {p.alias for p in self.signature.texts if p.place == "path"}
        parameters += [_unused(path_name) for path_name in route.path_names if path_name not in taken]
        parameters += [*self._conditions(), *self._idempotency_key()]
        if parameters:
            operation["parameters"] = parameters
        if self.signature.body is not None:
            operation["requestBody"] = self._body(self.signature.body)
        elif self.signature.has_form:
            operation["requestBody"] = self._form()
        operation["responses"] = self._responses()
        if self.signature.guarded and self.api.guard is not None:
            scopes = sorted(self.signature.scopes)
            operation["security"] = [{scheme: scopes} for scheme in self.api.guard.security_schemes()]
        return operation

    def _is_elsewhere(self, parameter: Parameter) -> bool:
        return parameter.place == "form" or (parameter.place == "header" and parameter.alias in _NOT_PARAMETERS)

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        schema = self._schema(parameter)
        described: dict[str, Any] = {"name": parameter.alias, "in": parameter.place, "required": parameter.required}
        if "description" in schema:
            described["description"] = schema.pop("description")
        if parameter.place == "path" and schema.get("type") == "string":
            schema.setdefault("minLength", 1)
        described["schema"] = schema
        return described

    def _schema(self, parameter: Parameter) -> dict[str, Any]:
        schema = as_text(self.schemas.of(_shown_type(parameter)))
        if not parameter.required and parameter.default is not None:
            default = _plain(parameter.default)
            if default is not None:
                schema["default"] = default
        return schema

    def _idempotency_key(self) -> list[dict[str, Any]]:
        wanted = self.signature.route.options.get("idempotent")
        if not wanted:
            return []
        described = _header("Idempotency-Key", "A random key; a repeat with the same one is answered the same.")
        described["required"] = wanted == "required"
        described["schema"] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
        return [described]

    def _form(self) -> dict[str, Any]:
        """The form: its fields and its files, as one object."""
        fields = [parameter for parameter in self.signature.texts if parameter.place == "form"]
        whole = next((parameter for parameter in fields if not parameter.alias), None)
        parts = [*(p for p in fields if p.alias), *self.signature.files]
        schema: dict[str, Any] = {"type": "object"}
        schema["properties"] = {p.alias: _file(p) if p.place == "file" else self._schema(p) for p in parts}
        schema["required"] = [parameter.alias for parameter in parts if parameter.required]
        if whole is not None:
            schema = {"allOf": [self.schemas.of(whole.type), schema]} if parts else self.schemas.of(whole.type)
        kinds = [MULTIPART] if self.signature.files else [MULTIPART, URLENCODED]
        content: dict[str, Any] = {kind: {"schema": schema} for kind in kinds}
        encoding = {p.alias: {"contentType": ", ".join(p.rules.types)} for p in parts if p.rules.types}
        if encoding:
            content[MULTIPART]["encoding"] = encoding
        required = any(p.required for p in parts) or (whole is not None and whole.required)
        return {"required": required, "content": content}

    def _conditions(self) -> list[dict[str, Any]]:
        """The headers of conditional requests, where the route heeds them."""
        found = []
        if self.signature.has_precondition and self.signature.route.method not in {"GET", "HEAD"}:
            required = self.signature.route.options.get("require_match", False)
            found.append(_header("If-Match", "The ETag of the state that is changed.", required=required))
        if self.signature.has_precondition or self.signature.route.options.get("etag"):
            found.append(_header("If-None-Match", "The ETag of the state that the client has."))
        return found

    def _body(self, body: Parameter) -> dict[str, Any]:
        if body.type in {bytes, str}:
            return {"required": False, "content": {"*/*": {}}}  # no bytes are bytes too
        schema = self.schemas.of(body.type)
        return {
            "required": body.required,
            "content": {kind: {"schema": schema} for kind in ("application/json", "application/msgpack")},
        }

    def _responses(self) -> dict[str, Any]:
        signature = self.signature
        answer: dict[str, Any] = {"description": title_of(signature.status)}
        if signature.is_event_stream:
            answer["content"] = {EVENT_STREAM: self._events()}
        elif _has_schema(signature.returns):
            schema = self.schemas.of(signature.returns)
            answer["content"] = {kind: {"schema": schema} for kind in ("application/json", "application/msgpack")}
        elif signature.returns is inspect.Parameter.empty or signature.returns is Any:
            answer["content"] = {"application/json": {}}
        responses = {str(signature.status): answer}
        if signature.route.options.get("etag"):
            answer["headers"] = {"ETag": {"description": "Changes with the answer.", "schema": {"type": "string"}}}
            responses["304"] = {"description": "The client has it already (If-None-Match)."}
        if signature.has_pages:
            answer.setdefault("headers", {})["Link"] = {
                "description": "Where the first page is, and the ones before and after (RFC 8288).",
                "schema": {"type": "string"},
            }
        if signature.route.options.get("idempotent"):
            answer.setdefault("headers", {})["Idempotency-Replayed"] = {
                "description": "There, where this is the answer to an earlier request with the same key.",
                "schema": {"const": "true"},
            }
        for status, words in sorted(self._failures().items()):
            responses[str(status)] = self._problem(words)
        responses["default"] = self._problem("Anything else that went wrong.")
        return responses

    def _events(self) -> dict[str, Any]:
        """One event: OpenAPI 3.1 has no words for a stream, and tools take the schema for that of each event."""
        data: dict[str, Any] = {"type": "string"}
        if self.signature.event_data not in {Any, str}:
            schema = self.schemas.of(self.signature.event_data)
            data |= {"contentMediaType": "application/json", "contentSchema": schema}
        properties = {"data": data, "event": {"type": "string"}, "id": {"type": "string"}, "retry": {"type": "integer"}}
        return {"schema": {"type": "object", "properties": properties}}

    def _failures(self) -> dict[int, str]:
        """Status -> what it means here."""
        signature = self.signature
        kinds: list[type[ConsonaError]] = []
        if signature.guarded:
            kinds += [AuthenticationError, PermissionDenied]
        if signature.texts or signature.has_form or signature.body is not None:
            kinds += [BadRequest, ValidationError]
        if signature.has_form and not signature.route.options.get("cross_site"):
            kinds.append(PermissionDenied)
        if signature.has_form or signature.body is not None:
            kinds += [BodyTooLarge, UnsupportedMediaType]
        if signature.files:
            kinds.append(StorageFull)
        if signature.has_precondition or signature.route.options.get("etag"):
            kinds.append(PreconditionFailed)
        if signature.route.options.get("idempotent"):
            kinds += [BadRequest, KeyInProgress, KeyReused, OutcomeUnknown]
        if signature.route.options.get("require_match"):
            kinds.append(PreconditionRequired)
        kinds += signature.route.options.get("errors", ())
        found: dict[int, list[str]] = {}
        for kind in kinds:
            words = (inspect.getdoc(kind) or kind.__name__).partition("\n")[0]
            status = status_of(kind(""), validation_status=self.api.settings.validation_status)
            found.setdefault(status, []).append(words)
        return {status: " ".join(dict.fromkeys(words)) for status, words in found.items()}

    def _problem(self, words: str) -> dict[str, Any]:
        return {"description": words, "content": {PROBLEM_TYPE: {"schema": self.schemas.of(Problem)}}}


def _header(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


def _file(parameter: Parameter) -> dict[str, Any]:
    """The schema of a file: the newer keyword, and the one that more tools know."""
    one = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    return {"type": "array", "items": one} if parameter.many else one


def _unused(path_name: str) -> dict[str, Any]:
    """A parameter of the path that the handler does not ask for."""
    return {"name": path_name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _plain(value: Any) -> Any:
    """A default as JSON data; None where it has no such form."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except TypeError:
        return None
