"""Which changes of files start a server again."""

from __future__ import annotations

import os

import pytest

from consona.cli.changes import Changes


@pytest.fixture
def changes(tmp_path):
    (tmp_path / "api.py").write_text("1")
    return Changes([tmp_path])


def names(changes: Changes) -> list[str]:
    return [path.name for path in changes.look()]


def test_nothing_changed(changes):
    assert names(changes) == []


def test_a_file_that_was_changed_made_or_removed_is_seen_once(changes, tmp_path):
    (tmp_path / "api.py").write_text("22")
    assert names(changes) == ["api.py"]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders.py").write_text("")
    assert names(changes) == ["orders.py"]
    (tmp_path / "api.py").unlink()
    assert names(changes) == ["api.py"]
    assert names(changes) == []


def test_a_change_of_the_same_size_is_seen(changes, tmp_path):
    os.utime(tmp_path / "api.py", ns=(1, 1))
    assert names(changes) == ["api.py"]


@pytest.mark.parametrize("folder", [".git", "__pycache__", "node_modules", "env"])
def test_caches_hidden_folders_and_environments_are_left_out(changes, tmp_path, folder):
    (tmp_path / folder).mkdir()
    if folder == "env":
        (tmp_path / folder / "pyvenv.cfg").write_text("")
    (tmp_path / folder / "x.py").write_text("")
    assert names(changes) == []


def test_data_is_no_source(changes, tmp_path):
    (tmp_path / "shop.db").write_text("")
    assert names(changes) == []
