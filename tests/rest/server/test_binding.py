"""What a handler's signature takes from a request, and what its answer becomes."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime as dt
import enum
import json
import struct
import threading
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, NotRequired, TypedDict
from uuid import UUID

import msgspec
import pytest

from asgi_call import as_json, call
from consona.errors import ConfigurationError
from consona.part import Part
from consona.rest.server.api_server import APIServer
from consona.rest.server.binding import source_of
from consona.rest.server.parameters import Body, Cookie, Header, Path, Query
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response


class NewPost(msgspec.Struct, forbid_unknown_fields=True):
    title: Annotated[str, msgspec.Meta(min_length=1)]
    stars: int = 0
    tags: list[str] = []


class Post(msgspec.Struct):
    id: int
    title: str


class SecretPost(Post):
    password: str = "hidden"


@dataclasses.dataclass
class Point:
    x: int
    y: float = 1.0


class Size(TypedDict):
    width: int
    height: NotRequired[int]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


async def answer_of(handler, method="GET", path="/x", pattern=None, *, setup=None, status=None, **request):
    api = APIServer("t")
    if setup:
        setup(api)
    api.route(pattern or path, method, **({"status": status} if status else {}))(handler)
    async with api:
        return await call(api, method, path, **request)


def errors_of(answer):
    assert answer.status == 422, answer
    return {(error["path"], error["message"]) for error in answer.json()["errors"]}


async def test_path_and_query_arrive_in_their_types():
    async def handler(id: int, day: date, code: UUID, price: Decimal, colour: Colour, on: bool, f: float = 1.5):
        assert (day, code, price, colour) == (date(2024, 2, 29), UUID(int=1), Decimal("1.10"), Colour.RED)
        return [id, on, f]

    answer = await answer_of(
        handler, path="/7", pattern="/{id}", query=f"day=2024-02-29&code={UUID(int=1)}&price=1.10&colour=red&on=true"
    )
    assert answer.json() == [7, True, 1.5]


async def test_text_is_percent_decoded_and_plus_is_a_space():
    async def handler(q: str, other: Annotated[str, Query("ü")] = "") -> list[str]:
        return [q, other]

    answer = await answer_of(handler, query="q=a+b%2Bc%C3%A9%26&%C3%BC=x")
    assert answer.json() == ["a b+cé&", "x"]


async def test_a_list_takes_a_name_several_times():
    async def handler(tag: list[str], n: list[int] = [1]) -> list[Any]:  # noqa: B006
        n.append(9)
        return [tag, n]

    for _ in range(2):  # a default is never shared between requests
        answer = await answer_of(handler, query="tag=a&tag=b")
        assert answer.json() == [["a", "b"], [1, 9]]
    assert errors_of(await answer_of(handler, query="n=1&n=x")) == {
        ("query.tag", "is missing"),
        ("query.n", "expected int - at $[1]"),
    }


async def test_a_single_value_given_twice_is_wrong():
    async def handler(limit: int = 1) -> int:
        return limit

    assert errors_of(await answer_of(handler, query="limit=1&limit=2")) == {("query.limit", "given more than once")}


async def test_headers_and_cookies_by_marker():
    async def handler(
        x_token: Annotated[str, Header()],
        agent: Annotated[str, Header("User-Agent")] = "none",
        session: Annotated[int, Cookie()] = 0,
        size: Annotated[int, Query("page-size")] = 5,
    ) -> list[Any]:
        return [x_token, agent, session, size]

    answer = await answer_of(handler, headers={"X-Token": "t", "Cookie": "a=1; session=42"}, query="page-size=3&size=4")
    assert answer.json() == ["t", "none", 42, 3]
    assert errors_of(await answer_of(handler, headers={"cookie": "session=x"})) == {
        ("header.x-token", "is missing"),
        ("cookie.session", "expected int"),
    }


async def test_a_path_name_that_is_no_identifier_of_the_handler():
    async def handler(number: Annotated[int, Path("id")]) -> int:
        return number

    assert (await answer_of(handler, path="/5", pattern="/{id}")).json() == 5


@pytest.mark.parametrize("text", ["1_0", "%207", "+7", "0x1", "", "7.5", "nan", "%D9%A3", "07"])
async def test_a_number_is_written_as_in_json(text):
    async def handler(n: int) -> int:
        return n

    assert errors_of(await answer_of(handler, query=f"n={text}")) == {("query.n", "expected int")}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "NaN", "Infinity"])
async def test_a_number_with_a_fraction_is_finite(text):
    async def handler(x: float, d: Decimal | None, many: list[Decimal]) -> None: ...

    answer = await answer_of(handler, query=f"x={text}&d={text}&many=1&many={text}")
    assert {path for path, _ in errors_of(answer)} == {"query.x", "query.d", "query.many"}
    only = await answer_of(handler, query=f"x=1&d={text}&many=1")
    assert errors_of(only) == {("query.d", "expected a finite number")}


async def test_constraints_hold_everywhere():
    async def handler(
        id: Annotated[int, msgspec.Meta(ge=1)], kind: Literal["a", "b"], limit: Annotated[int, msgspec.Meta(le=100)] = 1
    ) -> int:
        return id

    assert errors_of(await answer_of(handler, path="/0", pattern="/{id}", query="kind=c&limit=101")) == {
        ("path.id", "expected int >= 1"),
        ("query.kind", "invalid enum value 'c'"),
        ("query.limit", "expected int <= 100"),
    }


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/vnd.shop+json"])
async def test_a_struct_is_the_body(kind):
    async def handler(post: NewPost, dry: bool = False) -> Any:
        return [post, dry]

    answer = await answer_of(handler, "POST", query="dry=1", body=b'{"title":"t"}', headers={"content-type": kind})
    assert answer.json() == [{"title": "t", "stars": 0, "tags": []}, True]


@pytest.mark.parametrize("kind", ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack"])
async def test_messagepack_in_and_out(kind):
    async def handler(post: NewPost) -> Post:
        return Post(1, post.title)

    answer = await answer_of(
        handler,
        "POST",
        body=msgspec.msgpack.encode({"title": "t"}),
        headers={"content-type": kind, "accept": "application/msgpack"},
    )
    assert (answer.header("content-type"), answer.header("vary")) == ("application/msgpack", "accept")
    assert msgspec.msgpack.decode(answer.body) == {"id": 1, "title": "t"}


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Point, {"x": 1, "y": 2.5}),
        (Size, {"width": 3}),
        (list[NewPost], [{"title": "a", "stars": 1, "tags": []}]),
        (dict[str, Point], {"a": {"x": 1, "y": 1.0}}),
        (list[Point] | None, None),
    ],
)
async def test_other_declared_data_is_the_body_too(declared, value):
    async def handler(data) -> Any:
        return data

    handler.__annotations__["data"] = declared
    answer = await answer_of(handler, "POST", **as_json(value))
    assert answer.json() == value


async def test_a_body_may_be_left_out_where_it_has_a_default():
    async def handler(post: NewPost | None = None) -> Any:
        return post

    assert (await answer_of(handler, "POST")).json() is None
    assert (await answer_of(handler, "POST", **as_json({"title": "x"}))).json()["title"] == "x"
    assert errors_of(await answer_of(handler, "POST", **as_json({"title": 1}))) == {
        ("body.title", "expected str, got int")
    }


async def test_marked_bodies_of_plain_types():
    async def numbers(values: Annotated[list[int], Body()]) -> int:
        return sum(values)

    async def raw(data: Annotated[bytes, Body()]) -> int:
        return len(data)

    async def text(data: Annotated[str, Body()]) -> str:
        return data

    assert (await answer_of(numbers, "POST", **as_json([1, 2]))).json() == 3
    assert (await answer_of(raw, "POST", body=b"\xff\x00\x01")).json() == 3
    assert (await answer_of(text, "POST", body="é".encode())).json() == "é"
    assert (await answer_of(text, "POST", body=b"\xff")).status == 400


async def test_every_wrong_field_is_named_in_one_answer():
    async def handler(id: int, post: NewPost, limit: int, agent: Annotated[int, Header("x-agent")]) -> None: ...

    answer = await answer_of(
        handler,
        "POST",
        "/abc",
        "/{id}",
        query="limit=many",
        **as_json({"title": "", "stars": "x", "tags": ["ok", 1, None], "more": 1}),
    )
    assert errors_of(answer) == {
        ("path.id", "expected int"),
        ("query.limit", "expected int"),
        ("header.x-agent", "is missing"),
        ("body.title", "expected str of length >= 1"),
        ("body.stars", "expected int, got str"),
        ("body.tags[1]", "expected str, got int"),
        ("body.tags[2]", "expected str, got null"),
        ("body.more", "is not known here"),
    }
    assert answer.json()["detail"] == "8 fields are wrong in the request."
    assert answer.json()["code"] == "validation"


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b'{"title":', "application/json", 400, "truncated"),
        (b'{"title":"x",}', "application/json", 400, "not JSON"),
        (b"\xff\xfe{}", "application/json", 400, "not JSON"),
        (b'{"title":"\xff"}', "application/json", 400, "UTF-8 at byte"),
        (b"NaN", "application/json", 400, "not JSON"),
        (b"[" * 500_000, "application/json", 400, "nested too deeply"),
        (b"\x91" * 500_000, "application/msgpack", 400, "nested too deeply"),
        (b"\xc1", "application/msgpack", 400, "not MessagePack"),
        (b'{"title":"x"}', "text/plain", 415, "text/plain"),
        (b'{"title":"x"}', "application/x-www-form-urlencoded", 415, "x-www-form-urlencoded"),
        (b'{"title":"x"}', "", 415, "no content type"),
        (b'{"title":"x"}', "application/json; charset=latin-1", 415, "UTF-8"),
        (b"<x/>", "application/xml", 415, "application/xml"),
    ],
)
async def test_a_body_that_cannot_be_read(body, kind, status, words):
    async def handler(post: NewPost) -> None: ...

    answer = await answer_of(handler, "POST", body=body, headers={"content-type": kind} if kind else {})
    assert (answer.status, answer.header("content-type")) == (status, "application/problem+json")
    assert words in answer.json()["detail"]
    if status == 415:
        assert answer.header("accept") == "application/json, application/msgpack"


async def test_a_compressed_body_is_not_taken_for_json():
    async def handler(post: NewPost) -> None: ...

    answer = await answer_of(
        handler, "POST", body=b"\x1f\x8b", headers={"content-type": "application/json", "content-encoding": "gzip"}
    )
    assert (answer.status, answer.header("accept-encoding")) == (415, "identity")


async def test_an_empty_body_is_missing():
    async def handler(post: NewPost) -> None: ...

    answer = await answer_of(handler, "POST", headers={"content-type": "application/json"})
    assert errors_of(answer) == {("body", "is missing")}


async def test_text_that_is_not_utf8_cannot_be_read():
    async def handler(q: str) -> None: ...

    answer = await answer_of(handler, query="q=%ff")
    assert (answer.status, answer.json()["code"]) == (400, "http.bad_request")


# What is answered.


async def test_what_is_returned_is_what_is_declared_and_no_more():
    async def one() -> Post:
        return SecretPost(1, "a")

    async def many() -> list[Post]:
        return [Post(1, "a"), SecretPost(2, "b")]

    async def from_dict() -> Post:
        return {"id": 1, "title": "a", "password": "x"}

    async def typed_dict() -> Size:
        return {"width": 1, "secret": 2}

    assert (await answer_of(one)).json() == {"id": 1, "title": "a"}
    assert (await answer_of(many)).json() == [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]
    assert (await answer_of(from_dict)).json() == {"id": 1, "title": "a"}
    assert (await answer_of(typed_dict)).json() == {"width": 1}


async def test_an_answer_that_is_not_what_is_declared_is_the_servers_fault(caplog):
    async def handler() -> Post:
        return {"id": "secret-value"}

    answer = await answer_of(handler)
    assert (answer.status, answer.json()["code"]) == (500, "rest.answer_mismatch")
    assert "secret-value" not in answer.body.decode()
    assert "returned something else than it declares" in caplog.text


async def test_none_is_an_answer_without_a_body():
    async def handler() -> None: ...

    answer = await answer_of(handler)
    assert (answer.status, answer.body, answer.header("content-length")) == (204, b"", None)
    answer = await answer_of(handler, "POST", status=202)
    assert (answer.status, answer.body, answer.header("content-length")) == (202, b"", "0")


async def test_a_response_goes_out_as_it_is_and_may_be_returned_again():
    kept = Response("héllo", status=203, headers={"X-A": "1"})

    async def handler() -> Response:
        return kept

    async def maybe(id: int) -> Post:
        return Response({"moved": True}, status=410)

    first, second = await answer_of(handler), await answer_of(handler)
    assert (first.status, first.body.decode(), first.header("x-a")) == (203, "héllo", "1")
    assert first.header("content-length") == second.header("content-length") == "6"
    assert len(second.headers) == len(first.headers)
    assert (await answer_of(maybe, query="id=1")).status == 410


async def test_a_plain_function_runs_in_a_thread_with_the_context_of_the_request():
    seen = contextvars.ContextVar("seen", default=0)

    def handler(id: int) -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), seen.get(), id]

    def setup(api):
        @api.middleware
        async def mark(request, call_next):
            seen.set(7)
            return await call_next(request)

    assert (await answer_of(handler, query="id=3", setup=setup)).json() == [False, 7, 3]


# What is handed in.


class Database(Part):
    async def _open(self): ...
    async def _close(self): ...


async def test_parts_are_given_by_type_and_run_while_the_server_does():
    db, other = Database("db"), Database("other")
    api = APIServer("t", parts=[db, other])

    @api.get("/x")
    async def handler(other: Database, server: APIServer) -> list[Any]:
        return [other.name, other.started, server.name]

    assert not db.started
    async with api:
        assert (await call(api, "GET", "/x")).json() == ["other", True, "t"]
    assert not db.started


async def test_a_type_that_several_parts_have_needs_a_name():
    api = APIServer("t", parts=[Database("a"), Database("b")])

    @api.get("/x")
    async def handler(db: Database): ...

    with pytest.raises(ConfigurationError, match="'db' could be any of 'a', 'b'"):
        await api.start()


class Session:
    def __init__(self, user):
        self.user = user


class Unit:
    log: ClassVar[list[str]] = []


async def test_providers_make_what_handlers_ask_for_once_a_request():
    made = []

    def setup(api):
        @api.provide
        async def session(user: Annotated[str, Header("x-user")]) -> Session:
            made.append(user)
            return Session(user)

        @api.provide
        async def unit(session: Session) -> AsyncIterator[Unit]:
            Unit.log = ["begin " + session.user]
            try:
                yield Unit()
                Unit.log.append("commit")
            except ValueError:
                Unit.log.append("rollback")
                raise

    async def handler(session: Session, unit: Unit, fail: bool = False) -> str:
        if fail:
            raise ValueError
        return session.user

    answer = await answer_of(handler, setup=setup, headers={"x-user": "ada"})
    assert (answer.json(), made, Unit.log) == ("ada", ["ada"], ["begin ada", "commit"])
    answer = await answer_of(handler, setup=setup, headers={"x-user": "bob"}, query="fail=true")
    assert (answer.status, Unit.log) == (500, ["begin bob", "rollback"])
    assert errors_of(await answer_of(handler, setup=setup)) == {("header.x-user", "is missing")}


async def test_providers_of_providers_share_what_one_request_has_made():
    def setup(api):
        @api.provide
        async def session() -> AsyncIterator[Session]:
            yield Session("ada")

        @api.provide
        def unit(session: Session) -> Unit:
            unit = Unit()
            unit.session = session
            return unit

    async def handler(unit: Unit, session: Session) -> bool:
        return unit.session is session

    assert (await answer_of(handler, setup=setup)).json() is True


async def test_providers_that_need_each_other_are_named_at_start():
    def setup(api):
        @api.provide
        def session(unit: Unit) -> Session: ...

        @api.provide
        def unit(session: Session) -> Unit: ...

    async def handler(unit: Unit) -> str: ...

    with pytest.raises(ConfigurationError, match=r"need each other: .*unit needs .*session needs .*unit"):
        await answer_of(handler, setup=setup)


async def test_a_clean_up_that_fails_is_an_error_of_the_request():
    def setup(api):
        @api.provide
        async def unit() -> AsyncIterator[Unit]:
            yield Unit()
            raise RuntimeError("the commit failed")

    async def handler(unit: Unit) -> str:
        return "saved"

    assert (await answer_of(handler, setup=setup)).status == 500


async def test_a_plain_provider_and_a_ready_value():
    session = Session("fixed")

    def setup(api):
        api.provide(session)

        @api.provide
        def unit() -> Unit:
            unit = Unit()
            unit.thread = threading.current_thread()
            return unit

    async def handler(s: Session, unit: Unit) -> list[Any]:
        return [s is session, unit.thread is threading.main_thread()]

    assert (await answer_of(handler, setup=setup)).json() == [True, False]


async def test_the_request_itself():
    async def handler(request: Request) -> list[Any]:
        return [request.method, request.path, request.query, request.headers["X-A"], await request.json()]

    answer = await answer_of(handler, "PUT", query="a=1&a=2", body=b"[1]", headers={"x-a": "é"})
    assert answer.json() == ["PUT", "/x", {"a": ["1", "2"]}, "é", [1]]


# What is refused at start.


def refuse(words, handler, method="POST", pattern="/x", **options):
    api = APIServer("t")
    api.route(pattern, method, **options)(handler)
    with pytest.raises(ConfigurationError, match=words):
        api.openapi()


def test_two_candidates_for_the_body_are_an_error_at_start():
    async def handler(post: NewPost, point: Point): ...

    refuse(r"POST /x .*both 'post' and 'point' want the body", handler)


def test_signatures_that_cannot_be_bound_say_why():
    async def untyped(a): ...
    async def unknown(a: Nowhere): ...  # noqa: F821
    async def strange(a: object): ...
    async def variable(*a: int): ...
    async def body_of_get(post: NewPost): ...
    async def not_in_path(a: Annotated[int, Path("b")]): ...
    async def struct_header(a: Annotated[Point, Header()]): ...
    async def yields(a: int):
        yield a

    async def image() -> bytes: ...
    async def full() -> Post: ...

    refuse("'a' has no type", untyped)
    refuse("'Nowhere', which cannot be found", unknown)
    refuse("'a' of type object cannot be bound", strange)
    refuse("cannot be bound", variable)
    refuse("GET has none", body_of_get, "GET")
    refuse(r"has no \{b\}", not_in_path)
    refuse("from the header as text", struct_header)
    refuse("answer to a GET", yields)
    refuse("bytes alone", image)
    refuse("204 has no body", full, status=204)


def test_a_path_parameter_that_the_handler_does_not_take_is_fine():
    async def handler() -> int: ...

    api = APIServer("t")
    api.get("/{tenant}/x")(handler)
    assert "/{tenant}/x" in api.openapi()["paths"]


async def test_the_compiled_function_can_be_read():
    api = APIServer("t")

    @api.get("/x/{id}")
    async def read(id: int) -> Post: ...

    async with api:
        source = source_of(api.routes[0])
    assert "await handler(id=p.p0)" in source
    assert "query" not in source


async def test_many_requests_at_once_keep_their_own_values():
    api = APIServer("t")

    @api.post("/{id}")
    async def echo(id: int, post: NewPost, q: str) -> list[Any]:
        await asyncio.sleep(0)
        return [id, post.title, q]

    async with api:
        answers = await asyncio.gather(
            *(call(api, "POST", f"/{n}", query=f"q={n}", **as_json({"title": str(n)})) for n in range(50))
        )
    assert [json.loads(answer.body) for answer in answers] == [[n, str(n), str(n)] for n in range(50)]


@pytest.mark.parametrize("value", ["null", "None", ""])
async def test_nothing_written_out_is_no_number(value):
    async def handler(n: int | None = None) -> int | None:
        return n

    api = APIServer("t")
    api.get("/x")(handler)
    async with api:
        assert (await call(api, "GET", "/x", query=f"n={value}")).status == 422
        assert (await call(api, "GET", "/x")).json() is None


class Happened(msgspec.Struct):
    at: dt.datetime


async def test_the_first_second_after_all_years_is_a_wrong_field():
    """msgspec lets a plain ValueError through for it, in text and in MessagePack."""

    async def read(at: dt.datetime) -> dt.datetime:
        return at

    async def write(event: Happened) -> dt.datetime:
        return event.at

    api = APIServer("t")
    api.get("/x")(read)
    api.post("/x")(write)
    packed = b"\x81\xa2at\xc7\x0c\xff" + struct.pack(">Iq", 0, 253402300800)
    async with api:
        answer = await call(api, "GET", "/x", query="at=253402300800")
        assert (answer.status, answer.json()["errors"][0]["path"]) == (422, "query.at")
        answer = await call(api, "POST", "/x", body=packed, headers={"content-type": "application/msgpack"})
        assert answer.status == 400
