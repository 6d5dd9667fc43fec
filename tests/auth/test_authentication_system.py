"""Accounts: who has the password comes in, nobody else does, and what is taken back counts nowhere."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from auth_tools import NEW_PASSWORD, PASSWORD, Clock, accounts_at
from consona.auth.account_settings import AccountSettings
from consona.auth.errors import AccountDisabled, AccountLocked, LoginFailed, RefreshRefused, TokenRevoked
from consona.auth.guesses import Lockout
from consona.auth.password_rules import PasswordRefused
from consona.auth.passwords import HashCost
from consona.errors import ConfigurationError, Conflict, NotFound, NotStarted, ValidationError
from consona.part import Status


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def accounts(tmp_path, clock):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", clock) as made:
        yield made


@pytest.fixture
async def alice(accounts):
    return await accounts.register("alice", "alice@example.org", PASSWORD, roles=["editor"])


async def test_who_registered_signs_in_by_name_or_address(accounts, alice):
    assert (alice.name, alice.roles, alice.active, alice.last_login) == ("alice", {"editor"}, True, None)
    for name in ("alice", "ALICE", "alice@example.org", "Alice@Example.org"):
        session = await accounts.authenticate(name, PASSWORD, address="10.0.0.1", agent="Firefox")
        claims = accounts.tokens.verify(session.access_token)
        assert (claims.subject, claims.roles, claims.session) == (alice.id, {"editor"}, session.id)
        assert claims.get("name") == "alice"
        assert session.account.last_login is not None
    assert await accounts.find("alice@EXAMPLE.org") == await accounts.get(alice.id)


async def test_the_answer_is_the_same_for_an_unknown_name_and_a_wrong_password(accounts, alice):
    said = set()
    for name, password in (
        ("alice", "wrong"),
        ("nobody", PASSWORD),
        ("nobody@example.org", "x"),
        ("\0", "x"),
        ("", ""),
    ):
        with pytest.raises(LoginFailed) as caught:
            await accounts.authenticate(name, password)
        said.add((str(caught.value), caught.value.code, str(caught.value.context)))
    assert len(said) == 1


@pytest.mark.parametrize(
    ("name", "email", "which"),
    [
        ("alice", "other@example.org", "name"),
        ("ALICE", "other@example.org", "name"),
        ("\uff41lice", "", "name"),
        ("bob", "Alice@Example.ORG", "email"),
    ],
)
async def test_a_name_or_address_belongs_to_one(accounts, alice, name, email, which):
    with pytest.raises(Conflict) as caught:
        await accounts.register(name, email, PASSWORD)
    assert caught.value.context == {"field": which}


async def test_of_many_who_register_the_same_name_at_once_one_gets_it(accounts):
    done = await asyncio.gather(
        *(accounts.register(name, "", PASSWORD) for name in ["bob", "BOB", "Bob"] * 3), return_exceptions=True
    )
    assert sum(isinstance(each, Conflict) for each in done) == 8


async def test_accounts_need_no_address(accounts):
    await accounts.register("a1", "", PASSWORD)
    await accounts.register("a2", "", PASSWORD)


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "a b"},
        {"email": "nothing"},
        {"password": "short"},
        {"password": "alice123456789012"},
        {"roles": "admin"},
        {"roles": ["a b"]},
        {"roles": [""]},
        {"roles": ["a\nb"]},
    ],
)
async def test_bad_input_is_refused_and_nothing_is_made(accounts, bad):
    good = {"name": "alice", "email": "a@example.org", "password": PASSWORD, "roles": []}
    with pytest.raises(ValidationError):
        await accounts.register(**(good | bad))
    assert await accounts.find("alice") is None
    assert [entry async for entry in accounts.audit.entries()] == []


# Guessing.


async def fail(accounts, name="alice", times=1, **more):
    for _ in range(times):
        with pytest.raises(LoginFailed):
            await accounts.authenticate(name, "wrong", **more)


async def test_after_five_wrong_guesses_none_is_taken_for_five_minutes(accounts, alice, clock):
    await fail(accounts, times=5, address="10.0.0.1")
    for password in ("wrong", PASSWORD):
        with pytest.raises(AccountLocked) as caught:
            await accounts.authenticate("alice", password, address="10.0.0.1")
        assert (caught.value.status, caught.value.retry_after) == (429, 300)
    await accounts.authenticate("alice", PASSWORD, address="10.0.0.2")  # its owner, elsewhere
    clock.now += 301
    await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")


async def test_a_right_guess_begins_anew(accounts, alice):
    for _ in range(3):
        await fail(accounts, times=4, address="10.0.0.1")
        await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")


async def test_who_signs_in_often_is_not_shut_out(accounts, alice):
    for _ in range(60):
        await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")


async def test_names_that_do_not_exist_are_locked_too_and_fill_no_table(tmp_path):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", lockout=Lockout(address_guesses=10_000)) as accounts:
        await fail(accounts, "nobody", 5, address="10.0.0.1")
        with pytest.raises(AccountLocked):
            await accounts.authenticate("nobody", "wrong", address="10.0.0.1")
        guesses = accounts._guesses
        for n in range(500):
            with contextlib.suppress(AccountLocked):
                await guesses.take(None, f"name{n}", address="10.0.0.9")
        assert await accounts.db.fetch_value("SELECT count(*) FROM consona_guesses WHERE name LIKE 'a:?%'") <= 4096


async def test_from_one_address_only_so_many_guesses_are_taken(tmp_path, clock):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", clock, lockout=Lockout(address_guesses=12)) as accounts:
        for n in range(12):
            await fail(accounts, f"name{n}", address="10.0.0.1")
        with pytest.raises(AccountLocked):
            await accounts.authenticate("other", "wrong", address="10.0.0.1")
        await fail(accounts, "other", address="10.0.0.2")


async def test_spread_guessing_ends_and_the_owner_is_not_shut_out(tmp_path, clock):
    lockout = Lockout(account_guesses=20)
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", clock, lockout=lockout) as accounts:
        alice = await accounts.register("alice", "", PASSWORD)
        device = (await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")).device
        taken = 0
        for n in range(40):
            try:
                await accounts.authenticate("alice", "wrong", address=f"10.0.1.{n}")
            except LoginFailed:
                taken += 1
            except AccountLocked:
                pass
        assert taken == 20
        with pytest.raises(AccountLocked):
            await accounts.authenticate("alice", PASSWORD, address="10.0.2.1")
        await accounts.authenticate("alice", PASSWORD, address="10.0.2.1", device=device)
        for forged in ("cdv_aaaaaaaaaaaa_9999999999_" + "A" * 43, device[:-1] + "x", "x"):
            with pytest.raises(AccountLocked):
                await accounts.authenticate("alice", PASSWORD, address="10.0.2.1", device=forged)
        await fail(accounts, times=5, address="10.0.3.1", device=device)  # a stolen note has its limit too
        with pytest.raises(AccountLocked):
            await accounts.authenticate("alice", PASSWORD, address="10.0.3.1", device=device)
        await accounts.unlock(alice.id)
        await accounts.authenticate("alice", PASSWORD, address="10.0.4.1")


async def test_the_chapters_lockout_is_for_all_addresses_together(tmp_path, clock):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", clock, lockout=Lockout(hard=True)) as accounts:
        await accounts.register("alice", "", PASSWORD)
        for n in range(5):
            await fail(accounts, address=f"10.0.0.{n}")
        with pytest.raises(AccountLocked):
            await accounts.authenticate("alice", PASSWORD, address="10.0.0.9")


async def test_the_old_password_is_guessed_at_as_little_as_at_a_login(accounts, alice):
    for _ in range(5):
        with pytest.raises(LoginFailed):
            await accounts.change_password(alice.id, "wrong", NEW_PASSWORD, address="10.0.0.1")
    with pytest.raises(AccountLocked):
        await accounts.change_password(alice.id, PASSWORD, NEW_PASSWORD, address="10.0.0.1")
    with pytest.raises(AccountLocked):
        await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")


async def test_of_many_guesses_at_once_no_more_than_five_are_compared(accounts, alice):
    done = await asyncio.gather(
        *(accounts.authenticate("alice", f"guess {n}", address="10.0.0.1") for n in range(60)), return_exceptions=True
    )
    assert sum(isinstance(each, LoginFailed) for each in done) == 5
    assert sum(isinstance(each, AccountLocked) for each in done) == 55


# Sessions.


async def test_a_refresh_token_is_exchanged_and_counts_once(accounts, alice, clock):
    first = await accounts.authenticate("alice", PASSWORD)
    second = await accounts.refresh(first.refresh_token)
    assert second.id == first.id
    assert second.refresh_token != first.refresh_token
    assert accounts.tokens.verify(second.access_token).session == first.id
    clock.now += 11
    with pytest.raises(RefreshRefused) as caught:
        await accounts.refresh(first.refresh_token)
    assert caught.value.code == "auth.refresh_reused"
    with pytest.raises(RefreshRefused):
        await accounts.refresh(second.refresh_token)  # the thief's or the owner's: both are out
    with pytest.raises(TokenRevoked):
        accounts.tokens.verify(second.access_token)


async def test_who_lost_the_answer_gets_the_same_successor_again(accounts, alice, clock):
    first = await accounts.authenticate("alice", PASSWORD)
    answers = await asyncio.gather(*(accounts.refresh(first.refresh_token) for _ in range(5)))
    assert len({answer.refresh_token for answer in answers}) == 1
    clock.now += 9
    again = await accounts.refresh(first.refresh_token)
    assert again.refresh_token == answers[0].refresh_token
    third = await accounts.refresh(again.refresh_token)
    with pytest.raises(RefreshRefused):
        await accounts.refresh(first.refresh_token)  # two steps behind: no answer was lost
    with pytest.raises(RefreshRefused):
        await accounts.refresh(third.refresh_token)


async def test_an_invented_refresh_token_ends_nothing(accounts, alice):
    session = await accounts.authenticate("alice", PASSWORD)
    good = session.refresh_token
    wrong = ["", "x", good[:-1], good + "A", good[:-4] + "AAAA", good.replace("_1_", "_0_"), good.replace("_1_", "_2_")]
    for token in [
        *wrong,
        f"crt_{session.id}_1_{'A' * 43}",
        "crt_" + "a" * 22 + "_1_" + "A" * 43,
        good.replace("_1_", f"_{'9' * 15}_"),
    ]:
        with pytest.raises(RefreshRefused):
            await accounts.refresh(token)
    assert (await accounts.refresh(good)).id == session.id


async def test_the_database_holds_no_token(accounts, alice):
    session = await accounts.authenticate("alice", PASSWORD)
    await accounts.refresh(session.refresh_token)
    text = str(await accounts.db.fetch_all("SELECT * FROM consona_sessions"))
    text += str(await accounts.db.fetch_all("SELECT * FROM consona_accounts"))
    text += str(await accounts.db.fetch_all("SELECT * FROM consona_audit"))
    for secret in (
        PASSWORD,
        session.access_token,
        session.refresh_token,
        session.refresh_token[-20:],
        session.device,
    ):
        assert secret not in text


async def test_a_session_that_is_not_used_ends(accounts, alice, clock):
    session = await accounts.authenticate("alice", PASSWORD)
    clock.now += 30 * 86_400 + 1
    with pytest.raises(RefreshRefused):
        await accounts.refresh(session.refresh_token)
    assert await accounts.sessions(alice.id) == []
    clock.now += 86_400
    assert await accounts.sweep() > 0
    assert await accounts.db.fetch_value("SELECT count(*) FROM consona_sessions") == 0


async def test_sessions_are_listed_and_ended_one_by_one_or_all_together(accounts, alice, clock):
    phone = await accounts.authenticate("alice", PASSWORD, address="10.0.0.1", agent="Phone\n\x1b[31m")
    clock.now += 1
    laptop = await accounts.authenticate("alice", PASSWORD, address="10.0.0.2", agent="Laptop")
    listed = await accounts.sessions(alice.id)
    assert [(each.id, each.device, each.address) for each in listed] == [
        (laptop.id, "Laptop", "10.0.0.2"),
        (phone.id, "Phone  [31m", "10.0.0.1"),
    ]
    assert await accounts.logout(accounts.tokens.verify(phone.access_token))
    assert not await accounts.logout(phone.id)
    assert not await accounts.logout("nothing")
    with pytest.raises(TokenRevoked):
        accounts.tokens.verify(phone.access_token)
    with pytest.raises(RefreshRefused):
        await accounts.refresh(phone.refresh_token)
    third = await accounts.authenticate("alice", PASSWORD)
    assert await accounts.logout_everywhere(alice.id, but=third.id) == 1
    accounts.tokens.verify(third.access_token)
    assert await accounts.logout_everywhere(alice.id) == 1
    assert await accounts.logout_everywhere(alice.id) == 0


# Changes that hold at once.


async def test_other_roles_hold_at_once_and_with_the_next_refresh(accounts, alice):
    session = await accounts.authenticate("alice", PASSWORD)
    changed = await accounts.set_roles(alice.id, ["reader", "reader"])
    assert changed.roles == {"reader"}
    with pytest.raises(TokenRevoked):
        accounts.tokens.verify(session.access_token)
    renewed = await accounts.refresh(session.refresh_token)
    assert accounts.tokens.verify(renewed.access_token).roles == {"reader"}


async def test_a_disabled_account_is_told_to_who_knows_its_password_alone(accounts, alice):
    session = await accounts.authenticate("alice", PASSWORD)
    await accounts.disable(alice.id, actor="root")
    with pytest.raises(TokenRevoked):
        accounts.tokens.verify(session.access_token)
    with pytest.raises(RefreshRefused):
        await accounts.refresh(session.refresh_token)
    with pytest.raises(LoginFailed):
        await accounts.authenticate("alice", "wrong")
    with pytest.raises(AccountDisabled):
        await accounts.authenticate("alice", PASSWORD)
    await accounts.enable(alice.id)
    await accounts.authenticate("alice", PASSWORD)


async def test_another_password_ends_all_other_sessions(accounts, alice):
    here, there = [await accounts.authenticate("alice", PASSWORD) for _ in range(2)]
    with pytest.raises(PasswordRefused):
        await accounts.change_password(alice.id, PASSWORD, "short", session=here.id)
    await accounts.change_password(alice.id, PASSWORD, NEW_PASSWORD, session=here.id)
    with pytest.raises(TokenRevoked):
        accounts.tokens.verify(there.access_token)
    with pytest.raises(RefreshRefused):
        await accounts.refresh(there.refresh_token)
    assert (await accounts.refresh(here.refresh_token)).id == here.id
    await fail(accounts)
    with pytest.raises(LoginFailed):
        await accounts.authenticate("alice", PASSWORD)
    await accounts.authenticate("alice", NEW_PASSWORD)
    await accounts.set_password(alice.id, PASSWORD, actor="root")
    with pytest.raises(RefreshRefused):
        await accounts.refresh(here.refresh_token)


async def test_a_deleted_account_is_gone_and_its_tokens_too(accounts, alice):
    session = await accounts.authenticate("alice", PASSWORD)
    await accounts.delete(alice.id)
    with pytest.raises(TokenRevoked):
        accounts.tokens.verify(session.access_token)
    with pytest.raises(RefreshRefused):
        await accounts.refresh(session.refresh_token)
    with pytest.raises(NotFound):
        await accounts.get(alice.id)
    assert await accounts.find("alice") is None
    again = await accounts.register("alice", "alice@example.org", PASSWORD)
    assert again.id != alice.id
    for act in (accounts.delete, accounts.disable, accounts.enable):
        with pytest.raises(NotFound):
            await act("nobody")


async def test_hashes_are_made_anew_when_they_are_to_be_more_work(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    async with accounts_at(url) as accounts:
        await accounts.register("alice", "", PASSWORD)
    dearer = HashCost(19456, 3)
    async with accounts_at(url, hash_cost=dearer) as accounts:
        await accounts.authenticate("alice", PASSWORD)
        kept = await accounts.db.fetch_value("SELECT password FROM consona_accounts")
        assert "m=19456,t=3,p=1" in kept
        await accounts.authenticate("alice", PASSWORD)
        assert await accounts.db.fetch_value("SELECT password FROM consona_accounts") == kept


async def test_processes_agree_on_the_cost_of_a_hash(tmp_path, monkeypatch):
    from consona.auth import passwords

    url = f"sqlite:///{tmp_path}/a.db"
    for machine, agreed in ((10, 10), (9, 10), (12, 10), (16, 16), (10, 16)):
        monkeypatch.setattr(passwords, "tuned", lambda machine=machine: HashCost(19456, machine))
        async with accounts_at(url, hash_cost=None) as accounts:
            assert accounts.hashes.cost == HashCost(19456, agreed)


# Other processes.


async def test_what_one_process_takes_back_counts_in_no_other_a_second_later(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    async with accounts_at(url) as here, accounts_at(url) as there:
        alice = await here.register("alice", "", PASSWORD)
        sessions = [await here.authenticate("alice", PASSWORD) for _ in range(3)]
        for session in sessions:
            there.tokens.verify(session.access_token)
        await here.logout(sessions[0].id)
        await revoked(there, sessions[0])
        there.tokens.verify(sessions[1].access_token)
        await here.set_roles(alice.id, ["x"])
        await revoked(there, sessions[1])
        async with accounts_at(url) as late:  # one that starts later knows it too
            with pytest.raises(TokenRevoked):
                late.tokens.verify(sessions[2].access_token)


async def revoked(accounts, session):
    async with asyncio.timeout(1.0):
        while True:
            try:
                accounts.tokens.verify(session.access_token)
            except TokenRevoked:
                return
            await asyncio.sleep(0.02)


async def test_a_feed_that_is_not_heard_is_told(accounts, alice, monkeypatch):
    assert not accounts.feed.stale
    assert (await accounts.check()).status is Status.UP
    monkeypatch.setattr(accounts.feed, "_timer", lambda: 1e12)
    assert accounts.feed.stale
    assert (await accounts.check()).status is Status.DEGRADED


# The log of what happened.


async def test_everything_is_in_the_audit_log_and_no_secret_is(accounts, alice):
    await fail(accounts, address="10.0.0.9")
    session = await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")
    await accounts.change_password(alice.id, PASSWORD, NEW_PASSWORD, session=session.id)
    await accounts.set_roles(alice.id, ["admin"], actor="root")
    await accounts.logout_everywhere(alice.id)
    await accounts.disable(alice.id, actor="root")
    entries = [entry async for entry in accounts.audit.entries()]
    assert [entry.event for entry in entries] == [
        "registered",
        "login failed",
        "login",
        "password changed",
        "roles changed",
        "logout everywhere",
        "disabled",
    ]
    assert [entry.number for entry in entries] == list(range(1, 8))
    assert entries[4].actor == "root"
    assert entries[4].detail == '{"roles":"admin","sessions":0}'
    assert entries[1].address == "10.0.0.9"
    text = str(entries)
    for secret in (PASSWORD, NEW_PASSWORD, "wrong", session.access_token, session.refresh_token):
        assert secret not in text
    verdict = await accounts.audit.verify()
    assert (verdict.whole, verdict.entries) == (True, 7)


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE consona_audit SET event = 'nothing' WHERE number = 2",
        "UPDATE consona_audit SET address = '' WHERE number = 2",
        "DELETE FROM consona_audit WHERE number = 2",
        "DELETE FROM consona_audit WHERE number = 3",
        "DELETE FROM consona_audit",
        "UPDATE consona_audit SET number = 9 WHERE number = 3",
        "INSERT INTO consona_audit SELECT 4, 1.0, event, account, actor, address, detail, seal FROM consona_audit WHERE number = 3",
        "UPDATE consona_audit_end SET number = 2, seal = (SELECT seal FROM consona_audit WHERE number = 2)",
    ],
)
async def test_a_change_of_the_audit_log_shows(accounts, alice, tamper):
    await fail(accounts, address="10.0.0.9")
    await accounts.authenticate("alice", PASSWORD)
    assert (await accounts.audit.verify()).whole
    await accounts.db.execute(tamper)
    assert not (await accounts.audit.verify()).whole


# Its life.


async def test_it_is_used_between_start_and_stop(tmp_path):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db")
    for use in (
        accounts.register("a", "", PASSWORD),
        accounts.authenticate("a", "b"),
        accounts.refresh("x"),
        accounts.get("x"),
    ):
        with pytest.raises(NotStarted):
            await use
    async with accounts:
        await accounts.register("alice", "", PASSWORD)
    async with accounts:
        await accounts.authenticate("alice", PASSWORD)
    assert not accounts.db.started
    assert not accounts.tokens.started


async def test_tables_of_a_newer_release_are_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    async with accounts_at(url) as accounts:
        await accounts.db.execute("UPDATE consona_schema SET version = 99, oldest_reader = 99 WHERE part = 'accounts'")
    with pytest.raises(ConfigurationError, match="version 99"):
        await accounts_at(url).start()
    assert not accounts.db.started


async def test_passwords_and_tokens_enter_no_history_and_no_log(accounts, alice, caplog):
    caplog.set_level("DEBUG", "consona")
    session = await accounts.authenticate("alice", PASSWORD, address="10.0.0.1")
    await fail(accounts)
    said = (
        f"{accounts.history} {accounts.db.history} {accounts.hashes.history} {caplog.text} {session!r} {accounts.stats}"
    )
    for secret in (PASSWORD, session.access_token, session.refresh_token, "10.0.0.1"):
        assert secret not in said


@pytest.mark.parametrize("bad", [{"refresh_grace": 61}, {"refresh_grace": -1}, {"session_ttl": 5}, {"rules": "good"}])
def test_settings_are_sensible(bad):
    with pytest.raises(ConfigurationError):
        accounts_at("sqlite://", **bad)


@pytest.mark.parametrize("bad", [{"guesses": 0}, {"seconds": 0}, {"account_guesses": 0}])
def test_a_lockout_is_sensible(bad):
    with pytest.raises(ConfigurationError):
        AccountSettings(lockout=Lockout(**bad))


async def test_what_cannot_be_cleared_away_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("consona.auth.account_core.SWEEP_EVERY_S", 0.01)
    async with accounts_at(f"sqlite:///{tmp_path}/a.db") as accounts, asyncio.timeout(20):
        await accounts.db.execute("DROP TABLE consona_guesses")
        while "could not be removed" not in caplog.text:
            await asyncio.sleep(0.01)
