"""The dashboard in a real browser: usable by everyone, with and without JavaScript, live and paused."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from accessibility import findings
from consona.ops.dashboard import Dashboard
from served import served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SCHEMES = ("light", "dark")
BOUND_MS = 10_000
expect.set_options(timeout=BOUND_MS)


def part_link(page, name):
    return page.get_by_role("link", name=name, exact=True)


async def open_trace(page, address):
    await page.goto(f"{address}/ops")
    await page.get_by_role("link", name="trace of GET /products/{id}").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("GET /products/{id}")


class TestEveryone:
    @pytest.mark.parametrize("width", [1280, 320])
    @pytest.mark.parametrize("scheme", SCHEMES)
    async def test_axe_finds_nothing_on_the_overview(self, page, address, axe, scheme, width):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.emulate_media(color_scheme=scheme)
        await page.goto(f"{address}/ops")
        await expect(page.locator("#live-word")).to_contain_text("Live")
        for summary in await page.locator("summary").all():
            await summary.click()
        assert await findings(page, axe) == []

    @pytest.mark.parametrize("scheme", SCHEMES)
    async def test_axe_finds_nothing_on_the_page_of_a_part(self, page, address, axe, scheme):
        await page.emulate_media(color_scheme=scheme)
        await page.goto(f"{address}/ops")
        await part_link(page, "https://pay.example/v1").click()
        await expect(page.get_by_text("breaker for pay.example: open").first).to_be_visible()
        for summary in await page.locator("summary").all():
            await summary.click()
        assert await findings(page, axe) == []

    @pytest.mark.parametrize("scheme", SCHEMES)
    async def test_axe_finds_nothing_on_a_trace(self, page, address, axe, scheme):
        await page.emulate_media(color_scheme=scheme)
        await open_trace(page, address)
        assert await findings(page, axe) == []

    async def test_axe_finds_nothing_where_nothing_has_reported_or_exists(self, browser, tmp_path, axe):
        page = await browser.new_page()
        async with served(Dashboard(f"sqlite:///{tmp_path / 'empty.db'}")) as address:
            for path, says in (("/ops", "Nothing has reported yet"), ("/ops/traces/0", "No such trace")):
                await page.goto(address + path)
                await expect(page.get_by_role("heading", level=1)).to_have_text(says)
                assert await findings(page, axe) == []

    async def test_a_keyboard_reaches_everything_in_order_and_sees_where_it_is(self, page, address):
        await page.goto(f"{address}/ops")
        await expect(page.get_by_role("button", name="Pause updates")).to_be_visible()
        names = []
        for _ in range(20):
            await page.keyboard.press("Tab")
            seen = await page.evaluate(
                """() => { const e = document.activeElement, b = e.getBoundingClientRect();
                return [e.innerText || e.getAttribute('aria-label') || e.id, b.width > 0 && b.right > 0,
                        getComputedStyle(e).outlineStyle !== 'none'] }"""
            )
            names.append(seen[0].strip().split("\n")[0])
            assert seen[1:] == [True, True], names
            if names[-1] == "Pause updates":
                await page.keyboard.press("Enter")  # an update in between could move what has the focus
        assert names[:7] == [
            "Skip to the content",
            "Consona",
            "Refresh",
            "Pause updates",
            "Read out a summary",
            "The same figures as a table",
            "Parts of storefront. Large: the last minute. Small, below: since the start.",
        ]
        assert "https://pay.example/v1" in names

    async def test_the_skip_link_leads_past_the_head(self, page, address):
        await page.goto(f"{address}/ops")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"

    @pytest.mark.parametrize("width", [320, 640])
    async def test_a_small_or_zoomed_window_does_not_scroll_sideways(self, page, address, width):
        await page.set_viewport_size({"width": width, "height": 600})
        await page.goto(f"{address}/ops")
        for path in ("/ops", await part_link(page, "shop").first.get_attribute("href")):
            await page.goto(address + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width

    async def test_who_wants_no_motion_gets_none(self, page, address):
        await page.emulate_media(reduced_motion="reduce")
        await page.goto(f"{address}/ops")
        moving = await page.evaluate(
            """[...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e);
            return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0 }).length"""
        )
        assert moving == 0


class TestWithoutJavaScript:
    async def test_all_of_it_can_be_read_and_filtered(self, browser, address):
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await page.goto(f"{address}/ops")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Something needs a look")
        await expect(page.get_by_role("button", name="Pause updates")).to_have_count(0)
        await page.get_by_label("Outcome").select_option("failed")
        await page.get_by_role("button", name="Show", exact=True).click()
        rows = page.locator(".entries tbody tr")
        await expect(rows.first).to_contain_text("failed")
        await expect(page.locator(".entries .state.ok")).to_have_count(0)
        await page.get_by_role("link", name="trace of POST /charges").first.click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("POST /charges")

    async def test_refresh_brings_the_news(self, browser, address, system):
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await page.goto(f"{address}/ops")
        await system.work(route="/newly/made")
        async with asyncio.timeout(BOUND_MS / 1000):
            while not await page.get_by_text("GET /newly/made").count():
                await page.get_by_role("link", name="Refresh").click()


class TestLive:
    async def test_news_arrive_by_themselves(self, page, address, system):
        await page.goto(f"{address}/ops")
        await expect(page.locator("#live-word")).to_contain_text("Live")
        await system.work(route="/newly/made")
        await expect(page.locator(".entries").get_by_text("GET /newly/made").first).to_be_visible()

    async def test_a_part_is_followed_too(self, page, address, system):
        await page.goto(f"{address}/ops")
        await part_link(page, "shop").first.click()
        await expect(page.locator("#live-word")).to_contain_text("Live")
        await system.work(route="/newly/made")
        await expect(page.locator("[data-region=operations]").get_by_text("GET /newly/made")).to_be_visible()

    async def test_a_paused_page_stands_still_until_it_goes_on(self, browser, page, address, system):
        await page.goto(f"{address}/ops")
        pause = page.get_by_role("button", name="Pause updates")
        await expect(page.locator("#live-word")).to_contain_text("Live")
        await pause.click()
        await expect(pause).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#live-word")).to_contain_text("Paused")
        frozen = await page.locator("main").inner_html()
        await system.work(route="/newly/made")
        another = await browser.new_page()  # by the time that this one has it, the other would have had it too
        await another.goto(f"{address}/ops")
        await expect(another.get_by_text("GET /newly/made").first).to_be_visible()
        assert await page.locator("main").inner_html() == frozen
        await pause.click()
        await expect(page.get_by_text("GET /newly/made").first).to_be_visible()

    async def test_a_hidden_page_asks_for_nothing(self, page, address):
        await page.goto(f"{address}/ops")
        await expect(page.locator("#live-word")).to_contain_text("Live")
        await page.evaluate(
            """() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});
            document.dispatchEvent(new Event('visibilitychange')) }"""
        )
        await expect(page.locator("#live-word")).to_have_text("State")
        await page.evaluate(
            """() => { Object.defineProperty(document, 'hidden', {value: false, configurable: true});
            document.dispatchEvent(new Event('visibilitychange')) }"""
        )
        await expect(page.locator("#live-word")).to_contain_text("Live")

    async def test_updates_leave_the_focus_and_what_is_open_alone(self, page, address, system):
        await page.goto(f"{address}/ops")
        summary = page.get_by_text("The same figures as a table")
        await summary.click()
        link = page.get_by_role("link", name="trace of GET /products/{id}").first
        await link.focus()
        target = await link.get_attribute("href")
        await system.work(60, route="/newly/made")  # enough to push the row off the end of the list
        await expect(page.locator(".entries").get_by_text("GET /newly/made").first).to_be_visible()
        assert await page.evaluate("document.activeElement.getAttribute('href')") == target
        await expect(page.locator("[data-region=traffic] details")).to_have_attribute("open", "")

    async def test_a_choice_under_way_is_not_undone(self, page, address, system):
        await page.goto(f"{address}/ops")
        await page.get_by_label("Outcome").select_option("failed")
        await system.work(route="/newly/made")
        await expect(page.get_by_text("GET /newly/made").first).to_be_visible()
        assert await page.get_by_label("Outcome").input_value() == "failed"

    async def test_figures_are_not_read_out_unless_asked_for(self, page, address, system):
        await page.goto(f"{address}/ops")
        await system.work(route="/newly/made")
        await expect(page.get_by_text("GET /newly/made").first).to_be_visible()
        said = page.get_by_role("status")
        await expect(said).to_have_text("")
        assert await page.locator("[aria-live]").count() == 0
        await page.get_by_role("button", name="Read out a summary").focus()
        await page.keyboard.press("Enter")
        await expect(said).to_contain_text("Something needs a look.")

    async def test_a_lost_connection_is_said_and_comes_back(self, browser, address, system):
        page = await browser.new_page()
        await page.goto(f"{address}/ops")
        await expect(page.locator("#live-word")).to_contain_text("Live")
        await page.context.set_offline(True)
        await page.route("**/ops/stream*", lambda route: route.abort())
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await page.get_by_role("button", name="Pause updates").click()
        await page.get_by_role("button", name="Pause updates").click()
        await expect(page.locator("#live-word")).to_contain_text("Connection lost")
        await page.unroute("**/ops/stream*")
        await page.context.set_offline(False)
        await expect(page.locator("#live-word")).to_contain_text("Live")
