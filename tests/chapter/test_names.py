"""`consona.chapter` gives its names, each loaded when it is first used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from consona import chapter


def test_the_lazy_table_and_the_imports_for_type_checkers_are_equal():
    tree = ast.parse(Path(chapter.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.name: str(node.module).removeprefix("consona.chapter.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == chapter._HOME
    assert sorted(imported) == sorted(chapter.__all__)


@pytest.mark.parametrize("name", chapter.__all__)
def test_each_name_is_there(name):
    assert getattr(chapter, name) is not None
    assert name in dir(chapter)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'APIKlient'"):
        chapter.APIKlient  # noqa: B018


def test_the_client_loads_no_server():
    program = "import sys; from consona.chapter import APIClient; print('uvicorn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
