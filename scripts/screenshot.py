"""Renew the picture of the dashboard in the README: the storefront really runs, visitors come, Chromium looks.

    .venv/bin/python scripts/screenshot.py                      # docs/images/dashboard.png
    .venv/bin/python scripts/screenshot.py --scheme dark --width 400 --out /tmp/dark.png

It needs Chromium (Debian: apt install chromium; another one: CONSONA_CHROMIUM=/path/to/chrome).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
STARTS_WITHIN_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "dashboard.png")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument(
        "--path", default="", help="Below the overview: parts/SERVICE/PART, or `trace` for the newest one"
    )
    parser.add_argument("--traffic", type=float, default=240.0, help="Seconds of traffic before the picture is taken")
    parser.add_argument("--visitors", type=int, default=5)
    parser.add_argument("--url", default="", help="The overview of a dashboard that runs already")
    options = parser.parse_args()
    if options.url:
        take(options.url, options)
        return 0
    with storefront(options.visitors) as url:
        print(f"The storefront runs; {options.traffic:g} s of traffic ...", flush=True)
        time.sleep(options.traffic)
        take(url, options)
    return 0


@contextmanager
def storefront(visitors: int) -> Iterator[str]:
    """Run the example in a copy of its folder, so that it starts with nothing; gives the dashboard's address."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "storefront"
        shutil.copytree(ROOT / "examples" / "storefront", copy, ignore=shutil.ignore_patterns("*.db*", "__pycache__"))
        command = [sys.executable, "-m", "consona.cli", "up", "--visitors", str(visitors), "--port", "0"]
        log = Path(folder) / "log"
        with log.open("w") as out:
            running = subprocess.Popen(command, cwd=copy, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield address(running, log)
        finally:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def address(running: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the dashboard's address stands in the log."""
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and running.poll() is None:
        found = re.search(r"http://\S+/ops\b", log.read_text())
        if found:
            return found[0]
        time.sleep(0.2)
    raise SystemExit(f"The storefront did not start:\n{log.read_text()}")


def take(url: str, options: argparse.Namespace) -> None:
    """Open the page and keep what is seen."""
    chromium = os.environ.get("CONSONA_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(
            viewport={"width": options.width, "height": options.height}, color_scheme=options.scheme
        )
        page.goto(url)
        if options.path == "trace":
            page.get_by_role("link", name="trace of").first.click()
        elif options.path:
            page.goto(f"{url}/{options.path}")
        page.wait_for_timeout(3000)  # the first live update is in it
        page.screenshot(path=options.out)
        browser.close()
    print(f"Wrote {options.out}.")


if __name__ == "__main__":
    sys.exit(main())
