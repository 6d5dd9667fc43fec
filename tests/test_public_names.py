"""`import consona` gives every public name, and loads none of them before it is used."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import consona

PACKAGE = Path(consona.__file__).parent
HEAVY = {
    "aiohttp", "apsw", "asyncio", "dataclasses", "httptools", "importlib.metadata", "jinja2", "logging", "msgspec",
    "opentelemetry", "prometheus_client", "rich", "sqlite3", "ssl", "typer", "uvicorn", "uvloop", "websockets",
}  # fmt: skip


def imported_for_types() -> dict[str, str]:
    """What the `if TYPE_CHECKING:` block of `consona/__init__.py` imports: name -> module."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.asname or alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def modules() -> list[str]:
    return sorted(found.name for found in pkgutil.walk_packages([str(PACKAGE)], "consona."))


def in_a_new_process(code: str) -> set[str]:
    """The modules that are loaded after `code` ran in a fresh interpreter, without those that were before."""
    program = f"import sys, json; before = set(sys.modules); {code}; print(json.dumps([*set(sys.modules) - before]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_lazy_table_and_the_imports_for_type_checkers_are_equal():
    assert imported_for_types() == consona._HOME


def test_all_names_what_the_lazy_table_has_and_the_version():
    assert set(consona.__all__) == {*consona._HOME, "__version__"}


@pytest.mark.parametrize("name", sorted(set(consona.__all__) - {"__version__"}))
def test_a_public_name_is_the_object_of_its_home(name):
    assert getattr(consona, name) is getattr(importlib.import_module(consona._HOME[name]), name)


def test_a_public_name_is_public_at_home_too():
    for name, home in consona._HOME.items():
        assert name in importlib.import_module(home).__all__, f"{name} is missing in {home}.__all__"


def test_every_error_is_a_public_name():
    errors = importlib.import_module("consona.errors")
    assert set(errors.__all__) <= set(consona.__all__)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'APIClinet'"):
        consona.APIClinet  # noqa: B018


def test_dir_lists_the_public_names():
    assert set(consona.__all__) <= set(dir(consona))


def test_the_version_is_that_of_the_installed_package():
    assert consona.__version__ == importlib.metadata.version("consona")


def test_import_consona_loads_nothing_else():
    loaded = in_a_new_process("import consona")
    assert {name for name in loaded if name.partition(".")[0] == "consona"} == {"consona"}
    assert not loaded & HEAVY


def test_the_errors_load_nothing_heavy():
    assert not in_a_new_process("from consona import NotFound, ConsonaError") & (HEAVY - {"asyncio", "dataclasses"})


ALONE = """
import importlib, os, sys, traceback
modules = sys.argv[1:]
for module in modules:                          # so that each child finds the foreign packages loaded
    importlib.import_module(module)
for name in [name for name in sys.modules if name.partition(".")[0] == "consona"]:
    del sys.modules[name]
for module in modules:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module)
        except BaseException:
            print(module, traceback.format_exc(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each would take minutes")
def test_every_module_can_be_imported_alone():
    command = [sys.executable, "-W", "ignore", "-c", ALONE, *modules()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("module", modules())
def test_what_a_module_calls_public_is_there(module):
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        assert hasattr(loaded, name), f"{module}.__all__ names {name}, which is not there"
