"""`consona keys`: makes, shows, rotates and removes keys, and shows nothing secret."""

from __future__ import annotations

import json

import pytest

from consona.auth.jwt_manager import JWTManager
from consona.cli import main


def keys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["keys", *map(str, arguments)])
    return int(caught.value.code or 0)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.json"


def private_values(file):
    return [key[name] for key in json.loads(file.read_text())["keys"] for name in ("d", "k") if name in key]


def test_the_first_rotation_makes_the_file(file, capsys):
    assert keys("rotate", file) == 0
    said = capsys.readouterr().out
    assert said.endswith(": EdDSA, signs now\n")
    assert private_values(file)[0] not in said


def test_a_rotation_is_told_with_its_times_and_no_token_ends(file, capsys):
    keys("rotate", file)
    capsys.readouterr()
    assert keys("rotate", file, "--algorithm", "ES256") == 0
    old, new = capsys.readouterr().out.splitlines()
    assert ": EdDSA, signs now, until 20" in old
    assert ": ES256, signs from 20" in new
    assert keys("rotate", file, "--lead", 0) == 0
    states = [line.partition(", ")[2] for line in capsys.readouterr().out.splitlines()]
    assert states[0].startswith("its tokens still count, until")
    assert states[2] == "signs now"


def test_programs_get_json_without_private_halves(file, capsys):
    keys("rotate", file, "--algorithm", "HS256")
    capsys.readouterr()
    assert keys("show", file, "--json") == 0
    said = capsys.readouterr().out
    [told] = json.loads(said)["keys"]
    assert (told["algorithm"], told["signs"], told["state"]) == ("HS256", True, "signs now")
    assert private_values(file)[0] not in said
    assert keys("jwks", file) == 0
    assert json.loads(capsys.readouterr().out) == {"keys": []}


def test_the_public_keys_are_printed_for_those_who_verify(file, capsys):
    keys("rotate", file)
    capsys.readouterr()
    assert keys("jwks", file) == 0
    [key] = json.loads(capsys.readouterr().out)["keys"]
    assert key["x"]
    assert "d" not in key


async def test_a_removed_key_is_followed_by_a_running_process(file, capsys):
    now = [1_900_000_000.0]
    async with JWTManager(file, issuer="shop", clock=lambda: now[0]) as tokens:
        [old] = [key["kid"] for key in tokens.jwks()["keys"]]
        assert keys("rotate", file, "--lead", 0) == 0
        assert keys("remove", file, "--key", old) == 0
        now[0] += 1.1
        assert old not in [key["kid"] for key in tokens.jwks()["keys"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["remove"],
        ["remove", "--key", "x"],
        ["rotate", "--algorithm", "none"],
        ["rotate", "--lead", "-1"],
        ["rotate", "--keep", "nan"],
        ["explode"],
    ],
)
def test_a_wrong_call_is_told_and_makes_no_file(arguments, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert keys(*arguments) == 2
    assert capsys.readouterr().err
    assert not (tmp_path / "keys.json").exists()


def test_the_last_key_is_not_removed(file, capsys):
    keys("rotate", file)
    kid = json.loads(file.read_text())["keys"][0]["kid"]
    assert keys("remove", file, "--key", kid) == 2
    assert json.loads(file.read_text())["keys"]
