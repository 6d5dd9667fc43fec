"""`consona events`: lists events and consumers, moves consumers, and takes care of dead letters."""

import asyncio
import json

import msgspec
import pytest

from consona import EventBus, Retry, event
from consona.cli import main


@event("order.placed")
class OrderPlaced(msgspec.Struct):
    id: int


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/bus.db"


@pytest.fixture
def events(capsys, url):
    """Runs the command: the exit code, and what was written to standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["events", *arguments, "--bus", url])
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def three(url):
    """Three events on the bus; the consumer `billing` could handle the second only."""

    async def make():
        bus = EventBus(url)

        @bus.on(OrderPlaced, durable="billing", retry=Retry(attempts=1))
        async def bill(order: OrderPlaced):
            if order.id != 2:
                raise LookupError("no such customer")

        async with bus:
            await bus.publish_many([OrderPlaced(1), OrderPlaced(2), OrderPlaced(3)], subject="orders")
            await bus.work(until_empty=True)
            return [each.position async for each in bus.events()]

    return asyncio.run(make())


def test_events_are_listed_without_what_they_carry(events, three):
    code, said, _ = events("list")
    assert code == 0
    assert [line.partition(":")[0] for line in said.splitlines()] == [str(position) for position in three]
    assert "order.placed orders from /events" in said
    assert '"id"' not in said
    assert '{"id":3}' in events("list", "order.*", "--after", str(three[1]), "--bodies")[1]
    shown = json.loads(events("list", "--limit", "1", "--json", "--bodies")[1])
    assert [(each["type"], each["data"]) for each in shown] == [("order.placed", '{"id":1}')]
    assert "data" not in json.loads(events("list", "--limit", "1", "--json")[1])[0]
    assert events("list", "order.paid")[1] == "There are no such events.\n"
    assert events("list", "--since", "2020-01-01T00:00Z")[1] == said


def test_consumers_are_listed_and_moved(events, three):
    assert events("consumers")[1] == f"billing: at {three[2]}, 0 behind\n"
    assert events("seek", "billing", "beginning")[1] == "billing goes on behind position 0.\n"
    assert json.loads(events("consumers", "--json")[1]) == [{"name": "billing", "position": 0, "behind": three[2]}]
    assert json.loads(events("seek", "billing", str(three[0]), "--json")[1]) == {
        "name": "billing",
        "position": three[0],
    }
    code, _, said = events("seek", "bills", "new")
    assert code == 2
    assert "It has: billing." in said
    code, _, said = events("seek", "billing", "yesterday")
    assert code == 2
    assert "'yesterday' is no place" in said


def test_dead_letters_are_shown_tried_again_and_removed(events, three):
    said = events("peek", "billing")[1]
    assert [line.partition(":")[0] for line in said.splitlines()] == [str(three[0]), str(three[2])]
    assert "after 1 attempts: LookupError: no such customer" in said
    assert '"id"' not in said
    assert json.loads(events("peek", "billing", "--json", "--bodies", "--limit", "1")[1])[0]["body"] == '{"id":1}'
    assert events("redrive", "billing", str(three[0]))[1] == "To be tried again: 1 event.\n"
    assert json.loads(events("purge", "billing", "--all", "--json")[1]) == {"events": 1}
    assert events("peek", "billing")[1] == "The consumer billing has no dead letters.\n"
    assert events("purge", "billing")[0] == 2


def test_where_there_is_nothing_that_is_said(events):
    assert events("list")[1] == "There are no such events.\n"
    assert events("consumers")[1] == "There is no durable consumer yet.\n"


def test_without_an_address_it_says_what_to_do(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["events", "list"])
    assert caught.value.code == 2
    assert "CONSONA_EVENTS" in capsys.readouterr().err
