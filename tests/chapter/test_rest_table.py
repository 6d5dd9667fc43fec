"""The table of the docs is held against the code: every method, its arguments, what it gives, and each of its errors."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path

import pytest

from consona import chapter, errors
from consona.chapter import APIClient, APIServer
from consona.rest.client import errors as client_errors
from consona.rest.server import listen
from wire import answer, hang_up, silence
from wired import Wired

PAGE = Path(__file__).parents[2] / "docs" / "chapter" / "rest.md"
CLASSES = {"APIClient": APIClient, "APIServer": APIServer}
VERBS = ("APIClient.get", "APIClient.post", "APIClient.put", "APIClient.delete")


def table() -> dict[str, list[str]]:
    """The rows: method -> [arguments, gives, errors, what changed]."""
    rows: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `API"):
            name, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            assert name.strip("`") not in rows, f"{name} stands twice"
            rows[name.strip("`")] = cells
    return rows


ROWS = table()


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# Methods and arguments.


def methods() -> dict[str, object]:
    found: dict[str, object] = dict(CLASSES)
    for class_name, kind in CLASSES.items():
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                found[f"{class_name}.{name}"] = function
    return found


METHODS = methods()


def test_the_table_has_every_method_and_no_other():
    assert sorted(ROWS) == sorted(METHODS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_arguments_are_those_of_the_code(name):
    parameters = [each for each in inspect.signature(METHODS[name]).parameters.values() if each.name != "self"]
    shown = [
        each.name if each.default is inspect.Parameter.empty else f"{each.name}={each.default!r}" for each in parameters
    ]
    assert ROWS[name][0].strip("`") == ", ".join(shown)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_row_says_what_changed(name):
    assert len(ROWS[name]) == 4
    assert ROWS[name][3].endswith(".")


# What is given.


def keys_of(value: object, *, inside: tuple[str, ...]) -> set[str]:
    """The keys of a dict (of each in a list), and of what stands in it under one of the names `inside`."""
    if isinstance(value, list):
        assert value
        return set().union(*(keys_of(each, inside=inside) for each in value))
    assert isinstance(value, dict)
    nested = [keys_of(value[name], inside=()) for name in inside if isinstance(value.get(name), dict)]
    return set(value).union(*nested)


@pytest.fixture
def used(server, make_client):
    """A server and a client that did something."""
    for verb in (server.get, server.post, server.put, server.delete):
        verb("/", lambda _: 1)
    api = make_client(server.start())
    api.post("/", {"a": 1})
    return {"APIClient": api, "APIServer": server}


GIVES = {
    "APIClient.make_request": lambda api: api.make_request("GET", "/"),
    "APIClient.get": lambda api: api.get("/"),
    "APIClient.post": lambda api: api.post("/"),
    "APIClient.put": lambda api: api.put("/"),
    "APIClient.delete": lambda api: api.delete("/"),
    "APIClient.get_request_history": lambda api: api.get_request_history(),
    "APIServer.process_request": lambda server: server.process_request("GET", "/"),
    "APIServer.get_server_stats": lambda server: server.get_server_stats(),
    "APIServer.get_request_log": lambda server: server.get_request_log(),
}


def test_every_row_that_names_keys_is_compared():
    assert {name for name, cells in ROWS.items() if named(cells[1])} == set(GIVES)


@pytest.mark.parametrize("name", sorted(GIVES))
def test_the_keys_are_those_that_really_come(name, used):
    given = GIVES[name](used[name.partition(".")[0]])
    assert keys_of(given, inside=("request", "response")) == set(named(ROWS[name][1]))


def test_what_is_no_dict_is_what_the_table_says(used):
    assert isinstance(used["APIClient"].get_success_rate(), float)
    assert used["APIServer"].start().startswith("http://")
    for name in ("APIClient.add_auth_header", "APIClient.close", "APIServer.stop", "APIServer.route"):
        assert ROWS[name][1] == "nothing"
    assert used["APIClient"].add_auth_header("bearer", "t-1") is None
    assert used["APIServer"].stop() is None


def test_request_info_has_the_keys_that_the_page_names(server):
    seen: list[dict] = []
    server.get("/", lambda info: seen.append(dict(info)), True)
    server.set_token_verifier(lambda _: {"valid": True, "user": {"id": 1}})
    server.process_request("GET", "/", {"Authorization": "Bearer t-1"})
    [line] = [each for each in PAGE.read_text("utf-8").splitlines() if each.startswith("`request_info`, which")]
    assert set(seen[0]) == set(named(line)) - {"request_info"}


# Errors: each that the table names is caused here.


def in_a_running_loop(call):
    async def body():
        return call()

    return asyncio.run(body())


def against(*deeds):
    """A GET against a raw server that does these things."""

    def cause():
        with Wired(*deeds) as wire, APIClient(wire.url, timeout=0.3, retry_config={"max_retries": 0}) as api:
            api.get("/")

    return cause


def refused():
    server = APIServer("localhost", 0)
    url = server.start()
    server.stop()
    APIClient(url, retry_config={"max_retries": 0}).get("/")


def port_in_use():
    first = APIServer("127.0.0.1", 0)
    try:
        APIServer("127.0.0.1", int(first.start().rpartition(":")[2])).start()
    finally:
        first.stop()


def client():
    return APIClient("http://localhost:9")


def server_():
    return APIServer("localhost", 0)


CAUSES = {
    ("APIClient", "ConfigurationError"): lambda: APIClient("nowhere"),
    ("APIClient.add_auth_header", "ConfigurationError"): lambda: client().add_auth_header("digest", "x"),
    ("APIClient.register_error_handler", "ConfigurationError"): lambda: client().register_error_handler(404, None),
    ("APIClient.make_request", "APIError"): against(answer(404)),
    ("APIClient.make_request", "BadAnswer"): against(answer(200, b"<html>")),
    ("APIClient.make_request", "ConfigurationError"): lambda: in_a_running_loop(lambda: client().get("/")),
    ("APIClient.make_request", "ConnectError"): refused,
    ("APIClient.make_request", "ConnectionLost"): against(hang_up),
    ("APIClient.make_request", "DeadlineExceeded"): against(silence),
    ("APIClient.get_request_history", "ConfigurationError"): lambda: in_a_running_loop(client().get_request_history),
    ("APIClient.get_success_rate", "ConfigurationError"): lambda: in_a_running_loop(client().get_success_rate),
    ("APIClient.close", "ConfigurationError"): lambda: in_a_running_loop(client().close),
    ("APIServer.add_middleware", "ConfigurationError"): lambda: server_().add_middleware(None),
    ("APIServer.register_error_handler", "ConfigurationError"): lambda: server_().register_error_handler("x", print),
    ("APIServer.set_token_verifier", "ConfigurationError"): lambda: server_().set_token_verifier("t-1"),
    ("APIServer.route", "ConfigurationError"): lambda: server_().route("GET", "posts", print),
    ("APIServer.get", "ConfigurationError"): lambda: server_().get("posts", print),
    ("APIServer.post", "ConfigurationError"): lambda: server_().post("posts", print),
    ("APIServer.put", "ConfigurationError"): lambda: server_().put("posts", print),
    ("APIServer.delete", "ConfigurationError"): lambda: server_().delete("posts", print),
    ("APIServer.process_request", "ConfigurationError"): lambda: server_().process_request("GET", "/../x"),
    ("APIServer.start", "ConfigurationError"): lambda: APIServer("no.such.host.invalid", 0).start(),
    ("APIServer.start", "PortInUseError"): port_in_use,
    ("APIServer.stop", "ConfigurationError"): lambda: in_a_running_loop(server_().stop),
    ("APIServer.get_server_stats", "ConfigurationError"): lambda: in_a_running_loop(server_().get_server_stats),
    ("APIServer.get_request_log", "ConfigurationError"): lambda: in_a_running_loop(server_().get_request_log),
}


def error_class(name: str) -> type[Exception]:
    for home in (chapter, client_errors, errors, listen):
        if hasattr(home, name):
            return getattr(home, name)
    raise AssertionError(f"The table names {name}, which nothing raises.")


def test_every_error_of_the_table_is_caused_and_no_other():
    told = {(name, error) for name, cells in ROWS.items() if name not in VERBS for error in named(cells[2])}
    assert told == set(CAUSES)
    assert {ROWS[verb][2] for verb in VERBS} == {"those of `make_request`"}


@pytest.mark.parametrize(("name", "error"), sorted(CAUSES))
def test_each_error_of_the_table_is_really_raised(name, error):
    with pytest.raises(error_class(error)) as caught:
        CAUSES[name, error]()
    assert type(caught.value) is error_class(error)
