"""What a recorder promises: the same answers again, no secrets in the file, and a clear word where it has nothing."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import APIError, ConfigurationError
from consona.rest.client.api_client import APIClient
from consona.rest.client.authentication import Basic, Bearer, ClientCredentials
from consona.rest.recorder.body import readable, restored
from consona.rest.recorder.transport import NoRecording, Recorder
from consona.telemetry.redaction import DEFAULT
from http_origin import Asked, Origin, Said

JSON = [("Content-Type", "application/json")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recordings" / "users.json"


def echo(asked: Asked) -> Said:
    if asked.target == "/missing":
        return Said(404, [("Content-Type", "application/problem+json")], b'{"title":"Not here","status":404}')
    return Said(200, JSON, json.dumps({"asked": asked.target, "body": asked.body.decode("utf-8", "replace")}).encode())


async def record(path, calls, answer=echo, **options):
    """Run `calls` against a real server, and record; returns its address."""
    async with (
        Origin(answer) as origin,
        APIClient(origin.url, transport=Recorder(path, mode="record"), **options) as api,
    ):
        await calls(api)
    return origin.url


async def test_what_was_recorded_is_replayed_without_a_server(path):
    async def calls(api):
        first = await api.get("/users/7", params={"full": 1})
        second = await api.post("/users", json={"name": "Ada"})
        third = await api.get("/missing", raise_for_status=False)
        said.append([(one.status, one.content, one.headers["content-type"]) for one in (first, second, third)])

    said = []
    url = await record(path, calls)
    recorder = Recorder(path)
    async with APIClient(url, transport=recorder) as api:
        await calls(api)
    assert said[0] == said[1]
    recorder.assert_all_used()


async def test_the_file_is_for_people(path):
    await record(path, lambda api: api.post("/users", json={"name": "Äda"}))
    file = json.loads(path.read_text(encoding="utf-8"))
    [exchange] = file["exchanges"]
    assert file["format"] == 1
    assert exchange["request"]["body"]["json"] == {"name": "Äda"}
    assert exchange["answer"]["body"]["json"]["asked"] == "/users"
    assert "Äda" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("auth", [Bearer("t0p-secret"), Basic("ada", "t0p-secret")])
async def test_no_secret_is_in_the_file_and_none_hinders_the_replay(path, auth):
    def answer(asked: Asked) -> Said:
        body = {"name": "Ada", "session_token": "t0p-secret", "keys": {"private_key": {"n": 7, "d": "t0p-secret"}}}
        return Said(200, [*JSON, ("Set-Cookie", "sid=t0p-secret")], json.dumps(body).encode())

    async def calls(api, secret="t0p-secret"):
        await api.get("/a", params={"token": secret, "page": 1}, headers={"X-Api-Key": secret})
        reply = await api.post("/b", json={"password": secret, "user": "ada"})
        await api.post("/c", data={"password": secret, "user": "ada"})
        return reply

    url = await record(path, calls, answer, auth=auth)
    text = path.read_text(encoding="utf-8")
    assert "t0p-secret" not in text
    assert "dDBwLXNlY3JldA" not in text
    assert "YWRhOnQwcC1zZWNyZXQ" not in text
    async with APIClient(url, transport=Recorder(path, mode="replay"), auth=Bearer("another")) as api:
        reply = await calls(api, secret="another one")
        assert reply.json() == {"name": "Ada", "session_token": "***", "keys": {"private_key": {"n": 0, "d": "***"}}}


async def test_credentials_that_are_fetched_can_be_replayed(path):
    def answer(asked: Asked) -> Said:
        if asked.target == "/token":
            return Said(200, JSON, b'{"access_token": "hush", "token_type": "Bearer", "expires_in": 60}')
        return Said(200, JSON, b"{}")

    async with Origin(answer) as origin:
        auth = lambda: ClientCredentials(f"{origin.url}/token", "shop", "secret")
        async with APIClient(origin.url, transport=Recorder(path), auth=auth()) as api:
            await api.get("/me")
        asked = len(origin.asked)
        async with APIClient(origin.url, transport=Recorder(path), auth=auth()) as api:
            await api.get("/me")
        assert len(origin.asked) == asked
    assert "hush" not in path.read_text(encoding="utf-8")


async def test_equal_requests_get_their_answers_in_order_and_the_last_again(path):
    count = iter(range(10))
    await record(path, twice, lambda _: Said(200, [], b"%d" % next(count)))
    async with APIClient("http://127.0.0.1:1", transport=Recorder(path, match=("method", "path"))) as api:
        assert [(await api.get("/n")).text for _ in range(3)] == ["0", "1", "1"]
    async with APIClient("http://127.0.0.1:1", transport=Recorder(path, match=("method", "path"), repeat=False)) as api:
        await twice(api)
        with pytest.raises(NoRecording, match="given out"):
            await api.get("/n")


async def twice(api):
    await api.get("/n")
    await api.get("/n")


async def test_the_second_run_begins_anew(path):
    count = iter(range(10))
    url = await record(path, twice, lambda _: Said(200, [], b"%d" % next(count)))
    recorder = Recorder(path)
    for _ in range(2):
        async with APIClient(url, transport=recorder) as api:
            assert (await api.get("/n")).text == "0"


async def test_a_request_that_is_not_there_is_told_with_the_nearest_and_what_to_do(path):
    url = await record(path, lambda api: api.get("/users/7"))
    async with APIClient(url, transport=Recorder(path)) as api:
        with pytest.raises(NoRecording) as caught:
            await api.get("/users/8")
    assert f"the nearest is GET {url}/users/7" in str(caught.value)
    assert 'mode="record"' in str(caught.value)


async def test_a_body_that_differs_is_told_by_its_place_and_not_by_its_value(path):
    url = await record(path, lambda api: api.post("/users", json={"name": "Ada", "tags": ["x", "y"]}))
    async with APIClient(url, transport=Recorder(path)) as api:
        with pytest.raises(NoRecording, match=r"body\.tags\[1\] differs") as caught:
            await api.post("/users", json={"name": "Ada", "tags": ["x", "a-value"]})
        assert "a-value" not in str(caught.value)
        assert (await api.post("/users", content=b'{"tags": ["x", "y"], "name":"Ada"}', headers={"Content-Type": "application/json"})).ok  # fmt: skip


async def test_unused_recordings_can_fail_a_test(path):
    async def calls(api):
        await api.get("/a")
        await api.get("/b")

    url = await record(path, calls)
    recorder = Recorder(path)
    async with APIClient(url, transport=recorder) as api:
        await api.get("/a")
    assert recorder.unused == [f"GET {url}/b"]
    with pytest.raises(AssertionError, match="/b"):
        recorder.assert_all_used()


async def test_streams_are_recorded_and_replayed_both_ways(path):
    body = os.urandom(300_000)

    async def said_pieces():
        for start in range(0, len(body), 70_000):
            yield body[start : start + 70_000]

    async def sent_pieces():
        for _ in range(4):
            yield b"piece " * 1000

    async def calls(api):
        async with api.stream("POST", "/up", content=sent_pieces()) as answer:
            pieces = [piece async for piece in answer.chunks()]
        assert len(pieces) > 1
        return b"".join(pieces)

    async def check(api):
        assert await calls(api) == body

    url = await record(path, check, lambda _: Said(200, [], pieces=said_pieces()))
    async with APIClient(url, transport=Recorder(path, mode="replay")) as api:
        await check(api)


async def test_an_answer_that_was_left_early_is_not_recorded(path):
    async def calls(api):
        async with api.stream("GET", "/long"):
            pass
        await api.get("/short")

    url = await record(path, calls)
    recorder = Recorder(path)
    async with APIClient(url, transport=recorder) as api:
        assert [exchange.title for exchange in recorder.exchanges] == [f"GET {url}/short"]
        assert (await api.get("/short")).ok


async def test_a_compressed_answer_is_readable_in_the_file(path):
    packed = gzip.compress(b'{"name":"Ada"}')
    said = lambda _: Said(200, [*JSON, ("Content-Encoding", "gzip")], packed)
    url = await record(path, lambda api: api.get("/a"), said)
    assert json.loads(path.read_text(encoding="utf-8"))["exchanges"][0]["answer"]["body"]["json"] == {"name": "Ada"}
    async with APIClient(url, transport=Recorder(path)) as api:
        assert (await api.get("/a")).json() == {"name": "Ada"}


async def test_a_form_with_files_finds_its_recording_whatever_its_boundary(path):
    def form(boundary: str) -> dict:
        part = '--{0}\r\nContent-Disposition: form-data; name="{1}"\r\n\r\n{2}\r\n'
        text = part.format(boundary, "user", "ada") + part.format(boundary, "password", "t0p") + f"--{boundary}--\r\n"
        return {"content": text, "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"}}

    url = await record(path, lambda api: api.post("/up", **form("a1b2c3")), lambda _: Said(204))
    assert "t0p" not in path.read_text(encoding="utf-8")
    async with APIClient(url, transport=Recorder(path)) as api:
        assert (await api.post("/up", **form("zzz999"))).status == 204


async def test_an_error_status_is_replayed_as_the_error_it_was(path):
    async def calls(api):
        with pytest.raises(APIError) as caught:
            await api.get("/missing")
        assert caught.value.problem["title"] == "Not here"

    url = await record(path, calls)
    async with APIClient(url, transport=Recorder(path)) as api:
        await calls(api)


async def test_auto_records_once_and_replays_then(path):
    async with Origin(echo) as origin:
        for _ in range(3):
            async with APIClient(origin.url, transport=Recorder(path)) as api:
                await api.get("/a")
        assert len(origin.asked) == 1


async def test_a_failed_recording_leaves_the_old_file(path):
    await record(path, lambda api: api.get("/a"))
    before = path.read_bytes()
    with pytest.raises(Exception, match="reached"):
        async with APIClient("http://127.0.0.1:1", transport=Recorder(path, mode="record"), policy=None) as api:
            await api.get("/a", timeout=1)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


async def test_a_file_that_is_missing_or_wrong_is_told(path):
    with pytest.raises(ConfigurationError, match='mode="record"'):
        await Recorder(path, mode="replay").open()
    path.parent.mkdir()
    for text, told in [
        ("{", "no recording that can be read"),
        ('{"format": 2, "exchanges": []}', "format 2"),
        ('{"format": 1, "exchanges": [{"request": {"url": "/"}}]}', "method"),
        (
            '{"format": 1, "exchanges": [{"request": {"url": "/", "method": "GET"}, "answer": {"status": 200, "body": {"x": 1}}}]}',
            "neither json, text nor base64",
        ),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=told):
            await Recorder(path).open()


def test_settings_that_do_not_exist_are_told(path):
    with pytest.raises(ConfigurationError, match="mode"):
        Recorder(path, mode="play")
    with pytest.raises(ConfigurationError, match="match"):
        Recorder(path, match=("method", "headers"))


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(["", "text/plain", "image/png"])
)
def test_any_body_without_secrets_comes_back_byte_for_byte(body, kind):
    if DEFAULT.text(body.decode("latin-1")) == body.decode("latin-1"):
        assert restored(readable(body, kind, DEFAULT)) == body


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('aé\n"', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(values, st.sampled_from([None, 1, 2, 4]), st.booleans())
def test_json_comes_back_byte_for_byte_however_it_was_laid_out(value, indent, ascii_only):
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert restored(readable(body, "application/json", DEFAULT)) == body
