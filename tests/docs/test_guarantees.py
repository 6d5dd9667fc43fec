"""Each promise of the pages of guarantees names a test, and that test exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    page.stem: page.read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs" / "explanation").glob("guarantees*.md"))
}
NAMED = sorted({name for text in PAGES.values() for name in re.findall(r"`(test_\w+)`", text)})


@functools.cache
def existing() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("name", NAMED)
def test_a_promised_test_exists(name):
    assert name in existing()


@pytest.mark.parametrize("page", PAGES)
def test_each_line_of_promises_names_its_test(page):
    rows = [line for line in PAGES[page].splitlines() if line.startswith("| ") and line.rstrip().endswith(". |")]
    assert not rows, "these promises name no test"
