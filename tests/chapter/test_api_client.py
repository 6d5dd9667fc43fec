"""The chapter's client: blocking calls to a real server, with safe retries and a history without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import consona
from consona.chapter import APIClient, APIError, RouteNotFoundError, ValidationError
from consona.errors import ConfigurationError, ConnectError, DeadlineExceeded
from consona.rest.client.errors import BadAnswer, ConnectionLost
from wire import BOUND_S, answer, hang_up, message, raw, silence
from wired import Wired


def echo(info):
    return {
        "method": info["method"],
        "data": info["data"],
        "query": info["query_params"],
        "agent": info["headers"].get("User-Agent"),
        "shop": info["headers"].get("X-Shop"),
        "type": info["headers"].get("Content-Type"),
        "authorization": info["headers"].get("Authorization"),
        "key": info["headers"].get("X-API-Key"),
    }


@pytest.fixture
def echoing(server):
    for verb in (server.get, server.post, server.put, server.delete):
        verb("/v1/echo", echo)
    return server.start() + "/v1"


def failing(server, *, times, status):
    """A server whose first answers are failures; the list holds the methods that came."""
    seen = []

    def block(info):
        seen.append(info["method"])
        return {"block": len(seen) <= times, "status_code": status}

    server.add_middleware(block, "failures")
    for verb in (server.get, server.post, server.put, server.delete):
        verb("/", lambda _: "fine")
    return server.start(), seen


# Requests and answers.


def test_an_answer_is_a_dict(echoing, make_client):
    answered = make_client(echoing).get("/echo")
    assert set(answered) == {"status_code", "data", "headers"}
    assert (answered["status_code"], answered["data"]["method"]) == (200, "GET")
    assert answered["headers"]["Content-Type"] == answered["headers"]["content-type"] == "application/json"


def test_each_verb_has_the_chapters_order_of_arguments(echoing, make_client):
    api = make_client(echoing)
    extra = {"X-Shop": "7"}
    for method, answered in (
        ("GET", api.get("/echo", {"q": "x"}, extra)),
        ("POST", api.post("/echo", {"a": 1}, extra)),
        ("PUT", api.put("/echo", {"a": 1}, extra)),
        ("DELETE", api.delete("/echo", extra)),
        ("PUT", api.make_request("put", "/echo", {"a": 1}, extra, {"q": "x"})),
    ):
        assert (answered["data"]["method"], answered["data"]["shop"]) == (method, "7")
    assert answered["data"]["data"] == {"a": 1}
    assert answered["data"]["query"] == {"q": "x"}


def test_the_default_headers_go_with_each_request_and_those_of_a_call_replace_them(echoing, make_client):
    api = make_client(echoing, {"Content-Type": "application/json", "User-Agent": "App/1.0", "X-Shop": "7"})
    assert api.post("/echo", {"a": 1})["data"]["agent"] == "App/1.0"
    assert api.post("/echo", {"a": 1})["data"]["type"] == "application/json"
    assert api.get("/echo", None, {"X-Shop": "8"})["data"]["shop"] == "8"


@pytest.mark.parametrize(
    ("body", "kind", "data"),
    [
        (b"", "application/json", None),
        (b"[1]", "application/json", [1]),
        (b'{"a": 1}', "application/hal+json; charset=utf-8", {"a": 1}),
        (b"Hello", "text/plain", "Hello"),
    ],
)
def test_the_data_is_decoded_json_or_text(make_client, body, kind, data):
    with Wired(answer(200, body, content_type=kind)) as wire:
        assert make_client(wire.url).get("/")["data"] == data


def test_an_answer_that_only_says_that_it_is_json_is_an_error(make_client):
    with Wired(answer(200, b"<html>")) as wire, pytest.raises(BadAnswer):
        make_client(wire.url).get("/")


# Errors.


def test_a_status_of_400_and_above_is_an_error_in_the_chapters_form(server, make_client):
    server.get("/", lambda _: 1)
    with pytest.raises(APIError, match="404 Not Found") as caught:
        make_client(server.start()).get("/posts/7")
    assert caught.value.status_code == 404
    assert caught.value.response["status_code"] == 404
    assert caught.value.response["data"]["error"] == "Not Found"


def test_an_error_whose_body_is_no_json_is_still_that_error(make_client):
    with Wired(answer(404, b"<html>")) as wire, pytest.raises(APIError) as caught:
        make_client(wire.url).get("/")
    assert caught.value.response["data"] == "<html>"


def test_the_chapters_errors_are_those_of_consona():
    assert issubclass(APIError, consona.APIError)
    assert RouteNotFoundError is consona.NotFound
    assert ValidationError is consona.ValidationError


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(APIError("HTTP 404 error", 404, {"status_code": 404})))
    assert (str(error), error.status_code) == ("HTTP 404 error", 404)


def test_a_server_that_is_not_there_is_a_connect_error(server, make_client):
    url = server.start()
    server.stop()
    api = make_client(url)
    with pytest.raises(ConnectError):
        api.post("/", {"a": 1})
    [entry] = api.get_request_history()
    assert (entry["success"], entry["response"], entry["error"], entry["attempt"]) == (False, None, "connect", 3)


def test_the_timeout_ends_a_call(make_client):
    with Wired(silence) as wire, pytest.raises(DeadlineExceeded):
        make_client(wire.url, timeout=0.2).get("/")


# Handlers by status.


def test_a_handler_gets_the_answer_and_gives_the_result(server, make_client):
    seen = []
    api = make_client(server.start())
    api.register_error_handler(404, lambda found: seen.append(found) or {"error": "gone"})
    assert api.get("/nowhere") == {"error": "gone"}
    assert (seen[0]["status_code"], seen[0]["data"]["error"]) == (404, "Not Found")


def test_a_handler_that_gives_nothing_lets_the_error_be_raised(server, make_client):
    api = make_client(server.start())
    api.register_error_handler(404, lambda _: None)
    with pytest.raises(APIError):
        api.get("/nowhere")


def test_what_a_handler_raises_is_raised(server, make_client):
    def refuse(found):
        raise LookupError(found["status_code"])

    api = make_client(server.start())
    api.register_error_handler(404, refuse)
    with pytest.raises(LookupError, match="404"):
        api.get("/nowhere")


def test_a_handler_may_call_the_api_itself(echoing, make_client):
    api = make_client(echoing)
    api.register_error_handler(404, lambda _: api.get("/echo"))
    assert api.get("/nowhere")["data"]["method"] == "GET"


def test_a_handler_that_waits_holds_nobody_else_up(echoing, make_client):
    api, waiting, go = make_client(echoing), threading.Event(), threading.Event()

    def wait(_found):
        waiting.set()
        assert go.wait(BOUND_S)
        return "done"

    api.register_error_handler(404, wait)
    with ThreadPoolExecutor(1) as threads:
        handled = threads.submit(api.get, "/nowhere")
        assert waiting.wait(BOUND_S)
        assert api.get("/echo")["status_code"] == 200
        go.set()
        assert handled.result(BOUND_S) == "done"


def test_a_handler_runs_once_after_the_last_retry(server, make_client):
    url, seen = failing(server, times=9, status=503)
    called = []
    api = make_client(url)
    api.register_error_handler(503, lambda found: called.append(found["status_code"]) or "handled")
    assert api.get("/") == "handled"
    assert (called, len(seen)) == ([503], 3)


# Retries.


def test_a_failure_that_passes_is_not_seen(server, make_client):
    url, seen = failing(server, times=2, status=503)
    api = make_client(url)
    assert api.get("/")["data"] == "fine"
    assert len(seen) == 3
    [entry] = api.get_request_history()
    assert (entry["attempt"], entry["success"]) == (3, True)


def test_no_retries_means_one_attempt(server, make_client):
    url, seen = failing(server, times=9, status=503)
    with pytest.raises(APIError):
        make_client(url, retry_config={"max_retries": 0}).get("/")
    assert len(seen) == 1


def test_a_post_that_may_have_been_done_is_never_sent_again(make_client):
    with Wired(hang_up) as wire:
        api = make_client(wire.url)
        with pytest.raises(ConnectionLost):
            api.post("/", {"a": 1})
        assert len(wire.seen) == 1
        with pytest.raises(ConnectionLost):
            api.get("/")
        assert len(wire.seen) == 1 + 3


@pytest.mark.parametrize("status", [400, 404, 500])
def test_what_would_fail_again_is_not_sent_again(server, make_client, status):
    url, seen = failing(server, times=9, status=status)
    with pytest.raises(APIError):
        make_client(url).get("/")
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_retires": 3}, "no setting max_retires"),
        ({"max_retries": -1}, "at least one try"),
        ({"backoff_factor": -1}, "backoff"),
        ({"max_retries": "many"}, "numbers"),
        ({"backoff_factor": None}, "numbers"),
    ],
)
def test_a_retry_config_that_is_not_possible_is_refused(config, words):
    with pytest.raises(ConfigurationError, match=words):
        APIClient("http://localhost", retry_config=config)


@pytest.mark.parametrize("timeout", [0, -1, "soon"])
def test_a_timeout_that_is_not_possible_is_refused(timeout):
    with pytest.raises(ConfigurationError):
        APIClient("http://localhost", timeout=timeout)


# Authentication.


@pytest.mark.parametrize(
    ("kind", "credentials", "field", "sent"),
    [
        ("bearer", "t-1", "authorization", "Bearer t-1"),
        ("api_key", "k-1", "key", "k-1"),
        (
            "basic",
            {"username": "Aladdin", "password": "open sesame"},
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
    ],
)
def test_credentials_go_with_each_request(echoing, make_client, kind, credentials, field, sent):
    api = make_client(echoing)
    api.add_auth_header(kind, credentials)
    for _ in range(2):
        assert api.get("/echo")["data"][field] == sent


def test_credentials_are_added_to_each_other_and_replaced_by_their_kind(echoing, make_client):
    api = make_client(echoing)
    api.add_auth_header("bearer", "old")
    api.add_auth_header("api_key", "k-1")
    api.add_auth_header("bearer", "new")
    data = api.get("/echo")["data"]
    assert (data["authorization"], data["key"]) == ("Bearer new", "k-1")


def test_a_key_goes_into_any_header(echoing, make_client):
    api = make_client(echoing)
    api.add_auth_header("api_key", "k-1", "X-Shop")
    assert api.get("/echo")["data"]["shop"] == "k-1"
    assert api.get_request_history()[0]["headers"]["X-Shop"] == "***"


@pytest.mark.parametrize(
    ("kind", "credentials"),
    [
        ("digest", "x"),
        ("bearer", ""),
        ("bearer", "a\nb"),
        ("api_key", None),
        ("basic", "ada:pw"),
        ("basic", {"username": "ada"}),
        ("basic", {"username": "a:b", "password": "x"}),
    ],
)
def test_credentials_that_cannot_be_sent_are_refused(kind, credentials):
    with pytest.raises(ConfigurationError):
        APIClient("http://localhost").add_auth_header(kind, credentials)


def test_credentials_that_the_default_headers_would_hide_are_refused():
    api = APIClient("http://localhost", {"authorization": "Bearer t-0"})
    with pytest.raises(ConfigurationError, match="Authorization already"):
        api.add_auth_header("bearer", "t-1")


def test_credentials_stay_at_home(server, make_server, make_client):
    elsewhere = make_server(name="elsewhere")
    elsewhere.get("/v1/echo", echo)
    api = make_client(server.start(), {"X-API-Key": "k-1"})
    api.add_auth_header("bearer", "t-1")
    data = api.get(elsewhere.start() + "/v1/echo")["data"]
    assert (data["authorization"], data["key"]) == (None, None)


# History and figures.


def test_the_history_has_one_entry_a_call(echoing, make_client):
    api = make_client(echoing)
    began = time.time()
    api.get("/echo", {"q": ["a", "b"], "page": 2})
    with pytest.raises(APIError):
        api.post("/nowhere", {"a": 1})
    first, second = api.get_request_history()
    assert (first["method"], first["params"]) == ("GET", {"q": ["a", "b"], "page": "2"})
    assert first["url"] == f"{echoing}/echo?q=a&q=b&page=2"
    assert (first["success"], first["error"], first["response"]["status_code"]) == (True, None, 200)
    assert (second["method"], second["success"], second["error"]) == ("POST", False, "api.404")
    assert began - 0.001 <= first["timestamp"] <= second["timestamp"] <= time.time()


def test_the_history_keeps_no_bodies_and_no_secrets(echoing, make_client):
    api = make_client(echoing, {"X-Session": "s-1"})
    api.add_auth_header("bearer", "t-1")
    api.post("/echo", {"name": "Ada"}, {"X-Api-Key": "k-1"})
    api.get("/echo", {"token": "t-2"})
    entries = api.get_request_history()
    assert [entry["data"] for entry in entries] == [None, None]
    assert [secret for secret in ("s-1", "t-1", "t-2", "k-1", "Ada") if secret in str(entries)] == []
    assert entries[1]["params"] == {"token": "***"}


def test_the_history_keeps_bodies_where_that_is_asked_for(echoing, make_client):
    api = make_client(echoing, keep_bodies=True)
    api.post("/echo", {"name": "Ada", "password": "hunter2"})
    [entry] = api.get_request_history()
    assert entry["data"] == {"name": "Ada", "password": "***"}
    assert entry["response"]["data"]["data"] == {"name": "Ada", "password": "***"}


def test_the_success_rate_is_in_percent_and_0_before_the_first_call(echoing, make_client):
    api = make_client(echoing)
    assert api.get_success_rate() == 0.0
    for path in ("/echo", "/nowhere", "/echo", "/nowhere"):
        with contextlib.suppress(APIError):
            api.get(path)
    assert api.get_success_rate() == 50.0


def test_a_handled_failure_is_counted_as_a_failure(server, make_client):
    api = make_client(server.start())
    api.register_error_handler(404, lambda _: {"error": "gone"})
    api.get("/nowhere")
    assert api.get_request_history()[0]["success"] is False
    assert api.get_success_rate() == 0.0


# Its life.


def test_threads_that_call_at_once_each_get_their_own_answer(server, make_client):
    meeting = threading.Barrier(8, timeout=BOUND_S)
    server.get("/{n}", lambda info: meeting.wait() >= 0 and int(info["path_params"]["n"]))
    api = make_client(server.start())
    with ThreadPoolExecutor(8) as threads:
        assert [a["data"] for a in threads.map(lambda n: api.get(f"/{n}"), range(8))] == list(range(8))
    assert len(api.get_request_history()) == 8


def test_a_closed_client_opens_again_when_it_is_used(echoing):
    with APIClient(echoing) as api:
        api.get("/echo")
    assert api.get("/echo")["status_code"] == 200
    api.close()
    assert len(api.get_request_history()) == 2


async def test_inside_a_running_loop_it_says_what_to_do():
    api = APIClient("http://localhost:9")
    with pytest.raises(ConfigurationError, match="inside a running event loop"):
        api.get("/")


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://localhost", "http://ada:pw@localhost"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ConfigurationError):
        APIClient(url)


def test_an_endpoint_cannot_lead_out_of_the_base(make_client):
    with pytest.raises(ConfigurationError, match="lead out"):
        make_client("http://localhost:9/v1").get("/../admin")


@pytest.mark.parametrize("handler", [None, "x", asyncio.sleep])
def test_what_is_no_plain_function_is_refused_when_it_is_registered(handler):
    with pytest.raises(ConfigurationError, match=r"must be a function|async def"):
        APIClient("http://localhost").register_error_handler(404, handler)


def test_a_status_that_is_no_error_has_no_handler():
    with pytest.raises(ConfigurationError, match="400 to 599"):
        APIClient("http://localhost").register_error_handler(200, lambda _: None)


def test_half_an_answer_is_no_answer(make_client):
    half = message(200, b'{"a": 1}')[:-3]
    with Wired(raw(half)) as wire, pytest.raises((ConnectionLost, DeadlineExceeded)):
        make_client(wire.url, timeout=0.3, retry_config={"max_retries": 0}).post("/")
