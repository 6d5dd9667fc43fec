"""The page of accounts: for one role alone, and each action is in the log with who did it."""

from __future__ import annotations

import pytest
from playwright.async_api import async_playwright, expect

from accessibility import findings
from asgi_call import call
from auth_tools import PASSWORD, accounts_at
from consona.auth.access import access_table
from consona.auth.errors import AccountDisabled, AccountLocked, LoginFailed
from consona.auth.pages import AccountPages
from consona.errors import ConfigurationError
from consona.ops.accounts_page import AccountsPage
from consona.rest.server.api_server import APIServer
from served import served

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


@pytest.fixture
async def shop(tmp_path):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", secure_cookies=False)
    api = APIServer("shop")
    api.secure(accounts, AccountPages(accounts), AccountsPage(accounts, role="admin"))
    async with api:
        await accounts.register("root", "", PASSWORD, roles=["admin"])
        await accounts.register("ada", "ada@example.org", PASSWORD)
        yield api, accounts


async def as_(accounts, name):
    return {"authorization": f"Bearer {(await accounts.authenticate(name, PASSWORD)).access_token}"}


async def test_only_the_role_sees_it(shop):
    api, accounts = shop
    assert (await call(api, "GET", "/ops/accounts")).status == 401
    assert (await call(api, "GET", "/ops/accounts", headers=await as_(accounts, "ada"))).status == 403
    page = await call(api, "GET", "/ops/accounts", headers=await as_(accounts, "root"))
    assert page.status == 200
    assert b"ada@example.org" in page.body
    assert b"script" not in page.body
    pages = [each for each in access_table(api) if each.path.startswith("/ops/accounts")]
    assert {each.words for each in pages} == {"admin"}


async def test_what_is_done_holds_and_is_in_the_log_with_who_did_it(shop):
    api, accounts = shop
    ada, root = await accounts.find("ada"), await accounts.find("root")
    mine = await as_(accounts, "root")

    async def do(action):
        done = await call(api, "POST", f"/ops/accounts/{ada.id}/{action}", headers=mine)
        assert (done.status, done.header("location")) == (303, f"/ops/accounts/{ada.id}?told={action}")

    await accounts.authenticate("ada", PASSWORD)
    await do("logout")
    assert await accounts.sessions(ada.id) == []
    await do("disable")
    with pytest.raises(AccountDisabled):
        await accounts.authenticate("ada", PASSWORD)
    await do("enable")
    for _ in range(5):
        with pytest.raises(LoginFailed):
            await accounts.authenticate("ada", "wrong", address="10.0.0.1")
    with pytest.raises(AccountLocked):
        await accounts.authenticate("ada", PASSWORD, address="10.0.0.1")
    listed = await call(api, "GET", "/ops/accounts", headers=mine)
    assert b"guesses are locked until" in listed.body
    await do("unlock")
    await accounts.authenticate("ada", PASSWORD, address="10.0.0.1")
    by_root = [e.event async for e in accounts.audit.entries(account=ada.id) if e.actor == root.id]
    assert by_root == ["logout everywhere", "disabled", "enabled", "unlocked"]
    assert (await call(api, "POST", f"/ops/accounts/{ada.id}/promote", headers=mine)).status == 404
    assert (await call(api, "POST", "/ops/accounts/nobody/disable", headers=mine)).status == 404


async def test_a_long_list_comes_in_pages(shop):
    api, accounts = shop
    for n in range(101):
        row = accounts._new_row(f"user{n:03}", "", [])
        await accounts._insert(row, f"user{n:03}", None)
    mine = await as_(accounts, "root")
    first = await call(api, "GET", "/ops/accounts", headers=mine)
    assert b"More, from user098 on" in first.body
    rest = await call(api, "GET", "/ops/accounts", query="start=user098", headers=mine)
    assert rest.body.count(b'<th scope="row"><a') == 3


def test_it_needs_a_role():
    with pytest.raises(ConfigurationError):
        AccountsPage(accounts_at("sqlite://"), role="")


@pytest.mark.browser
async def test_it_is_for_everyone_and_works_without_scripts(shop, chromium, axe):
    api, accounts = shop
    async with served(api) as address, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = await browser.new_context(bypass_csp=True, viewport={"width": 320, "height": 800})
        page = await context.new_page()
        await page.goto(f"{address}/account/login?next=/ops/accounts")
        await page.get_by_label("Name or e-mail address").fill("root")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Accounts")
        assert await findings(page, axe) == []
        await page.get_by_role("link", name="ada").click()
        assert await findings(page, axe) == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320
        await page.get_by_role("button", name="Disable the account").click()
        await expect(page.get_by_role("status")).to_have_text("The account is disabled.")
        assert not (await accounts.find("ada")).active
        await browser.close()
