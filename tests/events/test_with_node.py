"""CloudEvents and AsyncAPI documents beside the packages of npm by those who wrote the specifications."""

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

import servers
from consona import CloudEvent, EventBus, event
from consona.events.aggregates import count
from consona.events.cloudevents import STRUCTURED, binary, received, structured

SCRIPT = Path(__file__).parent.parent / "node_events.mjs"
AT = datetime(2026, 11, 24, 12, 30, 5, 123000, tzinfo=UTC)
pytestmark = pytest.mark.servers


def node(package, **asked):
    done = subprocess.run(
        [servers.need(package), SCRIPT], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("form", ["binary", "structured"])
def test_the_sdk_for_node_reads_what_we_write(form):
    event = CloudEvent(
        type="order.placed", source="/shop", id="1", time=AT, subject="orders/7", data=b'{"id":7}',
        extensions={"colour": "red"},
    )  # fmt: skip
    headers, body = binary(event) if form == "binary" else ({"content-type": STRUCTURED}, structured(event))
    read = node("CloudEvents SDK", read={"headers": headers, "body": body.decode()})
    assert read.pop("valid")
    assert read.pop("time") == "2026-11-24T12:30:05.123Z"
    assert read == {
        "specversion": "1.0", "type": "order.placed", "source": "/shop", "id": "1", "subject": "orders/7",
        "datacontenttype": "application/json", "data": {"id": 7}, "colour": "red",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["binary", "structured"])
def test_we_read_what_the_sdk_for_node_writes(form):
    attributes = {
        "type": "order.placed", "source": "/shop", "id": "1", "time": "2026-11-24T12:30:05.123Z",
        "subject": "orders/7", "datacontenttype": "application/json", "data": {"id": 7}, "colour": "red",
    }  # fmt: skip
    written = node("CloudEvents SDK", write=attributes, form=form)
    body = written["body"] if isinstance(written["body"], str) else json.dumps(written["body"])
    [read] = received(written["headers"], body.encode())
    assert (read.type, read.source, read.id, read.time, read.subject) == ("order.placed", "/shop", "1", AT, "orders/7")
    assert (read.json(), read.extensions) == ({"id": 7}, {"colour": "red"})


class Line(msgspec.Struct):
    item: str
    price: Decimal


@event("order.placed", version=2)
class OrderPlaced(msgspec.Struct):
    """Somebody ordered something."""

    id: UUID
    at: datetime
    lines: list[Line]
    note: str | None = None


@event("order/paid \u20ac".replace(" ", "-"))
@dataclass
class Paid:
    id: UUID


def test_the_document_of_a_bus_passes_the_parser():
    bus = EventBus("memory://")

    @bus.on(OrderPlaced, Paid, durable="billing")
    async def bill(order): ...

    @bus.on("order.*", durable="pattern")
    async def any_order(order): ...

    bus.stream(OrderPlaced).window(minutes=5).aggregate("sales", n=count())
    bus.saga("fulfil", OrderPlaced)
    described = bus.asyncapi(title="Shop", version="1.2", publishes=[OrderPlaced, Paid])
    said = node("AsyncAPI parser", asyncapi=described)
    assert said["problems"] == []
    assert sorted(said["operations"]) == [
        "receive.billing.order.placed", "receive.billing.order_paid-_", "receive.saga.fulfil.order.placed",
        "receive.sales.order.placed", "send.order.placed", "send.order_paid-_",
    ]  # fmt: skip
    message = described["components"]["messages"]["order.placed"]
    assert message["summary"] == "Somebody ordered something."
    assert described["channels"]["order_paid-_"]["address"] == "order/paid-\u20ac"


def test_a_bus_without_events_has_a_document_too():
    said = node("AsyncAPI parser", asyncapi=EventBus("memory://").asyncapi())
    assert said["problems"] == []
