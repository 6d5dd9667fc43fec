"""Whatever a part notes, secrets and foreign objects do not reach the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.ops.records import MAX_JSON, MAX_TEXT, entry_record, json_of, span_record
from consona.telemetry.observer import Observer
from consona.telemetry.trace import Sampler, Tracer
from ops_tools import process

SECRET = "kOhlrabi-7"


@pytest.mark.parametrize(
    "attributes",
    [
        {"authorization": SECRET},
        {"header": f"Bearer {SECRET}"},
        {"headers": {"Set-Cookie": f"sid={SECRET}"}},
        {"url": f"https://ada:{SECRET}@example.org/"},
        {"url": f"https://example.org/?page=2&api_key={SECRET}"},
        {"target": f"/callback?access_token={SECRET}"},
        {"list": [{"password": SECRET}]},
    ],
)
def test_a_secret_among_the_attributes_is_masked(attributes):
    assert SECRET not in json_of(attributes)


def test_what_is_no_secret_stays():
    assert json.loads(json_of({"status": 200, "share": 0.5, "cached": True, "table": None, "route": "/posts"})) == {
        "status": 200,
        "share": 0.5,
        "cached": True,
        "table": None,
        "route": "/posts",
    }


@dataclass
class Customer:
    name: str = SECRET


@pytest.mark.parametrize("value", [Customer(), Decimal("9.90"), b"\x00" + SECRET.encode(), {SECRET}, object()])
def test_of_a_foreign_object_only_the_kind_or_size_is_shown(value):
    shown = json.loads(json_of({"value": value}))["value"]
    assert shown in {"(Customer)", "(Decimal)", "(11 bytes)", "(set)", "(object)"}


def test_the_longest_text_is_shortened_and_says_so():
    shown = json.loads(json_of({"text": "x" * 9000}))["text"]
    assert len(shown) < MAX_TEXT + 40
    assert "9000 characters" in shown


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=2000), max_size=60))
def test_all_attributes_together_stay_within_their_bound(attributes):
    text = json_of(attributes)
    json.loads(text)
    assert len(text.encode("utf-16-le")) // 2 <= MAX_JSON + 100


def test_an_entry_and_a_span_are_masked_the_same_way():
    tracer = Tracer(Sampler(per_second=1))
    tracer.collect(on=True)
    observer = Observer("api", "rest.server", tracer=tracer)
    with observer.operation(f"Bearer {SECRET}", f"/login?token={SECRET}") as op:
        op.set(cookie=SECRET, status=200)
    of = process()
    entry = entry_record(observer.history[0], of, "api", "rest.server")
    [span] = tracer.drain()
    record = span_record(span, of)
    assert SECRET not in f"{entry}{record}"
    assert entry.attributes == record.attributes == '{"cookie":"***","status":200}'
    assert entry.trace_id == record.trace_id
    assert record.parent_id == ""


def test_the_question_mark_of_a_statement_is_no_query_of_a_url():
    plan = "SEARCH orders USING INDEX i (customer=? AND total>?)"
    shown = json_of({"plan": plan, "list": "(a=?,b=?)", "url": "https://a.example/x?token=kohlrabi&page=2"})
    assert plan in shown
    assert "(a=?,b=?)" in shown
    assert "kohlrabi" not in shown
    assert "page=2" in shown
