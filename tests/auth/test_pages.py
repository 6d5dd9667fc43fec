"""The pages of accounts: what they answer, and to whom. How they look and work is in tests/browser."""

from __future__ import annotations

from urllib.parse import urlencode

import pyotp
import pytest

from asgi_call import call
from auth_tools import PASSWORD, Clock, accounts_at
from consona.auth.errors import LoginFailed, SecondFactorNeeded
from consona.auth.pages import AccountPages
from consona.auth.theme import Theme
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer

HERE = {"sec-fetch-site": "same-origin"}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def shop(tmp_path, clock):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", clock)
    api = APIServer("t")
    api.secure(accounts, AccountPages(accounts))
    async with api:
        await accounts.register("ada", "", PASSWORD)
        yield api, accounts


async def send(api, page, fields, **headers):
    headers = {"content-type": "application/x-www-form-urlencoded", **HERE} | headers
    return await call(api, "POST", f"/account/{page}", body=urlencode(fields).encode(), headers=headers)


async def signed_in(api):
    done = await send(api, "login", {"name": "ada", "password": PASSWORD})
    assert done.status == 303
    [kept] = [v for k, v in done.headers if k == "set-cookie" and v.startswith("__Host-consona-session")]
    assert {"HttpOnly", "Secure", "SameSite=Lax"} <= {part.strip() for part in kept.split(";")}
    return kept.partition(";")[0]


async def test_who_is_not_signed_in_is_sent_to_the_sign_in(shop):
    api, _ = shop
    for page in ("", "/second-factor"):
        asked = await call(api, "GET", f"/account{page}")
        assert (asked.status, asked.header("location")) == (303, "/account/login")
    asked = await send(api, "password", {"old": PASSWORD})
    assert (asked.status, asked.header("location")) == (303, "/account/login")


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "", "origin": "null"}],
)
@pytest.mark.parametrize("page", ["login", "register", "logout", "password", "sessions/end-others", "second-factor"])
async def test_forms_of_other_sites_do_not_count(shop, page, headers):
    api, accounts = shop
    kept = await signed_in(api)
    fields = {"name": "eve", "password": PASSWORD, "old": PASSWORD}
    assert (await send(api, page, fields, cookie=kept, **headers)).status == 403
    assert await accounts.find("eve") is None
    assert (await call(api, "GET", "/account", headers={"cookie": kept})).status == 200


async def test_no_page_can_be_framed_scripted_or_kept(shop):
    api, _ = shop
    page = await call(api, "GET", "/account/login")
    policy = page.header("content-security-policy")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.header("cache-control") == "no-store"
    assert page.header("referrer-policy") == "same-origin"
    assert b"<script" not in page.body


async def test_what_somebody_typed_is_shown_as_text(shop):
    api, _ = shop
    evil = '"><script>alert(1)</script>'
    for page in ("login", "register"):
        shown = await send(api, page, {"name": evil, "email": evil, "password": "x", "next": evil})
        assert shown.status == 422
        assert b"<script" not in shown.body
    assert b"<script" not in (await call(api, "GET", "/account/login", query=urlencode({"next": evil}))).body


async def test_a_limit_says_when_to_come_back(shop):
    api, _ = shop
    for _ in range(5):
        assert (await send(api, "login", {"name": "ada", "password": "x"})).status == 422
    locked = await send(api, "login", {"name": "ada", "password": PASSWORD})
    assert locked.status == 429
    assert 290 < int(locked.header("retry-after")) <= 300


async def test_the_page_for_the_code_does_not_need_the_password_again(shop, clock):
    _, accounts = shop
    ada = await accounts.find("ada")
    begun = await accounts.begin_second_factor(ada.id)
    codes = await accounts.confirm_second_factor(ada.id, begun.note, pyotp.TOTP(begun.secret).at(int(clock.now)))
    with pytest.raises(SecondFactorNeeded) as caught:
        await accounts.authenticate("ada", PASSWORD)
    note = caught.value.note
    for wrong in ("", "x", note[:-4] + "AAAA", begun.note):
        with pytest.raises(LoginFailed):
            await accounts.authenticate_code(wrong, codes[0])
    session = await accounts.authenticate_code(note, codes[0])
    assert session.account.name == "ada"
    with pytest.raises(LoginFailed):
        await accounts.authenticate_code(note, codes[0])  # each code counts once
    clock.now += 301
    with pytest.raises(LoginFailed):
        await accounts.authenticate_code(note, codes[1])


async def test_templates_can_be_an_applications_own(tmp_path):
    (tmp_path / "own" / "pages").mkdir(parents=True)
    (tmp_path / "own" / "pages" / "base.html").write_text(
        '{% extends "consona/pages/base.html" %}{% block brand %}<p>My own head</p>{% endblock %}', encoding="utf-8"
    )
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", theme=Theme(tmp_path / "own"))
    api = APIServer("t")
    api.secure(accounts, AccountPages(accounts, path="/me"))
    async with api:
        page = await call(api, "GET", "/me/login")
        assert b"My own head" in page.body
        assert b'action="/me/login"' in page.body


async def test_pages_follow_what_is_offered(tmp_path):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", registration=False)
    api = APIServer("t")
    api.secure(accounts, AccountPages(accounts))
    async with api:
        for page in ("register", "forgot", "reset", "verify"):
            assert (await call(api, "GET", f"/account/{page}")).status == 404
        shown = await call(api, "GET", "/account/login")
        assert b"/register" not in shown.body
        assert b"/forgot" not in shown.body


@pytest.mark.parametrize("path", ["", "/", "account", "/account/", "//evil.example", "/a b"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ConfigurationError):
        AccountPages(accounts_at("sqlite://"), path=path)
