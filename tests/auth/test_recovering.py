"""What mails are for: whose an address is, and the way back into an account. Through a real SMTP server."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from asgi_call import call
from auth_tools import NEW_PASSWORD, PASSWORD, Clock, accounts_at
from consona.auth.errors import AccountDisabled, AccountLocked, LinkRefused, LoginFailed, RefreshRefused
from consona.auth.guesses import Lockout
from consona.auth.password_rules import PasswordRefused
from consona.auth.theme import Theme
from consona.errors import ConfigurationError, Conflict, NotFound, ValidationError
from consona.resilience import Policy
from consona.rest.server.api_server import APIServer
from mail_server import Postbox, mailer_to, smtp_server

ALICE = "alice@example.org"
PAGES = "https://shop.example/account"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def postbox():
    return Postbox()


@pytest.fixture
async def accounts(tmp_path, clock, postbox):
    url = f"sqlite:///{tmp_path}/a.db"
    async with smtp_server(postbox) as port, accounts_at(url, clock, mailer=mailer_to(port), links_to=PAGES) as made:
        yield made


@pytest.fixture
async def alice(accounts, postbox):
    made = await accounts.register("alice", ALICE, PASSWORD)
    await accounts.postman.drained()
    return made


async def mails(accounts, postbox, to=None):
    await accounts.postman.drained()
    read = [email.message_from_string(text, policy=email.policy.default) for text in postbox.mails]
    return [each for each in read if to is None or each["To"] == to]


async def last_token(accounts, postbox, to=None):
    text = (await mails(accounts, postbox, to))[-1].get_content()
    [link] = re.findall(r"https://\S+", text)
    assert link.startswith(f"{PAGES}/")
    [token] = parse_qs(urlsplit(link).query)["token"]
    return token


async def asked(accounts, postbox, who=ALICE, **more):
    await accounts.forgot_password(who, **more)
    return await last_token(accounts, postbox)


# Whose an address is.


async def test_who_registers_is_sent_a_link_that_verifies_the_address(accounts, postbox, alice):
    assert not alice.email_verified
    [mail] = await mails(accounts, postbox)
    assert (mail["To"], mail["Auto-Submitted"]) == (ALICE, "auto-generated")
    assert mail["Subject"] == "Confirm your e-mail address for shop"
    assert "Hello alice" in mail.get_content()
    verified = await accounts.verify_email(await last_token(accounts, postbox))
    assert verified.email_verified
    assert (await accounts.get(alice.id)).email_verified


async def test_a_link_counts_once(accounts, postbox, alice):
    token = await last_token(accounts, postbox)
    done = await asyncio.gather(*(accounts.verify_email(token) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(each, LinkRefused) for each in done) == 4
    reset = await asked(accounts, postbox)
    done = await asyncio.gather(
        *(accounts.reset_password(reset, f"{NEW_PASSWORD} {n}") for n in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, LinkRefused) for each in done) == 4


async def test_a_link_counts_for_its_time_and_its_purpose(accounts, postbox, alice, clock):
    verify = await last_token(accounts, postbox)
    reset = await asked(accounts, postbox)
    with pytest.raises(LinkRefused):
        await accounts.reset_password(verify, NEW_PASSWORD)
    with pytest.raises(LinkRefused):
        await accounts.verify_email(reset)
    clock.now += 3601
    with pytest.raises(LinkRefused):
        await accounts.reset_password(reset, NEW_PASSWORD)
    clock.now += 86_400
    with pytest.raises(LinkRefused):
        await accounts.verify_email(verify)
    assert await accounts.sweep() >= 2
    assert await accounts.db.fetch_value("SELECT count(*) FROM consona_links") == 0


async def test_only_the_newest_link_counts(accounts, postbox, alice):
    first = await last_token(accounts, postbox)
    await accounts.send_verification(alice.id)
    second = await last_token(accounts, postbox)
    with pytest.raises(LinkRefused):
        await accounts.verify_email(first)
    await accounts.verify_email(second)
    with pytest.raises(Conflict):
        await accounts.send_verification(alice.id)


async def test_another_address_is_set_when_its_link_was_followed_and_the_old_one_is_told(accounts, postbox, alice):
    await accounts.verify_email(await last_token(accounts, postbox))
    with pytest.raises(LoginFailed):
        await accounts.change_email(alice.id, "new@example.org", "wrong")
    with pytest.raises(ValidationError):
        await accounts.change_email(alice.id, "nothing", PASSWORD)
    await accounts.change_email(alice.id, "new@example.org", PASSWORD)
    assert (await accounts.get(alice.id)).email == ALICE
    reset = await asked(accounts, postbox)
    changed = await accounts.verify_email(await last_token(accounts, postbox, "new@example.org"))
    assert (changed.email, changed.email_verified) == ("new@example.org", True)
    assert (await mails(accounts, postbox, ALICE))[-1]["Subject"] == "Your e-mail address for shop was changed"
    with pytest.raises(LinkRefused):
        await accounts.reset_password(reset, NEW_PASSWORD)  # it was sent to the address before
    assert await accounts.find(ALICE) is None


async def test_an_address_that_is_taken_meanwhile_is_refused_and_nothing_changes(accounts, postbox, alice):
    await accounts.change_email(alice.id, "new@example.org", PASSWORD)
    token = await last_token(accounts, postbox, "new@example.org")
    await accounts.register("bob", "new@example.org", PASSWORD)
    with pytest.raises(Conflict):
        await accounts.verify_email(token)
    assert (await accounts.get(alice.id)).email == ALICE


# The way back.


async def test_a_lost_password_is_set_anew_and_all_sessions_end(accounts, postbox, alice):
    session = await accounts.authenticate("alice", PASSWORD)
    token = await asked(accounts, postbox)
    changed = await accounts.reset_password(token, NEW_PASSWORD)
    assert changed.email_verified  # who followed the link has read the mail
    with pytest.raises(RefreshRefused):
        await accounts.refresh(session.refresh_token)
    with pytest.raises(LoginFailed):
        await accounts.authenticate("alice", PASSWORD)
    await accounts.authenticate("alice", NEW_PASSWORD)
    assert (await mails(accounts, postbox))[-1]["Subject"] == "Your password for shop was changed"
    assert await accounts.sessions(alice.id) != []


async def test_a_link_outlives_a_password_that_is_refused_and_no_other_change(accounts, postbox, alice):
    token = await asked(accounts, postbox)
    with pytest.raises(PasswordRefused):
        await accounts.reset_password(token, "short")
    await accounts.change_password(alice.id, PASSWORD, NEW_PASSWORD)
    with pytest.raises(LinkRefused):
        await accounts.reset_password(token, "another long sentence of mine")


async def test_nobody_is_told_who_has_an_account(accounts, postbox, alice):
    before = len(await mails(accounts, postbox))
    for who in ("nobody@example.org", "nobody", "", "\0", "x" * 10_000, "alice@example.org\r\nBcc: x@example.org"):
        assert await accounts.forgot_password(who) is None
    assert len(await mails(accounts, postbox)) == before
    assert await accounts.forgot_password(ALICE) is None


async def test_the_mail_goes_to_the_address_of_the_account_not_to_one_that_looks_like_it(accounts, postbox, alice):
    await accounts.forgot_password("ALICE@\uff45xample.org")
    assert (await mails(accounts, postbox))[-1]["To"] == ALICE


async def test_an_account_is_sent_five_links_in_an_hour(accounts, postbox, alice, clock):
    clock.now += 3601
    before = len(await mails(accounts, postbox))
    for _ in range(10):
        await accounts.forgot_password(ALICE)
    assert len(await mails(accounts, postbox)) == before + 5
    clock.now += 3601
    await accounts.forgot_password(ALICE)
    assert len(await mails(accounts, postbox)) == before + 6


async def test_links_cannot_be_guessed(accounts, postbox, alice):
    token = await asked(accounts, postbox)
    id_, secret = token[4:26], token[27:]
    wrong = ["", "x", token[:-1], token + "A", f"cml_{id_}_{'A' * 43}", f"cml_{'A' * 22}_{secret}"]
    for each in wrong[:5]:
        with pytest.raises(LinkRefused):
            await accounts.reset_password(each, NEW_PASSWORD, address="10.0.0.1")
    for each in (wrong[5], token):
        with pytest.raises(AccountLocked) as caught:
            await accounts.reset_password(each, NEW_PASSWORD, address="10.0.0.1")
        assert caught.value.retry_after > 0
    await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")  # that is another counter
    await accounts.reset_password(token, NEW_PASSWORD, address="10.0.0.2")


async def test_of_many_guesses_at_once_five_are_compared(accounts, alice):
    done = await asyncio.gather(
        *(accounts.reset_password(f"cml_{'A' * 22}_{n:043}", NEW_PASSWORD, address="10.0.0.1") for n in range(60)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, LinkRefused) for each in done) == 5
    assert sum(isinstance(each, AccountLocked) for each in done) == 55


async def test_guesses_at_links_and_at_passwords_share_the_limit_of_an_address(tmp_path, clock, postbox):
    lockout = Lockout(address_guesses=8)
    async with smtp_server(postbox) as port:
        mailer = mailer_to(port)
        async with accounts_at(
            f"sqlite:///{tmp_path}/a.db", clock, lockout=lockout, mailer=mailer, links_to=PAGES
        ) as accounts:
            for n in range(4):
                with pytest.raises(LinkRefused):
                    await accounts.verify_email("x", address="10.0.0.1")
                with pytest.raises(LoginFailed):
                    await accounts.authenticate(f"name{n}", "wrong", address="10.0.0.1")
            for guess in (
                accounts.verify_email("x", address="10.0.0.1"),
                accounts.authenticate("n", "x", address="10.0.0.1"),
            ):
                with pytest.raises(AccountLocked):
                    await guess


async def test_the_owner_of_a_locked_account_gets_back_in(accounts, postbox, alice):
    for _ in range(5):
        with pytest.raises(LoginFailed):
            await accounts.authenticate("alice", "wrong", address="10.0.0.1")
    token = await asked(accounts, postbox, address="10.0.0.1")
    await accounts.reset_password(token, NEW_PASSWORD, address="10.0.0.1")
    await accounts.authenticate("alice", NEW_PASSWORD, address="10.0.0.1")


async def test_a_disabled_account_is_sent_nothing_and_not_opened(accounts, postbox, alice):
    token = await asked(accounts, postbox)
    await accounts.disable(alice.id)
    before = len(await mails(accounts, postbox))
    await accounts.forgot_password(ALICE)
    assert len(await mails(accounts, postbox)) == before
    with pytest.raises(AccountDisabled):
        await accounts.reset_password(token, NEW_PASSWORD)


async def test_a_second_factor_is_asked_for_after_a_reset_too(accounts, postbox, alice, clock):
    await accounts.verify_email(await last_token(accounts, postbox))
    begun = await accounts.begin_second_factor(alice.id)
    code = pyotp.TOTP(begun.secret).at(int(clock.now))
    await accounts.confirm_second_factor(alice.id, begun.note, code)
    await accounts.reset_password(await asked(accounts, postbox), NEW_PASSWORD)
    with pytest.raises(LoginFailed) as caught:
        await accounts.authenticate("alice", NEW_PASSWORD)
    assert caught.value.code == "auth.second_factor_needed"


async def test_who_made_an_account_with_the_address_of_another_loses_it_to_its_owner(accounts, postbox):
    thief = await accounts.register("alice", ALICE, PASSWORD)
    session = await accounts.authenticate("alice", PASSWORD)
    _, key = await accounts.make_key(thief.id, "backdoor", ["*"])
    await accounts.reset_password(await asked(accounts, postbox), NEW_PASSWORD)
    with pytest.raises(RefreshRefused):
        await accounts.refresh(session.refresh_token)
    assert await accounts.list_keys(thief.id) == []
    with pytest.raises(Exception) as caught:
        await accounts.keys.identify(key)
    assert caught.value.status == 401


async def test_the_database_holds_no_link(accounts, postbox, alice):
    token = await asked(accounts, postbox)
    text = str(await accounts.db.fetch_all("SELECT * FROM consona_links"))
    text += str([entry async for entry in accounts.audit.entries()])
    assert token.rpartition("_")[2] not in text


async def test_a_mail_server_that_is_away_is_told_to_the_log_and_not_to_strangers(tmp_path, caplog):
    async with smtp_server(Postbox()) as port:
        pass
    mailer = mailer_to(port, policy=Policy(timeout=5))
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", mailer=mailer, links_to=PAGES) as accounts:
        alice = await accounts.register("alice", ALICE, PASSWORD)
        await accounts.forgot_password(ALICE)
        await accounts.forgot_password("nobody@example.org")
        await accounts.postman.drained()
        assert alice.name == "alice"
    assert "cannot be reached" in caplog.text
    assert ALICE not in caplog.text
    assert "token=" not in caplog.text


async def test_without_a_mailer_it_says_what_is_missing(tmp_path):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db") as accounts:
        with pytest.raises(ConfigurationError) as caught:
            await accounts.forgot_password(ALICE)
        assert "mailer=" in str(caught.value)
    for bad in ("", "http://shop.example/account"):
        with pytest.raises(ConfigurationError):
            accounts_at(f"sqlite:///{tmp_path}/b.db", mailer=mailer_to(25), links_to=bad)


async def test_what_an_account_was_sent_goes_with_it(accounts, postbox, alice):
    token = await last_token(accounts, postbox)
    await accounts.delete(alice.id)
    with pytest.raises(LinkRefused):
        await accounts.verify_email(token)
    with pytest.raises(NotFound):
        await accounts.send_verification(alice.id)


async def test_texts_can_be_an_applications_own(tmp_path, postbox):
    (tmp_path / "own" / "mails").mkdir(parents=True)
    (tmp_path / "own" / "mails" / "verify.txt").write_text("Willkommen\n{{ link }}", encoding="utf-8")
    async with smtp_server(postbox) as port:
        theme = Theme(tmp_path / "own")
        url = f"sqlite:///{tmp_path}/a.db"
        async with accounts_at(url, mailer=mailer_to(port), links_to=PAGES, theme=theme) as accounts:
            await accounts.register("alice", ALICE, PASSWORD)
            [mail] = await mails(accounts, postbox)
            assert mail["Subject"] == "Willkommen"
    with pytest.raises(ConfigurationError):
        Theme(tmp_path / "nothing")


# The routes.


@pytest.fixture
async def api(accounts):
    made = APIServer("t")
    made.secure(accounts)
    async with made:
        yield made


async def post(api, path, body=None, **headers):
    data = b"" if body is None else json.dumps(body).encode()
    return await call(api, "POST", path, body=data, headers={"content-type": "application/json"} | headers)


async def test_the_routes_verify_and_reset(api, accounts, postbox):
    await post(api, "/auth/register", {"name": "alice", "email": ALICE, "password": PASSWORD})
    login = await post(api, "/auth/login", {"name": "alice", "password": PASSWORD})
    mine = {"authorization": f"Bearer {login.json()['access_token']}"}
    assert (await post(api, "/auth/verification", **mine)).status == 202
    verified = await post(api, "/auth/verify", {"token": await last_token(accounts, postbox)})
    assert (verified.status, verified.json()["email_verified"]) == (200, True)
    assert (await post(api, "/auth/email", {"email": "b@example.org", "password": PASSWORD}, **mine)).status == 202
    answers = [await post(api, "/auth/forgot", {"email": who}) for who in (ALICE, "nobody@example.org")]
    assert len({(each.status, each.body, tuple(sorted(dict(each.headers)))) for each in answers}) == 1
    token = await last_token(accounts, postbox, ALICE)
    assert (await post(api, "/auth/reset", {"token": token, "password": "short"})).status == 422
    assert (await post(api, "/auth/reset", {"token": token, "password": NEW_PASSWORD})).status == 204
    again = await post(api, "/auth/reset", {"token": token, "password": NEW_PASSWORD})
    assert (again.status, again.json()["code"]) == (400, "auth.link_refused")
    assert (await post(api, "/auth/verification", **mine)).status == 401  # all sessions ended


async def test_without_a_mailer_there_are_no_such_routes(tmp_path):
    made = APIServer("t")
    made.secure(accounts_at(f"sqlite:///{tmp_path}/a.db"))
    async with made:
        assert (await post(made, "/auth/forgot", {"email": ALICE})).status == 404
