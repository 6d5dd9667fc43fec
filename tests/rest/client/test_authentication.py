from __future__ import annotations

import asyncio

import pytest

import wire
from consona.errors import APIError, AuthenticationError, ConfigurationError
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from consona.rest.client.authentication import APIKey, Basic, Bearer, ClientCredentials
from consona.rest.client.errors import InvalidAnswer

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bearer(""),
        lambda: Bearer("abc\n"),
        lambda: Bearer("a\r\nX: y"),
        lambda: APIKey(" k"),
        lambda: APIKey("k", header="X Y"),
        lambda: Basic("a:b", "secret"),
        lambda: Basic("a", "secret\n"),
        lambda: ClientCredentials("http://a/token", "shop", "secret", send="query"),
    ],
)
def test_credentials_that_cannot_be_sent_are_refused_without_showing_them(make):
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert "secret" not in str(caught.value)


def test_no_credentials_are_seen_in_a_repr():
    for auth in (Bearer("s3"), APIKey("s3"), Basic("ada", "s3"), ClientCredentials("http://a/t", "shop", "s3")):
        assert "s3" not in repr(auth)


async def test_a_changing_token_is_asked_for_and_after_a_401_once_more():
    tokens = iter(["old", "new", "new"])
    async with (
        wire.Wire(wire.answer(401), wire.answer()) as server,
        APIClient(server.url, auth=Bearer(lambda: next(tokens))) as api,
    ):
        await api.get("/")
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer old", "Bearer new"]


async def test_the_same_token_is_not_tried_twice():
    async with wire.Wire(wire.answer(401)) as server, APIClient(server.url, auth=Bearer(lambda: "same")) as api:
        with pytest.raises(APIError):
            await api.get("/")
    assert len(server.seen) == 1


def token_server(life=3600):
    issued = []

    def issue(seen):
        issued.append(seen)
        return wire.message(
            200, b'{"access_token": "t%d", "token_type": "Bearer", "expires_in": %d}' % (len(issued), life)
        )

    return wire.Wire(wire.told(issue))


async def test_client_credentials_fetch_one_token_for_all_who_wait():
    async with token_server() as login, wire.Wire(wire.answer()) as shop:
        auth = ClientCredentials(f"{login.url}/token", "shop:1", "s/ecret", scope="read write")
        async with APIClient(shop.url, auth=auth) as api:
            await asyncio.gather(*(api.get("/") for _ in range(20)))
            await api.get("/")
    [asked] = login.seen
    assert (asked.method, asked.body) == ("POST", b"grant_type=client_credentials&scope=read+write")
    assert asked.headers["authorization"] == "Basic c2hvcCUzQTE6cyUyRmVjcmV0"  # both encoded first: RFC 6749, 2.3.1
    assert {seen.headers["authorization"] for seen in shop.seen} == {"Bearer t1"}


async def test_id_and_secret_go_into_the_form_where_the_server_wants_that():
    async with token_server() as login, wire.Wire(wire.answer()) as shop:
        auth = ClientCredentials(f"{login.url}/token", "shop", "secret", send="body", audience="x")
        async with APIClient(shop.url, auth=auth) as api:
            await api.get("/")
    assert login.seen[0].body == b"grant_type=client_credentials&audience=x&client_id=shop&client_secret=secret"
    assert "authorization" not in login.seen[0].headers


async def test_a_token_is_renewed_before_it_ends():
    now = [0.0]
    async with token_server(life=100) as login, wire.Wire(wire.answer()) as shop:
        auth = ClientCredentials(f"{login.url}/token", "shop", "secret", clock=lambda: now[0])
        async with APIClient(shop.url, auth=auth) as api:
            await api.get("/")
            now[0] = 89
            await api.get("/")
            now[0] = 91
            await api.get("/")
    assert [seen.headers["authorization"] for seen in shop.seen] == ["Bearer t1", "Bearer t1", "Bearer t2"]


async def test_a_token_that_is_refused_is_replaced_once_however_many_were_refused_with_it():
    def check(seen):
        return wire.message(200 if seen.headers["authorization"] == "Bearer t2" else 401)

    async with token_server() as login, wire.Wire(wire.told(check)) as shop:
        auth = ClientCredentials(f"{login.url}/token", "shop", "secret")
        async with APIClient(shop.url, auth=auth) as api:
            replies = await asyncio.gather(*(api.post("/", json={}) for _ in range(10)))
    assert {reply.status for reply in replies} == {200}
    assert len(login.seen) == 2


async def test_a_refusing_token_endpoint_is_told_by_its_known_code_only():
    body = b'{"error": "invalid_client", "error_description": "secret xyz is wrong"}'
    async with (
        wire.Wire(wire.answer(401, body)) as login,
        wire.Wire(wire.answer()) as shop,
        APIClient(shop.url, auth=ClientCredentials(login.url, "shop", "secret")) as api,
    ):
        with pytest.raises(AuthenticationError, match="invalid_client") as caught:
            await api.get("/")
    assert "xyz" not in str(caught.value)
    assert shop.seen == []


async def test_a_token_endpoint_is_retried_and_never_redirected():
    async with wire.Wire(wire.answer()) as elsewhere, wire.Wire(wire.answer()) as shop:
        deeds = (wire.hang_up, wire.answer(503), wire.answer(307, location=elsewhere.url))
        async with wire.Wire(*deeds) as login:
            auth = ClientCredentials(login.url, "shop", "secret", send="body")
            async with APIClient(shop.url, auth=auth, policy=EAGER) as api:
                with pytest.raises(APIError):
                    await api.get("/")
    assert len(login.seen) == 3
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("body", "error"),
    [(b'{"access_token": "x", "token_type": "mac"}', AuthenticationError), (b'{"token": 1}', InvalidAnswer)],
)
async def test_an_answer_without_a_bearer_token_is_an_error(body, error):
    async with (
        wire.Wire(wire.answer(200, body)) as login,
        wire.Wire(wire.answer()) as shop,
        APIClient(shop.url, auth=ClientCredentials(login.url, "shop", "secret")) as api,
    ):
        with pytest.raises(error):
            await api.get("/")


async def test_a_cancelled_fetch_does_not_fail_those_who_wait_for_it():
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(seen, reader, writer):
        arrived.set()
        await go_on.wait()
        writer.write(wire.message(200, b'{"access_token": "late"}'))

    async with (
        wire.Wire(slow) as login,
        wire.Wire(wire.answer()) as shop,
        APIClient(shop.url, auth=ClientCredentials(login.url, "shop", "secret")) as api,
    ):
        first = asyncio.create_task(api.get("/first"))
        await arrived.wait()
        second = asyncio.create_task(api.get("/second"))
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()
        assert (await second).status == 200
    assert [seen.target for seen in shop.seen] == ["/second"]
