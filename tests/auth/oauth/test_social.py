"""Signing in with other services: an account is found or made, never taken over."""

from __future__ import annotations

import asyncio

import pytest

from asgi_call import call
from auth_tools import PASSWORD, accounts_at
from consona.auth.errors import AccountDisabled, SignInRefused
from consona.auth.oauth.oidc import OIDC
from consona.auth.social import SocialAuthManager, local_target
from consona.errors import ConfigurationError, Conflict, NotFound, ValidationError
from consona.rest.server.api_server import APIServer
from oidc_server import SECRET, answer, oidc_provider, query, sign_in

pytestmark = pytest.mark.servers
BASE = "http://127.0.0.1:9"
BACK = f"{BASE}/auth/op/callback"


@pytest.fixture(scope="module")
def issuer():
    with oidc_provider(BACK) as started:
        yield started


@pytest.fixture
async def social(tmp_path, issuer):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", new_roles=("customer",), secure_cookies=False)
    provider = OIDC(issuer, client_id="shop", client_secret=SECRET, name="op")
    async with SocialAuthManager(accounts, [provider], base_url=BASE) as made:
        yield made


async def go(social, name="ada", **more):
    url, note = await social.begin("op", **more)
    return answer(await sign_in(url, name, back=BACK)), note


async def test_an_account_is_made_at_the_first_time_and_found_from_then_on(social):
    session = (await social.complete("op", *await go(social))).session
    account = session.account
    assert (account.name, account.email, account.email_verified, account.roles) == (
        "ada",
        "ada@example.org",
        True,
        {"customer"},
    )
    done = await social.complete("op", *await go(social, next="/orders?page=2"))
    again = done.session
    assert again.account.id == account.id
    assert (done.next, done.profile.subject) == ("/orders?page=2", "ada")
    assert social.accounts.tokens.verify(again.access_token).get("social_id") == "ada"
    assert social.accounts.tokens.verify(again.access_token).subject == account.id
    [identity] = await social.identities(account.id)
    assert (identity.provider, identity.subject) == ("op", "ada")
    events = [entry.event async for entry in social.accounts.audit.entries(account=account.id)]
    assert events == ["registered", "linked", "login", "login"]


async def test_of_two_first_sign_ins_at_once_one_account_comes(social):
    answers = [await go(social) for _ in range(3)]
    done = await asyncio.gather(*(social.complete("op", *each) for each in answers))
    assert len({each.session.account.id for each in done}) == 1


async def test_a_providers_name_never_becomes_an_existing_users(social):
    alice = await social.accounts.register("ada", "", PASSWORD)
    session = (await social.complete("op", *await go(social))).session
    assert session.account.id != alice.id
    assert session.account.name.startswith("ada")
    assert session.account.name != "ada"


@pytest.mark.parametrize("name", ["ada", "unverified-ada"])
async def test_an_address_opens_no_account_that_is_there(social, name):
    owner = await social.accounts.register("owner", f"{name}@example.org", PASSWORD)
    back = await go(social, name)
    if name == "ada":
        with pytest.raises(Conflict, match="e-mail address") as caught:
            await social.complete("op", *back)
        assert "link op" in caught.value.hint
    else:
        session = (await social.complete("op", *back)).session
        assert session.account.id != owner.id
        assert session.account.email == ""  # not proven, so it proves nothing here
    assert await social.identities(owner.id) == []


async def test_an_account_is_linked_and_unlinked_by_its_owner(social):
    owner = await social.accounts.register("owner", "ada@example.org", PASSWORD)
    await social.link("op", *await go(social, account=owner.id), account=owner.id)
    session = (await social.complete("op", *await go(social))).session
    assert session.account.id == owner.id
    await social.link("op", *await go(social, account=owner.id), account=owner.id)  # twice is once
    other = await social.accounts.register("other", "", PASSWORD)
    with pytest.raises(Conflict, match="another account"):
        await social.link("op", *await go(social, account=other.id), account=other.id)
    await social.unlink(owner.id, "op")
    with pytest.raises(NotFound):
        await social.unlink(owner.id, "op")


async def test_the_last_way_in_stays(social):
    session = (await social.complete("op", *await go(social))).session
    with pytest.raises(Conflict, match="last way in"):
        await social.unlink(session.account.id, "op")
    await social.accounts.set_password(session.account.id, PASSWORD)
    await social.unlink(session.account.id, "op")


async def test_what_was_begun_for_one_thing_does_not_end_as_another(social):
    owner = await social.accounts.register("owner", "", PASSWORD)
    with pytest.raises(SignInRefused, match="for linking"):
        await social.complete("op", *await go(social, account=owner.id))
    back = await go(social)
    with pytest.raises(SignInRefused, match="Another account"):
        await social.link("op", *back, account=owner.id)
    with pytest.raises(SignInRefused, match="Another account"):
        await social.link("op", *await go(social, account="somebody"), account=owner.id)


async def test_an_answer_counts_in_the_browser_that_asked(social):
    mine, my_note = await go(social)
    _, other_note = await social.begin("op")
    for note in (other_note, "", "x", my_note[:-2] + "AA", my_note + "AA"):
        with pytest.raises(SignInRefused):
            await social.complete("op", mine, note)
    assert await social.accounts.find("ada") is None
    await social.complete("op", mine, my_note)


async def test_a_disabled_account_is_not_signed_in_to(social):
    session = (await social.complete("op", *await go(social))).session
    await social.accounts.disable(session.account.id)
    with pytest.raises(AccountDisabled):
        await social.complete("op", *await go(social))


async def test_a_deleted_account_leaves_no_identity_behind(social):
    session = (await social.complete("op", *await go(social))).session
    await social.accounts.delete(session.account.id)
    again = (await social.complete("op", *await go(social))).session
    assert again.account.id != session.account.id


async def test_the_database_holds_no_token_of_the_provider_in_the_clear(tmp_path, issuer):
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db")
    provider = OIDC(
        issuer,
        client_id="shop",
        client_secret=SECRET,
        name="op",
        scopes=["offline_access"],
        extra={"prompt": "consent"},
    )
    async with SocialAuthManager(accounts, [provider], base_url=BASE) as social:
        back, note = await go(social)
        grant = await provider.finish(social.seal.open_handshake(note), back)
        assert grant.tokens.refresh_token
        await social._find_or_make("op", grant)
        kept = await accounts.db.fetch_value("SELECT refresh_token FROM consona_identities")
        assert kept
        assert grant.tokens.refresh_token not in kept
        assert social.seal.open(kept, f"refresh token of {issuer}").decode() == grant.tokens.refresh_token


@pytest.mark.parametrize(
    "target",
    [
        "",
        "orders",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/a\nb",
        "/a\r\nSet-Cookie: x",
        "/a b",
        "/\\",
        "/a\\b",
        "/" + "a" * 1001,
        "/ä",
        "///x",
    ],
)
async def test_nobody_is_sent_elsewhere_afterwards(social, target):
    with pytest.raises(ValidationError):
        local_target(target)
    with pytest.raises(ValidationError):
        await social.begin("op", next=target)


async def test_the_address_to_come_back_to_is_exactly_the_registered_one(social):
    url, _ = await social.begin("op")
    assert answer(url)["redirect_uri"] == BACK


def test_providers_have_names_of_their_own(social, issuer):
    provider = OIDC(issuer, client_id="shop", name="op")
    with pytest.raises(ConfigurationError, match="same name"):
        SocialAuthManager(social.accounts, [provider, provider], base_url=BASE)
    with pytest.raises(ConfigurationError, match="https"):
        SocialAuthManager(social.accounts, [provider], base_url="http://shop.example")


# The routes, as a browser uses them.


@pytest.fixture
async def shop(tmp_path, issuer):
    accounts = accounts_at(f"sqlite:///{tmp_path}/b.db", secure_cookies=False)
    social = SocialAuthManager(
        accounts, [OIDC(issuer, client_id="shop", client_secret=SECRET, name="op")], base_url=BASE
    )
    api = APIServer("t")
    api.secure(accounts, social)
    async with api:
        yield api, social


def kept(answered, name):
    [text] = [v for k, v in answered.headers if k == "set-cookie" and v.startswith(f"{name}=")]
    return text.partition(";")[0]


async def test_a_browser_signs_in_and_is_sent_where_it_wanted(shop):
    api, _ = shop
    left = await call(api, "GET", "/auth/op/login", query="next=/orders")
    assert left.status == 303
    note = kept(left, "consona-sign-in")
    back = await sign_in(left.header("location"), "ada", back=BACK)
    done = await call(api, "GET", "/auth/op/callback", query=query(back), headers={"cookie": note})
    assert (done.status, done.header("location")) == (303, "/orders")
    session = kept(done, "consona-session")
    me = await call(api, "GET", "/auth/me", headers={"cookie": session})
    assert me.json()["name"] == "ada"
    assert "consona-sign-in=;" in str(done.headers).replace('""', "")
    linked = await call(api, "GET", "/auth/identities", headers={"cookie": session})
    assert [each["provider"] for each in linked.json()] == ["op"]
    again = await call(api, "GET", "/auth/op/callback", query=query(back), headers={"cookie": note})
    assert again.status == 401  # the code counted once


async def test_a_link_of_an_attacker_signs_nobody_in_to_the_attackers_account(shop):
    """Login CSRF: the attacker's answer, in the victim's browser."""
    api, _ = shop
    attackers = await call(api, "GET", "/auth/op/login")
    back = await sign_in(attackers.header("location"), "eve", back=BACK)
    victims = kept(await call(api, "GET", "/auth/op/login"), "consona-sign-in")
    for headers in ({}, {"cookie": victims}):
        answered = await call(api, "GET", "/auth/op/callback", query=query(back), headers=headers)
        assert answered.status == 401
        assert "consona-session" not in str(answered.headers)


async def test_linking_needs_the_session_that_began_it(shop):
    api, social = shop
    await social.accounts.register("owner", "", PASSWORD)
    session = await social.accounts.authenticate("owner", PASSWORD)
    bearer = {"authorization": f"Bearer {session.access_token}"}
    assert (await call(api, "POST", "/auth/op/link")).status == 401
    left = await call(api, "POST", "/auth/op/link", query="next=/account", headers=bearer)
    back = await sign_in(left.header("location"), "ada", back=BACK)
    note = kept(left, "consona-sign-in")
    refused = await call(api, "GET", "/auth/op/callback", query=query(back), headers={"cookie": note})
    assert refused.status == 401
    left = await call(api, "POST", "/auth/op/link", query="next=/account", headers=bearer)
    back = await sign_in(left.header("location"), "ada", back=BACK)
    cookies = (
        f"{kept(left, 'consona-sign-in')}; consona-session={session.id}.{social.accounts.browsers._proof(session.id)}"
    )
    done = await call(api, "GET", "/auth/op/callback", query=query(back), headers={"cookie": cookies})
    assert (done.status, done.header("location")) == (303, "/account")
    assert [each.provider for each in await social.identities(session.account.id)] == ["op"]
    assert (await call(api, "DELETE", "/auth/identities/op", headers=bearer)).status == 204


async def test_unknown_services_and_targets_elsewhere_are_refused(shop):
    api, _ = shop
    assert (await call(api, "GET", "/auth/nothing/login")).status == 404
    assert (await call(api, "GET", "/auth/op/login", query="next=//evil.example")).status == 422
    assert (await call(api, "GET", "/auth/nothing/callback", query="code=1&state=2")).status == 401
