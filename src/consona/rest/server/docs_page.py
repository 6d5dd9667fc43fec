"""The docs page of a server: its OpenAPI document as one page of plain HTML.

Made on the server, with one style sheet and one small script from the server itself: it works without
the internet, without a mouse and, but for the "try it" forms, without JavaScript.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from consona.errors import NotFound
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["Pages", "example_of"]

FILES: Final = {"docs.css": "text/css; charset=utf-8", "docs.js": "text/javascript; charset=utf-8"}
POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
METHODS: Final = ("get", "post", "put", "patch", "delete", "head", "options")
MAX_DEPTH: Final = 6


class Pages:
    """Answers the paths of the document and of the page."""

    def __init__(self, api: APIServer) -> None:
        self.api = api
        self._documents: dict[str, dict[str, Any]] = {}

    def _document(self, request: Request) -> dict[str, Any]:
        root = request.scope.get("root_path", "").rstrip("/")
        if root not in self._documents:
            self._documents.clear()  # one place at a time is the rule, so one document is kept
            self._documents[root] = self.api.openapi(root_path=root)
        return self._documents[root]

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return Response(self._document(request))

    async def docs(self, request: Request) -> Response:
        """The docs page."""
        document = self._document(request)
        settings = self.api.settings
        root = request.scope.get("root_path", "").rstrip("/")
        html = _template().render(
            info=document["info"],
            groups=_groups(document),
            schemas=document["components"]["schemas"],
            openapi_url=root + settings.openapi_path,
            base=root,
            files=root + settings.docs_path,
        )
        headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    async def file(self, name: str) -> Response:
        """The page's style sheet and script."""
        if name not in FILES:
            raise NotFound("There is no such file.")
        body = importlib.resources.files("consona.rest.server").joinpath("static", name).read_bytes()
        headers = {"cache-control": "max-age=3600", "x-content-type-options": "nosniff"}
        return Response(body, media_type=FILES[name], headers=headers)


def _template() -> Any:
    import jinja2  # noqa: PLC0415 only this page needs it, and few processes ever show it
    import markdown_it  # noqa: PLC0415 likewise
    import markupsafe  # noqa: PLC0415 likewise

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("consona.rest.server"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    # HTML is shown as text; headings would break the order of the page's own, and images come from elsewhere.
    markdown = markdown_it.MarkdownIt("commonmark", {"html": False}).disable(["heading", "lheading", "image"])
    environment.filters["markdown"] = lambda text: markupsafe.Markup(markdown.render(text))  # noqa: S704 it escapes
    return environment.get_template("docs.html")


def _groups(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The operations by their first tag, in the order of declaration."""
    groups: dict[str, list[dict[str, Any]]] = {}
    schemas = document["components"]["schemas"]
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                tag = (operation.get("tags") or ["Operations"])[0]
                groups.setdefault(tag, []).append(_shown(method, path, operation, schemas))
    return [{"name": name, "operations": operations} for name, operations in groups.items()]


def _shown(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {})
    body, form = content.get("application/json"), content.get("multipart/form-data")
    parameters = [*operation.get("parameters", []), *(_form_fields(form["schema"], schemas) if form else ())]
    return {
        **operation,
        "method": method.upper(),
        "path": path,
        "parameters": [{**parameter, "type": words_for(parameter["schema"])} for parameter in parameters],
        "form": form is not None,
        "body_example": example_of(body["schema"], schemas) if body else None,
        "body_type": words_for(body["schema"]) if body else "",
        "answers": [
            {
                "status": status,
                "description": answer["description"],
                "type": words_for(_first_schema(answer)),
            }
            for status, answer in operation["responses"].items()
        ],
    }


def _form_fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields and files of a form, each as if it were a parameter."""
    if "$ref" in schema:
        schema = schemas[str(schema["$ref"]).rpartition("/")[2]]
    found = [field for part in schema.get("allOf", ()) for field in _form_fields(part, schemas)]
    for name, field in schema.get("properties", {}).items():
        one = field.get("items", field)
        found.append(
            {
                "name": name,
                "in": "form",
                "schema": field,
                "required": name in schema.get("required", ()),
                "file": "contentMediaType" in one,
                "many": field.get("type") == "array",
            }
        )
    return found


def _first_schema(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    for content in answer.get("content", {}).values():
        schema: Mapping[str, Any] = content.get("schema", {})
        return schema
    return {}


def words_for(schema: Mapping[str, Any]) -> str:
    """A schema in a few words: `integer, at least 1`, `list of Post`, `text or nothing`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(words_for(member) for member in schema[key])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    kind = schema.get("type", "")
    if "contentMediaType" in schema:
        return "file"
    if kind == "array":
        return f"list of {words_for(schema.get('items', {})) or 'anything'}"
    if kind == "null":
        return "nothing"
    names = {"string": "text", "object": "object", "boolean": "true or false"}
    words = [names.get(str(kind), str(kind))]
    limits = {
        "format": "{}",
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "above {}",
        "exclusiveMaximum": "below {}",
        "minLength": "at least {} long",
        "maxLength": "at most {} long",
        "pattern": "like {}",
    }
    words += [text.format(schema[key]) for key, text in limits.items() if key in schema]
    return ", ".join(word for word in words if word)


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, depth: int = 0) -> Any:
    """A value that has the schema's shape, to start a request from."""
    if "$ref" in schema:
        return example_of(schemas[str(schema["$ref"]).rpartition("/")[2]], schemas, depth=depth)
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if "examples" in schema:
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return example_of(schema[key][0], schemas, depth=depth)
    kind = schema.get("type")
    if depth >= MAX_DEPTH:
        return None
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: example_of(member, schemas, depth=depth + 1) for name, member in properties.items()}
    if kind == "array" and "prefixItems" in schema:
        return [example_of(member, schemas, depth=depth + 1) for member in schema["prefixItems"]]
    if kind == "array":
        return [example_of(schema.get("items", {}), schemas, depth=depth + 1)]
    return {"integer": schema.get("minimum", 1), "number": 1.5, "boolean": True, "string": "text"}.get(str(kind))
