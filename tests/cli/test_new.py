"""`consona new`: what it makes, runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from consona.cli import main
from consona.config import load_config
from processes import Command

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["new", *map(str, arguments)])
    return int(caught.value.code or 0)


@pytest.fixture
def project(tmp_path):
    assert run("my-notes", "--folder", tmp_path) == 0
    return tmp_path / "my-notes"


def in_this_environment(folder: Path) -> list[str]:
    """`make` with the interpreter of the tests, whose environment counts as installed (`-o`)."""
    environment = str(Path(sys.executable).parent.parent)
    return ["make", "-C", str(folder), f"VENV={environment}", "-o", f"{environment}/.installed"]


def test_every_file_is_complete(project):
    texts = {path.relative_to(project).as_posix(): path.read_text("utf-8") for path in project.rglob("*.*")}
    assert {"README.md", ".gitignore", "my_notes/notes.py", "tests/test_notes.py"} <= texts.keys()
    assert not [path for path, text in texts.items() if re.search("@[A-Z]+@", text)]
    assert load_config(project).services["my-notes"].app == "my_notes.api:api"
    assert tomllib.loads(texts["pyproject.toml"])["project"]["name"] == "my-notes"


@needs_make
def test_its_tests_pass_with_make_test(project):
    found = subprocess.run([*in_this_environment(project), "test"], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "4 passed" in found.stdout


@needs_make
def test_its_tests_can_fail(project):
    notes = project / "my_notes" / "notes.py"
    notes.write_text(notes.read_text("utf-8").replace("await store.delete(id)", "False"), "utf-8")
    found = subprocess.run([*in_this_environment(project), "test"], check=False, capture_output=True, text=True)
    assert found.returncode != 0
    assert "1 failed" in found.stdout


@needs_make
def test_it_runs_with_make_run(project):
    command = [*in_this_environment(project), "run", "ARGS=--port 0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as make:
        assert make.stdout is not None
        said = []
        for line in make.stdout:
            said.append(line)
            if "Press Ctrl-C to stop." in line:
                break
        make.terminate()
        make.wait(30)
    assert any("my-notes API" in line for line in said), "".join(said)
    assert any("dashboard" in line for line in said), "".join(said)


def test_it_runs_with_consona_up(project):
    with Command("up", "--port", 0, folder=project) as command:
        command.line("my-notes API")
        command.line("Press Ctrl-C to stop.")


@pytest.mark.parametrize("name", ["My-notes", "9lives", "json", "class", "consona", "a/b", "tests"])
def test_a_name_that_cannot_be_is_a_usage_error(name, tmp_path, capsys):
    assert run(name, "--folder", tmp_path) == 2
    assert "NAME" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "precious.txt").write_text("mine")
    assert run("shop", "--folder", tmp_path) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["precious.txt"]


def test_programs_get_the_list_of_files_as_json(tmp_path, capsys):
    assert run("shop", "--folder", tmp_path, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["folder"] == str(tmp_path / "shop")
    assert all((tmp_path / "shop" / path).is_file() for path in answer["files"])
