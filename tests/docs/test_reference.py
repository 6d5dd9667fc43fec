"""The reference documents what is public: every name, every error, every command."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import consona

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"

sys.path.insert(0, str(ROOT / "scripts"))
import generated_pages  # noqa: E402

DOCUMENTED = {
    name for page in REFERENCE.glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.MULTILINE)
}
ON_PAGES_OF_THEIR_OWN = {"errors", "cli"}


def packages() -> list[str]:
    """What stands directly below `consona` and says what is public in it."""
    names = sorted(found.name for found in pkgutil.iter_modules(consona.__path__))
    return [
        n
        for n in names
        if n not in ON_PAGES_OF_THEIR_OWN and hasattr(importlib.import_module(f"consona.{n}"), "__all__")
    ]


@pytest.mark.parametrize("package", packages())
def test_the_public_names_of_a_package_are_those_that_the_reference_documents(package):
    prefix = f"consona.{package}."
    documented = {name.removeprefix(prefix) for name in DOCUMENTED if name.startswith(prefix)}
    directly = {name for name in documented if "." not in name}
    assert directly == set(importlib.import_module(f"consona.{package}").__all__)


@pytest.mark.parametrize("name", sorted(set(consona.__all__) - {"__version__"}))
def test_each_name_of_consona_is_documented(name):
    home = consona._HOME[name]
    on_its_page = f"`consona.errors.{name}`" in (REFERENCE / "errors.md").read_text("utf-8")
    assert f"{home}.{name}" in DOCUMENTED or on_its_page or name == "FieldProblem"


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_what_the_reference_documents_is_public(name):
    module, _, attribute = name.rpartition(".")
    assert attribute in importlib.import_module(module).__all__


@pytest.mark.parametrize("page", generated_pages.PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(page):
    written = (REFERENCE / page).read_text("utf-8")
    assert written == generated_pages.PAGES[page](), "Run: .venv/bin/python scripts/generated_pages.py"


def test_each_error_has_a_code_of_its_own():
    codes = [cls.code for cls in generated_pages.classes()]
    assert sorted(codes) == sorted(set(codes))


def test_each_error_says_in_words_what_it_means():
    assert [cls.__name__ for cls in generated_pages.classes() if not cls.__doc__] == []


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if page not in nav} == set()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_headings_come_in_order(page):
    """A screen reader's user jumps from heading to heading: none may be left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    levels = [len(found) for found in re.findall(r"^(#+) ", text, re.MULTILINE)]
    if page.name == "changelog.md":
        return
    assert levels[:1] == [1]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_each_picture_has_a_text(page):
    assert "![](" not in page.read_text("utf-8")
