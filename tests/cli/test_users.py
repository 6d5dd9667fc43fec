"""`consona users` and `consona roles`: accounts from the command line, without a password among the arguments."""

from __future__ import annotations

import io
import json
import sys

import pytest

from consona.cli import main

SHOP = """
from consona import APIServer, AccountSettings, AuthenticationSystem, JWTManager, SQLDatabase
from consona.auth.passwords import LEAST
from consona.auth.roles import Roles

roles = Roles()
roles.add("customer", "orders:read:own")
roles.add("staff", "orders:*", inherits=["customer"])
accounts = AuthenticationSystem(
    SQLDatabase("sqlite:///{folder}/shop.db"), JWTManager("{folder}/keys.json", issuer="shop"), roles=roles,
    settings=AccountSettings(hash_cost=LEAST),
)
api = APIServer("shop")

@api.get("/orders", scopes={{"orders:read"}})
async def orders() -> int:
    return 1

api.secure(accounts)
"""
PASSWORD = "correct horse battery staple"
_number = iter(range(1000))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    module = f"shop_of_users_{next(_number)}"
    (tmp_path / f"{module}.py").write_text(SHOP.format(folder=tmp_path.as_posix()))

    def call(command, *arguments, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        words = [str(each).replace("shop:", f"{module}:") for each in arguments]
        with pytest.raises(SystemExit) as caught:
            main([command, *words, "--folder", str(tmp_path)])
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return call


def test_the_audit_log_is_verified_and_an_account_exported(run):
    run("users", "add", "shop:accounts", "ada", typed=PASSWORD)
    code, said, _ = run("audit", "verify", "shop:accounts", "--json")
    assert code == 0
    assert json.loads(said)[-1] == {"entries": 1, "whole": True, "problem": ""}
    code, said, _ = run("users", "export", "shop:accounts", "ada")
    assert (code, json.loads(said)["account"]["name"]) == (0, "ada")


def test_an_account_is_made_shown_changed_and_removed(run):
    assert (
        run("users", "add", "shop:accounts", "ada", "--email", "ada@example.org", "--role", "staff", typed=PASSWORD)[0]
        == 0
    )
    code, said, _ = run("users", "list", "shop:accounts")
    assert code == 0
    assert said.startswith("name ada; id ")
    assert "email ada@example.org; roles staff; state active" in said
    assert json.loads(run("users", "roles", "shop:accounts", "ada", "--role", "customer", "--json")[1])["roles"] == [
        "customer"
    ]
    assert "state disabled" in run("users", "disable", "shop:accounts", "ada")[1]
    assert "state active" in run("users", "enable", "shop:accounts", "ADA@example.org")[1]
    assert run("users", "unlock", "shop:accounts", "ada")[0] == 0
    assert run("users", "password", "shop:accounts", "ada", typed="another long password\n")[0] == 0
    assert json.loads(run("users", "logout", "shop:accounts", "ada", "--json")[1])["sessions_ended"] == 0
    assert json.loads(run("users", "show", "shop:accounts", "ada", "--json")[1])["sessions"] == 0
    assert run("users", "delete", "shop:accounts", "ada")[1] == "name ada; state deleted\n"
    assert run("users", "list", "shop:accounts")[1] == ""


def test_the_log_is_checked_and_printed(run, tmp_path):
    run("users", "add", "shop:accounts", "ada", typed=PASSWORD)
    code, said, _ = run("users", "audit", "shop:accounts")
    assert code == 0
    assert said.splitlines()[-1] == "entries 1; whole True"
    import sqlite3

    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("UPDATE consona_audit SET event = 'nothing'")
    db.close()
    code, said, _ = run("users", "audit", "shop:accounts")
    assert code == 1
    assert "Entry 1 is not as it was written." in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "shop:accounts"], 2),
        (["show", "shop:accounts", "nobody"], 1),
        (["show", "shop:api", "ada"], 2),
        (["show", "shop:nothing", "ada"], 2),
        (["explode", "shop:accounts"], 2),
    ],
)
def test_a_wrong_call_is_told(run, arguments, code):
    found, _, complaint = run("users", *arguments)
    assert found == code
    assert complaint


def test_a_weak_password_is_refused(run):
    code, _, complaint = run("users", "add", "shop:accounts", "ada", typed="short\n")
    assert code == 1
    assert "cannot be used" in complaint


def test_roles_and_routes_are_shown_and_nothing_is_started(run, tmp_path):
    code, said, _ = run("roles", "shop:api")
    assert code == 0
    lines = said.splitlines()
    assert lines[:2] == ["role customer: orders:read:own", "role staff: orders:*; inherits customer"]
    assert "GET /orders: staff" in lines
    assert "POST /auth/login: everybody" in lines
    assert "GET /auth/me: whoever is signed in" in lines
    assert not (tmp_path / "shop.db").exists()
    told = json.loads(run("roles", "shop:api", "--json")[1])
    assert told["roles"]["staff"]["inherits"] == ["customer"]
    assert run("roles", "shop:accounts")[0] == 2
