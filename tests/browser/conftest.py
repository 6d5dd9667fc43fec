"""A real dashboard of a real system, and a real Chromium that looks at it."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager

import pytest_asyncio
from playwright.async_api import async_playwright

from consona.errors import CircuitOpen, ConnectError
from consona.ops.dashboard import Dashboard
from consona.ops.reporter import Reporter
from consona.part import Part
from consona.resilience import Breaker, Policy
from consona.telemetry.trace import Sampler, Tracer
from ops_tools import ask
from served import served

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
BOUND_S = 20.0


class Server(Part):
    kind = "rest.server"

    async def _open(self):
        pass

    async def _close(self):
        pass


class Client(Server):
    kind = "rest.client"

    def __init__(self, name):
        super().__init__(name)
        self.runner = Policy(breaker=Breaker(min_calls=3)).bind(name)

    def detail(self):
        return {"policy": self.runner.state()}


class System:
    """A small system that reports: a server that calls a failing dependency, and a database."""

    def __init__(self, url):
        self.url = url
        self.server, self.database, self.client = Server("shop"), Server("shop.db"), Client("https://pay.example/v1")
        tracer = Tracer(Sampler(per_second=1000))
        for part in (self.server, self.database, self.client):
            part.observer.tracer = tracer
        self.reporter = Reporter("storefront", url, interval=0.05, check_interval=0.05, tracer=tracer)

    async def work(self, times=1, route="/products/{id}"):
        for _ in range(times):
            with self.server.observer.operation("GET", route) as op:
                with self.database.observer.operation("SELECT", "products") as query:
                    query.set(rows=12)
                op.set(status=200, authorization="Bearer kohlrabi")

    async def fail(self):
        async def charge():
            with self.client.observer.operation("POST", "/charges"):
                raise ConnectError("It is down.")

        for _ in range(4):
            with contextlib.suppress(ConnectError, CircuitOpen):
                await self.client.runner.run(charge, key="pay.example")

    @asynccontextmanager
    async def running(self):
        async with self.server, self.database, self.client:
            await self.reporter.start()
            try:
                yield self
            finally:
                await self.reporter.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def system(tmp_path):
    async with System(f"sqlite:///{tmp_path / 'ops.db'}").running() as system:
        yield system


@pytest_asyncio.fixture(loop_scope="session")
async def address(system):
    """The address of the dashboard, once the first work of the system is on it."""
    await system.work(30)
    await system.fail()
    dashboard = Dashboard(system.url, interval=0.1)
    async with served(dashboard) as address:
        async with asyncio.timeout(BOUND_S):
            while "POST /charges" not in (await ask(dashboard)).text:
                await asyncio.sleep(0.05)
        yield address
        dashboard.begin_drain()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser):
    """A page that fails the test when a script fails or the page's policy is broken."""
    page = await browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    await page.close()
    assert problems == []
