"""The chapter's server: registered plainly, answered really, in the process and over sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from consona.chapter import APIServer, AuthenticationError, RouteNotFoundError, ValidationError
from consona.errors import ConfigurationError
from consona.rest.server.listen import PortInUseError

BOUND_S = 20.0
ADA = {"id": 1, "username": "ada"}


def fetch(url, method="GET", headers=None, data=None):
    """An answer over a socket, by another client than ours: status, decoded body, headers."""
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=BOUND_S) as answer:
            return answer.status, json.loads(answer.read() or b"null"), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


VALUE = "hunter2"


def boom(_request_info):
    raise RuntimeError(VALUE)  # not written here: a traceback shows this line


# In the process.


def test_a_handler_gets_what_the_request_is_and_gives_the_data(server):
    seen = []
    server.post("/posts/{id}", lambda info: seen.append(info) or {"id": 7})
    answer = server.process_request(
        "post", "/posts/42", {"X-Shop": "7"}, {"title": "Hello"}, {"limit": 5, "tag": ["a", "b"]}
    )
    assert (answer["status_code"], answer["data"]) == (200, {"id": 7})
    assert answer["headers"]["Content-Type"] == "application/json"
    [info] = seen
    assert (info["method"], info["path"], info["path_params"]) == ("POST", "/posts/42", {"id": "42"})
    assert (info["data"], info["query_params"]) == ({"title": "Hello"}, {"limit": "5", "tag": ["a", "b"]})
    assert (info["headers"]["x-shop"], info["ip"]) == ("7", "127.0.0.1")
    assert info["timestamp"] > 1_700_000_000


def test_each_verb_registers_its_method(server):
    for verb in ("get", "post", "put", "delete"):
        getattr(server, verb)(f"/{verb}", lambda info: info["method"])
    server.route("patch", "/patch", lambda info: info["method"])
    for verb in ("get", "post", "put", "delete", "patch"):
        assert server.process_request(verb, f"/{verb}")["data"] == verb.upper()


def test_a_request_without_a_body_has_no_data(server):
    server.get("/", lambda info: [info["data"], info["query_params"]])
    assert server.process_request("GET", "/", None, None, None)["data"] == [None, {}]


def test_a_fixed_path_wins_over_a_pattern_whatever_their_order(server):
    server.get("/posts/{id}", lambda _: "pattern")
    server.get("/posts/search", lambda _: "fixed")
    assert server.process_request("GET", "/posts/search")["data"] == "fixed"


def test_a_route_can_be_added_between_requests(server):
    server.get("/one", lambda _: 1)
    assert server.process_request("GET", "/one")["data"] == 1
    server.get("/two", lambda _: 2)
    assert server.process_request("GET", "/two")["data"] == 2


def test_a_route_exists_only_where_it_was_registered(server):
    for path in ("/docs", "/openapi.json", "/health/live"):
        assert server.process_request("GET", path)["status_code"] == 404


# The default answers.


@pytest.mark.parametrize(
    ("error", "status", "title", "message"),
    [
        (RouteNotFoundError("No post 7."), 404, "Not Found", "No post 7."),
        (AuthenticationError("Who are you?"), 401, "Unauthorized", "Who are you?"),
        (ValidationError("Missing: title"), 400, "Bad Request", "Missing: title"),
    ],
)
def test_an_error_of_the_chapter_has_its_own_answer(server, error, status, title, message):
    def fail(_):
        raise error

    server.get("/", fail)
    answer = server.process_request("GET", "/")
    assert (answer["status_code"], answer["data"]) == (status, {"error": title, "message": message})


def test_any_other_error_is_500_without_its_inside(server, caplog):
    server.get("/", boom)
    answer = server.process_request("GET", "/")
    assert (answer["status_code"], answer["data"]["error"]) == (500, "Internal Server Error")
    assert VALUE not in f"{answer}{caplog.text}"
    assert "boom" in caplog.text, "the log says where"


def test_an_unknown_path_is_404(server):
    assert server.process_request("GET", "/nowhere")["data"]["error"] == "Not Found"


def test_another_method_of_a_known_path_is_405_and_names_those_that_exist(server):
    server.get("/posts", lambda _: [])
    answer = server.process_request("POST", "/posts")
    assert (answer["status_code"], answer["data"]["error"]) == (405, "Method Not Allowed")
    assert answer["headers"]["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b'{"title": ', "application/json", 400, "JSON"),
        (b'"\xff\xfe"', "application/json", 400, "UTF-8"),
        (b"[" * 100_000, "application/json", 400, "nested"),
        (b"title=Hello", "application/x-www-form-urlencoded", 415, "application/json"),
    ],
)
def test_a_body_that_cannot_be_read_is_the_clients_fault(server, body, content_type, status, words):
    called = []
    server.post("/", called.append)
    got, data, _ = fetch(server.start() + "/", "POST", {"Content-Type": content_type}, body)
    assert got == status
    assert set(data) == {"error", "message"}
    assert words in data["message"]
    assert not called


def test_a_body_that_is_too_long_is_413(server):
    server.post("/", lambda _: 1)
    answer = server.process_request("POST", "/", None, "x" * 1_100_000)
    assert (answer["status_code"], set(answer["data"])) == (413, {"error", "message"})


# Authentication.


def test_a_route_with_auth_required_lets_nobody_in_before_a_verifier_is_attached(server):
    called = []
    server.get("/secret", called.append, True)
    for token in ("valid-jwt-token", "", "x", "None"):
        answer = server.process_request("GET", "/secret", {"Authorization": f"Bearer {token}"})
        assert (answer["status_code"], answer["data"]["error"]) == (401, "Unauthorized")
    assert server.process_request("GET", "/secret")["status_code"] == 401
    assert not called


def test_a_valid_token_makes_its_user_known(server):
    server.get("/me", lambda info: info["user"], True)
    server.set_token_verifier(lambda token: {"valid": token == "t-1", "user": ADA})
    assert server.process_request("GET", "/me", {"Authorization": "Bearer t-1"})["data"] == ADA
    assert server.process_request("GET", "/me", {"authorization": "bearer t-1"})["data"] == ADA


def test_a_verdict_without_a_user_is_itself_the_user(server):
    server.get("/me", lambda info: info["user"]["username"], True)
    server.set_token_verifier(lambda _: {"valid": True, "user_id": 1, "username": "ada", "roles": []})
    assert server.process_request("GET", "/me", {"Authorization": "Bearer t-1"})["data"] == "ada"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic dDox"}, {"Authorization": "Bearer"}, {"X-T": "t-1"}])
def test_a_request_without_a_bearer_token_never_reaches_the_verifier(server, headers):
    asked = []
    server.get("/me", lambda info: info["user"], True)
    server.set_token_verifier(lambda token: asked.append(token) or {"valid": True, "user": ADA})
    answer = server.process_request("GET", "/me", headers)
    assert (answer["status_code"], answer["headers"]["WWW-Authenticate"]) == (401, "Bearer")
    assert not asked


@pytest.mark.parametrize("verdict", [{"valid": False, "user": ADA}, {"valid": 1}, {"valid": "yes"}, {"valid": None}])
def test_only_a_verdict_that_is_true_lets_in(server, verdict):
    server.get("/me", lambda info: info["user"], True)
    server.set_token_verifier(lambda _: verdict)
    assert server.process_request("GET", "/me", {"Authorization": "Bearer t-1"})["status_code"] == 401


@pytest.mark.parametrize("verdict", [None, True, "ada", ADA, [1]])
def test_a_verdict_of_another_form_lets_nobody_in_and_is_told_in_the_log(server, verdict, caplog):
    server.get("/me", lambda info: info["user"], True)
    server.set_token_verifier(lambda _: verdict)
    assert server.process_request("GET", "/me", {"Authorization": "Bearer t-1"})["status_code"] == 500
    assert "A token verifier must return" in caplog.text


def test_a_verifier_that_raises_an_authentication_error_is_answered_with_401(server):
    def expired(_token):
        raise AuthenticationError("The token has expired.")

    server.get("/me", lambda info: info["user"], True)
    server.set_token_verifier(expired)
    answer = server.process_request("GET", "/me", {"Authorization": "Bearer t-1"})
    assert (answer["status_code"], answer["data"]["message"]) == (401, "The token has expired.")


def test_a_middleware_cannot_be_used_to_name_a_user_of_a_guarded_route(server):
    server.add_middleware(lambda _: {"updates": {"user": {"username": "eve"}}}, "impostor")
    server.get("/me", lambda info: info["user"], True)
    server.set_token_verifier(lambda _: {"valid": True, "user": ADA})
    assert server.process_request("GET", "/me")["status_code"] == 401
    assert server.process_request("GET", "/me", {"Authorization": "Bearer t-1"})["data"] == ADA


# Middlewares.


def test_middlewares_run_in_order_and_their_updates_reach_the_handler(server):
    order = []
    server.add_middleware(lambda info: order.append("first") or {"updates": {"logged": True}}, "one")
    server.add_middleware(lambda info: order.append(("second", info["logged"])), "two")
    server.get("/", lambda info: info["logged"])
    assert server.process_request("GET", "/")["data"] is True
    assert order == ["first", ("second", True)]


def test_a_middleware_that_blocks_ends_the_request_there(server):
    called = []
    server.add_middleware(lambda _: {"block": True, "status_code": 429, "message": "Slowly"}, "limiter")
    server.add_middleware(called.append, "later")
    server.get("/", called.append)
    answer = server.process_request("GET", "/")
    assert (answer["status_code"], answer["data"]) == (429, {"error": "Slowly"})
    assert not called


def test_a_blocked_request_is_asked_once(server):
    called = []
    server.add_middleware(lambda _: called.append(1) or {"block": True, "status_code": 503}, "out of order")
    assert server.process_request("GET", "/")["status_code"] == 503
    assert called == [1]
    assert server.get_server_stats()["total_requests"] == 1


def test_a_block_without_more_is_403(server):
    server.add_middleware(lambda _: {"block": True}, "closed")
    answer = server.process_request("GET", "/")
    assert (answer["status_code"], answer["data"]) == (403, {"error": "Request blocked by middleware"})


def test_middlewares_see_unknown_paths_too(server):
    seen = []
    server.add_middleware(lambda info: seen.append(info["path"]), "log")
    server.process_request("GET", "/nowhere")
    assert seen == ["/nowhere"]


@pytest.mark.parametrize("middleware", [boom, lambda _: "go on", lambda _: {"block": True, "status_code": "no"}])
def test_a_broken_middleware_is_500(server, middleware):
    server.add_middleware(middleware, "broken")
    server.get("/", lambda _: "reached")
    assert server.process_request("GET", "/")["status_code"] == 500


# Error handlers.


def test_an_error_handler_answers_its_class_and_those_below_it(server):
    def fail(info):
        raise {"key": KeyError, "index": IndexError}[info["path_params"]["kind"]]("x")

    def lookup(error, info):
        return {
            "status_code": 410,
            "data": {"kind": type(error).__name__, "path": info["path"]},
            "headers": {"X-Kind": "1"},
        }

    server.get("/{kind}", fail)
    server.register_error_handler(LookupError, lookup)
    for path, kind in (("/key", "KeyError"), ("/index", "IndexError")):
        answer = server.process_request("GET", path)
        assert (answer["status_code"], answer["data"]) == (410, {"kind": kind, "path": path})
        assert answer["headers"]["x-kind"] == "1"


@pytest.mark.parametrize(
    ("kind", "path", "headers"),
    [(RouteNotFoundError, "/nowhere", {}), (AuthenticationError, "/secret", {"Authorization": "Bearer x"})],
)
def test_the_servers_own_errors_have_the_chapters_classes(server, kind, path, headers):
    server.get("/secret", lambda _: 1, True)
    server.register_error_handler(kind, lambda error, info: {"status_code": 418, "data": info["path"]})
    answer = server.process_request("GET", path, headers)
    assert (answer["status_code"], answer["data"]) == (418, path)


@pytest.mark.parametrize("handler", [lambda _error, _info: {"data": 1}, lambda _error, _info: None])
def test_an_error_handler_that_gives_no_answer_is_500(server, handler):
    server.get("/", boom)
    server.register_error_handler(RuntimeError, handler)
    assert server.process_request("GET", "/")["status_code"] == 500


# What it tells of itself.


def test_the_statistics_are_all_there_before_the_first_request(server):
    stats = server.get_server_stats()
    assert (stats["total_requests"], stats["successful_requests"], stats["failed_requests"]) == (0, 0, 0)
    assert (stats["success_rate"], stats["requests_per_second"]) == (0.0, 0.0)
    assert stats["uptime_seconds"] >= 0


def test_blocked_and_failed_requests_are_counted(server):
    server.get("/fine", lambda _: 1)
    server.add_middleware(lambda info: {"block": info["path"] == "/blocked"}, "door")
    for path in ("/fine", "/fine", "/blocked", "/unknown"):
        server.process_request("GET", path)
    stats = server.get_server_stats()
    assert (stats["total_requests"], stats["successful_requests"], stats["failed_requests"]) == (4, 2, 2)
    assert stats["success_rate"] == 50.0
    assert 0 < stats["requests_per_second"] <= 4.0, "an uptime below a second counts as one"


def test_the_log_holds_the_last_hundred_requests_without_values(server):
    server.post("/posts/{id}", lambda _: 1)
    began = time.time()
    for number in range(105):
        server.process_request("POST", f"/posts/{number}", {"X-Name": "Ada"}, {"password": "hunter2"}, {"q": "find"})
    log = server.get_request_log()
    assert len(log) == 100
    assert log[-1]["request"]["path"] == "/posts/{id}"
    assert log[-1]["response"] == {"status_code": 200, "success": True}
    assert 0 < log[-1]["duration"] < BOUND_S
    assert began - 0.001 <= log[0]["request"]["timestamp"] <= log[-1]["request"]["timestamp"] <= time.time()
    assert not [secret for secret in ("Ada", "hunter2", "find") if secret in str(log)]


def test_a_handler_may_ask_for_the_statistics(server):
    server.get("/stats", lambda _: server.get_server_stats())
    server.process_request("GET", "/stats")
    assert server.process_request("GET", "/stats")["data"]["total_requests"] == 1


# Over sockets.


def test_start_returns_once_it_listens_and_stop_ends_it(server):
    server.get("/posts/{id}", lambda info: info["path_params"])
    url = server.start()
    assert url == server.url
    assert fetch(f"{url}/posts/7?x=1")[:2] == (200, {"id": "7"})
    server.stop()
    assert server.url == ""
    with pytest.raises(urllib.error.URLError):
        fetch(url)


def test_it_can_be_started_again_with_what_was_registered_meanwhile(server):
    server.get("/one", lambda _: 1)
    for _ in range(2):
        assert fetch(server.start() + "/one")[1] == 1
        server.stop()
    server.get("/two", lambda _: 2)
    assert fetch(server.start() + "/two")[1] == 2
    assert server.get_server_stats()["total_requests"] == 3


def test_a_second_start_changes_nothing_and_one_stop_is_enough(server):
    assert server.start() == server.start()
    url = server.url
    server.stop()
    with pytest.raises(urllib.error.URLError):
        fetch(url)
    server.stop()


def test_it_listens_on_this_machine_alone(server):
    host = server.start().removeprefix("http://").rpartition(":")[0]
    assert host in {"127.0.0.1", "[::1]"}


def test_a_port_in_use_is_said_with_the_next_free_one(server, make_server):
    port = int(server.start().rpartition(":")[2])
    host = server.url.removeprefix("http://").rpartition(":")[0].strip("[]")
    with pytest.raises(PortInUseError, match=f"Port {port}") as caught:
        make_server(host=host, port=port).start()
    assert caught.value.free > port


def test_in_process_and_over_a_socket_the_answer_is_the_same(server):
    server.get("/", boom)
    server.get("/me", lambda info: info["user"], True)
    url = server.start()
    for path in ("/", "/me", "/nowhere"):
        status, data, _ = fetch(url + path)
        answer = server.process_request("GET", path)
        assert (answer["status_code"], answer["data"]) == (status, data)


def test_what_comes_too_late_is_said(server):
    server.start()
    with pytest.raises(ConfigurationError, match="comes too late"):
        server.get("/late", lambda _: 1)


def test_two_routes_for_the_same_requests_are_said_at_start(server):
    server.get("/same", lambda _: 1)
    server.get("/same", lambda _: 2)
    with pytest.raises(ConfigurationError, match="answer the same requests"):
        server.start()


def test_threads_that_call_at_once_each_get_their_own_answer(server):
    meeting = threading.Barrier(8, timeout=BOUND_S)

    def meet(info):
        meeting.wait()  # all eight are in a handler at the same time
        return int(info["path_params"]["n"])

    server.get("/{n}", meet)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda n: server.process_request("GET", f"/{n}"), range(8))
        assert [answer["data"] for answer in answers] == list(range(8))
        url = server.start()
        assert [answer[1] for answer in threads.map(lambda n: fetch(f"{url}/{n}"), range(8))] == list(range(8))
    assert server.get_server_stats()["total_requests"] == 16


def test_a_request_under_way_is_answered_before_stop_returns(server):
    arrived, go = threading.Event(), threading.Event()

    def slow(_info):
        arrived.set()
        assert go.wait(BOUND_S)
        return "done"

    server.get("/slow", slow)
    url = server.start()
    with ThreadPoolExecutor(2) as threads:
        asked = threads.submit(fetch, f"{url}/slow")
        assert arrived.wait(BOUND_S)
        stopping = threads.submit(server.stop)
        go.set()
        assert asked.result(BOUND_S)[1] == "done"
        stopping.result(BOUND_S)


def test_a_client_that_goes_away_is_counted_and_leaves_the_server_well(server):
    arrived, go = threading.Event(), threading.Event()

    def slow(_info):
        arrived.set()
        assert go.wait(BOUND_S)
        return "nobody reads this"

    server.get("/slow", slow)
    server.get("/", lambda _: "well")
    host, _, port = server.start().removeprefix("http://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=BOUND_S) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(BOUND_S)
    go.set()
    assert fetch(server.url)[1] == "well"
    server.stop()
    assert server.get_server_stats()["total_requests"] == 2


# What is refused.


@pytest.mark.parametrize("path", ["posts", "/posts/{id", "/posts/{id}x"])
def test_a_path_that_could_never_match_is_refused(server, path):
    with pytest.raises(ConfigurationError, match=r"path|parameter"):
        server.get(path, lambda _: 1)


async def _asynchronous(_info):
    return 1


@pytest.mark.parametrize("function", [None, "handler", _asynchronous])
def test_what_is_no_plain_function_is_refused_when_it_is_registered(server, function):
    for register in (
        lambda: server.get("/", function),
        lambda: server.add_middleware(function, "x"),
        lambda: server.register_error_handler(ValueError, function),
        lambda: server.set_token_verifier(function),
    ):
        with pytest.raises(ConfigurationError, match=r"must be a function|async def"):
            register()


@pytest.mark.parametrize("kind", ["ValidationError", ValueError("x"), int])
def test_an_error_handler_is_for_a_class_of_errors(server, kind):
    with pytest.raises(ConfigurationError, match="a class of errors"):
        server.register_error_handler(kind, lambda _error, _info: {})


async def test_inside_a_running_loop_it_says_what_to_do():
    server = APIServer("localhost", 0, "in a loop")
    for call in (server.start, server.get_server_stats, lambda: server.process_request("GET", "/")):
        with pytest.raises(ConfigurationError, match="inside a running event loop"):
            call()
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.stop)


def test_a_blocked_or_refused_request_is_no_alarm(server, caplog):
    caplog.set_level(logging.WARNING)
    server.process_request("GET", "/nowhere")
    assert not caplog.records
