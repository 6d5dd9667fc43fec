"""What the tests of the dashboard share: made-up reports, and a caller of an ASGI application."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from urllib.parse import unquote

from consona.ops.figures import Figures
from consona.ops.records import Batch, EntryRecord, PartRecord, Point, ProcessRecord, SeriesRecord, SpanRecord
from consona.ops.store import OpsStore
from consona.telemetry.histogram import bucket_of

NOW = 1_700_000_000.0


def process(service="shop", *, id="p1", pid=41, started=NOW - 3600, seen=NOW, **more):
    return ProcessRecord(id, service, pid, "host-a", started, seen, **more)


def figures(*, ok=0, failed=0, cancelled=0, in_flight=0, seconds=0.01, errors=None):
    total = ok + failed + cancelled
    nanoseconds = int(seconds * 1e9)
    return Figures(
        total + in_flight,
        ok,
        failed,
        cancelled,
        errors if errors is not None else ({"connect": failed} if failed else {}),
        {bucket_of(nanoseconds): total} if total else {},
        total * nanoseconds,
    )


def part(name="api", kind="rest.server", *, process="p1", shows=None, **more):
    return PartRecord(process, name, kind, NOW, shows or figures(ok=10), **more)


def point(ago, shows, name="api", kind="rest.server", *, process="p1"):
    return Point(int((NOW - ago) // 5 * 5), process, name, kind, shows)


def series(operation, target, shows, name="api", kind="rest.server", *, process="p1"):
    return SeriesRecord(process, name, kind, operation, target, shows)


def entry(operation="GET", target="/posts", *, at=NOW, outcome="ok", name="api", kind="rest.server", **more):
    known = {"service": "shop", "process": "p1", "duration": 0.01, "error": "", "attributes": "{}", "trace_id": ""}
    return EntryRecord(
        at=at, part=name, kind=kind, operation=operation, target=target, outcome=outcome, **{**known, **more}
    )


def span(span_id, parent_id="", *, trace_id="a" * 32, name="GET /posts", start=0.0, seconds=0.01, **more):
    known = {"process": "p1", "service": "shop", "part": "api", "kind": "rest.server", "outcome": "ok", "error": ""}
    return SpanRecord(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        start_ns=int((NOW + start) * 1e9),
        duration_ns=int(seconds * 1e9),
        **{"attributes": "{}", **known, **more},
    )


def batch(of=None, **lists):
    return Batch(of or process(), **lists)


@asynccontextmanager
async def opened(url, **options):
    store = await OpsStore.open(url, clock=lambda: NOW, **options)
    try:
        yield store
    finally:
        await store.close()


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.body = body
        self.text = body.decode()

    @property
    def words(self):
        """What a reader sees: the text without tags, white space folded."""
        main = self.text.partition("<main")[2] or self.text
        text = re.sub(r"<[^>]+>", " ", main)
        for code, sign in (("&#39;", "'"), ("&#34;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            text = text.replace(code, sign)
        return re.sub(r"\s+", " ", text)


async def ask(
    app, target="/ops", *, method="GET", host="localhost:8090", client=("127.0.0.1", 5000), root="", headers=()
):
    """Send one request to an ASGI application, and wait for its whole answer."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": root,
        "headers": [*([(b"host", host.encode())] if host else []), *headers],
        "client": client,
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], sent[0]["headers"], body)
