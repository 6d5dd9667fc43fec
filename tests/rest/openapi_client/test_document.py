"""Documents that are wrong: what is wrong is named with its JSON pointer, and the rest is written."""

from __future__ import annotations

import sys

import pytest

from consona.errors import MissingExtra
from consona.rest.openapi_client import InvalidDocument, generate, read_document
from written import answering, document, written

OK = {"200": {"description": ""}}


@pytest.mark.parametrize(
    ("data", "pointers"),
    [
        ({}, ["#/openapi"]),
        ({"openapi": "2.0"}, ["#/openapi"]),
        ({"swagger": "2.0", "paths": {}}, ["#/openapi"]),
        ({"openapi": "3.2.0", "paths": {}}, ["#/openapi"]),
        ({"openapi": 3.1, "paths": {}}, ["#/openapi"]),
        ({"openapi": "3.1.0"}, ["#/paths"]),
        ({"openapi": "3.1.0", "paths": []}, ["#/paths"]),
        ({"openapi": "3.0.0", "paths": {}, "info": [], "servers": {}}, ["#/info", "#/servers"]),
        ({"openapi": "3.0.0", "paths": {}, "components": {"schemas": []}}, ["#/components/schemas"]),
    ],
)
def test_a_document_that_cannot_be_used_names_each_fault(data, pointers):
    with pytest.raises(InvalidDocument) as caught:
        generate(data)
    assert [field.path for field in caught.value.fields] == pointers


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"a": \xff}', b"[" * 100_000, b"a: [", b"- 1", b"\x00", b"&a [*a]"]
)
def test_what_is_no_document_is_told(data):
    with pytest.raises(InvalidDocument):
        read_document(data)


def test_a_yaml_bomb_is_defused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(InvalidDocument, match="too large once its aliases are followed"):
        read_document("\n".join(lines).encode())


def test_yaml_is_read_as_json_would_be():
    found = read_document(
        b"openapi: 3.1.0\npaths:\n  /x:\n    get:\n      responses:\n        200: {description: 2024-05-06}"
    )
    assert found["paths"]["/x"]["get"]["responses"] == {"200": {"description": "2024-05-06"}}


def test_yaml_makes_no_objects():
    with pytest.raises(InvalidDocument):
        read_document(b"a: !!python/object/apply:os.getcwd []")


def test_without_its_package_yaml_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtra, match=r"consona\[yaml\]"):
        read_document(b"openapi: 3.1.0")
    assert read_document(b'\xef\xbb\xbf{"openapi": "3.1.0"}')


def notes(made):
    return {note.pointer: note.message for note in made.notes}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("#/components/schemas/Nope", "leads nowhere"),
        ("other.json#/A", "in another document"),
        ("https://example.com/a.json", "in another document"),
        (7, "in another document"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_anything_and_noted(reference, words):
    made = written(answering({"$ref": reference}))
    pointer = "#/paths/~1x/get/responses/200/content/application~1json/schema/$ref"
    assert words in notes(made)[pointer]
    assert "-> Any" in made.source


def test_each_place_that_is_wrong_is_noted_and_the_rest_is_written():
    wrong = {
        "no-slash": {"get": {"responses": OK}},
        "/a": {
            "get": {
                "operationId": "same",
                "parameters": [{"in": "query"}, {"name": "q", "in": "body"}, {"name": "n", "in": "query"}, 7],
                "responses": {"200": {"description": ""}, "999": {}},
            },
            "post": [],
        },
        "/b/{id}": {"get": {"operationId": "same", "parameters": {}, "responses": [], "requestBody": {}}},
        "/c": {"put": {"responses": OK, "servers": [], "parameters": [{"name": "id", "in": "path", "schema": {}}]}},
        "/d": 7,
    }
    made = written(document(wrong))
    assert notes(made) == {
        "#/paths/no-slash": "does not begin with a slash; it is left out",
        "#/paths/~1a/post": "is no object; it is left out",
        "#/paths/~1a/get/parameters/0": "has no usable `name` and `in`; it is left out",
        "#/paths/~1a/get/parameters/1": "has no usable `name` and `in`; it is left out",
        "#/paths/~1a/get/parameters/2": "has no schema; taken as anything",
        "#/paths/~1a/get/parameters/3": notes(made)["#/paths/~1a/get/parameters/3"],
        "#/paths/~1a/get/responses/999": "is no status; it is left out",
        "#/paths/~1b~1{id}/get/operationId": "'same' is used before, at #/paths/~1a/get",
        "#/paths/~1b~1{id}/get/parameters": "is no list; it is left out",
        "#/paths/~1b~1{id}/get/requestBody": "has no content; it is left out",
        "#/paths/~1b~1{id}/get/responses": "is no object; it is left out",
        "#/paths/~1b~1{id}/get": notes(made)["#/paths/~1b~1{id}/get"],
        "#/paths/~1c/put": notes(made)["#/paths/~1c/put"],
        "#/paths/~1d": "is a int, expected an object; it is left out",
    }
    assert {"same", "same_2", "put_c"} <= set(vars(made.client))


@pytest.mark.parametrize(
    ("schema", "tail"),
    [
        (7, ""),
        (False, ""),
        ({"type": "strng"}, "/type"),
        ({"type": "object", "properties": []}, "/properties"),
        ({"allOf": {}}, "/allOf"),
        ({"enum": [0.5]}, "/enum"),
        ({"enum": [{}]}, "/enum"),
        ({"type": "array", "prefixItems": [{}]}, "/prefixItems"),
    ],
)
def test_a_schema_that_is_wrong_or_too_clever_is_noted_where_it_stands(schema, tail):
    made = written(answering(schema))
    assert f"#/paths/~1x/get/responses/200/content/application~1json/schema{tail}" in notes(made)


def test_a_good_document_has_no_notes():
    assert written(answering({"type": "string"})).notes == ()
