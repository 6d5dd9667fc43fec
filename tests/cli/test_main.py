"""`consona` itself: help, exit codes, and a quick start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from consona.cli import COMMANDS, main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_the_help_names_every_command(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example_in_plain_text(command, capsys):
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"Example:  consona {command}" in text
    assert "--plain" in text
    assert text.isascii()


def test_an_unknown_command_is_a_usage_error(capsys):
    assert run("runn") == 2
    assert "runn" in capsys.readouterr().err


def test_a_wrong_option_is_a_usage_error():
    assert run("up", "--visitors", "-1") == 2


def test_a_wrong_configuration_exits_with_two_and_says_what_to_do(capsys, tmp_path):
    assert run("up", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: There is no file")
    assert "What to do: " in said


def test_importing_the_command_line_loads_nothing_heavy():
    heavy = "typer", "rich", "uvicorn", "aiohttp", "msgspec", "asyncio", "apsw", "jinja2"
    code = f"import sys, consona.cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_one_command_does_not_load_the_others():
    code = (
        "import sys\nfrom consona.cli import main\ntry:\n    main(['new', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('uvicorn', 'aiohttp', 'apsw', 'consona.cli.run') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
