"""A server that uses every way to bind a parameter: what the OpenAPI document and schemathesis are tried on."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from uuid import UUID

import msgspec
from msgspec import Meta

from consona.errors import Conflict, NotFound
from consona.rest.server.api_server import APIServer
from consona.rest.server.parameters import Body, Cookie, File, Form, Header, Query
from consona.rest.server.responses import Response
from consona.rest.server.uploads import UploadFile


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a thing."""

    name: Annotated[str, Meta(min_length=1, max_length=20, description="What it is called.")]
    weight: Annotated[float, Meta(gt=0)] = 1.0


class Thing(msgspec.Struct):
    id: int
    name: str
    colour: Colour
    parts: list[Part] = []
    made: dt.datetime | None = None


class NewThing(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=50)]
    colour: Colour = Colour.RED
    parts: Annotated[list[Part], Meta(max_length=5)] = []
    code: UUID | None = None


class Circle(msgspec.Struct, tag="circle", forbid_unknown_fields=True):
    radius: Annotated[int, Meta(ge=1)]


class Square(msgspec.Struct, tag="square", forbid_unknown_fields=True):
    side: Annotated[int, Meta(ge=1)]


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Size(TypedDict):
    width: int
    height: NotRequired[int]


class Application(msgspec.Struct):
    """A form. (A list of one and a single value are the same in a form, which schemathesis does not know.)"""

    name: Annotated[str, Meta(min_length=1, max_length=50)]
    age: int | None = None
    share: float = 0.5
    newsletter: bool = False


def make() -> APIServer:
    api = APIServer("everything", version="2.0", description="A server that uses **every** binding.")
    things: dict[int, Thing] = {1: Thing(1, "one", Colour.RED)}
    ids = itertools.count(2)

    @api.get("/things/{id}", tags=["things"], errors=[NotFound])
    async def read_thing(id: Annotated[int, Meta(ge=1)]) -> Thing:
        """Read one thing.

        The first one is there from the start.
        """
        if id not in things:
            raise NotFound(f"There is no thing {id}.")
        return things[id]

    @api.post("/things", status=201, tags=["things"], errors=[Conflict])
    async def create_thing(new: NewThing, loud: bool = False) -> Thing:
        if new.name == "one":
            raise Conflict("There is one already.")
        number = next(ids)
        things[number] = Thing(number, new.name.upper() if loud else new.name, new.colour, new.parts)
        return things[number]

    @api.get("/things", tags=["things"])
    async def list_things(
        limit: Annotated[int, Meta(ge=1, le=100, description="How many.")] = 10,
        colour: list[Colour] = [],  # noqa: B006
        before: dt.date | None = None,
        price: Decimal | None = None,
        share: float = 0.5,
        order: Literal["name", "id"] = "id",
        page_size: Annotated[int, Query("page-size"), Meta(ge=1)] = 5,
    ) -> list[Thing]:
        return list(things.values())[:limit]

    @api.put("/things/{id}/size", tags=["things"])
    async def set_size(id: int, size: Size) -> Size:
        return size

    @api.delete("/things/{id}", tags=["things"], errors=[NotFound])
    async def delete_thing(id: int) -> None:
        if things.pop(id, None) is None:
            raise NotFound(f"There is no thing {id}.")

    @api.post("/points")
    def add_points(points: list[Point]) -> list[Point]:
        return points

    @api.post("/shapes")
    async def add_shape(shape: Circle | Square) -> dict[str, int]:
        return {"size": 1}

    @api.post("/raw")
    async def raw(data: Annotated[bytes, Body()]) -> dict[str, int]:
        return {"size": len(data)}

    @api.patch("/notes/{code}")
    async def note(
        code: UUID, words: Annotated[dict[str, str], Body()], x_reason: Annotated[str, Header()] = ""
    ) -> dict[str, Any]:
        return {"code": code, "words": len(words)}

    @api.get("/who")
    async def who(
        x_client: Annotated[int, Header(), Meta(ge=0)], session: Annotated[str, Cookie(), Meta(min_length=1)] = "none"
    ) -> list[Any]:
        return [x_client, session]

    @api.get("/files/{path:path}")
    async def read_file(path: str) -> Response:
        return Response(path)

    @api.post("/applications", status=201)
    async def apply(form: Annotated[Application, Form()]) -> Application:
        return form

    @api.post("/photos", status=201)
    async def add_photo(
        title: Annotated[str, Form(), Meta(min_length=1)],
        photo: Annotated[UploadFile, File(max_bytes=100_000)],
        stars: Annotated[int, Form(), Meta(ge=1, le=5)] = 3,
        more: list[UploadFile] = [],  # noqa: B006
        thumbnail: UploadFile | None = None,
    ) -> dict[str, int]:
        return {"size": photo.size, "more": len(more), "stars": stars}

    @api.get("/old", deprecated=True)
    async def old() -> str:
        return "old"

    return api


app = make()
