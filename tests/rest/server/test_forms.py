"""Forms: bound from the signature, limited in every direction, and nothing of them left when the request is over."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import os
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import openapi_spec_validator
import pytest

from asgi_call import call
from consona.errors import ConfigurationError, NotFound
from consona.rest.client.api_client import APIClient
from consona.rest.client.multipart import File as Sent
from consona.rest.server.api_server import APIServer
from consona.rest.server.parameters import File, Form
from consona.rest.server.requests import Background, Request
from consona.rest.server.responses import Response, StreamingResponse
from consona.rest.server.settings import FormLimits, ServerSettings
from consona.rest.server.uploads import UploadFile
from processes import until
from served import served

BIG = bytes(range(256)) * 8192  # two MiB


class NewPost(msgspec.Struct):
    title: str
    stars: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3
    price: Decimal | None = None
    tags: list[str] = []
    public: bool = False


@dataclass
class Sender:
    """Sends forms to a server and gives its answers."""

    api: APIServer

    async def fields(self, fields: Any, path: str = "/", **headers: str):
        body = urlencode(fields, doseq=True).encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return await call(self.api, "POST", path, body=body, headers={**kind, **headers})

    async def files(self, *parts: tuple[str, str | None, bytes], path: str = "/", kind="image/png", body=None):
        whole = b"".join(part(*each, kind=kind) for each in parts) + b"--B--\r\n"
        return await call(
            self.api, "POST", path, body=body or whole, headers={"content-type": "multipart/form-data; boundary=B"}
        )


def part(name: str, filename: str | None, content: bytes, *, kind: str = "image/png") -> bytes:
    more = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: {kind}'
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def wrong(answer) -> dict[str, str]:
    return {each["path"]: each["message"] for each in answer.json()["errors"]}


def open_in(folder: Path) -> list[str]:
    """The files in a folder that this process has open, also those without a name."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(each.readlink())
            if target.startswith(f"{folder}/"):
                found.append(target)
    return found


class Stalled:
    """A client that begins to send a form, and then neither goes on nor leaves."""

    def __init__(self, begun: bytes) -> None:
        self.pieces = [begun]
        self.all_came = asyncio.Event()
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if not self.pieces:
            self.all_came.set()
            await asyncio.Event().wait()
        return {"type": "http.request", "body": self.pieces.pop(), "more_body": True}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def ask(self, api: APIServer) -> None:
        headers = [(b"content-type", b"multipart/form-data; boundary=B")]
        scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "client": None}
        await api({**scope, "headers": headers}, self.receive, self.send)


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="open files are seen in /proc")


def with_handler(handler, **options) -> APIServer:
    settings = options.pop("settings", None)
    api = APIServer("t", settings=settings)
    api.post("/", **options)(handler)
    return api


# What a handler gets.


async def test_fields_arrive_in_their_types_both_ways():
    async def handler(
        name: Annotated[str, Form()],
        born: Annotated[dt.date, Form("day-of-birth")],
        page: int = 1,
        height: Annotated[float, Form()] = 1.7,
        tags: Annotated[list[int], Form()] = [],  # noqa: B006
    ) -> list[Any]:
        return [name, born, page, height, tags]

    async with with_handler(handler) as api:
        answer = await Sender(api).fields({"name": "Ada & Bob ä", "day-of-birth": "1815-12-10", "tags": [1, 2]})
        assert answer.json() == ["Ada & Bob ä", "1815-12-10", 1, 1.7, [1, 2]]
        answer = await Sender(api).files(
            ("name", None, "ä\r\n".encode()), ("day-of-birth", None, b"1815-12-10"), ("tags", None, b"7")
        )
        assert answer.json() == ["ä\r\n", "1815-12-10", 1, 1.7, [7]]


async def test_a_struct_takes_the_fields_of_the_whole_form():
    async def handler(post: Annotated[NewPost, Form()]) -> NewPost:
        return post

    async with with_handler(handler) as api:
        sender = Sender(api)
        assert (await sender.fields({"title": "x"})).json() == {
            "title": "x", "stars": 3, "price": None, "tags": [], "public": False,
        }  # fmt: skip
        full = {"title": "", "stars": "5", "price": "1.50", "tags": ["a", ""], "public": "on", "other": "ignored"}
        assert (await sender.fields(full)).json() == {
            "title": "", "stars": 5, "price": "1.50", "tags": ["a", ""], "public": True,
        }  # fmt: skip
        answer = await sender.fields({"stars": "9", "price": "NaN", "public": "7", "tags": "a"})
        assert answer.status == 422
        assert wrong(answer) == {
            "form.title": "is missing",
            "form.stars": "expected int <= 5",
            "form.price": "expected a finite number",
            "form.public": "expected bool",
        }


async def test_what_was_left_empty_counts_as_missing_where_it_is_no_text():
    async def handler(
        age: Annotated[int | None, Form()] = None,
        stars: Annotated[int, Form()] = 3,
        name: Annotated[str, Form()] = "nobody",
        photo: UploadFile | None = None,
    ) -> list[Any]:
        return [age, stars, name, photo]

    async with with_handler(handler) as api:
        answer = await Sender(api).files(
            ("age", None, b""), ("stars", None, b""), ("name", None, b""), ("photo", "", b"")
        )
        assert answer.json() == [None, 3, "", None]


async def test_unknown_fields_are_refused_where_the_struct_says_so():
    class Strict(msgspec.Struct, forbid_unknown_fields=True):
        a: int

    async def handler(form: Annotated[Strict, Form()]) -> int:
        return form.a

    handler.__annotations__["form"] = Annotated[Strict, Form()]
    async with with_handler(handler) as api:
        assert (await Sender(api).fields({"a": 1})).json() == 1
        assert wrong(await Sender(api).fields({"a": 1, "b": 2})) == {"form.b": "is not known here"}


async def test_a_file_with_its_name_type_and_size():
    seen = []

    async def handler(title: Annotated[str, Form()], photo: UploadFile, more: list[UploadFile] = []) -> str:  # noqa: B006
        seen.append(photo)
        assert await photo.read() == BIG
        assert b"".join([piece async for piece in photo]) == BIG
        return f"{title}: {photo.name} {photo.type} {photo.size} {[each.name for each in more]}"

    async with with_handler(handler, max_body=5_000_000) as api:
        answer = await Sender(api).files(
            ("title", None, b"Sea"), ("photo", "../sea.png", BIG), ("more", "a", b"1"), ("more", "b", b"2")
        )
        assert answer.json() == "Sea: sea.png image/png 2097152 ['a', 'b']"
        answer = await Sender(api).files(("title", None, b"Sea"), ("photo", "sea.png", BIG), ("other", "o", b"1"))
        assert answer.status == 200
    assert all(photo.file.closed for photo in seen)


async def test_a_plain_function_reads_the_file_in_its_thread():
    def handler(photo: UploadFile) -> int:
        return sum(photo.file.read())

    async with with_handler(handler) as api:
        assert (await Sender(api).files(("photo", "a", b"\x01\x02"))).json() == 3


async def test_it_works_in_the_test_client_and_over_a_socket(tmp_path):
    (tmp_path / "sea.png").write_bytes(BIG)

    async def handler(title: Annotated[str, Form()], photo: UploadFile) -> list[Any]:
        saved = await photo.save_to(tmp_path / f"{title}.copy")
        return [title, photo.name, photo.type, saved.read_bytes() == BIG]

    api = with_handler(handler, max_body=5_000_000)
    async with api.test_client() as client:
        files = {"photo": Sent(tmp_path / "sea.png")}
        reply = await client.post("/", data={"title": "one"}, files=files)
        assert reply.json() == ["one", "sea.png", "image/png", True]
    async with served(api) as address, APIClient(address) as client:
        reply = await client.post("/", data={"title": "two"}, files=files)
        assert reply.json() == ["two", "sea.png", "image/png", True]


async def test_a_handler_may_ask_for_the_form_itself():
    async def handler(request: Request) -> Any:
        form = await request.form()
        assert await request.form() is form
        return [form.fields, [(name, file.name) for name, file in form.files]]

    async with with_handler(handler) as api:
        assert (await Sender(api).files(("a", None, b"1"), ("f", "n", b"2"), ("a", None, b"3"))).json() == [
            [["a", "1"], ["a", "3"]],
            [["f", "n"]],
        ]
        assert (await Sender(api).fields({"a": "1"})).json() == [[["a", "1"]], []]


# What is refused.


async def test_every_wrong_field_is_named_at_once():
    async def handler(
        number: Annotated[int, Form()],
        ids: Annotated[list[int], Form()],
        photo: UploadFile,
        note: Annotated[str, Form()] = "",
        limit: int = 1,
    ) -> None: ...

    async with with_handler(handler) as api:
        body = [
            part("number", None, b"x") + part("ids", None, b"1") + part("ids", None, b"y"),
            part("note", "note.txt", b"") + part("photo", None, b"text") + b"--B--\r\n",
        ]
        answer = await call(
            api, "POST", "/", query="limit=z", body=body, headers={"content-type": "multipart/form-data; boundary=B"}
        )
    assert answer.status == 422
    assert answer.header("content-type") == "application/problem+json"
    assert wrong(answer) == {
        "query.limit": "expected int",
        "form.number": "expected int",
        "form.ids[1]": "expected int",
        "form.note": "is a file, and text is expected",
        "form.photo": "is text, and a file is expected",
    }


async def test_what_comes_twice_is_refused_where_one_is_wanted():
    async def handler(a: Annotated[int, Form()], photo: UploadFile) -> None: ...

    async with with_handler(handler) as api:
        answer = await Sender(api).files(("a", None, b"1"), ("a", None, b"2"), ("photo", "p", b""), ("photo", "q", b""))
    assert wrong(answer) == {"form.a": "given more than once", "form.photo": "given more than once"}


LIMITS = ServerSettings(forms=FormLimits(max_fields=3, max_files=2, max_field=10, memory=10))


@pytest.mark.parametrize(
    ("parts", "status", "field"),
    [
        ([("a", None, b"x" * 10)], 200, None),
        ([("a", None, b"x" * 11)], 413, "form.a"),
        ([("a", None, b"x")] * 4, 413, None),
        ([("a", None, b"x"), *[("f", "n", b"x")] * 3], 413, None),
        ([("a", None, b"x"), ("photo", "n", b"x" * 100)], 200, None),
        ([("a", None, b"x"), ("photo", "n", b"x" * 101)], 413, "form.photo"),
        ([("a", None, b"x"), ("f", "n", b"x" * 2000)], 413, None),
        ([("a", None, b"\xff")], 400, "form.a"),
    ],
)
async def test_limits_name_the_field_that_is_too_much(parts, status, field):
    async def handler(
        a: Annotated[str, Form()],
        f: list[UploadFile] = [],  # noqa: B006
        photo: Annotated[UploadFile | None, File(max_bytes=100)] = None,
    ) -> str:
        return a

    async with with_handler(handler, settings=LIMITS, max_body=1000) as api:
        answer = await Sender(api).files(*parts)
    assert answer.status == status
    if status != 200:
        assert list(wrong(answer) if "errors" in answer.json() else {}) == ([field] if field else [])


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"a": "x" * 10}, 200), ({"a": "x" * 11}, 413), ({"a": "x", "b": "", "c": "", "d": ""}, 413), ("a=%ff", 400)],
)
async def test_the_same_limits_hold_for_urlencoded_forms(fields, status):
    async def handler(a: Annotated[str, Form()]) -> str:
        return a

    async with with_handler(handler, settings=LIMITS) as api:
        body = fields.encode() if isinstance(fields, str) else urlencode(fields).encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        assert (await call(api, "POST", "/", body=body, headers=kind)).status == status


async def test_only_the_types_that_are_asked_for_are_taken():
    async def handler(photo: Annotated[UploadFile, File("image", types=("image/*", "application/pdf"))]) -> str:
        return photo.type

    async with with_handler(handler) as api:
        sender = Sender(api)
        assert (await sender.files(("image", "a", b""), kind="image/webp")).json() == "image/webp"
        assert (await sender.files(("image", "a", b""), kind="Application/PDF; v=1")).json() == "application/pdf"
        answer = await sender.files(("image", "a", b""), kind="text/html")
        assert (answer.status, answer.header("connection")) == (415, "close")
        assert wrong(answer) == {"form.image": "is text/html, not image/* or application/pdf"}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/x-www-form-urlencoded", 200),
        ("application/x-www-form-urlencoded; charset=utf-8", 200),
        ("application/json", 415),
        ("", 415),
        ("multipart/form-data", 400),
        ("multipart/mixed; boundary=B", 415),
    ],
)
async def test_the_content_type_decides(kind, status):
    async def handler(a: Annotated[str, Form()]) -> str:
        return a

    async with with_handler(handler) as api:
        assert (await call(api, "POST", "/", body=b"a=1", headers={"content-type": kind} if kind else {})).status == (
            status
        )


async def test_files_are_not_taken_urlencoded_nor_a_form_compressed():
    async def handler(photo: UploadFile) -> None: ...

    async with with_handler(handler) as api:
        answer = await Sender(api).fields({"photo": "x"})
        assert (answer.status, answer.header("accept")) == (415, "multipart/form-data")
        assert (await Sender(api).fields({}, **{"content-encoding": "gzip"})).status == 415


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "https://shop.example"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://shop.example", "host": "shop.example"}, 200),
        ({"origin": "http://evil.example", "host": "shop.example"}, 403),
        ({"origin": "null", "host": "shop.example"}, 403),
    ],
)
async def test_a_page_of_another_site_cannot_send_a_form_in_its_readers_name(headers, status):
    async def handler(a: Annotated[str, Form()]) -> str:
        return a

    async with with_handler(handler) as api:
        assert (await Sender(api).fields({"a": "1"}, **headers)).status == status
    async with with_handler(handler, cross_site=True) as api:
        assert (await Sender(api).fields({"a": "1"}, **headers)).status == 200


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"a": Annotated[str, Form()], "b": NewPost}, "is a body of its own"),
        ({"a": Annotated[NewPost, Form()], "b": Annotated[str, Form()]}, "whole form"),
        ({"a": Annotated[dict[str, str], File()]}, "is a file of a form"),
        ({"a": Annotated[dict[str, str], Form()]}, "cannot become"),
        ({"a": Annotated[msgspec.defstruct("Deep", [("post", NewPost)]), Form()]}, "comes as text"),
    ],
)
def test_a_signature_that_cannot_be_a_form_is_refused_at_start(parameters, words):
    async def handler(**_): ...

    import inspect

    handler.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in parameters]
    )
    handler.__annotations__ = parameters
    with pytest.raises(ConfigurationError, match=words):
        with_handler(handler).openapi()


def test_get_has_no_form():
    api = APIServer("t")

    @api.get("/")
    async def handler(photo: UploadFile) -> None: ...

    with pytest.raises(ConfigurationError, match="GET has none"):
        api.openapi()


# What is left of it.


@pytest.fixture
def on_disk(tmp_path):
    """Settings under which every file goes to a disk of the test's own."""
    return ServerSettings(forms=FormLimits(memory=1, folder=tmp_path), max_body=5_000_000, drain=0.5)


@needs_proc
async def test_files_are_there_until_the_answer_is_sent_and_background_work_is_done(tmp_path, on_disk):
    going_on, seen = asyncio.Event(), []

    async def later(photo):
        await going_on.wait()
        seen.append(await photo.read())

    async def handler(photo: UploadFile, background: Background) -> StreamingResponse:
        background.run(later, photo)
        return StreamingResponse(photo, media_type=photo.type)

    async with with_handler(handler, settings=on_disk) as api:
        answer = await Sender(api).files(("photo", "a", BIG))
        assert (answer.body, answer.header("content-type")) == (BIG, "image/png")
        assert len(open_in(tmp_path)) == 1
        going_on.set()
        await until(lambda: bool(seen))
        await until(lambda: not open_in(tmp_path))


async def fail(photo: UploadFile) -> None:
    raise NotFound("No.")


async def crash(photo: UploadFile, background: Background) -> None:
    background.run(fail, photo)
    raise ZeroDivisionError


async def hang(photo: UploadFile) -> None:
    await asyncio.Event().wait()


@needs_proc
@pytest.mark.parametrize(("handler", "status"), [(fail, 404), (crash, 500), (hang, 503)])
async def test_nothing_is_left_of_a_request_that_failed(tmp_path, on_disk, handler, status):
    async with with_handler(handler, settings=on_disk, timeout=1) as api:
        assert (await Sender(api).files(("photo", "a", BIG))).status == status
        assert open_in(tmp_path) == []


@needs_proc
@pytest.mark.parametrize("end", [None, b"--B--\r\n", b"\r\n--B\r\nnonsense\r\n\r\n", b"x" * 5_000_000])
async def test_nothing_is_left_of_a_request_that_was_cut_or_broken(tmp_path, on_disk, end):
    """The client vanishes; the form ends too early; it is broken; it is too long."""
    async with with_handler(fail, settings=on_disk) as api:
        body = [part("other", "o", b"1"), part("photo", "a", BIG)[:-2], end]
        answer = await Sender(api).files(body=body)
        assert answer.status == {None: 0, b"x" * 5_000_000: 413}.get(end, 400)
        assert open_in(tmp_path) == []


@needs_proc
async def test_nothing_is_left_of_a_request_that_was_cancelled_while_it_arrived(tmp_path, on_disk):
    async with with_handler(fail, settings=on_disk) as api:
        client = Stalled(part("photo", "a", BIG)[:-2])
        task = asyncio.create_task(client.ask(api))
        await client.all_came.wait()
        assert len(open_in(tmp_path)) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_in(tmp_path) == []


async def test_who_takes_too_long_to_send_a_form_is_told_so():
    async with with_handler(hang, timeout=0.2) as api:
        client = Stalled(part("photo", "a", b"x")[:-2])
        await client.ask(api)
    assert client.sent[0]["status"] == 408


@needs_proc
async def test_a_disk_that_is_full_answers_507_and_gets_its_room_back(small_disk):
    async def handler(photo: UploadFile) -> int:
        return photo.size

    settings = ServerSettings(forms=FormLimits(memory=1, folder=small_disk), max_body=5_000_000)
    async with with_handler(handler, settings=settings) as api:
        answer = await Sender(api).files(("photo", "a", BIG))
        problem = answer.json()
        assert (answer.status, problem["code"]) == (507, "http.storage_full")
        assert problem["detail"] == "There is no room for what you send."
        assert str(small_disk) not in answer.body.decode()
        assert open_in(small_disk) == []
        assert os.statvfs(small_disk).f_bavail == os.statvfs(small_disk).f_blocks
        assert (await Sender(api).files(("photo", "a", b"small"))).json() == 5


async def test_a_client_learns_early_that_it_sends_too_much(tmp_path):
    """Over a real socket, long before all of it was sent."""
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 200_000_000:
            sent += len(BIG)
            yield BIG

    async def handler(photo: Annotated[UploadFile, File(max_bytes=3_000_000)]) -> None: ...

    async with (
        served(with_handler(handler, max_body=500_000_000)) as address,
        APIClient(address) as client,
    ):
        reply = await client.post("/", files={"photo": Sent(endless(), name="a")}, raise_for_status=False)
    assert reply.status == 413
    assert reply.json()["errors"] == [{"path": "form.photo", "message": "is longer than 3000000 bytes"}]
    assert sent < 100_000_000


# What is told of it.


def test_the_document_describes_the_form():
    api = APIServer("t")

    @api.post("/photos", status=201)
    async def add(
        post: Annotated[NewPost, Form()],
        photo: Annotated[UploadFile, File(types=("image/png", "image/jpeg"))],
        more: list[UploadFile] = [],  # noqa: B006
    ) -> Response: ...

    document = api.openapi()
    openapi_spec_validator.validate(document)
    operation = document["paths"]["/photos"]["post"]
    assert set(operation["responses"]) == {"201", "400", "403", "413", "415", "422", "507", "default"}
    assert "parameters" not in operation
    [(kind, content)] = operation["requestBody"]["content"].items()
    file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    assert kind == "multipart/form-data"
    assert content == {
        "schema": {
            "allOf": [
                {"$ref": "#/components/schemas/NewPost"},
                {
                    "type": "object",
                    "properties": {"photo": file, "more": {"type": "array", "items": file}},
                    "required": ["photo"],
                },
            ]
        },
        "encoding": {"photo": {"contentType": "image/png, image/jpeg"}},
    }


async def test_the_docs_page_has_an_input_for_each_field_and_file():
    async def handler(title: Annotated[str, Form()], photo: UploadFile, more: list[UploadFile] = []) -> None: ...  # noqa: B006

    async with with_handler(handler) as api:
        html = (await call(api, "GET", "/docs")).body.decode()
    assert 'data-in="form" data-name="title" required' in html
    assert 'data-in="form" data-name="photo" type="file" required' in html
    assert 'data-in="form" data-name="more" type="file" multiple' in html
    assert "<textarea" not in html


def test_an_upload_of_ones_own_making_for_tests_of_a_handler():
    file = UploadFile(io.BytesIO(b"12345"), name="a.txt")
    assert (file.size, file.type, repr(file)) == (
        5,
        "application/octet-stream",
        "<UploadFile 'a.txt', application/octet-stream, 5 bytes>",
    )
