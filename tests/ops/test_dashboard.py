"""The pages as text: what they say, to whom, and what they never do."""

from __future__ import annotations

import asyncio
import re

import apsw
import pytest

from consona.errors import ConfigurationError, NotStarted
from consona.ops.dashboard import Dashboard, create
from consona.ops.schema import VERSION
from ops_tools import NOW, ask, batch, entry, figures, opened, part, point, process, series, span

BOUND_S = 10.0
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'ops.db'}"


@pytest.fixture
async def store(url):
    async with opened(url) as store:
        yield store


@pytest.fixture
async def dashboard(url, store):
    async with Dashboard(url, interval=0.01, clock=lambda: NOW) as dashboard:
        yield dashboard


@pytest.fixture
async def busy(store, dashboard):
    """A dashboard of a system in which something happened."""
    await store.save(
        batch(
            parts=[
                part(shows=figures(ok=1490, failed=10, in_flight=2, seconds=0.012)),
                part("https://pay.example/v1", "rest.client", status="degraded", reason="its circuit is being tried"),
            ],
            series=[series("GET", "/posts/{id}", figures(ok=1490, failed=10))],
            points=[point(20, figures(ok=118, failed=2, seconds=0.25)), point(300, figures(ok=600))],
            entries=[
                entry("GET", "/posts/{id}", trace_id=TRACE, attributes='{"status":200,"authorization":"***"}'),
                entry("POST", "/posts", outcome="failed", error="connect"),
            ],
            spans=[
                span("1" * 16, trace_id=TRACE, name="GET /posts/{id}", seconds=0.02),
                span("2" * 16, "1" * 16, trace_id=TRACE, name="SELECT posts", part="blog.db", kind="sql", start=0.004),
            ],
        )
    )
    return dashboard


async def test_before_anything_reported_the_page_says_what_to_do(dashboard):
    answer = await ask(dashboard)
    assert answer.status == 200
    assert "Nothing has reported yet" in answer.words
    assert "consona up --visitors 5" in answer.words


async def test_the_overview_says_how_the_system_stands(busy):
    words = (await ask(busy)).words
    assert "Something needs a look" in words
    assert "shop: https://pay.example/v1 is degraded: degraded: its circuit is being tried" in words
    assert "1 process running" in words
    assert "1,500 in all" in words
    assert "Line chart, " in (await ask(busy)).text
    assert re.search(r"p50 250 ms|p50 24\d ms", words)


async def test_the_last_operations_are_shown_with_masked_detail_and_their_trace(busy):
    answer = await ask(busy)
    assert "GET /posts/{id} ok" in answer.words
    assert "authorization ***" in answer.words
    assert "POST /posts failed connect" in answer.words
    assert f'href="/ops/traces/{TRACE}"' in answer.text


async def test_the_last_operations_can_be_narrowed(busy):
    failed = (await ask(busy, "/ops?outcome=failed&part=shop%2Fapi")).words.partition("Last operations")[2]
    assert "POST /posts failed" in failed
    assert "GET /posts/{id} ok" not in failed
    none = (await ask(busy, "/ops?outcome=cancelled")).words
    assert "None that fits the filter yet." in none


@pytest.mark.parametrize("query", ["part=nonsense", "outcome=%00", "part=%2F%2F%2F&outcome=ok", "x=" + "y" * 5000])
async def test_a_nonsensical_filter_is_harmless(busy, query):
    assert (await ask(busy, f"/ops?{query}")).status == 200


async def test_the_page_of_a_part_has_its_operations(busy):
    words = (await ask(busy, "/ops/parts/shop/api?kind=rest.server")).words
    assert "api rest.server working" in words
    assert "Operations of api since the start" in words
    assert "GET /posts/{id} 1,500 10 (0.7 %)" in words
    assert "connect: 10" in words


async def test_a_part_whose_name_is_a_url_has_a_page(busy):
    overview = (await ask(busy)).text
    link = re.search(r'href="(/ops/parts/shop/https[^"]+)"', overview)
    assert link is not None
    answer = await ask(busy, link[1].replace("&amp;", "&"))
    assert answer.status == 200
    assert "https://pay.example/v1 rest.client degraded" in answer.words


async def test_a_trace_is_told_step_by_step(busy):
    words = (await ask(busy, f"/ops/traces/{TRACE}")).words
    assert "Level 1: GET /posts/{id} api rest.server, shop ok 0.000 ms 20.0 ms" in words
    assert "Level 2: SELECT posts blog.db sql, shop ok 4.00 ms 10.0 ms" in words


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/ops/traces/0000", "Nothing of this trace is kept"),
        ("/ops/parts/shop/nothing", "No process of shop has reported a part named nothing"),
        ("/ops/parts/%3Cscript%3Ealert(1)%3C/x", "No process of"),
        ("/ops/nothing", "no page at this address"),
        ("/ops/static/../dashboard.py", "no page at this address"),
        ("/ops/static/%2e%2e%2fdashboard.py", "no page at this address"),
    ],
)
async def test_what_does_not_exist_is_said(busy, target, says):
    answer = await ask(busy, target)
    assert answer.status == 404
    assert says in answer.words


async def test_what_was_reported_cannot_become_markup(store, dashboard):
    evil = "<script>alert(1)</script>\"'"
    await store.save(
        batch(
            process(evil),
            parts=[part(evil, detail='{"x":"<script>alert(1)</script>"}', status="down", reason=evil)],
            entries=[entry(evil, evil, service=evil, name=evil, error=evil, attributes='{"<script>":"<script>"}')],
        )
    )
    link = re.search(r'href="(/ops/parts/[^"]+)"', (await ask(dashboard)).text)
    assert link is not None
    for target in ("/ops", link[1].replace("&amp;", "&")):
        answer = await ask(dashboard, target)
        assert answer.status == 200
        assert "<script>" not in answer.text


async def test_a_link_to_slash_leads_to_the_overview(dashboard):
    answer = await ask(dashboard, "/")
    assert (answer.status, answer.headers["location"]) == (307, "/ops")


async def test_mounted_under_a_path_all_links_stay_below_it(busy):
    for target in ("/admin/ops", f"/admin/ops/traces/{TRACE}", "/admin/ops/parts/shop/api"):
        answer = await ask(busy, target, root="/admin")
        assert answer.status == 200
        links = re.findall(r'(?:href|src|action|data-stream)="(/[^"]*)"', answer.text)
        assert links
        assert all(link.startswith("/admin/ops") for link in links)


async def test_static_files_are_kept_by_the_browser_until_they_change(dashboard):
    [link] = re.findall(r'href="([^"]+\.css[^"]*)"', (await ask(dashboard)).text)
    first = await ask(dashboard, link)
    assert (first.status, first.headers["content-type"]) == (200, "text/css; charset=utf-8")
    again = await ask(dashboard, link, headers=[(b"if-none-match", first.headers["etag"].encode())])
    assert (again.status, again.body) == (304, b"")


class TestWhoMayLook:
    @pytest.mark.parametrize("host", ["localhost", "localhost:8090", "LOCALHOST:1", "127.0.0.1:8090", "[::1]:8090"])
    async def test_this_machine_under_its_own_names(self, dashboard, host):
        assert (await ask(dashboard, host=host)).status == 200

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8090", "localhost.evil.example", "", "127.0.0.1.nip.io"]
    )
    @pytest.mark.parametrize("target", ["/ops", "/ops/stream", "/ops/static/ops.js", "/"])
    async def test_not_under_a_name_that_was_made_to_point_here(self, dashboard, host, target):
        answer = await ask(dashboard, target, host=host)
        assert answer.status == 403
        assert b"localhost" in answer.body

    async def test_not_with_two_names(self, dashboard):
        assert (await ask(dashboard, headers=[(b"host", b"evil.example")])).status == 403

    @pytest.mark.parametrize("client", ["10.0.0.7", "2001:db8::1", "not an address"])
    async def test_not_from_another_machine(self, dashboard, client):
        assert (await ask(dashboard, client=(client, 5000))).status == 403

    async def test_another_machine_and_name_when_that_was_asked_for(self, url):
        async with Dashboard(url, hosts=["ops.example"], remote=True) as dashboard:
            answer = await ask(dashboard, host="ops.example", client=("10.0.0.7", 5000))
            assert answer.status == 200

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    async def test_nothing_can_be_changed_through_it(self, dashboard, method):
        answer = await ask(dashboard, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")

    @pytest.mark.parametrize("target", ["/ops", "/ops/nothing", "/ops/static/ops.js"])
    async def test_every_answer_forbids_foreign_scripts_and_frames(self, dashboard, target):
        headers = (await ask(dashboard, target)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"

    async def test_no_page_needs_what_the_policy_forbids(self, busy):
        for target in ("/ops", "/ops/parts/shop/api", f"/ops/traces/{TRACE}"):
            text = (await ask(busy, target)).text
            assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=|<style|javascript:", text)


class Listener:
    """A browser at the other end of the live updates."""

    def __init__(self, app, target="/ops/stream"):
        path, _, query = target.partition("?")
        self.scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 5000),
        }
        self.app = app
        self.gone = asyncio.Event()
        self.messages = asyncio.Queue()

    async def __aenter__(self):
        self.task = asyncio.create_task(self.app(self.scope, self.receive, self.messages.put))
        return self

    async def __aexit__(self, *_):
        self.gone.set()
        async with asyncio.timeout(BOUND_S):
            await self.task

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def next(self, text=""):
        """The next piece that holds the text."""
        async with asyncio.timeout(BOUND_S):
            while True:
                message = await self.messages.get()
                piece = message.get("body", b"").decode() if "body" in message else str(message)
                if text in piece:
                    return piece


class TestLiveUpdates:
    async def test_the_first_brings_all_regions_and_the_next_what_changed(self, busy, store):
        async with Listener(busy) as browser:
            first = await browser.next("event: update")
            for region in ("health", "traffic", "services", "entries"):
                assert f'"{region}":' in first
            await browser.next(": nothing new")
            await store.save(batch(entries=[entry("DELETE", "/posts/{id}")]))
            update = await browser.next("event: update")
            assert "DELETE /posts/{id}" in update
            assert '"health":' not in update

    async def test_a_filter_holds_in_updates_too(self, busy):
        async with Listener(busy, "/ops/stream?outcome=failed") as browser:
            update = await browser.next("event: update")
            assert "POST /posts" in update
            assert TRACE not in update

    async def test_the_page_of_a_part_is_followed(self, busy):
        async with Listener(busy, "/ops/stream?page=shop%2Fapi&kind=rest.server") as browser:
            assert '"operations":' in await browser.next("event: update")

    async def test_a_page_that_left_is_forgotten(self, busy):
        for _ in range(100):
            async with Listener(busy) as browser:
                await browser.next("event: update")

    async def test_too_many_pages_are_told_so(self, busy):
        async with asyncio.timeout(BOUND_S):
            browsers = [Listener(busy) for _ in range(33)]
            for browser in browsers:
                await browser.__aenter__()
            assert "503" in await browsers[-1].next()
            for browser in browsers:
                await browser.__aexit__()

    async def test_when_the_server_drains_the_streams_end(self, busy):
        browser = Listener(busy)
        await browser.__aenter__()
        await browser.next("event: update")
        busy.begin_drain()
        async with asyncio.timeout(BOUND_S):
            await browser.task


class TestLife:
    async def test_before_its_start_it_says_how_to_start_it(self, url):
        with pytest.raises(NotStarted):
            await ask(Dashboard(url))

    async def test_a_server_starts_and_stops_it(self, url):
        dashboard = Dashboard(url)
        to_app, from_app = asyncio.Queue(), asyncio.Queue()
        life = asyncio.create_task(dashboard({"type": "lifespan"}, to_app.get, from_app.put))
        await to_app.put({"type": "lifespan.startup"})
        assert (await from_app.get())["type"] == "lifespan.startup.complete"
        assert (await ask(dashboard)).status == 200
        await to_app.put({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
        await life
        assert not dashboard.started

    async def test_a_file_of_a_newer_release_is_refused_at_the_start(self, url):
        async with opened(url):
            pass
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        connection.execute("UPDATE ops_meta SET oldest_reader = ?", (VERSION + 1,))
        connection.close()
        with pytest.raises(ConfigurationError, match="Install the newer release"):
            await Dashboard(url).start()
        from_app = asyncio.Queue()

        async def startup():
            return {"type": "lifespan.startup"}

        await Dashboard(url)({"type": "lifespan"}, startup, from_app.put)
        message = await from_app.get()
        assert message["type"] == "lifespan.startup.failed"
        assert "Install the newer release" in message["message"]

    async def test_a_damaged_file_is_said_on_the_page(self, busy, tmp_path):
        connection = apsw.Connection(str(tmp_path / "ops.db"))
        connection.execute("DROP TABLE ops_processes")
        connection.close()
        answer = await ask(busy)
        assert answer.status == 503
        assert "The observations cannot be read now" in answer.words

    def test_the_environment_names_the_system(self, monkeypatch, url):
        monkeypatch.setenv("CONSONA_OPS", url)
        assert create().address.path == url.removeprefix("sqlite:///")
        monkeypatch.delenv("CONSONA_OPS")
        with pytest.raises(ConfigurationError, match="Set CONSONA_OPS"):
            create()
        assert create("sqlite:///other.db").address.path == "other.db"

    async def test_what_it_shows_is_observed(self, dashboard):
        await ask(dashboard)
        await ask(dashboard, "/ops/nothing")
        assert dashboard.stats.operations.keys() == {"show ops", "show (other)"}
