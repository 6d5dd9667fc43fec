"""A document is data: whatever it holds, none of it becomes code of the module that is written."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consona import ConfigurationError
from consona.rest.openapi_client import generate
from written import document, load

ATTACKS = [
    '"""\nPWNED()\n"""',
    "'''\nPWNED()\n'''",
    '""" + PWNED() + """',
    'x"); PWNED(); ("',
    "x'); PWNED(); ('",
    "\\",
    '\\"',
    '\\"""',
    '"',
    '""',
    '"' * 7,
    "a\nPWNED()",
    "a\rPWNED()",
    "a\x0cPWNED()",
    "a\x85PWNED()",
    "a\u2028PWNED()",
    "{PWNED()}",
    "{{PWNED()}}",
    "%(PWNED)s",
    "# \nPWNED()",
    "a: int\n    b = PWNED()",
    "\u202epwned\u202c",
    "\x00",
    "\ud800",
    "class A: pass",
    "__import__('os').system('true')",
    "lambda: PWNED()",
    "]\nPWNED()\n[",
    "\N{SNOWMAN}" * 50,
    "a" * 5000,
    "\t\tindented",
    "`code` ```\nfence",
    "$ref",
    "'\"",
    "a\"b'); PWNED(); ('c\"",
]


def everywhere(text: str) -> dict[str, object]:
    """A document that holds a text in every place that takes one."""
    schema = {
        "type": "object",
        "title": text,
        "description": text,
        "required": [text, "kind"],
        "properties": {
            text: {"type": "string", "description": text, "default": text},
            "kind": {"enum": [text, "other"], "default": text},
            "map": {"type": "object", "additionalProperties": {"enum": [text + "x", "y"]}, "description": text},
            "nested": {"type": "object", "properties": {text: {"type": "integer"}, f"{text}2": {"const": text}}},
        },
    }
    tagged = {"type": "object", "required": ["t"], "properties": {"t": {"const": text}, text: {"type": "integer"}}}
    union = {
        "oneOf": [{"$ref": "#/components/schemas/Tagged"}, {"$ref": "#/components/schemas/Other"}],
        "discriminator": {"propertyName": text, "mapping": {text: "#/components/schemas/Tagged", "o": "Other"}},
        "description": text,
    }
    operation = {
        "operationId": text,
        "summary": text,
        "description": text,
        "tags": [text],
        "parameters": [
            {"name": text, "in": place, "required": place == "path", "description": text, "schema": {"enum": [text]}}
            for place in ("query", "header", "cookie")
        ],
        "requestBody": {"description": text, "content": {text: {"schema": schema}}},
        "responses": {
            "200": {"description": text, "content": {"application/json": {"schema": union}}},
            "400": {"description": text, "content": {text: {}}},
            text: {"description": text},
        },
    }
    schemes = {
        text: {"type": "apiKey", "in": "header", "name": text, "description": text},
        "oauth": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": text, "scopes": {text: text}}}},
        "other": {"type": text, "scheme": text},
    }
    return document(
        {f"/{text}/{{{text}}}": {"post": operation}, "/fixed": {"get": {**operation, "tags": [f"{text}2"]}}},
        {text: schema, "Tagged": tagged, "Other": {**tagged, "properties": {"t": {"const": "o"}}}, "Union": union},
        components={"securitySchemes": schemes},
        servers=[{"url": f"https://example.com/{text}", "variables": {text: {"default": text}}}],
        tags=[{"name": text, "description": text}],
    ) | {"info": {"title": text, "version": text, "description": text}}


ALLOWED_AT_TOP = (ast.Expr, ast.ImportFrom, ast.Import, ast.Assign, ast.ClassDef, ast.FunctionDef, ast.AnnAssign)
ALLOWED_IN_CLASSES = (ast.Expr, ast.AnnAssign, ast.AsyncFunctionDef, ast.FunctionDef)


def check(source: str) -> None:
    """The module has the shape of every written module, and calls nothing but what it must."""
    tree = ast.parse(source)
    for node in tree.body:
        assert isinstance(node, ALLOWED_AT_TOP)
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant)
        if isinstance(node, ast.ClassDef):
            assert all(isinstance(each, ALLOWED_IN_CLASSES) for each in node.body)
            assert all(isinstance(each.value, ast.Constant) for each in node.body if isinstance(each, ast.Expr))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    fixed = {
        "client_of",
        "super",
        "super().__init__",
        "self._send",
        "Query",
        "Bearer",
        "APIKey",
        "Basic",
        "ClientCredentials",
    }
    groups = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert called <= fixed | groups


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_no_text_of_a_document_becomes_code(text):
    made = generate(everywhere(text))
    check(made.source)
    load(made.source)


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_at_all_becomes_code(text):
    made = generate(everywhere(text))
    check(made.source)
    load(made.source)


def test_hostile_modules_are_formatted_and_checked_like_others(tmp_path):
    for number, text in enumerate(ATTACKS):
        (tmp_path / f"client_{number}.py").write_text(generate(everywhere(text)).source, encoding="utf-8")
    for command in (["ruff", "format", "--isolated", "--diff", "."], ["ruff", "check", "--isolated", "."],
                    ["mypy", "--strict", "--config-file=", "."]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["a b", "x)", "class", "1a", "_x", "x\ny", "match", "é", "APIClient", "print"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigurationError, match="name of a class"):
        generate(document(), name=name)
