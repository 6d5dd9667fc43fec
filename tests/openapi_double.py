"""A server made from an OpenAPI document: it checks each request against the document, and answers with its examples.

Made with openapi-schema-validator, and with nothing of ours, so that a mistake in our reading of a document is seen.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs

from openapi_schema_validator import OAS30Validator, OAS31Validator

UUID = "2c4a1b9e-7a52-4d7d-9b0f-5f3f7e9f2a10"
FORMATS = {
    "date-time": "2024-05-06T07:08:09Z",
    "date": "2024-05-06",
    "uuid": UUID,
    "uuid4": UUID,
    "byte": "aGk=",
    "uri": "https://example.com/",
    "uriref": "/a",
}


class Double:
    """An ASGI application. `problems` is what was wrong with the requests; `calls` the operations that were reached."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.problems: list[str] = []
        self.calls: list[str] = []
        self.validator = OAS30Validator if document["openapi"].startswith("3.0") else OAS31Validator

    # Reading the document.

    def at(self, value: Any) -> Any:
        while isinstance(value, dict) and "$ref" in value:
            reference, value = value["$ref"], self.document
            for step in reference.removeprefix("#/").split("/"):
                value = value[step.replace("~1", "/").replace("~0", "~")]
        return value

    def faults(self, value: Any, schema: Any) -> list[str]:
        whole = {**schema, "components": self.document.get("components", {})} if isinstance(schema, dict) else schema
        return [error.message[:300] for error in self.validator(whole).iter_errors(value)]

    def sample(self, schema: Any, *, full: bool = True, depth: int = 0) -> Any:
        """A value that fits a schema: its example, or the smallest one that says something."""
        schema = self.at(schema)
        for key in ("example", "default"):
            if key in schema and not self.faults(schema[key], schema):
                return schema[key]
        if "const" in schema or schema.get("enum"):
            return schema.get("const", (schema.get("enum") or [None])[0])
        for key in ("oneOf", "anyOf"):
            if key in schema and any(set(self.at(each)) - {"required"} for each in schema[key]):
                return self.sample(schema[key][0], full=full, depth=depth + 1)
        if "allOf" in schema:
            parts = [self.sample({**self.at(each)}, full=full, depth=depth + 1) for each in schema["allOf"]]
            own = self.sample(
                {name: value for name, value in schema.items() if name != "allOf"}, full=full, depth=depth
            )
            merged = {name: value for part in (*parts, own) if isinstance(part, dict) for name, value in part.items()}
            return merged or parts[0]
        return self._by_type(schema, full=full, depth=depth)

    def _by_type(self, schema: dict[str, Any], *, full: bool, depth: int) -> Any:
        kind = schema.get("type")
        kind = next(each for each in kind if each != "null") if isinstance(kind, list) else kind
        if kind == "object" or "properties" in schema:
            required = schema.get("required", [])
            names = [name for name in schema.get("properties", {}) if name in required or (full and depth < 4)]
            found = {name: self.sample(schema["properties"][name], full=full, depth=depth + 1) for name in names}
            more = schema.get("additionalProperties")
            return found or (
                {"key": self.sample(more, full=full, depth=depth + 1)} if isinstance(more, dict) and more else {}
            )
        if kind == "array":
            return [] if depth > 6 else [self.sample(schema.get("items", {}), full=full, depth=depth + 1)]
        if kind in {"integer", "number"}:
            return schema.get("minimum", 1)
        if kind == "boolean":
            return True
        candidates = (FORMATS.get(schema.get("format", ""), "text"), "5s", "text-1")
        return next((each for each in candidates if not self.faults(each, schema)), candidates[0])

    # Serving.

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        found = self._find(scope["method"].lower(), scope["raw_path"].decode())
        if found is None:
            self.problems.append(f"{scope['method']} {scope['path']}: the document has no such operation")
            await self._answer(send, 404, "", b"")
            return
        template, item, operation, values = found
        name = f"{scope['method']} {template}"
        self.calls.append(name)
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        self._check(name, item, operation, values, parse_qs(scope["query_string"].decode()), headers, body)
        status, media, content = self._good(operation)
        await self._answer(send, status, media, content)

    def _find(self, method: str, path: str) -> tuple[str, Any, Any, dict[str, str]] | None:
        # Fixed paths before those with parameters, as the specification wants.
        for template in sorted(self.document["paths"], key=lambda each: each.count("{")):
            item = self.document["paths"][template]
            pattern = re.sub(r"\\\{([^}]+)\\\}", "([^/]+)", re.escape(template))
            matched = re.fullmatch(pattern, path)
            if matched and method in item:
                names = re.findall(r"\{([^}]+)\}", template)
                return template, item, item[method], dict(zip(names, matched.groups(), strict=True))
        return None

    def _check(self, name: str, item: Any, operation: Any, path: Any, query: Any, headers: Any, body: bytes) -> None:
        known = set()
        for raw in (*item.get("parameters", []), *operation.get("parameters", [])):
            parameter = self.at(raw)
            schema = self.at(parameter.get("schema", {}))
            place, wire = parameter["in"], parameter["name"]
            found = path.get(wire) if place == "path" else headers.get(wire.lower()) if place == "header" else None
            if place == "query":
                known.add(wire)
                values = query.get(wire)
                found = values if schema.get("type") == "array" or values is None else values[0]
            if found is None:
                if parameter.get("required"):
                    self.problems.append(f"{name}: {place} {wire} is missing")
            elif (value := _typed(found, schema)) is not None and (faults := self.faults(value, schema)):
                self.problems.append(f"{name}: {place} {wire}: {faults}")
        if unknown := set(query) - known:
            self.problems.append(f"{name}: unknown query parameters {unknown}")
        request = self.at(operation.get("requestBody", {}))
        media = headers.get("content-type", "").partition(";")[0]
        if request.get("required") and not body:
            self.problems.append(f"{name}: the body is missing")
        elif body and media not in request.get("content", {}):
            self.problems.append(f"{name}: a body of {media!r}, expected {list(request.get('content', {}))}")
        elif body and media.endswith("json"):
            faults = self.faults(json.loads(body), request["content"][media].get("schema", {}))
            self.problems += [f"{name}: body: {fault}" for fault in faults]

    def _good(self, operation: Any) -> tuple[int, str, bytes]:
        status = min((each for each in operation["responses"] if each.startswith("2")), default="200")
        response = self.at(operation["responses"].get(status, {}))
        content = response.get("content", {})
        if not content:
            return int(status), "", b""
        media = next((each for each in content if each.endswith("json")), next(iter(content)))
        if not media.endswith("json"):
            return int(status), media, b"text"
        given = content[media]
        examples = [self.at(each).get("value") for each in given.get("examples", {}).values()]
        value = given.get("example", examples[0] if examples else None)
        if value is None:
            value = self.sample(given.get("schema", {}))
        return int(status), media, json.dumps(value).encode()

    async def _answer(self, send: Any, status: int, media: str, body: bytes) -> None:
        headers = [(b"content-type", media.encode())] if media else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _typed(text: Any, schema: dict[str, Any]) -> Any:
    if isinstance(text, list):
        items = schema.get("items", {})
        return [_typed(each, items) for each in text]
    try:
        return json.loads(text) if schema.get("type") in {"integer", "number", "boolean"} else text
    except ValueError:
        return text
