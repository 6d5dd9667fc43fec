"""Looks at each page of the built documentation in a real browser: accessible (WCAG 2.2 AA), and complete by itself.

axe-core must find nothing, in light and in dark colours, and no page may ask another host for anything.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from playwright.async_api import Browser, Playwright, async_playwright

ROOT = Path(__file__).parent.parent
SITE = ROOT / "site"
# In dark colours only the colours differ, so only the rule about them is asked again: it takes half of the time.
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},
}

sys.path.insert(0, str(ROOT / "tests"))
import servers  # noqa: E402


async def findings(browser: Browser, page: Path, scheme: str, axe: str) -> list[str]:
    """What is wrong with one page, a line each."""
    shown = f"{page.relative_to(SITE)} ({scheme})"
    context = await browser.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    asked: list[str] = []
    tab = await context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    await tab.goto(page.as_uri())
    await tab.add_script_tag(content=axe)
    # Only what is wrong leaves the page: the list of all that is right has megabytes.
    result = await tab.evaluate(
        """async rules => (await axe.run(document, { runOnly: rules, resultTypes: ["violations"] })).violations.map(
            wrong => ({ id: wrong.id, html: wrong.nodes[0].html.slice(0, 150) }))""",
        RULES[scheme],
    )
    await context.close()
    elsewhere = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    return [f"{shown}: asks {url}" for url in elsewhere] + [
        f"{shown}: {violation['id']}: {violation['html']}" for violation in result
    ]


async def check(pages: list[Path], chromium: str, axe: str) -> list[str]:
    """What is wrong with the pages. One browser a core: within a browser, pages of one host share a process."""
    wrong: list[str] = []
    waiting = [(page, scheme) for page in pages for scheme in RULES]

    async def look(playwright: Playwright) -> None:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        while waiting:
            page, scheme = waiting.pop()
            wrong.extend(await findings(browser, page, scheme, axe))
        await browser.close()

    async with async_playwright() as playwright, asyncio.TaskGroup() as browsers:
        for _ in range(os.cpu_count() or 1):
            browsers.create_task(look(playwright))
    return sorted(wrong)


def main() -> None:
    chromium, axe = servers.SERVERS["Chromium"].find(), servers.SERVERS["axe-core"].find()
    if chromium is None or axe is None:
        sys.exit("\n".join(servers.missing()))
    pages = sorted(page for page in SITE.rglob("*.html") if page.name != "404.html")
    wrong = asyncio.run(check(pages, chromium, Path(axe).read_text(encoding="utf-8")))
    if wrong or not pages:
        sys.exit("\n".join(wrong) or "site/ has no pages. Run: make docs")
    print(f"{len(pages)} pages: axe-core finds nothing, and nothing is asked of another host.")


if __name__ == "__main__":
    main()
