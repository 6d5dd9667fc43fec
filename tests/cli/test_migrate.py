"""`consona migrate` from the outside: what it says, what it exits with, where it takes the address from."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing

import pytest

from consona.cli import main

USERS = "-- up\nCREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\n-- down\nDROP TABLE users;\n"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSONA_DATABASE", raising=False)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_create_users.sql").write_text(USERS)
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*arguments, code=0):
        with pytest.raises(SystemExit) as caught:
            main(["migrate", *arguments])
        said = capsys.readouterr()
        assert (caught.value.code or 0) == code, said
        return said.out if code == 0 else said.out + said.err

    return run


DATABASE = ("--database", "sqlite:///shop.db")


def test_up_status_down_and_to(run):
    assert run("up", *DATABASE).startswith("Ran 0001_create_users (")
    assert run("up", *DATABASE) == "Nothing to do.\n"
    assert run("status", *DATABASE).startswith("0001_create_users: done, at 20")
    assert run("down", *DATABASE).startswith("Undid 0001_create_users (")
    assert run("status", *DATABASE) == "0001_create_users: pending\n"
    assert run("to", "1", *DATABASE).startswith("Ran 0001_create_users (")
    assert run("to", "0", *DATABASE).startswith("Undid 0001_create_users (")


def test_a_dry_run_prints_sql_that_can_be_read_and_run(run):
    said = run("up", "--dry-run", *DATABASE)
    assert said == "-- 0001_create_users, up\nCREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\n"
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(said)
    assert run("status", *DATABASE) == "0001_create_users: pending\n"


def test_answers_for_programs(run):
    [migration] = json.loads(run("up", "--json", *DATABASE))["migrations"]
    assert migration["name"] == "0001_create_users"
    assert json.loads(run("status", "--json", *DATABASE))["migrations"][0]["state"] == "done"
    assert json.loads(run("check", "--json", *DATABASE)) == {"in_order": True, "findings": []}
    assert json.loads(run("baseline", "1", "--json", *DATABASE)) == {"dry_run": False, "marked": []}


def test_new_makes_a_file_that_must_be_filled(run, project):
    assert run("new", "Add orders").startswith("Made migrations/0002_add_orders.sql.")
    assert "0002_add_orders.sql, line 1: there is no statement to run." in run("up", *DATABASE, code=1)
    assert json.loads(run("new", "fill", "--python", "--json"))["file"].endswith("0003_fill.py")


def test_check_fails_for_what_is_pending_edited_or_changed_by_hand(run, project):
    assert "pending: 0001_create_users did not run yet." in run("check", *DATABASE, code=1)
    run("up", *DATABASE)
    assert run("check", *DATABASE) == "All is in order: the schema is what the migrations make.\n"
    with closing(sqlite3.connect("shop.db")) as foreign:
        foreign.execute("ALTER TABLE users ADD COLUMN age INTEGER")
        foreign.execute("CREATE TABLE other (x)")
    said = run("check", *DATABASE, code=1)
    assert "schema: table users, column age: in the database (INTEGER), and no migration makes it." in said
    assert "schema: table other: in the database (with x), and no migration makes it." in said
    (project / "migrations" / "0001_create_users.sql").write_text(USERS.replace("name TEXT", "name TEXT NOT NULL"))
    said = run("check", *DATABASE, code=1)
    assert "edited: 0001_create_users was edited after it ran" in said
    assert "table users, column name: TEXT in the database, TEXT not null by the migrations." in said
    assert not list(project.glob("*scratch*"))


def test_a_failure_says_what_was_done_before_it(run, project):
    (project / "migrations" / "0002_fail.sql").write_text("SELECT nonsense;")
    said = run("up", *DATABASE, code=1)
    assert "Done before: 0001_create_users\nError: " in said
    assert "0002_fail.sql, line 1: statement 1 of 1 (SELECT nonsense) failed" in said


def test_baseline(run):
    with closing(sqlite3.connect("shop.db")) as foreign:
        foreign.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    assert run("baseline", "1", "--dry-run", *DATABASE) == "Would mark 0001_create_users as done.\n"
    assert run("baseline", "1", *DATABASE) == "Marked 0001_create_users as done.\n"
    assert run("baseline", "1", *DATABASE) == "Nothing to mark: all of them are done, and none was edited.\n"
    run("check", *DATABASE)


# Where the address comes from


def test_without_an_address_it_says_where_to_give_one(run):
    said = run("up", code=2)
    assert "Which database?" in said
    assert "CONSONA_DATABASE" in said


def test_the_option_goes_before_the_environment_and_that_before_the_file(run, project, monkeypatch):
    (project / "consona.toml").write_text('[database]\naddress = "sqlite:///file.db"\n')
    run("up")
    monkeypatch.setenv("CONSONA_DATABASE", "sqlite:///environment.db")
    run("up")
    run("up", *DATABASE)
    assert {path.name for path in project.glob("*.db")} == {"file.db", "environment.db", "shop.db"}


def test_the_file_of_a_project_elsewhere_names_its_own_folder_and_database(run, project, tmp_path_factory, monkeypatch):
    (project / "migrations").rename(project / "steps")
    (project / "consona.toml").write_text('[database]\naddress = "sqlite:///shop.db"\nmigrations = "steps"\n')
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run("up", "--project", str(project)).startswith("Ran 0001")
    assert (project / "shop.db").exists()


def test_a_python_step_may_use_the_modules_of_its_project(run, project, tmp_path_factory, monkeypatch):
    (project / "consona.toml").write_text('[database]\naddress = "sqlite:///shop.db"\n')
    (project / "first_users.py").write_text("NAMES = ['Ada']\n")
    step = "from first_users import NAMES\n\n\nasync def up(tx):\n    await tx.insert_many('users', [NAMES], columns=['name'])\n"
    (project / "migrations" / "0002_fill.py").write_text(step)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert "Ran 0002_fill" in run("up", "--project", str(project))


def test_a_password_in_the_file_is_refused(run, project):
    (project / "consona.toml").write_text('[database]\naddress = "postgresql://shop:hidden@db/shop"\n')
    said = run("up", code=2)
    assert "database.address: holds a password; set CONSONA_DATABASE__ADDRESS" in said
    assert "hidden" not in said
