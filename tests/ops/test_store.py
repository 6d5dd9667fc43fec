"""What ops.db promises: it keeps what is reported, within its bounds, and tells releases apart."""

from __future__ import annotations

import asyncio

import apsw
import pytest

from consona.errors import ConfigurationError
from consona.ops import queries
from consona.ops.schema import VERSION
from consona.ops.store import Limits
from ops_tools import NOW, batch, entry, figures, opened, part, point, process, series, span


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'ops.db'}"


@pytest.fixture
async def store(url):
    async with opened(url, limits=Limits(spans=10, entries=3, age=600.0, points=300.0)) as store:
        yield store


async def test_what_is_saved_is_read_again(store):
    saved = batch(
        parts=[part(shows=figures(ok=3, failed=1), detail='{"open":2}', status="degraded", reason="slow")],
        series=[series("GET", "/posts", figures(ok=4))],
        points=[point(20, figures(ok=4))],
        entries=[entry(attributes='{"status":200}', trace_id="a" * 32)],
        spans=[span("1" * 16)],
    )
    await store.save(saved)
    assert await store.read(queries.processes) == [saved.process]
    assert await store.read(queries.parts) == saved.parts
    assert await store.read(lambda c: queries.series(c, part="api", kind="rest.server")) == saved.series
    assert await store.read(lambda c: queries.points(c, since=0)) == saved.points
    assert await store.read(lambda c: queries.trace(c, "a" * 32)) == saved.spans
    [read] = await store.read(queries.entries)
    saved.entries[0].id = read.id
    assert read == saved.entries[0]


async def test_a_later_report_replaces_figures_and_adds_operations(store):
    for ok in (1, 2):
        await store.save(
            batch(parts=[part(shows=figures(ok=ok))], points=[point(20, figures(ok=ok))], entries=[entry(at=NOW + ok)])
        )
    [read] = await store.read(queries.parts)
    [shown] = await store.read(lambda c: queries.points(c, since=0))
    assert (read.figures.total, shown.figures.total) == (2, 2)
    assert [e.at for e in await store.read(queries.entries)] == [NOW + 2, NOW + 1]


async def test_two_processes_of_a_system_write_side_by_side(store, url):
    async with opened(url) as other:
        await asyncio.gather(
            *(store.save(batch(process(id="p1"), entries=[entry(process="p1")])) for _ in range(20)),
            *(other.save(batch(process(id="p2"), entries=[entry(process="p2")])) for _ in range(20)),
        )
        found = await other.read(lambda c: queries.entries(c, limit=100))
    assert sorted(e.process for e in found) == ["p1"] * 20 + ["p2"] * 20


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"outcome": "failed"}, {"b", "c"}),
        ({"service": "shop", "part": "db"}, {"c"}),
        ({"service": "shop", "part": "api", "kind": "rest.server", "outcome": "failed"}, {"b"}),
        ({"part": "'; DROP TABLE ops_entries; --"}, set()),
        ({}, {"a", "b", "c"}),
    ],
)
async def test_the_last_operations_can_be_narrowed(store, wanted, expected):
    await store.save(
        batch(
            entries=[
                entry("a"),
                entry("b", outcome="failed"),
                entry("c", outcome="failed", name="db", kind="sql"),
            ]
        )
    )
    found = await store.read(lambda c: queries.entries(c, **wanted))
    assert {e.operation for e in found} == expected


class TestBounds:
    async def test_the_oldest_spans_go_when_there_are_too_many(self, store):
        await store.save(batch(spans=[span(f"{n:016x}", name=str(n)) for n in range(25)]))
        await store.prune()
        assert [s.name for s in await store.read(lambda c: queries.trace(c, "a" * 32))] == [
            str(n) for n in range(15, 25)
        ]

    async def test_operations_and_spans_go_when_they_are_too_old(self, store):
        await store.save(
            batch(
                entries=[entry("old", at=NOW - 601), entry("young", at=NOW - 599)],
                spans=[span("1" * 16, name="old", start=-601), span("2" * 16, name="young", start=-599)],
            )
        )
        await store.prune()
        assert [e.operation for e in await store.read(queries.entries)] == ["young"]
        assert [s.name for s in await store.read(lambda c: queries.trace(c, "a" * 32))] == ["young"]

    async def test_all_go_when_all_are_too_old(self, store):
        await store.save(batch(entries=[entry(at=NOW - 700)], spans=[span("1" * 16, start=-700)]))
        await store.prune()
        assert await store.read(queries.entries) == []
        assert await store.read(lambda c: queries.trace(c, "a" * 32)) == []

    async def test_a_busy_part_does_not_push_out_a_quiet_one_nor_success_a_failure(self, store):
        await store.save(
            batch(
                entries=[
                    entry("quiet", name="db", kind="sql"),
                    entry("failure", outcome="failed"),
                    *(entry(f"busy {n}") for n in range(50)),
                ]
            )
        )
        await store.prune()
        kept = [e.operation for e in await store.read(lambda c: queries.entries(c, limit=100))]
        assert sorted(kept) == ["busy 47", "busy 48", "busy 49", "failure", "quiet"]

    async def test_points_and_ended_processes_go_after_their_time(self, store):
        await store.save(batch(process(id="gone", seen=NOW - 301), parts=[part(process="gone")]))
        await store.save(
            batch(
                process(id="here"),
                parts=[part(process="here")],
                points=[point(310, figures(ok=1)), point(20, figures(ok=2))],
                series=[series("GET", "/", figures(ok=1), process="gone")],
            )
        )
        await store.prune()
        assert [p.id for p in await store.read(queries.processes)] == ["here"]
        assert [p.process for p in await store.read(queries.parts)] == ["here"]
        assert [p.figures.total for p in await store.read(lambda c: queries.points(c, since=0))] == [2]
        assert await store.read(lambda c: c.execute("SELECT count(*) FROM ops_series").get) == 0


class TestReleases:
    def change(self, url, statement, *values):
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        connection.execute(statement, values)
        connection.close()

    async def test_a_file_of_a_newer_release_is_refused_and_says_what_to_do(self, url):
        async with opened(url):
            pass
        self.change(url, "UPDATE ops_meta SET version = ?, oldest_reader = ?", VERSION + 7, VERSION + 1)
        with pytest.raises(ConfigurationError, match=f"version {VERSION + 7}.*understands {VERSION}") as caught:
            async with opened(url):
                pass
        assert "observations only" in caught.value.hint

    async def test_a_file_that_a_newer_release_only_added_to_is_shared_with_it(self, url):
        async with opened(url) as store:
            await store.save(batch(entries=[entry()]))
        self.change(url, "UPDATE ops_meta SET version = ?", VERSION + 1)
        self.change(url, "CREATE TABLE ops_later (x)")
        async with opened(url) as store:
            await store.save(batch(entries=[entry()]))
            assert len(await store.read(queries.entries)) == 2

    async def test_a_refused_file_can_be_opened_once_it_fits(self, url):
        async with opened(url):
            pass
        self.change(url, "UPDATE ops_meta SET oldest_reader = ?", VERSION + 1)
        with pytest.raises(ConfigurationError):
            async with opened(url):
                pass
        self.change(url, "UPDATE ops_meta SET oldest_reader = ?", VERSION)
        async with opened(url) as store:
            assert await store.read(queries.processes) == []


@pytest.mark.parametrize(
    ("question", "index"),
    [
        ("SELECT * FROM ops_spans WHERE trace_id = 'x' ORDER BY start_ns, id", "ops_spans_trace"),
        (
            "SELECT * FROM ops_entries WHERE service = 'a' AND part = 'b' ORDER BY id DESC LIMIT 50",
            "ops_entries_part",
        ),
        ("SELECT * FROM ops_entries WHERE outcome = 'failed' ORDER BY id DESC", "ops_entries_outcome"),
        ("SELECT * FROM ops_points WHERE slot >= 5", "PRIMARY KEY"),
    ],
)
async def test_each_question_of_a_page_is_answered_through_an_index(store, question, index):
    def plan(connection):
        return " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {question}"))

    assert index in await store.read(plan)


async def test_a_file_that_was_deleted_or_replaced_is_noticed(store, url, tmp_path):
    assert not store.is_lost()
    path = tmp_path / "ops.db"
    path.rename(tmp_path / "moved.db")
    assert store.is_lost()
    path.write_bytes(b"")
    assert store.is_lost()
