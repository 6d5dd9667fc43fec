"""The names of types, and the patterns that match them."""

from dataclasses import dataclass

import msgspec
import pytest

from consona.errors import ConfigurationError
from consona.events.event import EventType, Upcasters, event, event_type, matcher


@event("order.placed", version=2)
class OrderPlaced(msgspec.Struct):
    id: int


class Special(OrderPlaced):
    colour: str = ""


@dataclass
class Plain:
    id: int


def test_a_class_has_the_name_that_it_was_given_or_its_own():
    assert event_type(OrderPlaced) == EventType("order.placed", 2)
    assert event_type(Plain) == EventType("Plain", 1)
    assert event_type(Special) == EventType("Special", 1), "a subclass is another type"


@pytest.mark.parametrize("wrong", [dict, int, "order", None, 7, list[int]])
def test_what_is_no_class_of_events_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="no type of events"):
        event_type(wrong)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "a\n", "x" * 201])
def test_a_name_with_empty_words_spaces_or_wildcards_is_refused(name):
    with pytest.raises(ConfigurationError):
        event(name)


def test_versions_begin_with_one():
    with pytest.raises(ConfigurationError):
        event("order", version=0)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("order.placed", ["order.placed"], ["order", "order.placed.x", "orderxplaced"]),
        ("order.*", ["order.placed"], ["order", "order.", "order.item.added"]),
        ("*.placed", ["order.placed"], ["placed", "a.order.placed"]),
        ("order.>", ["order.placed", "order.item.added"], ["order", "orders.placed"]),
        (">", ["order", "order.placed"], [""]),
        ("a+b.*", ["a+b.c"], ["aab.c"]),
    ],
)
def test_patterns(pattern, matches, others):
    match = matcher([pattern])
    assert all(match(name) for name in matches)
    assert not any(match(name) for name in others)


@pytest.mark.parametrize("pattern", ["", "a.", "a..b", "a.>.b", "a*", "a >", ">.a"])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ConfigurationError, match="pattern"):
        matcher([pattern])


def test_an_upcaster_leads_from_an_older_version_and_is_there_once():
    upcasters = Upcasters()
    upcasters.add(OrderPlaced, 1, lambda old: {"id": old["number"]})
    assert upcasters.decode(OrderPlaced, "order.placed", 1, b'{"number": 7}') == OrderPlaced(7)
    with pytest.raises(ConfigurationError, match="already"):
        upcasters.add(OrderPlaced, 1, lambda old: old)
    for version in (0, 2, 3):
        with pytest.raises(ConfigurationError, match="between"):
            upcasters.add(OrderPlaced, version, lambda old: old)
