"""What a written client sends: parameters of every place and style, bodies, and what it makes of answers."""

from __future__ import annotations

import json
import urllib.parse

import pytest

from consona import APIClient, APIError, ConfigurationError, Policy
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.client.authentication import APIKey, Basic, Bearer, ClientCredentials
from consona.rest.openapi_client.calling import Query, fill
from written import document, written


class Echo:
    """Answers with what it was asked; or with `answer`, where that is set."""

    def __init__(self) -> None:
        self.answer: tuple[int, str, bytes] | None = None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        self.seen = {
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": {key.decode(): value.decode() for key, value in scope["headers"]},
            "body": body.decode("latin-1"),
        }
        status, media, content = self.answer or (200, "application/json", json.dumps(self.seen).encode())
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", media.encode())]})
        await send({"type": "http.response.body", "body": content})


ANY = {"200": {"description": "", "content": {"application/json": {}}}}


def one(path="/x", method="get", responses=None, **operation):
    """The client of one operation called `call`, and the server that it calls."""
    item = {method: {"operationId": "call", "responses": responses or ANY, **operation}}
    module = written(document({path: item}))
    echo = Echo()
    return module.client(APIClient("http://echo/v1", transport=ASGITransport(echo))), echo


def parameter(name, place="query", schema=None, **more):
    return {"name": name, "in": place, "schema": schema or {"type": "string"}, **more}


async def seen(client, *arguments, **named):
    async with client:
        return await client.call(*arguments, **named)


async def test_parameters_go_to_their_places():
    client, _ = one(
        "/shops/{shop}/items/{item-id}",
        parameters=[
            parameter("item-id", "path", required=True),
            parameter("shop", "path", required=True),
            parameter("q"),
            parameter("X-Trace", "header"),
            parameter("session", "cookie"),
            parameter("tags", schema={"type": "array", "items": {"type": "integer"}}),
            parameter("deep", schema={"type": "boolean"}),
        ],
    )
    found = await seen(client, "a/b", "c d", q="x&y=z", X_Trace="t", session="s;1", tags=[1, 2], deep=True)
    assert found["path"] == "/v1/shops/a%2Fb/items/c%20d"
    assert urllib.parse.parse_qsl(found["query"]) == [("q", "x&y=z"), ("tags", "1"), ("tags", "2"), ("deep", "true")]
    assert (found["headers"]["x-trace"], found["headers"]["cookie"]) == ("t", "session=s%3B1")


async def test_what_is_not_given_is_not_sent():
    client, _ = one(parameters=[parameter("q"), parameter("X-Trace", "header"), parameter("session", "cookie")])
    found = await seen(client)
    assert found["query"] == ""
    assert not {"x-trace", "cookie"} & set(found["headers"])


@pytest.mark.parametrize(
    ("options", "value", "query"),
    [
        ({}, [1, 2], "a=1&a=2"),
        ({"explode": False}, [1, 2], "a=1,2"),
        ({"style": "spaceDelimited"}, [1, 2], "a=1 2"),
        ({"style": "pipeDelimited"}, [1, 2], "a=1|2"),
        ({"style": "deepObject"}, {"x": 1, "y": True}, "a[x]=1&a[y]=true"),
        ({}, {"x": 1, "y": None}, "x=1"),
        ({"explode": False}, {"x": 1, "y": 2}, "a=x,1,y,2"),
        ({"explode": False}, [], ""),
    ],
)
async def test_styles_of_a_query(options, value, query):
    client, _ = one(parameters=[parameter("a", schema={}, **options)])
    assert urllib.parse.unquote_plus((await seen(client, a=value))["query"]) == query


async def test_a_parameter_of_a_media_type_is_written_as_json():
    raw = {"name": "filter", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}}
    client, _ = one(parameters=[raw])
    assert urllib.parse.unquote((await seen(client, filter={"a": [1]}))["query"]) == 'filter={"a":[1]}'


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_path_parameter_that_leads_elsewhere_is_refused(value):
    with pytest.raises(ConfigurationError, match="leads elsewhere"):
        fill("/a/{id}", {"id": value})


def test_a_path_parameter_cannot_name_another():
    assert fill("/{a}/{b}", {"a": "{b}", "b": "x"}) == "/%7Bb%7D/x"


def test_nothing_is_no_parameter():
    assert Query("a", None).pairs() == []


@pytest.mark.parametrize(
    ("media", "schema", "value", "sent_type", "sent"),
    [
        ("application/json", {"type": "object"}, {"a": 1}, "application/json", '{"a":1}'),
        ("application/merge-patch+json", {}, {"a": None}, "application/merge-patch+json", '{"a":null}'),
        ("application/x-www-form-urlencoded", {"type": "object"}, {"a": "x y", "b": [1, 2]},
         "application/x-www-form-urlencoded", "a=x+y&b=1&b=2"),
        ("text/plain", {"type": "string"}, "hi", "text/plain", "hi"),
        ("application/pdf", {}, b"%PDF", "application/pdf", "%PDF"),
    ],
)  # fmt: skip
async def test_bodies(media, schema, value, sent_type, sent):
    client, _ = one(method="post", requestBody={"required": True, "content": {media: {"schema": schema}}})
    found = await seen(client, value)
    assert (found["headers"]["content-type"], found["body"]) == (sent_type, sent)


async def test_json_is_preferred_to_other_media_types():
    content = {"application/xml": {}, "application/json": {"schema": {"type": "object"}}}
    client, _ = one(method="post", requestBody={"content": content})
    assert (await seen(client, body={}))["headers"]["content-type"] == "application/json"
    assert (await seen(client))["body"] == ""


async def test_a_multipart_body_is_the_callers_to_write():
    client, _ = one(method="post", requestBody={"required": True, "content": {"multipart/form-data": {}}})
    found = await seen(client, b"--x--", "multipart/form-data; boundary=x")
    assert found["headers"]["content-type"] == "multipart/form-data; boundary=x"


async def test_what_declares_an_idempotency_key_is_repeatable():
    client, echo = one(method="post", parameters=[parameter("Idempotency-Key", "header")])
    first = (await seen(client))["headers"]["idempotency-key"]
    assert len(first) == 36
    assert (await seen(client, idempotency_key="mine"))["headers"]["idempotency-key"] == "mine"
    tries = 0

    async def unreliable(scope, receive, send):
        nonlocal tries
        if scope["type"] == "http":
            tries += 1
            echo.answer = (503, "text/plain", b"") if tries == 1 else None
            await echo(scope, receive, send)

    api = APIClient("http://echo", transport=ASGITransport(unreliable), policy=_quick())
    assert (await seen(type(client)(api)))["method"] == "POST"
    assert tries == 2


def _quick():
    from consona import Retry

    return Policy(retry=Retry(attempts=2, backoff=0.0))


async def test_what_does_not_declare_one_is_not_repeated():
    client, _ = one(method="post")
    assert "idempotency-key" not in (await seen(client))["headers"]


@pytest.mark.parametrize(
    ("responses", "answer", "result"),
    [
        ({"204": {"description": ""}}, (204, "", b""), None),
        ({"200": {"description": "", "content": {"text/csv": {}}}}, (200, "text/csv", b"a,b"), "a,b"),
        ({"200": {"description": "", "content": {"image/png": {}}}}, (200, "image/png", b"\x89"), b"\x89"),
        ({"2XX": {"description": "", "content": {"application/json": {"schema": {"type": "integer"}}}}},
         (201, "application/json", b"7"), 7),
        ({"default": {"description": "", "content": {"application/json": {"schema": {"type": "integer"}}}}},
         (200, "application/json", b"7"), 7),
        ({"200": {"description": "", "content": {"application/json": {"schema": {"type": "integer"}}}},
          "204": {"description": ""}}, (204, "", b""), None),
        ({"200": {"description": "", "content": {"application/hal+json": {"schema": {"type": "string"}}}}},
         (200, "application/hal+json", b'"a"'), "a"),
    ],
)  # fmt: skip
async def test_answers(responses, answer, result):
    client, echo = one(responses=responses)
    echo.answer = answer
    assert await seen(client) == result


async def test_failures_are_errors_with_what_the_server_said():
    client, echo = one()
    echo.answer = (404, "application/problem+json", b'{"title": "gone"}')
    with pytest.raises(APIError) as caught:
        await seen(client)
    assert (caught.value.status, caught.value.problem) == (404, {"title": "gone"})


async def test_calls_are_counted_under_their_template():
    client, _ = one("/items/{id}", parameters=[parameter("id", "path", required=True)])
    await seen(client, "secret")
    assert list(client.api.stats.operations) == ["GET /items/{id}"]


def test_required_parameters_come_first_and_the_others_by_keyword():
    import inspect

    client, _ = one(
        "/{b}/{a}",
        method="post",
        parameters=[
            parameter("opt"), parameter("a", "path", required=True), parameter("need", required=True),
            parameter("b", "path", required=True),
        ],
        requestBody={"required": True, "content": {"application/json": {}}},
    )  # fmt: skip
    found = inspect.signature(client.call).parameters.values()
    assert [(each.name, each.kind is each.KEYWORD_ONLY) for each in found] == [
        ("b", False), ("a", False), ("need", False), ("body", False), ("opt", True),
    ]  # fmt: skip


def test_parameters_whose_names_clash_are_told_apart_by_their_place():
    client, _ = one("/{id}", parameters=[parameter("id", "path", required=True), parameter("id"), parameter("self")])
    assert client.call.__code__.co_varnames[:4] == ("self", "id", "id_query", "self_query")


# Credentials and the base.


def schemes(**found):
    return written(document({}, components={"securitySchemes": found}, servers=[{"url": "https://api.example/v1"}]))


def test_security_schemes_become_credentials():
    flow = {"tokenUrl": "/token", "scopes": {"read": "Read."}}
    module = schemes(
        **{
            "my-key": {"type": "apiKey", "in": "header", "name": "X-Shop-Key"},
            "login": {"type": "http", "scheme": "Basic"},
            "token": {"type": "http", "scheme": "bearer"},
            "machine": {"type": "oauth2", "flows": {"clientCredentials": flow}},
            "person": {"type": "oauth2", "flows": {"authorizationCode": {"tokenUrl": "/t"}}},
            "oidc": {"type": "openIdConnect", "openIdConnectUrl": "https://id.example"},
        }
    )
    key = module.auth_my_key("k")
    assert isinstance(key, APIKey)
    assert key.fixed == (("X-Shop-Key", "k"),)
    assert isinstance(module.auth_login("ann", "pw"), Basic)
    assert isinstance(module.auth_token("t"), Bearer)
    machine = module.auth_machine("id", "secret", scope="read")
    assert isinstance(machine, ClientCredentials)
    assert machine.token_url == "https://api.example/token"
    assert isinstance(module.auth_person("t"), Bearer)
    assert isinstance(module.auth_oidc("t"), Bearer)


def test_security_schemes_that_cannot_be_used_are_noted():
    module = schemes(
        a={"type": "apiKey", "in": "query", "name": "key"},
        b={"type": "mutualTLS"},
        c={"type": "http", "scheme": "digest"},
    )
    assert [note.pointer.rpartition("/")[2] for note in module.notes] == ["a", "b", "c"]
    assert not [name for name in vars(module) if name.startswith("auth_")]


@pytest.mark.parametrize(
    ("servers", "base"),
    [
        ([{"url": "https://api.example/v1"}], "https://api.example/v1"),
        ([{"url": "https://{env}.example", "variables": {"env": {"default": "eu"}}}], "https://eu.example"),
    ],
)
def test_the_base_is_the_first_server(servers, base):
    assert written(document({}, servers=servers)).client().api.base == base


@pytest.mark.parametrize("servers", [[], [{"url": "/v1"}], [{"url": "ftp://x"}], [{"url": "https://{x}"}], [7]])
def test_a_base_that_nobody_knows_must_be_given(servers):
    module = written(document({}, servers=servers))
    with pytest.raises(TypeError, match="base"):
        module.client()
    assert module.client("https://api.example").api.base == "https://api.example"


def test_a_client_that_is_handed_in_brings_its_own_credentials():
    module = written(document({}))
    with pytest.raises(ConfigurationError, match="own credentials"):
        module.client(APIClient("https://api.example"), auth=Bearer("t"))
    assert module.client("https://api.example", auth=Bearer("t")).api.auth is not None


def test_many_operations_are_grouped_by_their_tag():
    def paths(count):
        return {
            f"/{tag}/{n}": {"get": {"operationId": f"get{n}", "tags": [tag] if tag else [], "responses": ANY}}
            for tag in ("My Pets", "shops", "")
            for n in range(count)
        }

    module = written(document(paths(4)))
    client = module.client("https://api.example")
    assert callable(client.my_pets.get0)
    assert callable(client.shops.get0)
    assert callable(client.get0)
    few = written(document(paths(2))).client("https://api.example")
    assert not hasattr(few, "shops")
    assert callable(few.get0_3)
