"""Second factors: a code of now, once; recovery codes, once each; and no more guesses than for a password."""

from __future__ import annotations

import asyncio
import base64
import json

import pyotp
import pytest

from asgi_call import call
from auth_tools import PASSWORD, Clock, accounts_at
from consona.auth.errors import AccountLocked, LoginFailed, SecondFactorNeeded
from consona.auth.second_factors import SecondFactors
from consona.errors import Conflict
from consona.rest.server.api_server import APIServer


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def accounts(tmp_path, clock):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", clock) as made:
        yield made


@pytest.fixture
async def alice(accounts):
    return await accounts.register("alice", "", PASSWORD)


async def enrol(accounts, account, clock):
    begun = await accounts.begin_second_factor(account.id)
    app = pyotp.TOTP(begun.secret)
    codes = await accounts.confirm_second_factor(account.id, begun.note, app.at(int(clock.now)))
    clock.now += 30
    return app, codes


async def test_a_code_is_asked_for_once_an_app_has_shown_that_it_makes_right_ones(accounts, alice, clock):
    begun = await accounts.begin_second_factor(alice.id)
    assert begun.uri.startswith("otpauth://totp/shop:alice?secret=")
    await accounts.authenticate("alice", PASSWORD)  # not yet
    with pytest.raises(LoginFailed):
        await accounts.confirm_second_factor(alice.id, begun.note, "000000")
    app, codes = await enrol(accounts, alice, clock)
    assert len(set(codes)) == 10
    with pytest.raises(SecondFactorNeeded):
        await accounts.authenticate("alice", PASSWORD)
    session = await accounts.authenticate("alice", PASSWORD, code=app.at(int(clock.now)))
    assert session.account.second_factor
    with pytest.raises(Conflict):
        await accounts.begin_second_factor(alice.id)


async def test_a_wrong_password_is_told_before_any_code(accounts, alice, clock):
    app, _ = await enrol(accounts, alice, clock)
    with pytest.raises(LoginFailed) as caught:
        await accounts.authenticate("alice", "wrong", code=app.at(int(clock.now)))
    assert type(caught.value) is LoginFailed


async def test_a_code_counts_once_also_for_two_at_the_same_moment(accounts, alice, clock):
    app, _ = await enrol(accounts, alice, clock)
    code = app.at(int(clock.now))
    done = await asyncio.gather(
        *(accounts.authenticate("alice", PASSWORD, code=code) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(each, LoginFailed) for each in done) == 2
    with pytest.raises(LoginFailed, match="used before"):
        await accounts.authenticate("alice", PASSWORD, code=code)


async def test_a_code_counts_one_step_before_and_after_its_time(accounts, alice, clock):
    app, _ = await enrol(accounts, alice, clock)
    clock.now += 300
    for offset, counts in ((-60, False), (60, False), (-30, True), (0, True), (30, True)):
        code = app.at(int(clock.now) + offset)
        if counts:
            await accounts.authenticate("alice", PASSWORD, code=code)
        else:
            with pytest.raises(LoginFailed):
                await accounts.authenticate("alice", PASSWORD, code=code)


@pytest.mark.parametrize(
    "code",
    ["1", "1234567", "abcdef", "-12345", "12 345", "\u0661\u0662\u0663\u0664\u0665\u0666", "x" * 10_000, "\ud800"],
    ids=range(8),
)
async def test_what_is_no_code_is_wrong(accounts, alice, clock, code):
    await enrol(accounts, alice, clock)
    with pytest.raises(LoginFailed):
        await accounts.authenticate("alice", PASSWORD, code=code)


async def test_a_recovery_code_counts_once(accounts, alice, clock):
    _, codes = await enrol(accounts, alice, clock)
    await accounts.authenticate("alice", PASSWORD, code=codes[3].upper())
    with pytest.raises(LoginFailed):
        await accounts.authenticate("alice", PASSWORD, code=codes[3])
    done = await asyncio.gather(
        *(accounts.authenticate("alice", PASSWORD, code=codes[5]) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(each, LoginFailed) for each in done) == 2


async def test_codes_are_guessed_at_as_little_as_passwords(accounts, alice, clock):
    app, _ = await enrol(accounts, alice, clock)
    for n in range(5):
        with pytest.raises(LoginFailed):
            await accounts.authenticate("alice", PASSWORD, code=f"{n:06d}", address="10.0.0.1")
    with pytest.raises(AccountLocked):
        await accounts.authenticate("alice", PASSWORD, code=app.at(int(clock.now)), address="10.0.0.1")


async def test_it_is_removed_with_a_right_code(accounts, alice, clock):
    app, _ = await enrol(accounts, alice, clock)
    with pytest.raises(LoginFailed):
        await accounts.remove_second_factor(alice.id, "000000")
    await accounts.remove_second_factor(alice.id, app.at(int(clock.now)))
    await accounts.authenticate("alice", PASSWORD)


async def test_an_enrolment_is_of_one_account_and_of_now(accounts, alice, clock):
    bob = await accounts.register("bob", "", PASSWORD)
    begun = await accounts.begin_second_factor(alice.id)
    app = pyotp.TOTP(begun.secret)
    for account, note in ((bob, begun.note), (alice, "x"), (alice, begun.note[:-2] + "AA")):
        with pytest.raises(LoginFailed):
            await accounts.confirm_second_factor(account.id, note, app.at(int(clock.now)))
    clock.now += 901
    with pytest.raises(LoginFailed):
        await accounts.confirm_second_factor(alice.id, begun.note, app.at(int(clock.now)))


async def test_the_database_holds_neither_secret_nor_recovery_code(accounts, alice, clock):
    app, codes = await enrol(accounts, alice, clock)
    text = str(await accounts.db.fetch_all("SELECT * FROM consona_accounts"))
    text += str(await accounts.db.fetch_all("SELECT * FROM consona_audit"))
    for secret in (app.secret, *codes):
        assert secret not in text


async def test_eight_characters_are_enough_for_a_password_beside_it(accounts, alice, clock):
    await enrol(accounts, alice, clock)
    await accounts.change_password(alice.id, PASSWORD, "vK8#rT2w")


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
    ],
)
def test_the_examples_of_the_standard(now, code):
    """RFC 6238, appendix B (SHA-1); an app shows the last six digits of these eight."""
    secret = base64.b32encode(b"12345678901234567890").decode()
    factors = SecondFactors(None, None, issuer="t", secret=lambda: b"x" * 32, clock=lambda: now)
    assert factors._step(secret, code[-6:], after=0) == now // 30
    assert factors._step(secret, code[-6:], after=now // 30) is None


async def test_the_routes(accounts, alice, clock):
    api = APIServer("t")
    api.secure(accounts)

    async def post(path, body=None, **headers):
        data = b"" if body is None else json.dumps(body).encode()
        return await call(api, "POST", path, body=data, headers={"content-type": "application/json"} | headers)

    async with api:
        login = {"name": "alice", "password": PASSWORD}
        bearer = {"authorization": f"Bearer {(await post('/auth/login', login)).json()['access_token']}"}
        begun = (await post("/auth/second-factor", **bearer)).json()
        app = pyotp.TOTP(begun["secret"])
        first = {"note": begun["note"], "code": app.at(int(clock.now))}
        assert len((await post("/auth/second-factor/confirm", first, **bearer)).json()) == 10
        asked = await post("/auth/login", login)
        assert (asked.status, asked.json()["code"]) == (401, "auth.second_factor_needed")
        clock.now += 30
        assert (await post("/auth/login", login | {"code": app.at(int(clock.now))})).status == 200
        clock.now += 30
        removed = await post("/auth/second-factor/remove", {"code": app.at(int(clock.now))}, **bearer)
        assert removed.status == 204
