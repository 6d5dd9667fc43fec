"""A server that uses every way to bind a parameter: what the OpenAPI document and schemathesis are tried on."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import msgspec
from msgspec import Meta

from consona.errors import AuthenticationError, Conflict, NotFound
from consona.rest.server.api_server import APIServer
from consona.rest.server.conditional import Precondition
from consona.rest.server.events import Event, EventStream, LastEventID
from consona.rest.server.files import FileResponse
from consona.rest.server.guards import CurrentUser, Identity
from consona.rest.server.pagination import ByCursor, ByNumber, ByOffset, Page, PageSize
from consona.rest.server.parameters import Body, Cookie, File, Form, Header, Path, Query
from consona.rest.server.requests import Background, Request
from consona.rest.server.responses import Redirect, Response, StreamingResponse
from consona.rest.server.uploads import UploadFile
from consona.rest.server.websocket import WebSocket


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
    """A thing that is to be made."""

    name: Annotated[str, Meta(min_length=1, max_length=50)]
    colour: Colour = Colour.RED
    parts: Annotated[list[Part], Meta(max_length=5)] = []
    code: UUID | None = None
    made: dt.datetime | None = None
    daily: list[dt.time] = []


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


class Pair(NamedTuple):
    left: int
    right: str


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


class User(msgspec.Struct):
    name: str


class Session:
    """What a provider makes."""

    def __init__(self, number: int) -> None:
        self.number = number


class KeyGuard:
    """Knows one caller, by a key."""

    challenge = 'ApiKey realm="everything"'

    async def identify(self, request: Request) -> Identity | None:
        key = request.headers.get("x-key")
        if key not in {None, "ada"}:
            raise AuthenticationError("This key is not known.")
        return Identity("ada", frozenset({"editor"}), frozenset({"things:write"})) if key else None

    def allows(self, identity: Identity, roles: frozenset[str], scopes: frozenset[str]) -> bool:
        return (not roles or bool(roles & identity.roles)) and scopes <= identity.scopes

    async def user(self, identity: Identity, kind: type[Any]) -> Any:
        return kind(identity.subject)

    def security_schemes(self) -> dict[str, Any]:
        return {"key": {"type": "apiKey", "in": "header", "name": "x-key"}}


class Application(msgspec.Struct):
    """A form. (A list of one and a single value are the same in a form, which schemathesis does not know.)"""

    name: Annotated[str, Meta(min_length=1, max_length=50)]
    age: int | None = None
    share: float = 0.5
    newsletter: bool = False


def make() -> APIServer:
    api = APIServer("everything", version="2.0", description="A server that uses **every** binding.")
    api.idempotency("memory://every-binding")
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

    add_texts(api)
    add_answers(api)
    add_needs(api)

    @api.get("/pages")
    async def pages(want: ByNumber) -> Page[Thing]:
        return want.page(list(things.values())[want.offset :][: want.fetch])

    @api.get("/pages/by-offset")
    async def by_offset(want: ByOffset, colour: Colour | None = None) -> Page[Thing]:
        found = [thing for thing in things.values() if colour in {None, thing.colour}]
        return want.page(found[want.offset :][: want.fetch], total=len(found))

    @api.get("/pages/by-cursor")
    async def by_cursor(want: Annotated[ByCursor[int], PageSize(2, most=50)]) -> Page[Thing]:
        rows = [thing for thing in things.values() if want.after is None or thing.id > want.after]
        return want.page(rows[: want.fetch], key=lambda thing: thing.id)

    @api.put("/notes", idempotent=True)
    async def keep_note(words: Size) -> Size:
        return words

    @api.get("/old", deprecated=True)
    async def old() -> str:
        return "old"

    return api


def add_texts(api: APIServer) -> None:
    """Each type that arrives as text."""

    @api.get("/texts/{day}/{code_name}/{level}")
    async def texts(
        day: dt.date,
        code: Annotated[UUID, Path("code_name")],
        level: Level,
        at: dt.datetime | None = None,
        time: dt.time | None = None,
        wait: dt.timedelta | None = None,
        limit: int | None = None,
        word: Annotated[str, Meta(min_length=2, max_length=5, pattern="^[a-z]*$")] = "ab",
        numbers: tuple[int, ...] = (),
        names: set[str] = set(),  # noqa: B006
        kinds: frozenset[Literal["a", "b"]] = frozenset(),
        either: int | bool = False,
        last: LastEventID = "",
    ) -> dict[str, Any]:
        return {"day": day, "code": code, "level": level, "names": len(names) + len(numbers) + len(kinds)}

    @api.route("/pairs", "POST", "PUT")
    def pairs(pair: Pair, exact: Annotated[bool, Query("is-exact")] = True) -> int:
        return pair.left  # (schemathesis 4.32 cannot read the schema of a tuple in an answer)

    @api.post("/named")
    async def named(parts: dict[str, Part], strict: bool = False) -> list[str]:
        return sorted(parts)

    @api.patch("/anything")
    async def anything(value: Annotated[Any, Body()]) -> Any:
        return value

    @api.post("/text")
    async def text(words: Annotated[str, Body()]) -> int:
        return len(words)

    @api.post("/optional")
    async def optional(part: Part | None = None) -> bool:
        return part is not None


def add_answers(api: APIServer) -> None:
    """Each kind of answer."""

    @api.get("/versions/{id}", etag=True)
    async def version(id: int) -> Thing:
        return Thing(id, "same", Colour.RED)

    @api.put("/versions/{id}", require_match=True)
    async def set_version(id: int, part: Part, match: Precondition) -> Part:
        match.check(Thing(id, "same", Colour.RED))
        return part

    @api.get("/weak", etag="weak")
    async def weak() -> list[int]:
        return [1]

    @api.get("/elsewhere", status=307)
    async def elsewhere() -> Redirect:
        return Redirect("/old")

    @api.get("/download")
    async def download() -> FileResponse:
        return FileResponse(__file__)

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(["a", "b"], media_type="text/plain")

    @api.get("/prices")
    async def prices(count: Annotated[int, Meta(ge=0, le=9)] = 3) -> AsyncIterator[Event[Part]]:
        for number in range(count):
            yield Event(Part(f"part {number}"), id=str(number))

    @api.get("/ticks")
    async def ticks() -> EventStream:
        return EventStream(range(3))

    @api.post("/later", status=202)
    async def later(background: Background) -> None:
        background.run(len, "")

    @api.websocket("/live/{room}")
    async def live(room: str, socket: WebSocket) -> None:
        async for message in socket:
            await socket.send(message)


def add_needs(api: APIServer) -> None:
    """What is injected, and who may pass."""
    api.secure(KeyGuard())
    api.provide(Session(7))

    @api.provide
    async def user_number(x_number: Annotated[int, Header(), Meta(ge=0)] = 0) -> AsyncIterator[Number]:
        yield Number(x_number)

    @api.get("/injected")
    async def injected(request: Request, session: Session, number: Number, server: APIServer) -> list[int]:
        return [session.number, number.value, len(server.name)]

    @api.get("/me", scopes={"things:write"})
    async def me(user: CurrentUser[User], n: int = 0) -> User:
        return user

    @api.delete("/me", roles={"editor"}, errors=[NotFound])
    async def forget_me() -> None:
        raise NotFound("Nobody is forgotten.")


class Number:
    """What a provider makes, from a header."""

    def __init__(self, value: int) -> None:
        self.value = value


app = make()
