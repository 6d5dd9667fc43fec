"""CloudEvents 1.0 in all their forms, read and written beside the SDK of those who wrote the specification."""

from datetime import UTC, datetime

import msgspec
import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent as ForeignEvent
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ValidationError
from consona.events.cloudevents import BATCH, STRUCTURED, CloudEvent, batch, binary, received, structured

AT = datetime(2026, 11, 24, 12, 30, 5, 123000, tzinfo=UTC)
EVENTS = {
    "json": CloudEvent(type="order.placed", source="/shop", id="1", time=AT, data=b'{"id":7}'),
    "everything": CloudEvent(
        type="com.example.ä", source="urn:x%20y", id='a "quoted" %20 id', time=AT, subject="orders/€ 7", data=b"[1]",
        datacontenttype="application/vnd.x+json", dataschema="https://example.org/s", extensions={"colour": "grün"},
    ),
    "text": CloudEvent(type="t", source="/x", id="1", time=AT, data="Grüße".encode(), datacontenttype="text/plain"),
    "bytes": CloudEvent(type="t", source="/x", id="1", time=AT, data=b"\xff\x00", datacontenttype="image/png"),
    "nothing": CloudEvent(type="t", source="/x", id="1", time=None, datacontenttype=None),
}  # fmt: skip


@pytest.fixture(params=EVENTS)
def event(request):
    return EVENTS[request.param]


def test_each_form_comes_back_as_it_was(event):
    assert received(*binary(event)) == [event]
    assert received({"Content-Type": f"{STRUCTURED}; charset=utf-8"}, structured(event)) == [event]
    assert received({"content-type": BATCH}, batch([event, event])) == [event, event]


@pytest.mark.parametrize("form", ["binary", "structured"])
def test_the_sdk_of_the_specification_reads_what_we_write(event, form):
    if form == "binary":
        headers, body = binary(event)
    else:
        headers, body = {"content-type": STRUCTURED}, structured(event)
    read = http.from_http_event(http.HTTPMessage(headers=headers, body=body))
    assert (read.get_type(), read.get_source(), read.get_id()) == (event.type, event.source, event.id)
    assert (read.get_subject(), read.get_dataschema()) == (event.subject, event.dataschema)
    assert event.time in {None, read.get_time()}, "it gives a time to those that have none"
    assert read.get_datacontenttype() == event.datacontenttype
    assert {name: read.get_extension(name) for name in event.extensions} == event.extensions
    data = read.get_data()
    expected = event.json() if event.is_json and event.data else event.data
    if isinstance(data, str) and isinstance(expected, bytes):
        data = data.encode()
    assert (data or None) == expected


@pytest.mark.parametrize("form", ["binary", "structured"])
def test_we_read_what_the_sdk_of_the_specification_writes(form):
    attributes = {
        "type": "order.placed", "source": "/shop ä", "id": "%1", "specversion": "1.0", "time": AT,
        "subject": "orders/7", "datacontenttype": "application/json", "colour": "red",
    }  # fmt: skip
    foreign = ForeignEvent(attributes=attributes, data={"id": 7})
    message = http.to_binary_event(foreign) if form == "binary" else http.to_structured_event(foreign)
    [event] = received(message.headers, message.body)
    assert (event.type, event.source, event.id, event.time) == ("order.placed", "/shop ä", "%1", AT)
    assert (event.subject, event.extensions) == ("orders/7", {"colour": "red"})
    assert event.json() == {"id": 7}


def test_numbers_and_truth_of_extensions_stay_what_they_are_in_json():
    event = CloudEvent(type="t", source="/x", data=b"1", extensions={"n": 7, "yes": True})
    assert received({"content-type": STRUCTURED}, structured(event))[0].extensions == {"n": 7, "yes": True}
    assert received(*binary(event))[0].extensions == {"n": "7", "yes": "true"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": ""}, "type"), ({"source": ""}, "source"), ({"id": ""}, "id"), ({"type": None}, "type"),
        ({"subject": ""}, "subject"), ({"type": "a\nb"}, "type"), ({"id": "\ud800"}, "id"), ({"type": 7}, "type"),
        ({"time": datetime(2026, 1, 1)}, "time"), ({"extensions": {"Colour": "x"}}, "Colour"),  # noqa: DTZ001
        ({"extensions": {"data": "x"}}, "data"), ({"extensions": {"n": 2**31}}, "n"),
        ({"extensions": {"a_b": "x"}}, "a_b"), ({"extensions": {"a": None}}, "a"), ({"extensions": {"a": "\0"}}, "a"),
    ],
)  # fmt: skip
def test_an_attribute_that_is_not_allowed_is_named(change, field):
    with pytest.raises(ValidationError) as refused:
        CloudEvent(**{"type": "t", "source": "/x"} | change)
    assert [problem.path for problem in refused.value.fields] == [field]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"{}"),
        ({"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/x"}, b""),
        ({"ce-specversion": "0.3", "ce-type": "t", "ce-source": "/x", "ce-id": "1"}, b""),
        ({"ce-specversion": "1.0", "ce-type": "%ff", "ce-source": "/x", "ce-id": "1"}, b""),
        ({"content-type": STRUCTURED}, b"{"),
        ({"content-type": STRUCTURED}, b"[]"),
        ({"content-type": STRUCTURED}, b"\xff"),
        ({"content-type": STRUCTURED}, b"[" * 100_000),
        ({"content-type": STRUCTURED}, b'{"specversion":"1.0","id":"1","source":"/x","type":7}'),
        ({"content-type": STRUCTURED}, b'{"specversion":"1.0","id":"1","source":"/x","type":"t","time":"now"}'),
        ({"content-type": STRUCTURED}, b'{"specversion":"1.0","id":"1","source":"/x","type":"t","data_base64":"?"}'),
        (
            {"content-type": STRUCTURED},
            b'{"specversion":"1.0","id":"1","source":"/x","type":"t","data":1,"data_base64":"AA=="}',
        ),
        ({"content-type": STRUCTURED}, b'{"specversion":"1.0","id":"1","source":"/x","type":"t","o":{"a":1}}'),
        ({"content-type": BATCH}, b"{}"),
        ({"content-type": BATCH}, b"[1]"),
    ],
)
def test_what_is_no_cloud_event_is_refused_in_words(headers, body):
    with pytest.raises(ValidationError) as refused:
        received(headers, body)
    assert refused.value.fields


def test_data_that_is_not_the_json_it_says_to_be_is_not_written():
    with pytest.raises(ValidationError):
        structured(CloudEvent(type="t", source="/x", data=b"{"))


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)


@given(st.builds(
    CloudEvent, type=TEXT, source=TEXT, id=TEXT, subject=st.none() | TEXT, data=st.binary(min_size=1, max_size=50),
    datacontenttype=st.sampled_from(["application/octet-stream", "text/plain"]),
    extensions=st.dictionaries(st.from_regex(r"x[a-z0-9]{1,10}", fullmatch=True), TEXT, max_size=3),
))  # fmt: skip
def test_whatever_the_texts_are_they_come_back(event):
    assert received(*binary(event)) == [event]
    assert received({"content-type": STRUCTURED}, structured(event)) == [event]
    headers, _ = binary(event)
    assert all(value.isascii() and value.isprintable() for value in headers.values())


def test_an_unknown_body_is_any_json():
    event = CloudEvent(type="t", source="/x", data=msgspec.json.encode({"a": [1, None]}))
    assert event.json() == {"a": [1, None]}
