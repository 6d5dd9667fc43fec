"""Schemas as types: what a document says is what the written module accepts, refuses, sends and leaves out."""

from __future__ import annotations

import datetime as dt
import decimal
import typing
import uuid

import msgspec
import pytest

from written import answering, document, written


def answer_type(schema, **options):
    module = written(answering(schema, **options))
    return typing.get_type_hints(module.client.read, module.__dict__)["return"]


def shown(schema, **options):
    """The type of an answer, as the module says it."""
    source = written(answering(schema, **options)).source
    return source.partition("into=")[2].partition(",\n")[0]


def decode(text, schema, **options):
    return msgspec.json.decode(text, type=answer_type(schema, **options))


@pytest.mark.parametrize(
    ("schema", "expression"),
    [
        ({"type": "string"}, "str"),
        ({"type": "integer", "format": "int64"}, "int"),
        ({"type": "number"}, "float"),
        ({"type": "number", "format": "decimal"}, "decimal.Decimal"),
        ({"type": "boolean"}, "bool"),
        ({"type": "string", "format": "date-time"}, "datetime.datetime"),
        ({"type": "string", "format": "date"}, "datetime.date"),
        ({"type": "string", "format": "time"}, "datetime.time"),
        ({"type": "string", "format": "duration"}, "datetime.timedelta"),
        ({"type": "string", "format": "uuid"}, "uuid.UUID"),
        ({"type": "string", "format": "decimal"}, "decimal.Decimal"),
        ({"type": "string", "format": "byte"}, "bytes"),
        ({"type": "string", "contentEncoding": "base64"}, "bytes"),
        ({"type": "string", "format": "email"}, "str"),
        ({"type": "string", "enum": ["a", "b"]}, 'Literal["a", "b"]'),
        ({"enum": [1, 2]}, "Literal[1, 2]"),
        ({"const": "a"}, 'Literal["a"]'),
        ({"enum": ["a", None]}, 'Literal["a"] | None'),
        ({"enum": [True, False]}, "bool"),
        ({"enum": [0.5, 1.5]}, "float"),
        ({"enum": [{}, 1]}, "Any"),
        ({"type": "array", "items": {"type": "string"}}, "list[str]"),
        ({"type": "array"}, "list[Any]"),
        ({"items": {"type": "integer"}}, "list[int]"),
        ({"type": "object"}, "dict[str, Any]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "dict[str, int]"),
        ({"additionalProperties": False}, "dict[str, Any]"),
        ({}, "Any"),
        (True, "Any"),
        ({"type": ["string", "null"]}, "str | None"),
        ({"type": ["string", "integer"]}, "str | int"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "str | None"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "int | float"),
        ({"oneOf": [{"type": "string", "format": "date-time"}, {"type": "string"}]}, "str"),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, 'Literal["a", "b"]'),
        ({"oneOf": [{"const": 1}, {"type": "integer"}]}, "int"),
        ({"oneOf": [{"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}]},
         "list[str | int]"),
        ({"anyOf": [{"type": "string"}, {}]}, "Any"),
        ({"allOf": [{"type": "string"}, {"minLength": 1}]}, "str"),
    ],
)  # fmt: skip
def test_plain_schemas(schema, expression):
    assert shown(schema) == expression


@pytest.mark.parametrize(
    "schema", [{"type": "string", "nullable": True}, {"nullable": True, "allOf": [{"type": "string"}]}]
)
def test_nullable_of_openapi_3_0(schema):
    assert shown(schema, version="3.0.3") == "str | None"


def test_a_reference_that_may_be_null():
    thing = {"type": "object", "properties": {"id": {"type": "integer"}}}
    expected = "Thing | None"
    assert shown({"nullable": True, "allOf": [{"$ref": "#/components/schemas/Thing"}]}, Thing=thing) == expected
    assert shown({"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]}, Thing=thing) == expected
    assert shown({"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"nullable": True}]}, Thing=thing) == expected


def test_formats_are_decoded():
    properties = {
        "at": {"type": "string", "format": "date-time"},
        "id": {"type": "string", "format": "uuid"},
        "price": {"type": "string", "format": "decimal"},
        "data": {"type": "string", "format": "byte"},
    }
    found = decode(
        b'{"at":"2024-05-06T07:08:09Z","id":"2c4a1b9e-7a52-4d7d-9b0f-5f3f7e9f2a10","price":"9.90","data":"aGk="}',
        {"type": "object", "required": list(properties), "properties": properties},
    )
    assert found.at == dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
    assert found.id == uuid.UUID("2c4a1b9e-7a52-4d7d-9b0f-5f3f7e9f2a10")
    assert (found.price, found.data) == (decimal.Decimal("9.90"), b"hi")


# Fields.

PET = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "description": "What it is called."},
        "age": {"type": "integer"},
        "legs": {"type": "integer", "default": 4},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        "owner": {"type": ["string", "null"]},
        "kind": {"enum": ["cat", "dog"], "default": "cat"},
    },
}


def pet(**fields):
    module = written(answering({"$ref": "#/components/schemas/Pet"}, Pet=PET))
    return module.Pet(**fields)


def test_what_is_required_must_be_given_and_the_rest_has_its_default():
    with pytest.raises(TypeError, match="name"):
        pet()
    found = pet(name="Rex")
    assert (found.age, found.legs, found.tags, found.kind) == (None, 4, [], "cat")


def test_what_was_not_given_is_not_sent_and_null_only_where_it_says_something():
    assert msgspec.json.encode(pet(name="Rex")) == b'{"name":"Rex"}'
    assert msgspec.json.encode(pet(name="Rex", owner=None)) == b'{"name":"Rex","owner":null}'
    assert msgspec.json.encode(pet(name="Rex", age=3, legs=3)) == b'{"name":"Rex","age":3,"legs":3}'


def test_where_the_document_says_that_nothing_means_null_it_is_none():
    schema = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"], "default": None}, "b": {"default": None}},
    }
    found = decode(b"{}", schema)
    assert (found.a, found.b) == (None, None)
    assert msgspec.json.encode(found) == b"{}"


def test_wrong_answers_are_refused():
    for text in (b"{}", b'{"name":1}', b'{"name":"a","kind":"bird"}', b'{"name":null}'):
        with pytest.raises(msgspec.ValidationError):
            decode(text, {"$ref": "#/components/schemas/Pet"}, Pet=PET)


def test_descriptions_become_docstrings():
    source = written(answering({"$ref": "#/components/schemas/Pet"}, Pet=PET)).source
    assert '    name: str\n    """What it is called."""\n' in source


def test_a_default_that_does_not_fit_its_type_is_noted_and_left_out():
    module = written(answering({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}))
    assert [note.pointer.rpartition("/")[2] for note in module.notes] == ["default"]


@pytest.mark.parametrize(
    ("wire", "name"),
    [("class", "class_"), ("my-field", "my_field"), ("2fa", "n2fa"), ("$ref", "ref"), ("_id", "id"), ("str", "str_"),
     ("list", "list_"), ("naïve", "naive"), ("日本", "field"), ("", "field"), ("self", "self_"), ("a.b", "a_b"),
     ("Pet", "Pet_"), ("type", "type"), ("id", "id"), ("UNSET", "UNSET_"), ("__init__", "init"), ("None", "None_")],
)  # fmt: skip
def test_names_that_are_none_in_python_are_renamed(wire, name):
    schema = {"type": "object", "required": [wire], "properties": {wire: {"type": "integer"}}}
    module = written(answering({"$ref": "#/components/schemas/Pet"}, Pet=schema))
    found = module.Pet(**{name: 7})
    assert msgspec.json.decode(msgspec.json.encode(found)) == {wire: 7}


def test_names_that_become_the_same_are_told_apart():
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in ("a-b", "a_b", "a.b")}}
    module = written(answering({"$ref": "#/components/schemas/Pet"}, Pet=schema))
    assert msgspec.json.decode(msgspec.json.encode(module.Pet(a_b=2, a_b_2=1, a_b_3=3))) == {
        "a-b": 1,
        "a_b": 2,
        "a.b": 3,
    }


def test_schemas_whose_names_become_the_same_are_told_apart():
    thing = {"type": "object", "properties": {"a": {"type": "integer"}}}
    other = {"type": "object", "properties": {"b": {"type": "integer"}}}
    both = {"type": "array", "items": [], "prefixItems": []}
    module = written(
        document(
            {
                "/a": {"get": {"operationId": "a", "responses": _ok({"$ref": "#/components/schemas/my.thing"})}},
                "/b": {"get": {"operationId": "b", "responses": _ok({"$ref": "#/components/schemas/my-thing"})}},
            },
            {"my.thing": thing, "my-thing": other, "str": both},
        )
    )
    assert (module.MyThing.__struct_fields__, module.MyThing_2.__struct_fields__) == (("a",), ("b",))


def test_what_only_the_server_sets_need_not_be_sent():
    schema = {
        "type": "object",
        "required": ["id", "name", "password"],
        "properties": {
            "id": {"type": "integer", "readOnly": True},
            "name": {"type": "string"},
            "password": {"type": "string", "writeOnly": True},
        },
    }
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/User"}}}}
    operation = {"operationId": "add", "requestBody": body, "responses": _ok({"$ref": "#/components/schemas/User"})}
    module = written(document({"/users": {"post": operation}}, {"User": schema}))
    assert msgspec.json.encode(module.User(name="Ada", password="x")) == b'{"name":"Ada","password":"x"}'
    assert msgspec.json.decode(b'{"id":7,"name":"Ada"}', type=module.User).id == 7
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"id":7}', type=module.User)


# Combinations.


def test_all_of_is_merged():
    base = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/Base"},
            {"type": "object", "required": ["name"], "properties": {"more": {"type": "boolean"}}},
        ]
    }
    module = written(answering({"$ref": "#/components/schemas/Pet"}, Pet=schema, Base=base))
    assert set(module.Pet.__struct_fields__) == {"id", "name", "more"}
    with pytest.raises(TypeError, match="name"):
        module.Pet(id=1)


def test_an_all_of_that_contains_itself_ends():
    schema = {"allOf": [{"$ref": "#/components/schemas/Pet"}], "properties": {"id": {"type": "integer"}}}
    module = written(answering({"$ref": "#/components/schemas/Pet"}, Pet=schema))
    assert module.Pet(id=1).id == 1
    assert "part of itself" in module.notes[0].message


def _animals(**discriminator):
    def animal(kind, field):
        return {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"type": "string"}, field: {"type": "integer"}},
        } | ({"title": kind} if kind else {})

    return {
        "Animal": {
            "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
            **discriminator,
        },
        "Cat": animal("", "lives"),
        "Dog": animal("", "bones"),
    }


def test_a_discriminator_makes_a_tagged_union():
    mapping = {"cat": "#/components/schemas/Cat", "dog": "Dog"}
    schemas = _animals(discriminator={"propertyName": "kind", "mapping": mapping})
    module = written(answering({"type": "array", "items": {"$ref": "#/components/schemas/Animal"}}, **schemas))
    found = msgspec.json.decode(b'[{"kind":"dog","bones":3},{"kind":"cat"}]', type=list[module.Animal])
    assert found == [module.Dog(bones=3), module.Cat()]
    assert msgspec.json.encode(module.Cat(lives=9)) == b'{"kind":"cat","lives":9}'
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"kind":"bird"}', type=module.Animal)


def test_a_discriminator_without_a_mapping_means_the_schemas_names():
    schemas = _animals(discriminator={"propertyName": "kind"})
    module = written(answering({"$ref": "#/components/schemas/Animal"}, **schemas))
    assert msgspec.json.decode(b'{"kind":"Dog"}', type=module.Animal) == module.Dog()


def test_constants_tell_structs_apart_without_a_discriminator():
    def part(value, field):
        return {
            "type": "object",
            "required": ["type", field],
            "properties": {"type": {"const": value}, field: {"type": "string"}},
        }

    module = written(answering({"anyOf": [part("text", "text"), part("link", "url")]}))
    found = msgspec.json.decode(b'{"type":"link","url":"u"}', type=_return(module))
    assert (type(found).__name__, found.url) == ("ReadAnswerOption2", "u")


def test_a_schema_that_others_extend_stands_for_all_of_them():
    base = {
        "type": "object",
        "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/components/schemas/Cat"}},
        "required": ["kind", "name"],
        "properties": {"kind": {"type": "string"}, "name": {"type": "string"}},
    }
    own = {
        "type": "object",
        "properties": {"friends": {"type": "array", "items": {"$ref": "#/components/schemas/Animal"}}},
    }
    schemas = {
        "Animal": base,
        "Cat": {"allOf": [{"$ref": "#/components/schemas/Animal"}, own]},
        "Dog": {"allOf": [{"$ref": "#/components/schemas/Animal"}, {"type": "object"}]},
    }
    module = written(answering({"$ref": "#/components/schemas/Animal"}, **schemas))
    text = b'{"kind":"cat","name":"Tom","friends":[{"kind":"Dog","name":"Rex"}]}'
    assert msgspec.json.decode(text, type=module.Animal) == module.Cat(name="Tom", friends=[module.Dog(name="Rex")])


def test_objects_that_nothing_tells_apart_are_one_class_with_the_fields_of_all():
    schemas = {
        "A": {
            "type": "object",
            "required": ["a", "x"],
            "properties": {"a": {"type": "integer"}, "x": {"type": "string"}},
        },
        "B": {
            "type": "object",
            "required": ["b", "x"],
            "properties": {"b": {"type": "integer"}, "x": {"type": "integer"}},
        },
        "Both": {"oneOf": [{"$ref": "#/components/schemas/A"}, {"$ref": "#/components/schemas/B"}]},
    }
    module = written(answering({"$ref": "#/components/schemas/Both"}, **schemas))
    assert msgspec.json.decode(b'{"b":1,"x":2}', type=module.Both) == module.Both(b=1, x=2)
    assert msgspec.json.decode(b'{"a":1,"x":"2"}', type=module.Both) == module.Both(a=1, x="2")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"a":1}', type=module.Both)  # both have an x
    assert "Nothing in the document tells them apart" in module.source
    assert [note.pointer for note in module.notes] == ["#/components/schemas/Both/oneOf"]


def test_an_object_or_a_map_is_read_as_a_dict_and_says_why():
    named = {"type": "object", "properties": {"a": {"type": "integer"}}}
    module = written(answering({"oneOf": [named, {"type": "object", "additionalProperties": {"type": "string"}}]}))
    assert _return(module) == dict[str, typing.Any]
    assert "# ReadAnswerOption1 or dict[str, str]: nothing in the document tells them" in module.source


def test_properties_beside_a_union_belong_to_each_member():
    schema = {
        "type": "object",
        "required": ["id"],
        "properties": {"id": {"type": "integer"}},
        "oneOf": [
            {"title": "Cat", "required": ["k"], "properties": {"k": {"const": "c"}}},
            {"title": "Dog", "required": ["k"], "properties": {"k": {"const": "d"}}},
        ],
    }
    module = written(answering(schema))
    found = msgspec.json.decode(b'{"id":7,"k":"d"}', type=_return(module))
    assert (type(found).__name__, found.id) == ("ReadAnswerDog", 7)


def test_combinations_of_required_properties_are_noted_and_not_checked():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    module = written(answering(schema))
    assert _return(module).__struct_fields__ == ("a", "b")
    assert module.notes[0].pointer.endswith("/anyOf")


# Recursion and nesting.


def test_recursive_types():
    tree = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
            "parent": {"$ref": "#/components/schemas/Tree"},
        },
    }
    module = written(answering({"$ref": "#/components/schemas/Tree"}, Tree=tree))
    found = msgspec.json.decode(b'{"name":"a","children":[{"name":"b"}]}', type=module.Tree)
    assert found.children[0].name == "b"


def test_recursive_unions():
    schemas = {
        "Expression": {
            "oneOf": [
                {"$ref": "#/components/schemas/Sum"},
                {"type": "integer"},
                {"$ref": "#/components/schemas/Product"},
            ]
        },
        "Sum": _operator("sum"),
        "Product": _operator("product"),
    }
    module = written(answering({"$ref": "#/components/schemas/Expression"}, **schemas))
    text = b'{"op":"sum","of":[1,{"op":"product","of":[2,3]}]}'
    assert msgspec.json.decode(text, type=module.Expression) == module.Sum(of=[1, module.Product(of=[2, 3])])


def _operator(name):
    of = {"type": "array", "items": {"$ref": "#/components/schemas/Expression"}}
    return {"type": "object", "required": ["op", "of"], "properties": {"op": {"const": name}, "of": of}}


def test_a_type_that_is_made_of_itself_alone_is_anything_inside():
    module = written(
        answering(
            {"$ref": "#/components/schemas/Json"},
            Json={"oneOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Json"}}]},
        )
    )
    assert module.Json == str | list[typing.Any]
    assert "contains itself" in module.notes[0].message


def test_references_in_circles_are_noted():
    schemas = {"A": {"$ref": "#/components/schemas/B"}, "B": {"$ref": "#/components/schemas/A"}}
    module = written(answering({"$ref": "#/components/schemas/A"}, **schemas))
    assert "circles" in module.notes[0].message


def test_deep_nesting_ends():
    schema = {"type": "string"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"in": schema}}
    module = written(answering(schema))
    assert any("too deeply" in note.message for note in module.notes)


def test_types_that_are_not_used_are_not_written():
    module = written(answering({"type": "string"}, Unused=PET))
    assert not hasattr(module, "Unused")


def _return(module):
    return typing.get_type_hints(module.client.read, module.__dict__)["return"]


def _ok(schema):
    return {"200": {"description": "", "content": {"application/json": {"schema": schema}}}}
