"""The routes below /auth: for programs with tokens, for browsers with a cookie that other sites cannot use."""

from __future__ import annotations

import json

import pytest

from asgi_call import call
from auth_tools import NEW_PASSWORD, PASSWORD, accounts_at
from consona.rest.server.api_server import APIServer


@pytest.fixture
async def shop(tmp_path):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", new_roles=("customer",))
    api = APIServer("t")

    @api.post("/orders", roles={"customer"})
    async def order() -> int:
        return 1

    @api.get("/orders", roles={"customer"})
    async def orders() -> int:
        return 2

    api.secure(accounts)
    async with api:
        yield api, accounts


async def post(api, path, body=None, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = b"" if body is None else json.dumps(body).encode()
    return await call(api, "POST", path, body=data, headers={"content-type": "application/json"} | named)


ALICE = {"name": "alice", "email": "alice@example.org", "password": PASSWORD}
LOGIN = {"name": "alice", "password": PASSWORD}
HERE = {"sec_fetch_site": "same-origin"}


def bearer(answer):
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def cookie(answer, name="__Host-consona-session"):
    [found] = [value for key, value in answer.headers if key == "set-cookie" and value.startswith(name)]
    return found


async def test_a_program_registers_signs_in_refreshes_and_signs_out(shop):
    api, _ = shop
    made = await post(api, "/auth/register", ALICE)
    assert (made.status, made.json()["roles"], made.json()["email_verified"]) == (201, ["customer"], False)
    session = await post(api, "/auth/login", LOGIN)
    assert (session.status, session.header("cache-control")) == (200, "no-store")
    assert session.json()["token_type"] == "Bearer"
    assert (await post(api, "/orders", **bearer(session))).status == 200
    me = await call(api, "GET", "/auth/me", headers=bearer(session))
    assert me.json() == made.json()
    renewed = await post(api, "/auth/refresh", {"refresh_token": session.json()["refresh_token"]})
    assert renewed.json()["session"] == session.json()["session"]
    assert (await post(api, "/auth/logout", **bearer(renewed))).status == 204
    assert (await call(api, "GET", "/auth/me", headers=bearer(renewed))).status == 401
    assert (await post(api, "/auth/refresh", {"refresh_token": renewed.json()["refresh_token"]})).status == 401


async def test_nobody_gives_themselves_a_role(shop):
    api, _ = shop
    refused = await post(api, "/auth/register", ALICE | {"roles": ["admin"]})
    assert refused.status == 422
    assert (await post(api, "/auth/login", LOGIN)).status == 401


async def test_what_is_wrong_is_told_by_field(shop):
    api, _ = shop
    refused = await post(api, "/auth/register", ALICE | {"password": "short"})
    assert (refused.status, refused.json()["errors"][0]["path"]) == (422, "password")
    await post(api, "/auth/register", ALICE)
    assert (await post(api, "/auth/register", ALICE)).status == 409


async def test_too_many_guesses_are_told_with_the_time_to_wait(shop):
    api, _ = shop
    for _ in range(5):
        assert (await post(api, "/auth/login", LOGIN | {"password": "x"})).status == 401
    locked = await post(api, "/auth/login", LOGIN)
    assert (locked.status, locked.json()["code"]) == (429, "auth.locked")
    assert 290 < int(locked.header("retry-after")) <= 300


async def test_a_known_device_is_given_a_note(shop):
    api, _ = shop
    await post(api, "/auth/register", ALICE)
    text = cookie(await post(api, "/auth/login", LOGIN), "consona-device")
    assert "HttpOnly" in text
    assert "Secure" in text
    assert "Path=/auth" in text
    note = text.partition(";")[0]
    for _ in range(5):
        await post(api, "/auth/login", LOGIN | {"password": "x"})
    assert (await post(api, "/auth/login", LOGIN)).status == 429
    assert (await post(api, "/auth/login", LOGIN, cookie=note)).status == 200


async def test_a_browser_keeps_its_session_in_a_cookie_that_scripts_cannot_read(shop):
    api, _ = shop
    await post(api, "/auth/register", ALICE)
    session = await post(api, "/auth/login", LOGIN | {"cookie": True}, **HERE)
    text = cookie(session)
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= {part.strip() for part in text.split(";")}
    assert "access_token" not in session.json()
    kept = text.partition(";")[0]
    assert (await call(api, "GET", "/orders", headers={"cookie": kept})).json() == 2
    assert (await post(api, "/orders", cookie=kept, **HERE)).status == 200
    out = await post(api, "/auth/logout", cookie=kept, **HERE)
    assert "Max-Age=0" in cookie(out)
    assert (await call(api, "GET", "/orders", headers={"cookie": kept})).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "https://shop.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://shop.example.evil.example"},
        {"origin": "https://shop.example@evil.example"},
        {},
    ],
)
async def test_a_request_that_another_site_causes_does_not_count(shop, headers):
    api, _ = shop
    await post(api, "/auth/register", ALICE)
    kept = cookie(await post(api, "/auth/login", LOGIN | {"cookie": True}, **HERE)).partition(";")[0]
    headers = {"host": "shop.example"} | headers
    refused = await call(api, "POST", "/orders", headers={"cookie": kept} | headers)
    assert (refused.status, refused.json()["code"]) == (403, "auth.cross_site")
    fixed = await call(
        api,
        "POST",
        "/auth/login",
        body=json.dumps(LOGIN | {"cookie": True}).encode(),
        headers=headers | {"content-type": "application/json"},
    )
    assert fixed.status == 403  # nor is a browser signed in to somebody else's account
    good = {"cookie": kept, "host": "shop.example", "origin": "https://shop.example"}
    assert (await call(api, "POST", "/orders", headers=good)).status == 200


async def test_an_invented_or_changed_cookie_is_nobody(shop):
    api, _ = shop
    await post(api, "/auth/register", ALICE)
    kept = cookie(await post(api, "/auth/login", LOGIN | {"cookie": True}, **HERE)).partition(";")[0]
    name, _, value = kept.partition("=")
    session, _, proof = value.partition(".")
    for wrong in (
        "",
        "x",
        session,
        f"{session}.{'A' * 43}",
        f"{'a' * 22}.{proof}",
        f"{value}A",
        f"{session}.{proof[:-1]}",
    ):
        assert (await call(api, "GET", "/orders", headers={"cookie": f"{name}={wrong}"})).status == 401


async def test_a_cookie_follows_what_changes_at_once(shop):
    api, accounts = shop
    await post(api, "/auth/register", ALICE)
    alice = await accounts.find("alice")
    kept = cookie(await post(api, "/auth/login", LOGIN | {"cookie": True}, **HERE)).partition(";")[0]
    assert (await call(api, "GET", "/orders", headers={"cookie": kept})).status == 200
    await accounts.disable(alice.id)
    assert (await call(api, "GET", "/orders", headers={"cookie": kept})).status == 401


async def test_the_browser_that_set_another_password_stays_signed_in_and_no_other(shop):
    api, _ = shop
    await post(api, "/auth/register", ALICE)
    here, there = [
        cookie(await post(api, "/auth/login", LOGIN | {"cookie": True}, **HERE)).partition(";")[0] for _ in range(2)
    ]
    for kept in (here, there):
        assert (await call(api, "GET", "/orders", headers={"cookie": kept})).status == 200
    changed = await post(api, "/auth/password", {"old": PASSWORD, "new": NEW_PASSWORD}, cookie=here, **HERE)
    assert changed.status == 204
    assert (await call(api, "GET", "/orders", headers={"cookie": here})).status == 200
    assert (await call(api, "GET", "/orders", headers={"cookie": there})).status == 401


async def test_a_session_that_an_attacker_planted_does_not_become_the_victims(shop):
    """Session fixation: whoever signs in gets a session of their own, whatever cookie the browser had."""
    api, accounts = shop
    for name in ("alice", "eve"):
        await accounts.register(name, "", PASSWORD)
    planted = cookie(await post(api, "/auth/login", LOGIN | {"name": "eve", "cookie": True}, **HERE)).partition(";")[0]
    mine = cookie(await post(api, "/auth/login", LOGIN | {"cookie": True}, cookie=planted, **HERE)).partition(";")[0]
    assert mine != planted
    assert (await call(api, "GET", "/auth/me", headers={"cookie": planted})).json()["name"] == "eve"
    assert (await call(api, "GET", "/auth/me", headers={"cookie": mine})).json()["name"] == "alice"


async def test_sessions_are_seen_and_ended_by_their_owner_alone(shop):
    api, _ = shop
    await post(api, "/auth/register", ALICE)
    await post(api, "/auth/register", {"name": "bob", "password": PASSWORD})
    here, there = [await post(api, "/auth/login", LOGIN) for _ in range(2)]
    bob = await post(api, "/auth/login", LOGIN | {"name": "bob"})
    path = f"/auth/sessions/{there.json()['session']}"
    assert (await call(api, "DELETE", path, headers=bearer(bob))).status == 404
    listed = (await call(api, "GET", "/auth/sessions", headers=bearer(here))).json()
    assert {each["id"] for each in listed} == {here.json()["session"], there.json()["session"]}
    assert (await call(api, "DELETE", path, headers=bearer(here))).status == 204
    assert (await call(api, "GET", "/auth/me", headers=bearer(there))).status == 401
    assert (await post(api, "/auth/logout-everywhere", **bearer(here))).status == 204
    assert (await call(api, "GET", "/auth/me", headers=bearer(here))).status == 401
    assert (await call(api, "GET", "/auth/me", headers=bearer(bob))).status == 200


async def test_another_password_ends_the_other_sessions(shop):
    api, _ = shop
    await post(api, "/auth/register", ALICE)
    here, there = [await post(api, "/auth/login", LOGIN) for _ in range(2)]
    assert (await post(api, "/auth/password", {"old": "x", "new": NEW_PASSWORD}, **bearer(here))).status == 401
    assert (await post(api, "/auth/password", {"old": PASSWORD, "new": NEW_PASSWORD}, **bearer(here))).status == 204
    assert (await post(api, "/auth/refresh", {"refresh_token": there.json()["refresh_token"]})).status == 401
    assert (await post(api, "/auth/refresh", {"refresh_token": here.json()["refresh_token"]})).status == 200
    assert (await post(api, "/auth/login", LOGIN | {"password": NEW_PASSWORD})).status == 200


async def test_limited_credentials_do_not_change_an_account(shop):
    api, accounts = shop
    await post(api, "/auth/register", ALICE)
    alice = await accounts.find("alice")
    session = (await post(api, "/auth/login", LOGIN)).json()["session"]
    for token in (accounts.tokens.issue(alice.id), accounts.tokens.issue(alice.id, session=session, scopes=["*"])):
        headers = {"authorization": f"Bearer {token.text}"}
        assert (await post(api, "/auth/password", {"old": PASSWORD, "new": NEW_PASSWORD}, **headers)).status == 403
        assert (await post(api, "/auth/logout-everywhere", **headers)).status == 403
        assert (await call(api, "GET", "/auth/sessions", headers=headers)).status == 403


async def test_registration_can_be_closed(tmp_path):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", registration=False)
    api = APIServer("t")
    api.secure(accounts)
    async with api:
        assert (await post(api, "/auth/register", ALICE)).status == 404


async def test_everything_below_auth_is_closed_but_what_must_be_open(shop):
    api, _ = shop
    paths = api.openapi()["paths"]
    opened = {
        (method, path)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith("/auth") and "security" not in operation
    }
    assert opened == {("post", "/auth/register"), ("post", "/auth/login"), ("post", "/auth/refresh")}
