"""Where keys are kept: for their owner's eyes, whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import sys

import pytest

from consona.auth.key_file import Environment, KeyFile
from consona.auth.key_ring import KeyRing
from consona.auth.keys import SigningKey
from consona.errors import ConfigurationError, Conflict

posix = pytest.mark.skipif(sys.platform == "win32", reason="the rights of files are another thing there")


def ring():
    return KeyRing.of([SigningKey.generate()])


@pytest.fixture
def file(tmp_path):
    kept = KeyFile(tmp_path / "keys.json")
    kept.change(lambda _: ring())
    return kept


@posix
def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        KeyFile(tmp_path / "keys.json").change(lambda _: ring())
    finally:
        os.umask(before)
    for name in ("keys.json", "keys.json.lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o777])
def test_a_file_that_others_may_use_is_refused(file, mode):
    file.path.chmod(mode)
    with pytest.raises(ConfigurationError, match="Others than its owner") as caught:
        file.load()
    assert "chmod 600" in caught.value.hint


@posix
def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="is not a file"):
        KeyFile(tmp_path).load()
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="is not a file"):
        KeyFile(tmp_path / "pipe").load()


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(ConfigurationError, match="There is no key file") as caught:
        KeyFile(tmp_path / "keys.json").load()
    assert "consona keys rotate" in caught.value.hint
    with pytest.raises(ConfigurationError, match="cannot be made"):
        KeyFile(tmp_path / "no" / "keys.json").change(lambda _: ring())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"keys": []}', '{"version": 9, "keys": []}', '{"keys":[],"keys":[]}', "\xff"]
)
def test_a_broken_file_is_named_and_its_text_is_not_told(file, text):
    file.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"The key file .*keys\.json") as caught:
        file.load()
    assert caught.value.__cause__ is None


def test_a_huge_file_is_not_read(file):
    file.path.write_bytes(b" " * 1_000_001)
    with pytest.raises(ConfigurationError, match="more than 1000000 bytes"):
        file.load()


def test_a_change_that_fails_leaves_the_file_as_it_was(file):
    before = file.path.read_bytes()

    def fail(_ring):
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError):
        file.change(fail)
    assert file.path.read_bytes() == before


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(file):  # pragma: no cover
    file.path.parent.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be"):
        file.change(lambda present: present)


def test_the_mark_differs_after_a_change(file):
    before = file.mark()
    assert file.mark() == before
    file.change(lambda present: present.rotated(now=1, lead=0, keep=1))
    assert file.mark() != before


def test_who_waits_too_long_for_another_process_is_told(file):
    times = iter(range(0, 1000, 4))
    other = KeyFile(file.path, clock=lambda: next(times), sleep=lambda _s: None)

    def meanwhile(present):
        with pytest.raises(Conflict, match="for long"):
            other.change(lambda present: present)
        return present

    file.change(meanwhile)


def test_the_file_is_a_set_of_keys_that_other_programs_read(file):
    from joserfc.jwk import KeySet

    keys = KeySet.import_key_set(json.loads(file.path.read_text()))
    [(key_id, key)] = file.load().keys.items()
    assert [each.kid for each in keys.keys] == [key_id]
    assert key.verify(b"text", keys.keys[0].private_key.sign(b"text"))


def test_keys_come_from_the_environment(monkeypatch):
    source = Environment("SHOP_KEYS")
    monkeypatch.delenv("SHOP_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match=r"SHOP_KEYS .*is not set"):
        source.load()
    made = ring()
    monkeypatch.setenv("SHOP_KEYS", json.dumps(made.written()))
    assert source.load().keys.keys() == made.keys.keys()
    with pytest.raises(ConfigurationError, match="cannot change"):
        source.change(lambda present: present)
    monkeypatch.setenv("SHOP_KEYS", "not JSON")
    with pytest.raises(ConfigurationError, match="The variable SHOP_KEYS"):
        source.load()
