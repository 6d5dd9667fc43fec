from __future__ import annotations

import datetime as dt

import pytest

import wire
from consona.errors import ConfigurationError
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from consona.rest.client.errors import BadAnswer, ConnectionLost

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0))


async def pieces():
    for number in range(3):
        yield b"%d" % number


@pytest.mark.parametrize(
    ("body", "sent", "kind"),
    [
        ({"json": {"at": dt.date(2026, 1, 2)}}, b'{"at":"2026-01-02"}', "application/json"),
        ({"data": {"a": "b c", "d": ["1", "ü"]}}, b"a=b+c&d=1&d=%C3%BC", "application/x-www-form-urlencoded"),
        ({"content": b"\x00\xff"}, b"\x00\xff", "application/octet-stream"),
        ({"content": "ü"}, "ü".encode(), "text/plain; charset=utf-8"),
        ({"content": pieces}, b"012", "application/octet-stream"),
        ({"content": pieces()}, b"012", "application/octet-stream"),
        ({"content": b"x" * 300_000}, b"x" * 300_000, "application/octet-stream"),
        ({"content": b"<a/>", "headers": {"Content-Type": "text/xml"}}, b"<a/>", "text/xml"),
        ({}, b"", None),
    ],
)
async def test_a_body_is_sent_as_what_it_is(body, sent, kind):
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.post("/", **body)
    assert (server.seen[0].body, server.seen[0].headers.get("content-type")) == (sent, kind)


@pytest.mark.parametrize(
    "body",
    [
        {"json": {}, "data": {}},
        {"json": object()},
        {"json": {1: {2, object()}}},
        {"data": b"raw"},
        {"content": 7},
        {"content": ["a", "b"]},
    ],
)
async def test_a_body_that_cannot_be_sent_is_refused_before_anything_is(body):
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        with pytest.raises(ConfigurationError):
            await api.post("/", **body)
    assert server.connections == 0


async def test_a_stream_begun_by_a_function_can_be_sent_again():
    async with wire.Wire(wire.answer(503), wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:
        await api.put("/", content=pieces)
    assert [seen.body for seen in server.seen] == [b"012", b"012"]


@pytest.mark.parametrize("deed", [wire.hang_up, wire.answer(503)])
async def test_a_stream_that_was_used_up_is_not_sent_again_in_part(deed):
    async with wire.Wire(deed) as server, APIClient(server.url, policy=EAGER) as api:
        with pytest.raises(Exception, match=r"503|ended the connection"):
            await api.put("/", content=pieces())
    assert len(server.seen) == 1


async def test_a_used_stream_cannot_follow_a_redirect_that_keeps_the_body():
    async with wire.Wire(wire.answer(307, location="/there")) as server, APIClient(server.url) as api:
        with pytest.raises(BadAnswer, match="cannot be sent again"):
            await api.put("/", content=pieces())
    assert len(server.seen) == 1


async def test_an_error_of_the_callers_stream_is_what_the_caller_sees():
    async def broken():
        yield b"a"
        raise LookupError("the file is gone")

    async with wire.Wire(wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:
        with pytest.raises(LookupError, match="the file is gone"):
            await api.put("/", content=broken)
        assert (await api.get("/")).status == 200
    assert [seen.method for seen in server.seen] == ["GET"]


async def test_a_connection_lost_during_the_upload_is_told():
    async def hang_up_early(seen, reader, writer):
        writer.close()

    server = wire.Wire(hang_up_early)

    async def endless():
        while True:
            yield b"x" * 65536

    async def read_head_only(reader):
        await reader.readuntil(b"\r\n\r\n")
        return wire.Seen("PUT", "/", {}, b"")

    async with server, APIClient(server.url, policy=Policy(timeout=wire.BOUND_S)) as api:
        original, wire.read_request = wire.read_request, read_head_only
        try:
            with pytest.raises(ConnectionLost):
                await api.put("/", content=endless())
        finally:
            wire.read_request = original
