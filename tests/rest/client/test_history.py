"""What a client's history keeps of a call."""

from __future__ import annotations

import contextlib
import logging

import pytest

import wire
from consona.errors import APIError, ConfigurationError
from consona.rest.client.api_client import APIClient, ClientSettings
from consona.rest.client.authentication import APIKey, Bearer

SECRETS = b'{"name": "Ada", "token": "t-1"}'


async def kept(history, *, auth=None, body=SECRETS, status=200):
    """The attributes of the one entry after a POST with a secret at each place."""
    async with (
        wire.Wire(wire.answer(status, body, set_cookie="id=5")) as server,
        APIClient(server.url, auth=auth, settings=ClientSettings(history=history)) as api,
    ):
        await api.post(
            "/users?key=1",
            json={"name": "Bob", "password": "hunter2"},
            headers={"X-Session": "s-1", "X-Shop": "7"},
            raise_for_status=False,
        )
        [entry] = api.history
    return entry.attributes


async def test_sizes_hold_neither_headers_nor_bodies():
    assert set(await kept("sizes")) == {"url", "attempts", "status", "bytes"}


async def test_headers_are_kept_where_they_are_asked_for_without_their_secrets():
    found = await kept("headers", auth=Bearer("abc"))
    assert found["headers"]["X-Shop"] == "7"
    assert found["headers"]["X-Session"] == "***"
    assert found["headers"]["Authorization"] == "***"
    assert found["answer_headers"]["content-type"] == "application/json"
    assert found["answer_headers"]["set-cookie"] == "***"
    assert "body" not in found
    assert "answer_body" not in found


@pytest.mark.parametrize("auth", [APIKey("k-1", header="X-Harmless"), Bearer(lambda: "k-1")])
async def test_credentials_are_masked_whatever_their_header_is_called(auth):
    assert "k-1" not in str(await kept("headers", auth=auth))


async def test_bodies_are_kept_where_they_are_asked_for_without_their_secrets():
    found = await kept("bodies", status=404)
    assert found["body"] == {"name": "Bob", "password": "***"}
    assert found["answer_body"] == {"name": "Ada", "token": "***"}


@pytest.mark.parametrize("body", [b"no JSON", b"\xff", b"[" * 100_000, b'"' + b"x" * 70_000 + b'"'])
async def test_a_body_that_is_no_json_or_too_long_is_not_kept(body):
    assert (await kept("bodies", body=body))["answer_body"] is None


async def test_a_call_without_an_answer_keeps_what_was_sent():
    async with (
        wire.Wire(wire.hang_up) as server,
        APIClient(server.url, settings=ClientSettings(history="bodies")) as api,
    ):
        with pytest.raises(Exception, match="POST"):
            await api.post("/users", json={"name": "Bob"})
        [entry] = api.history
    assert entry.attributes["body"] == {"name": "Bob"}
    assert "answer_body" not in entry.attributes


def test_another_word_is_refused():
    with pytest.raises(ConfigurationError, match="sizes, headers or bodies"):
        ClientSettings(history="all")


async def test_a_body_says_what_it_is_whatever_the_clients_own_headers_say():
    async with (
        wire.Wire(wire.answer()) as server,
        APIClient(server.url, headers={"Content-Type": "text/csv"}) as api,
    ):
        await api.post("/", json={})
        await api.post("/", data={"a": 1})
        await api.post("/", content=b"a,b", headers={"content-type": "text/plain"})
        await api.get("/")
    assert [seen.headers["content-type"] for seen in server.seen] == [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "text/csv",
    ]


async def test_a_content_type_is_sent_once():
    names: list[str] = []
    async with (
        wire.Wire(wire.answer()) as server,
        APIClient(server.url, headers={"Content-Type": "application/json"}) as api,
    ):
        api.on_request(lambda request: names.extend(name.lower() for name, _ in request.headers))
        await api.post("/", json={})
    assert names.count("content-type") == 1


async def test_the_history_of_an_error_is_kept_too():
    async with (
        wire.Wire(wire.answer(404)) as server,
        APIClient(server.url, settings=ClientSettings(history="headers")) as api,
    ):
        with pytest.raises(APIError):
            await api.get("/")
        assert api.history[-1].attributes["answer_headers"]["content-length"] == "2"


@pytest.mark.parametrize(("raising", "level"), [(True, logging.WARNING), (False, logging.DEBUG)])
async def test_a_failure_is_warned_of_unless_the_caller_asked_for_every_status(raising, level, caplog):
    caplog.set_level(logging.DEBUG, "consona.rest.client")
    async with wire.Wire(wire.answer(404)) as server, APIClient(server.url) as api:
        with contextlib.suppress(APIError):
            await api.get("/", raise_for_status=raising)
        assert api.stats.failed == 1
    assert [record.levelno for record in caplog.records if "failed" in record.message] == [level]
