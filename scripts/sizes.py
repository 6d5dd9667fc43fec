"""Prints the files of over 400 lines and the functions of over 40. They are to be looked at, not cut for the number."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE_LINES = 400
FUNCTION_LINES = 40


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    """Each function with the lines of its body, its docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                text = node.body[0]
                lines -= (text.end_lineno or text.lineno) - text.lineno + 1
            yield node, lines


def main() -> None:
    found = 0
    for folder in ("src", "tests", "benchmarks", "examples", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            shown = path.relative_to(ROOT)
            if (count := text.count("\n")) > FILE_LINES:
                found += 1
                print(f"{shown}: {count} lines")
            for function, lines in functions(ast.parse(text)):
                if lines > FUNCTION_LINES:
                    found += 1
                    print(f"{shown}:{function.lineno}: {function.name} has {lines} lines")
    print(f"{found} to look at (files over {FILE_LINES} lines, functions over {FUNCTION_LINES}).")


if __name__ == "__main__":
    main()
