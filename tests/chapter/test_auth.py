"""The chapter's tokens and accounts: its names and answers, with what is real underneath."""

from __future__ import annotations

import importlib.util
import inspect
import re
import secrets
from pathlib import Path

import pytest

from consona.chapter import (
    AuthenticationError,
    AuthenticationSystem,
    JWTManager,
    OAuthError,
    OAuthProvider,
    SocialAuthManager,
    ValidationError,
)
from consona.errors import ConfigurationError

PAGE = Path(__file__).parents[2] / "docs" / "chapter" / "auth.md"
CLASSES = {
    "JWTManager": JWTManager,
    "AuthenticationSystem": AuthenticationSystem,
    "OAuthProvider": OAuthProvider,
    "SocialAuthManager": SocialAuthManager,
}
ADA = {"id": 7, "username": "ada", "email": "ada@example.org", "roles": ["user"]}
PASSWORD, NEW = "AlicePass123!", "NewAlice789!"


@pytest.fixture
def tokens():
    return JWTManager(secrets.token_urlsafe(32), "HS256", 1)


@pytest.fixture
def system(tokens):
    made = AuthenticationSystem(tokens)
    made.register_user("alice", "alice@example.org", PASSWORD, ["user", "admin"])
    yield made
    made.close()


# The table of the docs.


def table():
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith(("| `JWT", "| `Auth", "| `OAuth", "| `Social")):
            name, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            rows[name.strip("`")] = cells
    return rows


ROWS = table()
METHODS = dict(CLASSES) | {
    f"{kind}.{name}": function
    for kind, cls in CLASSES.items()
    for name, function in inspect.getmembers(cls, inspect.isfunction)
    if not name.startswith("_")
}
BETWEEN_THEM = {"JWTManager.started", "JWTManager.noted", "JWTManager.verdict", "OAuthProvider.run"}
"""What one of the classes asks of another, and no program need."""


def test_the_table_has_every_method_and_no_other():
    assert sorted(ROWS) == sorted(METHODS.keys() - BETWEEN_THEM)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_arguments_are_those_of_the_code(name):
    shown = [
        each.name if each.default is inspect.Parameter.empty else f"{each.name}={each.default!r}"
        for each in inspect.signature(METHODS[name]).parameters.values()
        if each.name != "self"
    ]
    assert ROWS[name][0].strip("`") == ", ".join(shown)
    assert len(ROWS[name]) == 4
    assert ROWS[name][3].endswith(".")


def keys(name):
    return set(re.findall(r"`([^`]+)`", ROWS[name][1].partition("; or")[0]))


def test_the_keys_are_those_that_really_come(system, tokens):
    made = tokens.generate_token(ADA)
    assert set(made) == keys("JWTManager.generate_token")
    assert set(tokens.verify_token(made["token"])) == keys("JWTManager.verify_token")
    assert set(tokens.verify_token("x")) == {"valid", "error"}
    assert set(tokens.refresh_token(made["token"])) == keys("JWTManager.refresh_token")
    assert set(tokens.get_token_stats()) == keys("JWTManager.get_token_stats")
    assert set(system.register_user("bob", "", PASSWORD)) == keys("AuthenticationSystem.register_user")
    session = system.authenticate_user("bob", PASSWORD)
    assert set(session) | set(session["user"]) == keys("AuthenticationSystem.authenticate_user")
    assert set(system.get_user_info("bob")) == keys("AuthenticationSystem.get_user_info")
    assert set(system.change_password("bob", PASSWORD, NEW)) == keys("AuthenticationSystem.change_password")
    token = system.authenticate_user("bob", NEW)["token"]
    assert set(system.logout_user(token)) == keys("AuthenticationSystem.logout_user")


# Tokens.


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_other_algorithms_make_a_pair_of_keys(algorithm):
    tokens = JWTManager(None, algorithm)
    assert tokens.verify_token(tokens.generate_token(ADA)["token"])["user_id"] == 7
    with pytest.raises(ConfigurationError, match="no secret"):
        JWTManager(secrets.token_urlsafe(32), algorithm)


@pytest.mark.parametrize("secret", [None, "short", "your-super-secret-key-change-in-production"])
def test_the_chapters_secret_and_short_ones_are_refused(secret):
    with pytest.raises(ConfigurationError):
        JWTManager(secret, "HS256")


@pytest.mark.parametrize("name", ["user_id", "username", "email", "roles", "exp", "iss", "sub"])
def test_custom_claims_make_nobody_somebody_else(tokens, name):
    with pytest.raises(ValidationError):
        tokens.generate_token(ADA, {name: "admin"})
    assert tokens.verify_token(tokens.generate_token(ADA, {"team": "a"})["token"])["payload"]["team"] == "a"


def test_a_blacklisted_token_does_not_count_and_what_is_none_is_left_alone(tokens):
    token = tokens.generate_token(ADA)["token"]
    for rubbish in ("", "x", "a.b.c", "e30.e30.AA"):
        tokens.blacklist_token(rubbish)
    tokens.blacklist_token(token)
    assert tokens.verify_token(token) == {"valid": False, "error": "The token was taken back."}
    with pytest.raises(AuthenticationError, match="Cannot refresh invalid token"):
        tokens.refresh_token(token)


def test_the_figures_are_those_of_the_chapter(tokens):
    token = tokens.generate_token(ADA)["token"]
    tokens.verify_token(token)
    tokens.verify_token("x")
    tokens.blacklist_token(token)
    tokens.verify_token(token)
    assert tokens.get_token_stats() == {
        "total_generated": 1,
        "total_verified": 3,
        "failed_verifications": 2,
        "blacklisted_attempts": 1,
    }


def test_active_tokens_are_ids(tokens):
    made = [tokens.generate_token(ADA)["token"] for _ in range(3)]
    tokens.blacklist_token(made[0])
    active = tokens.get_active_tokens()
    assert active == [tokens.verify_token(token)["payload"]["jti"] for token in made[1:]]
    assert not set(active) & set(made)


# Accounts.


def test_the_chapters_errors_are_one_error_with_the_chapters_words(system):
    said = []
    for act in (
        lambda: system.register_user("ALICE", "", PASSWORD),
        lambda: system.register_user("bob", "", "short"),
        lambda: system.register_user("bob", "", "longenough"),
        lambda: system.authenticate_user("alice", "x"),
        lambda: system.authenticate_user("nobody", PASSWORD),
        lambda: system.change_password("nobody", "x", "y"),
        lambda: system.change_password("alice", "x", NEW),
        lambda: system.change_password("alice", PASSWORD, "short"),
        lambda: system.logout_user("x"),
    ):
        with pytest.raises(AuthenticationError) as caught:
            act()
        said.append(caught.value.message)
    assert said == [
        "Username already exists.",
        "Password validation failed: Password too short",
        "Password validation failed: Password must contain special characters",
        "Invalid username or password.",
        "Invalid username or password.",
        "User not found",
        "Current password is incorrect.",
        "New password validation failed: Password too short",
        "Invalid token for logout",
    ]


def test_after_five_wrong_guesses_nobody_may_try(system):
    for _ in range(5):
        assert not system.is_user_locked_out("alice")
        with pytest.raises(AuthenticationError, match="Invalid"):
            system.authenticate_user("alice", "x")
    assert system.is_user_locked_out("alice")
    with pytest.raises(AuthenticationError, match="temporarily locked") as caught:
        system.authenticate_user("alice", PASSWORD)
    assert 290 < caught.value.retry_after <= 300


def test_a_token_ends_with_the_session_and_the_password(system, tokens):
    one, two = [system.authenticate_user("alice", PASSWORD)["token"] for _ in range(2)]
    system.logout_user(one)
    assert [tokens.verify_token(token)["valid"] for token in (one, two)] == [False, True]
    refreshed = tokens.refresh_token(two)["token"]
    system.change_password("alice", PASSWORD, NEW)
    assert not tokens.verify_token(refreshed)["valid"]


def test_passwords_are_judged_and_hashed(system):
    assert system.validate_password("AlicePass123") == {
        "valid": False,
        "error": "Password must contain special characters",
    }
    assert system.validate_password(PASSWORD) == {"valid": True}
    hashed = system.hash_password("x")
    assert hashed != system.hash_password("x")
    assert system.verify_password("x", hashed)
    assert not system.verify_password("y", hashed)


def test_users_stay_where_they_have_a_file(tmp_path, tokens):
    for _ in range(2):
        system = AuthenticationSystem(tokens, f"sqlite:///{tmp_path}/users.db")
        if system.get_user_info("alice") is None:
            system.register_user("alice", "", PASSWORD)
        assert system.authenticate_user("alice", PASSWORD)["user"]["roles"] == ["user"]
        system.close()


def test_each_system_without_an_address_is_its_own(tokens, system):
    assert AuthenticationSystem(tokens).get_user_info("alice") is None


# Signing in with other services: the small service of the chapter's program.


@pytest.fixture
def social(tokens):
    program = load()
    made = SocialAuthManager(tokens)
    people = {"ada": {"id": "1", "login": "ada", "name": "Ada", "email": "ada@example.org", "verified_email": True}}
    program.register(made, "Forge", people | {"bob": {"id": "2", "login": "ada", "name": "Bob"}})
    made.program = program
    yield made
    made.close()


def load():
    path = Path(__file__).parents[2] / "examples" / "chapter" / "social_login.py"
    spec = importlib.util.spec_from_file_location("chapter_social_login", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_keys_of_a_social_login_are_those_of_the_table(social):
    back, visit = social.program.BACK, social.program.visit
    done = social.program.sign_in(social, "Forge", "ada")
    found = set(done) | set(done["user"]) | {"picture", "email_verified"}
    assert found == keys("SocialAuthManager.complete_social_login")
    assert {"picture", "email_verified"} <= set(done["social_user_info"])
    [linked] = social.get_user_social_accounts(done["user"]["id"])
    assert set(linked) == keys("SocialAuthManager.get_user_social_accounts")
    assert set(social.get_auth_stats()) == keys("SocialAuthManager.get_auth_stats")
    begun = social.initiate_social_login("Forge", back)
    assert set(begun) == keys("SocialAuthManager.initiate_social_login")
    provider = social.providers["Forge"]
    asked = provider.generate_authorization_url(back)
    assert set(asked) == keys("OAuthProvider.generate_authorization_url")
    answer = visit(asked["authorization_url"], "ada")
    exchanged = provider.exchange_code_for_token(answer["code"], back, answer["state"])
    assert set(exchanged) == keys("OAuthProvider.exchange_code_for_token")
    assert set(provider.get_user_info(exchanged["access_token"])) == keys("OAuthProvider.get_user_info")
    assert set(provider.get_oauth_stats()) == keys("OAuthProvider.get_oauth_stats")
    with pytest.raises(OAuthError, match="Token exchange failed"):
        provider.exchange_code_for_token(answer["code"], back, answer["state"])  # once


def test_a_providers_name_never_becomes_an_existing_users(social):
    first, second = (social.program.sign_in(social, "Forge", who)["user"] for who in ("ada", "bob"))
    assert first["username"] == "ada"
    assert second["username"].startswith("ada")
    assert second["username"] != "ada"
    assert first["id"] != second["id"]


def test_a_login_needs_the_state_and_the_note_of_the_browser_that_began(social):
    back, visit = social.program.BACK, social.program.visit
    begun, other = (social.initiate_social_login("Forge", back) for _ in range(2))
    answer = visit(begun["authorization_url"], "ada")
    for state, note, place in (
        ("guessed", begun["note"], back),
        (answer["state"], other["note"], back),
        (answer["state"], "x", back),
        (answer["state"], begun["note"], "http://localhost:1/elsewhere"),
    ):
        with pytest.raises(OAuthError, match="Social login failed"):
            social.complete_social_login("Forge", answer["code"], place, state, note)
    assert social.complete_social_login("Forge", answer["code"], back, answer["state"], begun["note"])["token"]
    for wrong in (
        lambda: social.initiate_social_login("Nowhere", back),
        lambda: social.initiate_social_login("Forge", back, None, "my own state"),
    ):
        with pytest.raises(OAuthError):
            wrong()


def test_an_identity_belongs_to_one_user(social):
    back, visit = social.program.BACK, social.program.visit
    ada, bob = (social.program.sign_in(social, "Forge", who)["user"] for who in ("ada", "bob"))
    begun = social.initiate_social_login("Forge", back, user_id=ada["id"])
    answer = visit(begun["authorization_url"], "bob")
    with pytest.raises(OAuthError, match="another account"):
        social.link_social_account(ada["id"], "Forge", answer["code"], back, answer["state"], begun["note"])
    assert [each["social_id"] for each in social.get_user_social_accounts(bob["id"])] == ["2"]


def test_a_configuration_that_lacks_an_address_is_told():
    with pytest.raises(ConfigurationError, match="lacks token_endpoint"):
        OAuthProvider("Forge", "a", "b", {"authorization_endpoint": "https://forge.example/a"})
