"""What the reporter promises: it says what happened, and harms nobody when it cannot."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
import textwrap
from typing import ClassVar

import apsw
import pytest

from consona.errors import AddressError, ConfigurationError, ConnectError
from consona.ops import queries
from consona.ops.reporter import Reporter
from consona.ops.schema import VERSION
from consona.part import Health, Part, Status
from consona.telemetry.observer import observers
from consona.telemetry.trace import Sampler, Tracer
from ops_tools import opened

BOUND_S = 10.0


class Shop(Part):
    """A real part, whose health and detail the test decides."""

    kind = "sql"
    health = Health(Status.UP)
    says: ClassVar = {}

    def __init__(self, name="shop.db", tracer=None):
        super().__init__(name)
        if tracer is not None:
            self.observer.tracer = tracer

    async def _open(self):
        pass

    async def _close(self):
        pass

    async def check(self):
        return self.health

    def detail(self):
        return self.says

    def work(self, operation="SELECT", target="orders", *, fails=False, **attributes):
        with self.observer.operation(operation, target) as op:
            op.set(**attributes)
            if fails:
                op.fail("connect")


@pytest.fixture(autouse=True)
def alone():
    before = dict(observers)
    observers.clear()
    yield
    observers.clear()
    observers.update(before)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "var"
    folder.mkdir()
    return folder


@pytest.fixture
def url(folder):
    return f"sqlite:///{folder / 'ops.db'}?busy=0.05"


@pytest.fixture
def tracer():
    return Tracer(Sampler(per_second=1000))


@pytest.fixture
async def shop(tracer):
    async with Shop(tracer=tracer) as shop:
        yield shop


@pytest.fixture
async def reporter(url, tracer):
    """It reports when the test asks for it, once the report of its start is out."""
    reporter = Reporter("storefront", url, interval=3600, check_interval=3600, tracer=tracer)
    await reporter.start()
    await until_kept(url)
    yield reporter
    await reporter.stop()


async def until_kept(url):
    async with asyncio.timeout(BOUND_S), opened(url) as store:
        while not await store.read(queries.processes):
            await asyncio.sleep(0)


async def read(url, query):
    async with opened(url) as store:
        return await store.read(query)


async def test_a_report_says_what_the_parts_did(shop, reporter, url):
    shop.work(rows=3)
    shop.work("INSERT", fails=True)
    assert await reporter.report()
    [process] = await read(url, queries.processes)
    assert (process.service, process.stopped) == ("storefront", None)
    [part] = await read(url, queries.parts)
    assert (part.part, part.kind, part.figures.succeeded, part.figures.failed) == ("shop.db", "sql", 1, 1)
    [point] = await read(url, lambda c: queries.points(c, since=0))
    assert point.figures.total == 2
    found = await read(url, lambda c: queries.series(c, part="shop.db", kind="sql"))
    assert {s.operation: s.figures.total for s in found} == {"SELECT": 1, "INSERT": 1}


async def test_each_operation_and_span_is_reported_once(shop, reporter, url):
    for number in range(3):
        shop.work(number=number)
        assert await reporter.report()
    entries = await read(url, queries.entries)
    assert [json.loads(e.attributes)["number"] for e in entries] == [2, 1, 0]
    for entry in entries:
        [span] = await read(url, lambda c, trace_id=entry.trace_id: queries.trace(c, trace_id))
        assert span.attributes == entry.attributes


async def test_secrets_do_not_reach_the_file(shop, reporter, folder):
    shop.says = {"dsn": "postgresql://ada:kohlrabi@db/shop", "api_key": "kohlrabi"}
    shop.work(password="kohlrabi", url="https://example.org/?token=kohlrabi")
    assert await reporter.report()
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"password" in written
    assert b"kohlrabi" not in written


async def test_a_failure_in_a_flood_is_among_the_reported(shop, reporter, url):
    shop.work("INSERT", fails=True)
    for _ in range(90):
        shop.work()
    assert await reporter.report()
    assert len(await read(url, lambda c: queries.entries(c, outcome="failed"))) == 1
    assert len(await read(url, lambda c: queries.entries(c, outcome="ok", limit=1000))) == 25


async def test_parts_that_share_a_name_are_one_and_what_they_did_stays(reporter, url, tracer):
    for _ in range(3):
        async with Shop(tracer=tracer) as client:
            client.work()
            assert await reporter.report()
    assert await reporter.report()
    [part] = await read(url, queries.parts)
    assert (part.figures.total, part.figures.in_flight, part.status) == (3, 0, "stopped")


async def test_what_was_cut_off_is_no_longer_in_flight(shop, reporter, url):
    with shop.observer.operation("SELECT", "orders"):
        assert await reporter.report()
        [part] = await read(url, queries.parts)
        assert part.figures.in_flight == 1
        await shop.stop()
        assert await reporter.report()
    [part] = await read(url, queries.parts)
    assert part.figures.in_flight == 0


async def test_health_and_detail_are_told_even_where_nothing_happens(shop, url, tracer):
    shop.health, shop.says = Health(Status.DEGRADED, "stale"), {"pool": {"free": 0}}
    reporter = Reporter("storefront", url, interval=0.01, check_interval=0.01, tracer=tracer)
    await reporter.start()
    async with asyncio.timeout(BOUND_S), opened(url) as store:
        while [p.status for p in await store.read(queries.parts)] != ["degraded"]:
            await asyncio.sleep(0.01)
        [part] = await store.read(queries.parts)
    await reporter.stop()
    assert (part.reason, part.detail) == ("stale", '{"pool":{"free":0}}')


async def test_a_part_whose_check_or_detail_fails_harms_nobody(shop, url, tracer):
    def broken():
        raise RuntimeError("kohlrabi")

    async def down():
        raise RuntimeError("kohlrabi")

    shop.observer.detail, shop.observer.check = broken, down
    reporter = Reporter("storefront", url, interval=0.01, check_interval=0.01, tracer=tracer)
    await reporter.start()
    async with asyncio.timeout(BOUND_S), opened(url) as store:
        while [p.status for p in await store.read(queries.parts)] != ["down"]:
            await asyncio.sleep(0.01)
        [part] = await store.read(queries.parts)
    await reporter.stop()
    assert part.reason == "its check failed: RuntimeError"
    assert part.detail == '{"detail":"could not be read: RuntimeError"}'


async def test_stopping_reports_the_rest_and_says_goodbye(shop, reporter, url, tracer):
    shop.work()
    await reporter.stop()
    [process] = await read(url, queries.processes)
    assert process.stopped is not None
    [part] = await read(url, queries.parts)
    assert (part.figures.total, part.status) == (1, "stopped")
    assert not tracer.collecting
    await reporter.stop()  # a second time does nothing


async def test_without_a_reporter_no_span_is_kept(shop, tracer):
    shop.work()
    assert tracer.drain() == []


@pytest.mark.parametrize("settings", [{"interval": 0}, {"check_interval": -1}])
def test_an_interval_must_be_above_zero(settings):
    with pytest.raises(ConfigurationError, match="above zero"):
        Reporter("storefront", "sqlite:///ops.db", **settings)


def test_an_address_that_cannot_be_read_is_refused_at_once():
    with pytest.raises(AddressError):
        Reporter("storefront", "ops.db")


class TestFaults:
    """Each is really caused. Operations go on, reports are dropped and counted, and come back by themselves."""

    async def test_a_folder_that_is_gone_and_comes_back(self, shop, reporter, url, folder, caplog):
        caplog.set_level(logging.INFO, "consona.ops")
        shutil.rmtree(folder)
        for _ in range(3):
            shop.work()
            assert not await reporter.report()
        assert reporter.dropped_reports == 3
        assert reporter.dropped_spans == 3
        assert shop.stats.succeeded == 3
        folder.mkdir()
        assert await reporter.report()
        [part] = await read(url, queries.parts)
        assert part.figures.total == 3  # the sums are right again, though the single operations are lost
        [process] = await read(url, queries.processes)
        assert (process.dropped_reports, process.dropped_spans) == (3, 3)
        assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]

    async def test_a_file_that_is_deleted_is_made_anew_with_all_of_it(self, shop, reporter, url, folder):
        shop.work()
        assert await reporter.report()
        for path in folder.iterdir():
            path.unlink()
        await reporter.report()
        shop.work()
        await reporter.report()
        [part] = await read(url, queries.parts)
        assert part.figures.total == 2

    async def test_a_file_that_somebody_else_has_locked(self, shop, reporter, url, folder, caplog):
        holder = apsw.Connection(str(folder / "ops.db"))
        holder.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            shop.work()
            assert not await reporter.report()
        assert len(caplog.records) == 1
        assert "locked" in caplog.text or "busy" in caplog.text or "held" in caplog.text
        holder.execute("COMMIT")
        holder.close()
        assert await reporter.report()
        [part] = await read(url, queries.parts)
        assert part.figures.total == 2

    async def test_while_the_file_is_locked_the_event_loop_runs_on(self, shop, reporter, folder):
        holder = apsw.Connection(str(folder / "ops.db"))
        holder.execute("BEGIN IMMEDIATE")
        report = asyncio.create_task(reporter.report())
        turns = 0
        while not report.done():
            shop.work()
            turns += 1
            await asyncio.sleep(0)
        holder.close()
        assert not report.result()
        assert turns > 10

    async def test_a_file_that_is_no_database(self, shop, url, folder, tracer, caplog):
        (folder / "ops.db").write_bytes(b"This is a text, and has been one since it was written. " * 40)
        reporter = Reporter("storefront", url, interval=3600, tracer=tracer)
        await reporter.start()
        shop.work()
        assert not await reporter.report()
        await reporter.stop()
        assert shop.stats.succeeded == 1
        assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1

    async def test_a_file_of_a_newer_release_is_left_alone(self, shop, reporter, url, folder, tracer, caplog):
        await reporter.stop()
        connection = apsw.Connection(str(folder / "ops.db"))
        connection.execute("UPDATE ops_meta SET oldest_reader = ?", (VERSION + 1,))
        connection.close()
        later = Reporter("storefront", url, interval=3600, tracer=tracer)
        await later.start()
        assert not await later.report()
        await later.stop()
        assert "Install the newer release" in caplog.text

    async def test_an_operation_that_fails_itself_is_reported_as_such(self, shop, reporter, url):
        with pytest.raises(ConnectError), shop.observer.operation("SELECT", "orders"):
            raise ConnectError("No route to kohlrabi.")
        assert await reporter.report()
        [entry] = await read(url, queries.entries)
        assert (entry.outcome, entry.error) == ("failed", "connect")

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
    def test_a_disk_that_is_full(self, tmp_path):
        """The system refuses to let any file grow; later it allows it again."""
        program = tmp_path / "full.py"
        program.write_text(textwrap.dedent(FULL_DISK))
        run = subprocess.run(
            [sys.executable, "-W", "error", str(program), f"sqlite:///{tmp_path / 'ops.db'}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.split() == ["kept", "refused", "refused", "worked:500", "kept", "total:500"]
        assert run.stderr.count("cannot be kept") == 1


FULL_DISK = """
    import asyncio, logging, resource, signal, sys
    from consona.ops import queries
    from consona.ops.reporter import Reporter
    from consona.ops.store import OpsStore
    from consona.part import Part

    logging.basicConfig(level="WARNING")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


    class Work(Part):
        async def _open(self): pass
        async def _close(self): pass


    def files_may_grow_to(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


    async def report(reporter):
        print("kept" if await reporter.report() else "refused")


    async def main():
        async with Work("work") as work:
            reporter = Reporter("shop", sys.argv[1], interval=3600)
            await reporter.start()
            await report(reporter)
            files_may_grow_to(1)
            for number in range(500):
                with work.observer.operation("step", f"{number}"):
                    pass
                if number in (200, 400):
                    await report(reporter)
            print(f"worked:{work.stats.succeeded}")
            files_may_grow_to(resource.RLIM_INFINITY)
            await report(reporter)
            store = await OpsStore.open(sys.argv[1])
            [part] = await store.read(queries.parts)
            print(f"total:{part.figures.total}")
            await store.close()
            await reporter.stop()


    asyncio.run(main())
"""
