"""The same key, the same answer, the work once: whoever repeats, and wherever the first time ended."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import msgspec
import openapi_spec_validator
import pytest

from asgi_call import call
from consona.errors import AuthenticationError, ConfigurationError, ConnectError, NotFound, QueryError
from consona.rest.openapi_client import generate
from consona.rest.server.api_server import APIServer
from consona.rest.server.guards import CurrentUser, Identity
from consona.rest.server.idempotency import IdempotencyKey, KeyInProgress
from consona.rest.server.parameters import Form
from consona.rest.server.responses import Response, StreamingResponse
from consona.rest.server.uploads import UploadFile
from consona.sql.database import SQLDatabase
from consona.storage.store import Store


class Order(msgspec.Struct):
    id: int
    name: str


class StoredOrder(Order):
    """What the database holds, and customers do not see."""

    cost: int = 7


class NewOrder(msgspec.Struct):
    name: str


class Shop:
    """A server that counts what it does. `self.then` runs within the handler."""

    def __init__(self, store: Store | str = "memory://idempotency", **options: Any) -> None:
        self.api = APIServer("shop")
        self.api.idempotency(store)
        self.done: list[str] = []
        self.then: Any = None

        @self.api.post("/orders", **{"status": 201, "idempotent": True, **options})
        async def order(new: NewOrder, loud: bool = False) -> Order:
            self.done.append(new.name)
            if self.then is not None:
                await self.then()
            return Order(len(self.done), new.name)

    async def __aenter__(self) -> Shop:
        await self.api.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.stop()

    async def order(self, name: str, key: str | None = "k-1", *, query="", **headers: str):
        given = {} if key is None else {"idempotency-key": key}
        return await call(
            self.api,
            "POST",
            "/orders",
            body=json.dumps({"name": name}).encode(),
            query=query,
            headers={"content-type": "application/json", **given, **headers},
        )


def code(answer) -> str:
    return answer.json()["code"]


async def test_a_repeat_gets_the_same_answer_and_a_mark():
    async with Shop() as shop:
        first, again = await shop.order("tea"), await shop.order("tea")
        assert (first.status, first.json(), first.header("idempotency-replayed")) == (
            201,
            {"id": 1, "name": "tea"},
            None,
        )
        assert (again.status, again.body, again.header("idempotency-replayed")) == (201, first.body, "true")
        assert again.header("content-type") == "application/json"
        assert shop.done == ["tea"]


async def test_the_key_may_stand_in_quotes_as_the_standard_writes_it():
    async with Shop() as shop:
        await shop.order("tea", '"k-1"')
        assert (await shop.order("tea", "k-1")).header("idempotency-replayed") == "true"


@pytest.mark.parametrize(("key", "status"), [("x" * 255, 201), ("x" * 256, 400), ("ä", 400), ("a\tb", 400), ("", 400)])
async def test_what_can_be_a_key(key, status):
    async with Shop() as shop:
        assert (await shop.order("tea", key)).status == status


async def test_without_a_key_nothing_is_kept_and_where_one_is_required_it_is_asked_for():
    async with Shop() as shop:
        assert [(await shop.order("tea", None)).json()["id"] for _ in range(2)] == [1, 2]
    async with Shop(idempotent="required") as shop:
        answer = await shop.order("tea", None)
        assert (answer.status, shop.done) == (400, [])
        assert "Idempotency-Key" in answer.json()["detail"]


async def test_another_request_with_the_same_key_is_refused():
    async with Shop() as shop:
        await shop.order("tea")
        for other in (await shop.order("coffee"), await shop.order("tea", query="loud=true")):
            assert (other.status, code(other)) == (422, "http.idempotency.reused")
        assert shop.done == ["tea"]


async def test_a_repeat_while_the_first_is_under_way_is_told_to_wait():
    async with Shop() as shop:
        going_on, under_way = asyncio.Event(), asyncio.Event()

        async def wait():
            under_way.set()
            await going_on.wait()

        shop.then = wait
        first = asyncio.create_task(shop.order("tea"))
        await under_way.wait()
        answer = await shop.order("tea")
        assert (answer.status, code(answer), answer.header("retry-after")) == (409, "http.idempotency.in_progress", "1")
        going_on.set()
        assert (await first).status == 201
        assert (await shop.order("tea")).header("idempotency-replayed") == "true"
        assert shop.done == ["tea"]


async def test_what_was_refused_before_the_handler_leaves_the_key_free():
    async with Shop() as shop:
        wrong = await call(
            shop.api,
            "POST",
            "/orders",
            body=b"{}",
            headers={"content-type": "application/json", "idempotency-key": "k-1"},
        )
        assert wrong.status == 422
        assert (await shop.order("tea")).status == 201


@pytest.mark.parametrize(
    ("error", "status", "again"),
    [
        (NotFound("No tea."), 404, False),
        (ZeroDivisionError(), 500, False),
        (QueryError("Lost."), 500, False),
        (ConnectError("The database is away."), 503, True),
    ],
)
async def test_an_error_is_an_answer_too_unless_it_says_that_a_repeat_may_work(error, status, again):
    async with Shop() as shop:

        async def fail():
            raise error

        shop.then = fail
        first = await shop.order("tea")
        shop.then = None
        second = await shop.order("tea")
        assert first.status == status
        if again:
            assert (second.status, len(shop.done)) == (201, 2)
        else:
            assert (second.status, second.body, len(shop.done)) == (status, first.body, 1)
            assert second.header("idempotency-replayed") == "true"


async def test_what_ran_out_of_time_is_not_done_again():
    async with Shop(timeout=0.1) as shop:
        shop.then = asyncio.Event().wait
        assert (await shop.order("tea")).status == 503
        shop.then = None
        answer = await shop.order("tea")
        assert (answer.status, code(answer), shop.done) == (409, "http.idempotency.unknown", ["tea"])


async def test_a_key_is_forgotten_after_its_time():
    now = 1000.0
    store = Store("memory://forgetful", clock=lambda: now)
    async with Shop(store) as shop:
        await shop.order("tea")
        now += 86_399
        assert (await shop.order("tea")).json()["id"] == 1
        now += 2
        assert (await shop.order("tea")).json()["id"] == 2


async def test_the_answer_keeps_its_headers_but_those_of_the_moment():
    api = APIServer("t")
    api.idempotency("memory://headers")

    @api.put("/x", idempotent=True)
    async def x() -> Response:
        return Response(b"\x00\xff", status=202, headers={"Location": "/x/1"}, media_type="image/png")

    async with api:
        answers = [
            await call(api, "PUT", "/x", headers={"idempotency-key": "k", "x-request-id": f"id-{n}"}) for n in range(2)
        ]
    for number, answer in enumerate(answers):
        assert (answer.status, answer.body, answer.header("location")) == (202, b"\x00\xff", "/x/1")
        assert (answer.header("x-request-id"), answer.header("content-length")) == (f"id-{number}", "2")


async def test_an_answer_that_is_too_long_to_be_kept_is_given_once(caplog):
    api = APIServer("t")
    api.idempotency("memory://long")

    @api.post("/x", idempotent=True)
    async def x() -> str:
        return "x" * 1_000_000

    async with api:
        first, second = [await call(api, "POST", "/x", headers={"idempotency-key": "k"}) for _ in range(2)]
    assert (first.status, second.status, code(second)) == (200, 409, "http.idempotency.not_kept")
    assert "too long" in caplog.text


class Guards:
    """Believes what the header says."""

    challenge = "Bearer"

    async def identify(self, request):
        name = request.headers.get("authorization")
        if name == "wrong":
            raise AuthenticationError("No.")
        return Identity(name) if name else None

    def allows(self, identity, roles, scopes):
        return True

    async def user(self, identity, kind):
        return identity.subject

    def security_schemes(self):
        return {"bearer": {"type": "http", "scheme": "bearer"}}


async def test_keys_belong_to_their_user():
    api = APIServer("t")
    api.secure(Guards())
    api.idempotency("memory://users")
    done = []

    @api.post("/x", idempotent=True)
    async def x(user: CurrentUser[str]) -> str:
        done.append(user)
        return user

    async def ask(user):
        return await call(api, "POST", "/x", headers={"idempotency-key": "k", "authorization": user})

    async with api:
        assert [(await ask(user)).json() for user in ("ada", "bob", "ada", "bob")] == ["ada", "bob", "ada", "bob"]
        assert (await ask("wrong")).status == 401
    assert done == ["ada", "bob"]


async def test_a_form_with_files_is_the_same_whatever_its_boundary_is():
    api = APIServer("t")
    api.idempotency("memory://forms")
    done = []

    @api.post("/x", idempotent=True, max_body=5_000_000)
    async def x(title: Annotated[str, Form()], photo: UploadFile) -> int:
        done.append(await photo.read())
        return len(done)

    def body(boundary, content):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="'
        return (
            f'{head}title"\r\n\r\nSea\r\n{head}photo"; filename="sea.png"\r\n\r\n'.encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )

    async def ask(boundary, content):
        headers = {"content-type": f"multipart/form-data; boundary={boundary}", "idempotency-key": "k"}
        return await call(api, "POST", "/x", body=body(boundary, content), headers=headers)

    big = bytes(300_000)
    async with api:
        assert (await ask("A", big)).json() == 1
        assert (await ask("B", big)).header("idempotency-replayed") == "true"
        assert (await ask("B", big[:-1] + b"x")).status == 422
    assert done == [big]


# Where the answer is kept in the transaction of the work.


class Kept:
    """A shop on a database, whose handler keeps its answer in its transaction."""

    def __init__(self, folder) -> None:
        self.db = SQLDatabase(f"sqlite:///{folder}/shop.db")
        self.api = APIServer("shop", parts=[self.db])
        self.first = self.before = self.after = None

        @self.api.post("/orders", status=201, idempotent=True)
        async def order(new: NewOrder, key: IdempotencyKey) -> Order:
            if self.first is not None:
                await self.first()
            async with self.db.transaction() as tx:
                done = await tx.execute("INSERT INTO orders (name) VALUES (?)", new.name)
                order = StoredOrder(done.key, new.name)
                await key.keep(order, tx=tx)
                if self.before is not None:
                    await self.before()
            if self.after is not None:
                await self.after()
            return order

    async def __aenter__(self) -> Kept:
        await self.api.start()
        await self.db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.stop()

    order = Shop.order

    async def count(self) -> int:
        return (await self.db.fetch_all("SELECT count(*) AS n FROM orders"))[0]["n"]


async def fail():
    raise ZeroDivisionError


async def test_the_database_of_the_application_keeps_the_answers(tmp_path):
    async with Kept(tmp_path) as shop:
        first, again = await shop.order("tea"), await shop.order("tea")
        assert (first.status, again.body, again.header("idempotency-replayed")) == (201, first.body, "true")
        assert (await shop.order("tea", None)).json()["id"] == 2  # a client without a key is served too
        assert await shop.count() == 2


async def test_a_kept_answer_is_the_one_that_was_given(tmp_path):
    async with Kept(tmp_path) as shop:
        for accept in ("application/json", "application/msgpack"):
            first, again = [await shop.order("tea", accept, accept=accept) for _ in range(2)]
            assert (again.status, again.body, again.header("vary")) == (first.status, first.body, first.header("vary"))
            assert b"cost" not in again.body


async def test_an_answer_without_a_body_is_kept_as_one(tmp_path):
    db = SQLDatabase(f"sqlite:///{tmp_path}/shop.db")
    api = APIServer("shop", parts=[db])

    @api.post("/paid", idempotent=True)
    async def paid(key: IdempotencyKey) -> None:
        async with db.transaction() as tx:
            await key.keep(None, tx=tx)

    async with api:
        answers = [await call(api, "POST", "/paid", headers={"idempotency-key": "k"}) for _ in range(2)]
    assert [(answer.status, answer.body) for answer in answers] == [(204, b""), (204, b"")]
    assert answers[1].header("idempotency-replayed") == "true"


async def test_what_was_rolled_back_is_done_again(tmp_path):
    async with Kept(tmp_path) as shop:
        shop.before = fail
        assert (await shop.order("tea")).status == 500
        assert await shop.count() == 0
        shop.before = None
        assert (await shop.order("tea")).status == 201
        assert await shop.count() == 1


async def test_what_was_committed_is_answered_whatever_happened_then(tmp_path):
    async with Kept(tmp_path) as shop:
        shop.after = fail
        assert (await shop.order("tea")).status == 500
        again = await shop.order("tea")
        assert (again.status, again.json(), again.header("idempotency-replayed")) == (
            201,
            {"id": 1, "name": "tea"},
            "true",
        )
        assert await shop.count() == 1


async def test_who_was_too_slow_and_lost_its_key_is_rolled_back(tmp_path, monkeypatch):
    """As a process that was stopped for a while: it counts as dead by then, and another one does its work."""
    monkeypatch.setattr("consona.rest.server.idempotency.MARGIN_S", -60.0)
    async with Kept(tmp_path) as shop:
        going_on, under_way = asyncio.Event(), asyncio.Event()

        async def stopped():
            shop.first = None
            under_way.set()
            await going_on.wait()

        shop.first = stopped
        slow = asyncio.create_task(shop.order("tea"))
        await under_way.wait()
        assert (await shop.order("tea")).status == 201
        going_on.set()
        late = await slow
        assert (late.status, code(late)) == (409, KeyInProgress.code)
        assert await shop.count() == 1
        assert (await shop.order("tea")).header("idempotency-replayed") == "true"


# What is refused at start, and what is told.


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda api: api.get("/x", idempotent=True), "never does"),
        (lambda api: api.post("/x", idempotent=True), "nothing keeps"),
    ],
)
async def test_what_cannot_be_is_refused_at_start(declare, words):
    api = APIServer("t")

    async def handler() -> int: ...

    declare(api)(handler)
    with pytest.raises(ConfigurationError, match=words):
        await api.start()


def test_a_stream_cannot_be_kept_nor_a_key_be_taken_without_the_option():
    api = APIServer("t")

    async def stream() -> StreamingResponse: ...

    api.post("/x", idempotent=True)(stream)
    with pytest.raises(ConfigurationError, match="has no end"):
        api.openapi()

    async def takes(key: IdempotencyKey) -> int: ...

    api = APIServer("t")
    api.post("/x")(takes)
    with pytest.raises(ConfigurationError, match="idempotent=True"):
        api.openapi()
    with pytest.raises(ConfigurationError, match="above zero"):
        api.idempotency("memory://", keep=0)


def test_the_document_says_so_and_our_typed_client_repeats():
    shop = Shop()
    document = shop.api.openapi()
    openapi_spec_validator.validate(document)
    operation = document["paths"]["/orders"]["post"]
    [key] = [each for each in operation["parameters"] if each["in"] == "header"]
    assert (key["name"], key["required"], key["schema"]["maxLength"]) == ("Idempotency-Key", False, 255)
    assert "409" in operation["responses"]
    assert "Idempotency-Replayed" in operation["responses"]["201"]["headers"]
    text = generate(document).source
    assert "idempotency_key: str | None = None" in text
    assert "idempotent=True" in text
    assert Shop(idempotent="required").api.openapi()["paths"]["/orders"]["post"]["parameters"][-1]["required"] is True


async def test_our_client_waits_for_the_first_of_its_tries():
    """It was cut off from the first, which is still under way: its repeat waits, and gets that answer."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        going_on.set()
        await first

    shop = Shop()
    going_on, under_way = asyncio.Event(), asyncio.Event()

    async def wait():
        under_way.set()
        await going_on.wait()

    shop.then = wait
    async with shop.api.test_client() as client:
        client._runner._sleep = sleep
        options: dict[str, Any] = {"json": {"name": "tea"}, "headers": {"Idempotency-Key": "k-1"}, "idempotent": True}
        first = asyncio.create_task(client.post("/orders", **options))
        await under_way.wait()
        second = await client.post("/orders", **options)
        assert (second.status, second.attempts, second.headers["idempotency-replayed"]) == (201, 2, "true")
        assert second.json() == (await first).json()
    assert (shop.done, waits) == (["tea"], [1.0])
