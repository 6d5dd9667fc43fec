"""The OpenAPI document says what happens, to a validator and to a tool that tries everything."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import sys
from typing import Annotated, NamedTuple, TypedDict

import msgspec
import openapi_spec_validator

import every_binding
from asgi_call import call
from consona.rest.server.api_server import APIServer
from consona.rest.server.listener import Listener
from consona.rest.server.schemas import Schemas
from consona.rest.server.settings import ServerSettings


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


class Inner(NamedTuple):
    at: dt.datetime
    n: int


class Times(msgspec.Struct):
    at: dt.datetime
    maybe: dt.datetime | None
    here: Annotated[dt.datetime, msgspec.Meta(tz=False)]
    daily: list[dt.time]
    named: dict[str, dt.datetime]
    pair: tuple[dt.datetime, int]
    inner: Inner
    wait: dt.timedelta
    again: Times | None = msgspec.field(name="next", default=None)


class Wide(TypedDict):
    at: dt.datetime


def test_times_are_described_wherever_they_are():
    """msgspec gives a format to times with a time zone alone."""

    api = APIServer("t")

    @api.post("/x")
    async def x(times: Inner, at: dt.datetime, each: list[dt.datetime] = []) -> dict[str, Wide]: ...  # noqa: B006

    document = api.openapi()
    openapi_spec_validator.validate(document)
    operation = document["paths"]["/x"]["post"]
    at, each = (parameter["schema"] for parameter in operation["parameters"])
    assert at["anyOf"][0] == {"type": "string", "format": "date-time"}
    assert at["anyOf"][1]["type"] == "number"
    assert each["items"] == at
    schemas = document["components"]["schemas"]
    assert schemas["Inner"]["prefixItems"] == [{"type": "string", "format": "date-time"}, {"type": "integer"}]
    assert schemas["Inner"]["items"] is False
    assert schemas["Wide"]["properties"]["at"] == {"type": "string", "format": "date-time"}

    described = Schemas([Times]).components["Times"]["properties"]
    when = {"type": "string", "format": "date-time"}
    assert described["at"] == when
    assert described["maybe"]["anyOf"] == [when, {"type": "null"}]
    assert described["here"] == {"type": "string"}
    assert described["daily"]["items"] == {"type": "string", "format": "time"}
    assert described["named"]["additionalProperties"] == when
    assert described["pair"]["prefixItems"][0] == when
    assert "format" not in described["wait"]
    for text in ("P1D", "PT1.5S", "P3DT4H", "PT1H2M3S"):
        assert re.search(described["wait"]["pattern"], text)
        assert msgspec.convert(text, dt.timedelta)


def test_what_arrives_as_text_is_never_null():
    api = APIServer("t")

    @api.get("/x")
    async def x(n: int | None = None, share: float | None = None, name: str | int | None = None) -> int: ...

    found = [parameter["schema"] for parameter in api.openapi()["paths"]["/x"]["get"]["parameters"]]
    assert found == [{"type": "integer"}, {"type": "number"}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}]


CONFIGURATION = """
# It sends other requests with the same Idempotency-Key.
[[operations]]
include-name = "PUT /notes"
checks.positive_data_acceptance.expected-statuses = [200, 409, 422]

# It takes some bytes for none (`format: binary`), and expects a refusal of the file.
[[operations]]
include-name = "POST /photos"
checks.negative_data_rejection.enabled = false

# Nor can it make up a cursor: each comes from the page before.
[[operations]]
include-name = "GET /pages/by-cursor"
checks.positive_data_acceptance.expected-statuses = [200, 422]

# Whoever makes up an If-Match cannot know the state that it must name.
[[operations]]
include-name = "PUT /versions/{id}"
checks.positive_data_acceptance.expected-statuses = [200, 412]
checks.missing_required_header.expected-statuses = [400, 422, 428]
"""


async def test_schemathesis_finds_no_failure(tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    async with Listener(every_binding.make(), port=0) as listener:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{listener.url}/openapi.json"),
            *("--max-examples", "10", "--generation-deterministic", "--no-color", "-H", "x-key: ada"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output[-8000:]
    assert f"Tested: {len(every_binding.make().signatures()) - 1}" in output  # all but the WebSocket
