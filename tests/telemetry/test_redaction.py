"""No secret passes the one rule set."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.telemetry.redaction import MASK, SECRET_NAMES, Redaction

SECRET = "hunter2hunter2"
rules = Redaction()
styles = st.sampled_from(
    [str.lower, str.upper, str.title, lambda name: name.replace("key", "_key"), lambda name: f"X-{name}"]
)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "cookie",
        "Set-Cookie",
        "X-Api-Key",
        "api_key",
        "apiKey",
        "password",
        "client_secret",
        "refresh_token",
    ],
)
def test_the_named_secrets_are_secret_in_every_spelling(name):
    assert rules.is_secret(name)


@given(st.sampled_from(SECRET_NAMES), styles)
def test_a_secret_name_hides_its_value_in_headers_queries_and_bodies(name, style):
    name = style(name)
    assert SECRET not in str(rules.headers([(name, SECRET)]))
    assert SECRET not in rules.url(f"https://example.org/?{name}={SECRET}&page=1")
    assert SECRET not in json.dumps(rules.data({"a": [{"b": {name: {"deep": SECRET}}}]}))


def test_what_is_not_secret_stays_readable():
    assert rules.headers({"Accept": "text/html"}) == {"Accept": "text/html"}
    assert rules.url("https://example.org/a?page=2&q=tea") == "https://example.org/a?page=2&q=tea"
    assert rules.data({"name": "Ada", "ages": [1, 2.5, None, True]}) == {"name": "Ada", "ages": [1, 2.5, None, True]}


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {SECRET}",
        f"basic {SECRET}",
        f"could not reach postgresql://ada:{SECRET}@db/shop",
        f"redis://:{SECRET}@h",
    ],
)
def test_credentials_in_free_text_are_masked(text):
    assert SECRET not in rules.text(text)
    assert MASK in rules.text(text)


def test_user_names_in_urls_stay_and_passwords_go():
    assert rules.url(f"https://ada:{SECRET}@example.org/x") == "https://ada:***@example.org/x"


def test_names_can_be_added():
    own = Redaction()
    assert not own.is_secret("iban")
    own.add("IBAN")
    assert own.data({"iban": "DE02"}) == {"iban": MASK}


def test_what_cannot_be_read_is_masked_whole():
    assert rules.url("http://[broken") == MASK
    deep = value = {}
    for _ in range(200):
        value["x"] = value = {}
    assert MASK in json.dumps(rules.data(deep))


def test_the_memory_of_names_is_bounded():
    own = Redaction()
    for number in range(5000):
        own.is_secret(f"name{number}")
    assert len(own._known) <= 1000
