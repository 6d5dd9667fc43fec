from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ConfigurationError
from consona.rest.client.url import Base, collapse, encode_params, with_params


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://api.example.com/v1", "/users/me", "https://api.example.com/v1/users/me"),
        ("https://api.example.com/v1/", "users/me", "https://api.example.com/v1/users/me"),
        ("https://api.example.com", "/", "https://api.example.com/"),
        ("https://api.example.com/v1", "", "https://api.example.com/v1"),
        ("https://API.example.com:443", "/a", "https://api.example.com/a"),
        ("http://localhost:8080", "/a", "http://localhost:8080/a"),
        ("http://[::1]:8080", "/a", "http://[::1]:8080/a"),
        ("https://bücher.example", "/a", "https://xn--bcher-kva.example/a"),
        ("https://a.example/v1", "/a b/ü?q=ä b", "https://a.example/v1/a%20b/%C3%BC?q=%C3%A4%20b"),
        ("https://a.example/v1", "/a%2Fb/100%", "https://a.example/v1/a%2Fb/100%25"),
        ("https://a.example/v1", "/a#part", "https://a.example/v1/a"),
        ("https://a.example/v1", "//evil.example/x", "https://a.example/v1//evil.example/x"),
        ("https://a.example/v1", "/a\r\nX: y", "https://a.example/v1/a%0D%0AX:%20y"),
        ("https://a.example/v1", "\\\\evil.example", "https://a.example/v1/%5C%5Cevil.example"),
        ("https://a.example/v1", "/a:8080/@b", "https://a.example/v1/a:8080/@b"),
    ],
)
def test_a_path_is_resolved_below_the_base(base, path, url):
    place = Base(base).place(path)
    assert (place.url, place.own) == (url, True)


@pytest.mark.parametrize(
    "path", ["/../admin", "/users/../admin", "/users/%2e%2E/x", "..", "/./x", "/a/..%2fadmin", "/%252e%252e/x"]
)
def test_a_path_that_climbs_is_refused(path):
    with pytest.raises(ConfigurationError, match="quote"):
        Base("https://a.example/v1").place(path)


def test_an_absolute_url_of_the_same_origin_is_our_own_and_another_is_not():
    base = Base("https://a.example/v1")
    assert base.place("HTTPS://A.example:443/other").own
    for other in (
        "http://a.example/v1",
        "https://a.example:444/v1",
        "https://b.example/",
        "https://a.example.evil.example/",
    ):
        assert not base.place(other).own


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "javascript://a", "https://u:secret@a.example/", "http://:80/", "http://a b/"]
)
def test_an_absolute_url_that_cannot_be_used_is_refused(url):
    with pytest.raises(ConfigurationError) as caught:
        Base("https://a.example").place(url)
    assert "secret" not in str(caught.value)


def test_a_servers_link_is_resolved_by_the_rules_of_urls():
    base = Base("https://a.example/v1")
    assert base.follow("https://a.example/v1/posts?page=1", "?page=2").url == "https://a.example/v1/posts?page=2"
    assert base.follow("https://a.example/v1/posts", "../v2/x").url == "https://a.example/v2/x"
    assert not base.follow("https://a.example/v1/posts", "//b.example/x").own


@given(st.text(max_size=40))
def test_whatever_the_path_is_the_request_stays_at_the_base(path):
    try:
        place = Base("https://a.example/v1").place("/" + path)
    except ConfigurationError:
        return
    assert place.url.startswith("https://a.example/v1/")
    assert place.url.isascii()
    assert place.url.isprintable()
    assert " " not in place.url


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/users/7", "/users/{id}"),
        ("/users/me/posts", "/users/me/posts"),
        ("/f/0b8e7a3e-7c7c-4d0e-9d39-3a6b0c1d2e3f", "/f/{id}"),
        ("/o/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/o/{id}"),
        ("/u/ada@example.org", "/u/{id}"),
        ("/v1/really-long-name-of-an-endpoint", "/v1/really-long-name-of-an-endpoint"),
    ],
)
def test_ids_are_collapsed_so_that_figures_stay_few(path, target):
    assert collapse(path) == target


def test_another_host_is_named_in_the_figures():
    assert Base("https://a.example").place("https://b.example/users/7").target == "b.example/users/{id}"


def test_parameters_are_joined_to_those_that_are_there():
    assert with_params("http://a/?x=1", {"y": 2}) == "http://a/?x=1&y=2"
    assert with_params("http://a/", [("y", "a&b"), ("y", None)]) == "http://a/?y=a%26b"
    assert with_params("http://a/", {"y": None}) == "http://a/"
    assert encode_params({"t": True, "n": [1, 2], "f": 1.5}) == "t=true&n=1&n=2&f=1.5"


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "2026-01-02T03%3A04%3A00%2B00%3A00"),
        (Colour.RED, "red"),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    ],
)
def test_values_are_written_as_servers_read_them(value, text):
    assert encode_params({"a": value}) == f"a={text}"


@pytest.mark.parametrize("value", [b"x", {"x": 1}, [[1]], object(), lambda: 1])
def test_what_has_no_form_in_a_query_is_refused_and_not_shown_as_python_would(value):
    with pytest.raises(ConfigurationError, match="parameter 'a' is a"):
        encode_params({"a": value})


def test_the_memory_for_paths_is_bounded():
    base = Base("https://a.example")
    for number in range(3000):
        base.place(f"/users/{number}")
    assert len(base._places) <= 1000
