"""The pages of accounts in a real browser, without scripts: for everyone, with a keyboard, in both palettes."""

from __future__ import annotations

import email
import email.policy
import json
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import pyotp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from accessibility import findings
from auth_tools import NEW_PASSWORD, PASSWORD, accounts_at
from consona.auth.pages import AccountPages
from consona.rest.server.api_server import APIServer
from consona.rest.server.responses import Response
from mail_server import Postbox, mailer_to, smtp_server
from served import served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BOUND_MS = 10_000
expect.set_options(timeout=BOUND_MS)


class Shop:
    """A server with accounts, its mails, and its address."""

    def __init__(self, accounts, postbox, address):
        self.accounts, self.postbox, self.address = accounts, postbox, address

    async def link(self):
        """The link in the newest mail, as the browser reaches it here."""
        await self.accounts.postman.drained()
        text = email.message_from_string(self.postbox.mails[-1], policy=email.policy.default).get_content()
        [link] = re.findall(r"http\S+", text)
        parts = urlsplit(link)
        return f"{self.address}{parts.path}?{parts.query}"


@pytest_asyncio.fixture(loop_scope="session")
async def shop(tmp_path):
    postbox = Postbox()
    async with smtp_server(postbox) as port:
        accounts = accounts_at(
            f"sqlite:///{tmp_path}/a.db",
            mailer=mailer_to(port),
            links_to="http://localhost/account",
            secure_cookies=False,
        )
        api = APIServer("shop")

        @api.get("/orders")
        async def orders() -> Response:
            return Response("<!doctype html><title>Orders</title><h1>Orders</h1>", media_type="text/html")

        api.secure(accounts, AccountPages(accounts))
        async with served(api) as address:
            yield Shop(accounts, postbox, address)


@pytest_asyncio.fixture(loop_scope="session")
async def plain(browser):
    """A page in which no script runs."""
    context = await browser.new_context(java_script_enabled=False)
    context.set_default_timeout(BOUND_MS)
    yield await context.new_page()
    await context.close()


async def register(page, shop, name="ada"):
    await page.goto(f"{shop.address}/account/register")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("E-mail address").fill(f"{name}@example.org")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Make the account").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your account")


async def sign_in(page, shop, name="ada", password=PASSWORD, target=""):
    await page.goto(f"{shop.address}/account/login{target}")
    await page.get_by_label("Name or e-mail address").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def heading(page, text):
    await expect(page.get_by_role("heading", level=1)).to_have_text(text)


class TestWithoutScripts:
    async def test_somebody_registers_signs_out_and_signs_in(self, plain, shop):
        await register(plain, shop)
        await plain.get_by_role("button", name="Sign out", exact=True).click()
        await expect(plain.get_by_role("status")).to_have_text("You are signed out.")
        await sign_in(plain, shop)
        await heading(plain, "Your account")
        assert "password" not in plain.url

    async def test_the_browser_goes_where_it_wanted_to_and_nowhere_else(self, plain, shop):
        await register(plain, shop)
        await plain.goto(f"{shop.address}/account/login?next=/orders")
        await heading(plain, "Orders")  # signed in already
        await plain.context.clear_cookies()
        await sign_in(plain, shop, target="?next=/orders")
        await heading(plain, "Orders")
        await plain.context.clear_cookies()
        for evil in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
            await sign_in(plain, shop, target=f"?next={evil}")
            await heading(plain, "Your account")
            assert plain.url.startswith(shop.address)
            await plain.context.clear_cookies()

    async def test_a_wrong_password_says_so_and_keeps_the_name(self, plain, shop):
        await register(plain, shop)
        await plain.context.clear_cookies()
        await sign_in(plain, shop, password="wrong")
        await expect(plain.get_by_role("alert")).to_contain_text("Invalid username or password.")
        await expect(plain.get_by_label("Name or e-mail address")).to_have_value("ada")
        await expect(plain.get_by_label("Password")).to_have_value("")
        assert (await plain.title()).startswith("Error: ")

    async def test_too_many_wrong_passwords_say_when_the_next_is_taken(self, plain, shop):
        for _ in range(5):
            await sign_in(plain, shop, name="nobody", password="wrong")
        await sign_in(plain, shop, name="nobody", password="wrong")
        await expect(plain.get_by_role("alert")).to_contain_text("Try again in 5 minutes.")

    async def test_each_wrong_field_of_a_registration_is_named_beside_it(self, plain, shop):
        await plain.goto(f"{shop.address}/account/register")
        await plain.get_by_label("Name").fill("ada lovelace")
        await plain.get_by_label("Password").fill("short")
        await plain.get_by_role("button", name="Make the account").click()
        name = plain.get_by_label("Name")
        assert await name.get_attribute("aria-invalid") == "true"
        await expect(name).to_have_accessible_description(re.compile("no letter, no digit"))
        await expect(name).to_have_value("ada lovelace")
        await plain.get_by_label("Name").fill("ada")
        await plain.get_by_label("Password").fill("short")
        await plain.get_by_role("button", name="Make the account").click()
        password = plain.get_by_label("Password")
        await expect(password).to_have_accessible_description(re.compile("at least 15 are needed"))
        await plain.get_by_role("link", name=re.compile("Password: ")).click()
        assert plain.url.endswith("#password")

    async def test_an_address_is_confirmed_by_its_link(self, plain, shop):
        await register(plain, shop)
        await plain.goto(await shop.link())
        await heading(plain, "Confirm your e-mail address")
        await plain.reload()  # looking does not use it up
        await plain.get_by_role("button", name="Confirm").click()
        await heading(plain, "Your address is confirmed")
        await plain.get_by_role("link", name="To your account").click()
        await expect(plain.get_by_text("ada@example.org (confirmed)")).to_be_visible()

    async def test_a_lost_password_is_set_anew(self, plain, shop):
        await register(plain, shop)
        await plain.context.clear_cookies()
        await plain.goto(f"{shop.address}/account/login")
        await plain.get_by_role("link", name="Forgot your password?").click()
        await plain.get_by_label("Name or e-mail address").fill("ada@example.org")
        await plain.get_by_role("button", name="Send the link").click()
        await heading(plain, "Look into your mail")
        link = await shop.link()
        await plain.goto(link)
        await plain.get_by_label("New password").fill("short")
        await plain.get_by_role("button", name="Set the password").click()
        await expect(plain.get_by_role("alert")).to_contain_text("This password cannot be used.")
        await plain.get_by_label("New password").fill(NEW_PASSWORD)
        await plain.get_by_role("button", name="Set the password").click()
        await expect(plain.get_by_role("status")).to_have_text("Your new password is set. Sign in with it.")
        await plain.goto(link)
        await plain.get_by_label("New password").fill(NEW_PASSWORD)
        await plain.get_by_role("button", name="Set the password").click()
        await expect(plain.get_by_role("alert")).to_contain_text("This link does not count")
        await sign_in(plain, shop, password=NEW_PASSWORD)
        await heading(plain, "Your account")

    async def test_a_second_factor_is_set_up_asked_for_and_removed(self, plain, shop):
        await register(plain, shop)
        await plain.get_by_role("link", name="Use a second factor").click()
        secret = (await plain.locator("code").inner_text()).replace(" ", "")
        assert await plain.get_by_role("img", name=re.compile("QR code")).is_visible()
        totp, now = pyotp.TOTP(secret), time.time()
        await plain.get_by_label("The code that the app shows").fill("000000")
        await plain.get_by_role("button", name="Use it from now on").click()
        await expect(plain.get_by_role("alert")).to_contain_text("The code is wrong")
        await plain.get_by_label("The code that the app shows").fill(totp.at(int(now)))
        await plain.get_by_role("button", name="Use it from now on").click()
        codes = await plain.locator(".codes code").all_inner_texts()
        assert len(codes) == 10
        await plain.context.clear_cookies()
        await sign_in(plain, shop)
        await heading(plain, "Enter your code")
        await plain.get_by_label("Code", exact=True).fill("wrong")
        await plain.get_by_role("button", name="Go on").click()
        await expect(plain.get_by_role("alert")).to_contain_text("The code is wrong")
        await plain.get_by_label("Code", exact=True).fill(codes[0])
        await plain.get_by_role("button", name="Go on").click()
        await heading(plain, "Your account")
        await plain.get_by_label("A code of your app, or a recovery code").fill(codes[1])
        await plain.get_by_role("button", name="Do without a second factor").click()
        await expect(plain.get_by_role("status")).to_have_text("The second factor is off.")

    async def test_the_password_is_changed_and_other_browsers_are_signed_out(self, plain, shop, browser):
        await register(plain, shop)
        other = await browser.new_context()
        there = await other.new_page()
        await sign_in(there, shop)
        await heading(there, "Your account")
        await plain.get_by_label("Present password").fill("wrong")
        await plain.get_by_label("New password").fill(NEW_PASSWORD)
        await plain.get_by_role("button", name="Change the password").click()
        await expect(plain.get_by_role("alert")).to_contain_text("Current password is incorrect.")
        await plain.get_by_label("Present password").fill(PASSWORD)
        await plain.get_by_label("New password").fill(NEW_PASSWORD)
        await plain.get_by_role("button", name="Change the password").click()
        await expect(plain.get_by_role("status")).to_contain_text("Your password is changed.")
        await there.goto(f"{shop.address}/account")
        await heading(there, "Sign in")
        await other.close()

    async def test_sessions_are_seen_and_ended(self, plain, shop, browser):
        await register(plain, shop)
        other = await browser.new_context(user_agent="A phone")
        there = await other.new_page()
        await sign_in(there, shop)
        await heading(there, "Your account")
        await plain.reload()
        await plain.get_by_role("button", name=re.compile("End this session on A phone")).click()
        await expect(plain.get_by_role("status")).to_have_text("The session is ended.")
        await there.goto(f"{shop.address}/account")
        await heading(there, "Sign in")
        await other.close()

    async def test_somebody_takes_what_is_known_of_them_and_leaves(self, plain, shop):
        await register(plain, shop)
        async with plain.expect_download() as begun:
            await plain.get_by_role("link", name="All that is known of you").click()
        told = json.loads(Path(await (await begun.value).path()).read_text())
        assert told["account"]["name"] == "ada"
        await plain.get_by_label("Password, to delete").fill("wrong")
        await plain.get_by_role("button", name="Delete the account").click()
        await expect(plain.get_by_role("alert")).to_contain_text("Current password is incorrect.")
        await plain.get_by_label("Password, to delete").fill(PASSWORD)
        await plain.get_by_role("button", name="Delete the account").click()
        await expect(plain.get_by_role("status")).to_have_text("Your account is deleted.")
        assert await shop.accounts.find("ada") is None


class TestEveryone:
    @pytest.mark.parametrize("width", [1280, 320])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    async def test_axe_finds_nothing_on_any_page(self, browser, shop, axe, scheme, width):
        context = await browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        page = await context.new_page()
        found = []

        async def look():
            found.extend(await findings(page, axe))
            assert await page.evaluate("document.documentElement.scrollWidth") <= width

        for name in ("login", "login?told=out", "register", "forgot", "reset?token=x", "verify?token=x"):
            await page.goto(f"{shop.address}/account/{name}")
            await look()
        await sign_in(page, shop, name="nobody", password="x")
        await look()
        await page.goto(f"{shop.address}/account/register")
        await page.get_by_label("Name").fill("a b")
        await page.get_by_label("Password").fill("x")
        await page.get_by_role("button", name="Make the account").click()
        await look()
        await register(page, shop)
        await look()
        await page.get_by_label("Present password").fill("wrong")
        await page.get_by_label("New password").fill("short")
        await page.get_by_role("button", name="Change the password").click()
        await look()
        await page.goto(f"{shop.address}/account/second-factor")
        await look()
        assert found == []
        await context.close()

    async def test_a_keyboard_alone_signs_in_and_sees_where_it_is(self, page, shop):
        await shop.accounts.register("ada", "", PASSWORD)
        await page.goto(f"{shop.address}/account/login")
        seen = []
        for text in ("", "ada", PASSWORD):
            await page.keyboard.press("Tab")
            await page.keyboard.type(text)
            seen.append(
                await page.evaluate(
                    """() => { const e = document.activeElement;
                    return [e.innerText || e.name, getComputedStyle(e).outlineStyle !== 'none'] }"""
                )
            )
        assert seen == [["Skip to the content", True], ["name", True], ["password", True]]
        await page.keyboard.press("Enter")
        await heading(page, "Your account")

    async def test_password_managers_know_the_fields(self, page, shop):
        await page.goto(f"{shop.address}/account/login")
        fields = await page.locator("input:not([type=hidden])").evaluate_all("all => all.map(e => e.autocomplete)")
        assert fields == ["username", "current-password"]
        await page.goto(f"{shop.address}/account/register")
        fields = await page.locator("input:not([type=hidden])").evaluate_all("all => all.map(e => e.autocomplete)")
        assert fields == ["username", "email", "new-password"]


class TestSafety:
    async def test_the_cookie_is_out_of_reach_for_scripts(self, page, shop):
        await register(page, shop)
        assert await page.evaluate("document.cookie") == ""
        kept = {each["name"]: each for each in await page.context.cookies()}
        assert kept["consona-session"]["httpOnly"]
        assert kept["consona-session"]["sameSite"] == "Lax"

    async def test_a_form_of_another_site_does_nothing(self, plain, shop):
        page = plain
        await register(page, shop)
        [ada] = [each async for each in shop.accounts.all()]
        evil = APIServer("evil")
        action = f"{shop.address.replace('127.0.0.1', 'localhost')}/account"

        @evil.get("/")
        async def trap(to: str) -> Response:
            return Response(
                f'<!doctype html><form method="post" action="{action}/{to}"><input name="old" value="{PASSWORD}">'
                f'<input name="password" value="{NEW_PASSWORD}"><input name="name" value="ada"><button>Win</button></form>',
                media_type="text/html",
            )

        await page.goto(action)  # signed in under this name, too
        await sign_in(page, type(shop)(shop.accounts, shop.postbox, action.removesuffix("/account")))
        await heading(page, "Your account")
        async with served(evil) as there:
            for to in ("password", "sessions/end-others", "logout", "login"):
                await page.goto(f"{there}/?to={to}")
                async with page.expect_navigation() as done:
                    await page.get_by_role("button", name="Win").click()
                assert (await done.value).status == 403, to
        assert len(await shop.accounts.sessions(ada.id)) == 2
        await shop.accounts.authenticate("ada", PASSWORD)
