"""The OpenAPI document says what happens, to a validator and to a tool that tries everything."""

from __future__ import annotations

import asyncio
import json
import sys

import msgspec
import openapi_spec_validator

import every_binding
from asgi_call import call
from consona.rest.server.api_server import APIServer
from consona.rest.server.settings import ServerSettings
from served import served


def document():
    return every_binding.make().openapi()


def test_a_public_validator_finds_nothing():
    openapi_spec_validator.validate(document())
    openapi_spec_validator.validate(APIServer("empty").openapi())


async def test_it_is_served_and_is_the_same():
    async with every_binding.make() as api:
        assert (await call(api, "GET", "/openapi.json")).json() == json.loads(json.dumps(document()))


def test_parameters_bodies_and_answers_have_their_types():
    paths = document()["paths"]
    listing = {parameter["name"]: parameter for parameter in paths["/things"]["get"]["parameters"]}
    assert listing["limit"] == {
        "name": "limit",
        "in": "query",
        "required": False,
        "description": "How many.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
    }
    assert listing["share"]["schema"] == {"type": "number", "default": 0.5}
    assert listing["page-size"]["schema"]["default"] == 5
    create = paths["/things"]["post"]
    assert create["requestBody"]["required"]
    assert set(create["requestBody"]["content"]) == {"application/json", "application/msgpack"}
    assert set(create["responses"]) == {"201", "400", "409", "413", "415", "422", "default"}
    assert create["responses"]["201"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Thing"}
    assert paths["/files/{path}"]["get"]["parameters"][0]["name"] == "path"
    assert set(paths["/things/{id}"]["delete"]["responses"]) == {"204", "400", "404", "422", "default"}
    read = paths["/things/{id}"]["get"]
    assert (read["summary"], read["description"]) == ("Read one thing.", "The first one is there from the start.")
    assert (read["operationId"], read["tags"], paths["/old"]["get"]["deprecated"]) == ("read_thing", ["things"], True)


def test_the_status_of_wrong_fields_is_the_servers_own():
    api = APIServer("t", settings=ServerSettings(validation_status=400))

    @api.get("/x")
    async def x(n: int) -> int: ...

    assert set(api.openapi()["paths"]["/x"]["get"]["responses"]) == {"200", "400", "default"}


def test_names_stay_apart_and_what_is_not_asked_for_is_there():
    api = APIServer("t")
    for name in ("a", "b"):

        async def handler() -> int: ...

        handler.__annotations__["return"] = msgspec.defstruct("Thing", [(name, int)], module=f"shop.{name}")
        api.get(f"/{{tenant}}/{name}")(handler)
    document = api.openapi()
    openapi_spec_validator.validate(document)
    operations = [path["get"] for path in document["paths"].values()]
    assert len({operation["operationId"] for operation in operations}) == 2
    assert operations[0]["parameters"] == [
        {"name": "tenant", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    ]


def test_what_is_not_documented_is_not_there():
    api = APIServer("t")

    @api.get("/hidden", documented=False)
    async def hidden() -> int: ...

    assert api.openapi()["paths"] == {}


# Any bytes are a file, also those that it takes for no file.
SCHEMATHESIS = """
[[operations]]
include-path = "/photos"
checks.negative_data_rejection.enabled = false
"""


async def test_schemathesis_finds_no_failure(tmp_path):
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    async with served(every_binding.make()) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
            *("--max-examples", "10", "--generation-deterministic", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output[-8000:]
    assert "Tested: 14" in output
